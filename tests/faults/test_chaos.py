"""Whatever is killed, whenever: at the end everything online is what the rule gives, and no reader was taken back in time.

`PENSTOCK_CHAOS` says how many times something is killed (`make soak`: 200), `PENSTOCK_CHAOS_MINUTES` for how long at most.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow.compute as pc
import pytest
from pyspark.sql import functions as F

from jobs.flights_data import facts
from penstock.clock import FixedClock
from penstock.contract import FeatureView
from penstock.errors import DagsterError, StoreUnavailable
from penstock.offline.attempt import run_attempt
from penstock.offline.commit import current_rows, read_features
from penstock.offline.lake import feature_table
from penstock.offline.logs import attempts, newest, passed
from penstock.offline.watermark import days_between, start_of
from penstock.orchestration.control import until
from penstock.quality.contracts import audit
from tests.faults.chaos import DAY, REACH, Chaos, running_chaos
from tests.faults.instance import AT_MOST
from tests.faults.reader import Reader
from tests.online_content import require_what_the_rule_gives

pytestmark = pytest.mark.real
KILLS = int(os.environ.get("PENSTOCK_CHAOS", "0"))
MINUTES = float(os.environ.get("PENSTOCK_CHAOS_MINUTES", "inf"))
SEED = int(os.environ.get("PENSTOCK_SEED", str(random.randrange(10**6))))


@pytest.mark.skipif(not KILLS, reason="takes half a minute for each kill: make soak")
def test_killed_anywhere_all_ends_as_the_rule_gives_and_no_reader_goes_back(tmp_path_factory: pytest.TempPathFactory, spark: Any) -> None:
    random.seed(SEED)
    with running_chaos(tmp_path_factory.mktemp("chaos")) as chaos:
        begin(chaos)
        reader = Reader(chaos.gateway_url, chaos.api_key, flights(chaos))
        with chaos.all_at_once(reader):
            ends = time.monotonic() + 60 * MINUTES
            while len(chaos.kills) < KILLS and time.monotonic() < ends:
                time.sleep(random.uniform(1, 6))
                with suppress(StoreUnavailable, DagsterError):  # while what was killed comes back
                    chaos.kill_something()
                print(f"{len(chaos.kills)} {chaos.kills[-1]}", flush=True)  # noqa: T201 - an hour without a word is too long
        now = settle(chaos)
        print(f"seed {SEED}; {chaos.between} of {len(chaos.kills)} kills between first and last write; {dict(chaos.begun)}")  # noqa: T201
        print(*sorted(f"{count:4} {phase}" for phase, count in Counter(chaos.kills).items()), dict(reader.answers), sep="\n")  # noqa: T201
        for view in chaos.views:
            assert require_what_the_rule_gives(spark, chaos.project.lake, view, chaos.connect) >= 3
            require_committed_once(spark, chaos, view)
            require_as_computed_anew(spark, chaos, view, now, tmp_path_factory)
            require_no_way_back(chaos, view, reader)
        assert sorted(chaos.ledger()) == sorted(chaos.copied())
        assert sum(reader.answers[said] for said in reader.answers if said.startswith("answered")) > 10 * len(chaos.kills)
        assert chaos.between >= len(chaos.kills) // 5 > 0
        assert min(chaos.begun["corrections"], chaos.begun["backfills"]) >= 1


def begin(chaos: Chaos) -> None:
    """Everything ingested, computed and published once."""
    today = datetime.now(UTC).date()
    chaos.run(*chaos.source_keys, first=chaos.first - REACH, last=today)
    chaos.run(*chaos.feature_keys, first=chaos.first, last=today)
    wanted = {(view.name, day) for view in chaos.views for day in days_between(chaos.first, today)}
    until(lambda: {(row.view, row.partition) for row in chaos.copied()}, wanted.issubset, at_most=AT_MOST, what="the first publication")


def flights(chaos: Chaos) -> Sequence[dict[str, Any]]:
    """Forty flights of the last days, as a service asks for them."""
    now = datetime.now(UTC)
    table = facts("departures", now - 2 * DAY, now)
    keys = ["carrier", "origin", "dest", "tailnum"]
    rows = table.select(keys).filter(pc.is_valid(table["tailnum"])).to_pylist()
    return random.sample(rows, 40)


def settle(chaos: Chaos) -> datetime:
    """Nothing is killed any more. The Clock stands still; what was begun ends, what sources changed is repaired, all is published."""
    now = chaos.stop_the_clock()

    def at_work() -> list[Any]:
        return [*chaos.unfinished(), *chaos.control.backfills_under_way()]

    until(at_work, lambda found: not found, at_most=2 * AT_MOST, what="what was begun")
    for _ in range(3):
        chaos.command("repair", "run")
        until(at_work, lambda found: not found, at_most=2 * AT_MOST, what="the repair")
    until(chaos.skip_reasons, lambda said: said[:1] == ["all that is committed is online"], at_most=2 * AT_MOST, what="publishing")
    return now


def require_committed_once(spark: Any, chaos: Chaos, view: FeatureView) -> None:
    """No attempt is logged twice, none has rows that no attempt accounts for, no (key, event time) has two rows of one attempt."""
    logged = [(entry.partition, entry.attempt) for entry in attempts(chaos.project.lake, feature_table(view))]
    assert len(logged) == len(set(logged))
    rows = read_features(spark, chaos.project.lake, view)
    written = {tuple(row) for row in rows.select("event_date", "attempt").distinct().collect()}
    assert written <= set(logged)
    keys = [*view.entity.join_keys, "event_time", "attempt"]
    assert rows.groupBy(*keys).count().where("count > 1").count() == 0


def require_as_computed_anew(spark: Any, chaos: Chaos, view: FeatureView, now: datetime, folders: pytest.TempPathFactory) -> None:
    """What counts of every closed day is what one attempt at all of them gives, from the same sources, in a lake of its own."""
    lake = chaos.project.lake
    done = newest(attempts(lake, feature_table(view)), passed)
    closed = [day for day, entry in done.items() if entry.complete_until >= start_of(day) + DAY]
    anew = chaos.lake_with_the_same_sources(folders.mktemp(view.name))
    run_attempt(spark, anew, view, days_between(min(closed), max(closed)), clock=FixedClock(now), run_id="", audit=audit)
    names = [*view.entity.join_keys, "event_time", "row_digest"]

    def content(of: Any) -> set[tuple[Any, ...]]:
        rows = current_rows(read_features(spark, of, view), view).where("not retracted").where(F.col("event_date").isin(closed))
        return {tuple(row) for row in rows.select(*names).collect()}

    found, expected = content(lake), content(anew)
    assert expected
    assert found == expected, f"{len(found ^ expected)} rows differ"


def require_no_way_back(chaos: Chaos, view: FeatureView, reader: Reader) -> None:
    """A reader is given an older row of a key than before only where the newer one was retracted, and an earlier value of a row never;
    but from a cache, for as long as the view allows."""
    cached_for = view.freshness.read or timedelta(0)
    held = by_row(chaos, view)
    changes = 0
    for (name, place), seen in reader.seen.items():
        if name != view.name:
            continue
        changes += len(seen)
        key = tuple(reader.entities[place][join_key] for join_key in view.entity.join_keys)
        reached = dict[datetime, int]()
        for before, one in pairwise([None, *seen]):
            assert one is not None
            versions = held[*key, one.event_time]
            goes_back = before is not None and one.event_time < before.event_time and None not in held[*key, before.event_time]
            at = next((n for n in range(reached.get(one.event_time, 0), len(versions)) if versions[n] == one.values), None)
            if goes_back or at is None:
                assert before is not None and one.at - before.at <= cached_for, (key, before, one, versions)
                continue
            reached[one.event_time] = at
    assert changes > 10


def by_row(chaos: Chaos, view: FeatureView) -> dict[tuple[Any, ...], list[tuple[Any, ...] | None]]:
    """(join keys, event time) → the values it has had, in order; None where it was retracted."""
    table = chaos.project.lake.dataset(feature_table(view)).to_table().sort_by("created_time")
    keys = zip(*(table[name].to_pylist() for name in (*view.entity.join_keys, "event_time")), strict=True)
    values = zip(*(table[name].to_pylist() for name in view.feature_names), strict=True)
    found: dict[tuple[Any, ...], list[tuple[Any, ...] | None]] = {}
    for key, row, retracted in zip(keys, values, table["retracted"].to_pylist(), strict=True):
        found.setdefault(key, []).append(None if retracted else row)
    return found
