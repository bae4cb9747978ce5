"""The rule of time in its four forms, on the same cases: as_of.py, the columnar kernel, the SQL plan, and the online read.

A history is lived through: a Clock goes on, days are committed with new, corrected and retracted rows, in any order, and
published or not; values are invalidated, and invalidations are lifted.
What the store holds after each step is what a reader gets until the next one. In the end every such
reading is asked of the other three, as a spine, in mode `observed`.
"""

import os
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from penstock.as_of import as_of
from penstock.clock import FixedClock, from_micros
from penstock.config import Settings
from penstock.contract import Feature, FeatureView, FreshnessSla, days, hours
from penstock.contract.service import select
from penstock.offline.arrow import arrow_type
from penstock.offline.lake import Lake
from penstock.offline.logs import attempts, copied_marks
from penstock.online.cassandra import CassandraStore
from penstock.point_in_time.history import history_of
from penstock.point_in_time.joined import join
from penstock.point_in_time.spine import FrameRows, table_rows
from penstock.point_in_time.view_join import view_joins
from penstock.publication.held_store import Connect, with_store
from penstock.publication.invalidate import Scope, invalidate, lift
from penstock.publication.publish import publish
from penstock.registry.marks import Mark, of_view
from tests.online_content import values_online
from tests.point_in_time.histories import KEYS
from tests.point_in_time.tables import DAY, HOUR, a_view, write_rows
from tests.world import feature_rows, resources_of

pytestmark = pytest.mark.real
MICROSECOND = timedelta(microseconds=1)
STEPS = 6
HISTORIES = 20 if "PENSTOCK_KILLS" in os.environ else 1  # make soak

Key = tuple[Any, ...]
Reading = tuple[Key, datetime]


def test_all_four_agree(
    spark: Any, cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    connect = partial(CassandraStore.connect, *endpoint, cassandra_settings)
    seen: Counter[str] = Counter()

    @settings(max_examples=HISTORIES, phases=[Phase.generate])
    @given(seed=st.integers(2**16, 2**63))
    def agree(seed: int) -> None:
        random = Random(seed)
        kind = random.choice(["composite", "mixed", "int"])
        ttl = random.choice([hours(12), hours(40)])
        view = a_view(
            f"forms_{seed % 10**9}",
            KEYS[kind][0],
            ttl=ttl,
            features=[Feature("n", "int64")],
            freshness=FreshnessSla(total=min(ttl, days(1))),
        )
        lake = Lake(str(tmp_path_factory.mktemp("lake")))
        online = lived_through(spark, lake, view, KEYS[kind][1], connect, random, seen)
        history = history_of(lake, view)
        assert history.live_since is not None
        online = {reading: value for reading, value in online.items() if reading[1] >= history.live_since}
        rows = feature_rows(spark, lake, view)
        by_rule = {}
        for key, t in online:
            row = as_of(rows.get(key, []), t, ttl=ttl, mode="observed", history=history)
            by_rule[key, t] = None if row is None else row.values[0]
        assert online == by_rule
        asked = spine_of(list(online), kind)
        joins = view_joins(lake, select([view.named("v")], "the test"), "observed")
        for spine, engine in ((table_rows(asked), "columnar"), (FrameRows(spark.createDataFrame(asked)), "sql")):
            joined = join(lake, spine, joins, resources_of(spark), engine).to_arrow().sort_by("nth")  # type: ignore[arg-type]
            assert joined["v__n"].to_pylist() == list(by_rule.values()), engine
        seen["cases"] += len(online)
        seen["answered"] += sum(value is not None for value in online.values())

    agree()
    assert seen["cases"] >= 200 * HISTORIES
    assert seen["answered"] >= 0.2 * seen["cases"]
    assert seen["steps"] >= HISTORIES


def lived_through(
    spark: Any, lake: Lake, view: FeatureView, keys: Sequence[Key], connect: Connect, random: Random, seen: Counter[str]
) -> dict[Reading, Any]:
    """Reading → the value online at its time, within its ttl, from the first publication on."""
    clock = FixedClock(DAY + 30 * HOUR)
    online: dict[Reading, Any] = {}
    readable: datetime | None = None
    for step in range(STEPS):
        write_rows(lake, view, some_rows(keys, clock.now(), random))
        if step > 0 and random.random() < 0.6:
            some_invalidation(lake, view, connect, clock, random)
        if step == 0 or random.random() < 0.7:
            touched = [(clock.now() - n * 24 * HOUR).date() for n in range(4)]
            done = publish(spark, lake, view, random.sample(touched, random.randint(2, 4)), connect=connect, clock=clock, run_id="")
            if done.rows:
                readable = from_micros(done.rows[0].readable_at_us)
            seen["steps"] += len(done.steps)
        until = clock.now() + random.randint(1, 9) * HOUR
        if readable is not None:
            held = values_online(connect, view, list(keys))
            marks = [mark for mark in of_view(with_store(connect, lambda store: store.marks()), view.name, 1) if mark.lifted_at_us is None]
            soon = max(readable, clock.now() + 9 * MICROSECOND)  # publications at one instant follow each other by the microsecond
            for key in keys:
                for t in (soon, until - MICROSECOND, until - random.randint(1, 3) * timedelta(minutes=10)):
                    online[key, t] = value_at(held[key], t, view.ttl, marks)
        clock.advance(until - clock.now())
    return online


def some_invalidation(lake: Lake, view: FeatureView, connect: Connect, clock: FixedClock, random: Random) -> None:
    """A mark on an attempt or on some hours, or an end to one that is in force."""
    in_force = [mark.id for mark in copied_marks(lake) if mark.lifted_at_us is None]
    if in_force and random.random() < 0.5:
        lift(lake, random.choice(in_force), connect=connect, clock=clock)
        return
    since = clock.now() - random.randint(2, 40) * HOUR
    newest = random.choice(sorted({entry.attempt for entry in attempts(lake)})[-2:])
    scope = random.choice([Scope(attempt=newest), Scope(since=since, until=since + random.randint(1, 20) * HOUR), Scope(since=since)])
    invalidate(lake, view, scope, reason="a test", connect=connect, clock=clock)


def some_rows(keys: Sequence[Key], now: datetime, random: Random) -> list[dict[str, Any]]:
    """Rows of one commit: of some keys, at hours of the last two days, most of them said before."""
    rows = {}
    for key in keys:
        for _ in range(random.choice([0, 1, 2, 4])):
            at = (now - random.randint(0, 40) * HOUR).replace(minute=0)
            retracted = random.random() < 0.2
            rows[key, at] = {
                "at": at,
                "created": now,
                "retracted": retracted,
                "n": None if retracted else random.choice([None, 0, random.randint(1, 99)]),
            }
    names = ("a", "b")
    return [{**dict(zip(names, key, strict=False)), **row} for (key, _), row in rows.items()]


def value_at(stored: Any, t: datetime, ttl: timedelta | None, marks: Sequence[Mark]) -> Any:
    """What a reader gets at `t` of what is stored: the judgement on the header's event time and attempt."""
    if stored is None or (ttl is not None and t - from_micros(stored.event_time_us) > ttl):
        return None
    if any(mark.covers(stored.event_time_us, stored.attempt) for mark in marks):
        return None
    return stored.values[0]


def spine_of(readings: Sequence[Reading], kind: str) -> pa.Table:
    columns: dict[str, Any] = {
        name: pa.array([key[n] for key, _ in readings], arrow_type(dtype)) for n, (name, dtype) in enumerate(KEYS[kind][0].items())
    }
    times = pa.array([t for _, t in readings], pa.timestamp("us", tz="UTC"))
    return pa.table({**columns, "nth": range(len(readings)), "event_time": times})
