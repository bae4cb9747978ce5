"""The SQL engine agrees with as_of.py on generated histories, in every mode and for every kind of key.

Times are few and coarse (6 h steps, ttl a multiple of them), so that boundaries, ties, corrections and
retractions are hit all the time. Keys are crafted to collide if they were ever concatenated.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import cycle
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from penstock.as_of import Attempt, History, Mode, Readable, Row, as_of
from penstock.contract import Entity, Feature, FeatureView, FreshnessSla, Source, hours
from penstock.point_in_time.sql_engine import ViewTable, join

pytestmark = pytest.mark.real

START = datetime(2026, 3, 1, tzinfo=UTC)
STEP = timedelta(hours=6)
MODES: tuple[Mode, ...] = get_args(Mode)
KEYS: dict[str, tuple[dict[str, str], list[tuple[object, ...]]]] = {
    "composite": ({"a": "string", "b": "string"}, [("1", "23"), ("12", "3"), ("", "123"), ("123", ""), ("1|2", "3"), ("1", "2|3")]),
    "mixed": ({"a": "string", "b": "int64"}, [("1", 23), ("12", 3), ("x", -1), ("", 0), ("é", 1), ("e\u0301", 1)]),
    "int": ({"a": "int64"}, [(0,), (1,), (-1,), (2**62,), (-(2**62),), (7,)]),
}


def nothing(frame: Any) -> Any:
    return frame


def view_of(kind: str, ttl: timedelta | None) -> FeatureView:
    source = Source("facts", schema={"event_time": "timestamp"}, owner="tests")
    return FeatureView(
        name="history",
        version=1,
        entity=Entity("thing", KEYS[kind][0]),
        source=source,
        owner="tests",
        compute=nothing,
        features=[Feature("n", "int64"), Feature("s", "string")],
        ttl=ttl,
        freshness=FreshnessSla(total=hours(1)),
    )


@dataclass
class Generated:
    rows: dict[tuple[object, ...], list[Row]]
    spine: list[tuple[tuple[object, ...], datetime | None]]
    history: History
    ttl: timedelta | None


def generate(random: Random, kind: str, ttl: timedelta | None) -> Generated:
    def at(n: int) -> datetime:
        return START + n * STEP

    attempts = [
        Attempt(partition, number, at(random.randint(0, 16)))
        for partition in {at(n).date() for n in range(12)}
        for number in sorted(random.sample(range(1, 7), random.randint(1, 4)))
    ]
    ledger = [Readable(a.partition, a.attempt, at(random.randint(0, 20))) for a in attempts if random.random() < 0.6]
    live_since = random.choice([None, at(random.randint(0, 12)), START])
    by_day: dict[date, list[int]] = {}
    for attempt in attempts:
        by_day.setdefault(attempt.partition, []).append(attempt.attempt)
    rows: dict[tuple[object, ...], list[Row]] = {}
    for key in KEYS[kind][1]:
        own = rows.setdefault(key, [])
        for n in range(random.choice([0, 1, 8, 16])):
            event = at(random.randint(0, 11))
            attempt = random.choice([*by_day[event.date()], 99])  # 99 was never committed
            own.append(
                Row(
                    event_time=event,
                    available_time=event + random.choice([timedelta(0), timedelta(0), STEP, 3 * STEP]),
                    created_time=at(attempt),  # one created time per attempt, as commits have
                    attempt=attempt,
                    partition=event.date(),
                    digest=f"{n:02}",  # ties of created time are broken by it
                    retracted=random.random() < 0.2,
                    values=(random.choice([0, 1, None, n]), random.choice(["", "x", None])),
                )
            )
    spine: list[tuple[tuple[object, ...], datetime | None]] = [
        (
            key,
            at(random.randint(-1, 15)) + random.choice([timedelta(0), timedelta(0), timedelta(microseconds=1), -timedelta(microseconds=1)]),
        )
        for key in KEYS[kind][1]
        for _ in range(9)
    ]
    spine += [spine[0], spine[0], (tuple(None for _ in KEYS[kind][0]), START), (spine[0][0], None)]  # duplicates and nulls
    return Generated(rows, spine, History(tuple(attempts), tuple(ledger), live_since), ttl)


def answers_by_rule(case: Generated, mode: Mode) -> Counter[tuple[object, ...]]:
    answers: Counter[tuple[object, ...]] = Counter()
    for key, t in case.spine:
        row = None if t is None else as_of(case.rows.get(key, []), t, ttl=case.ttl, mode=mode, history=case.history)
        answers[(*key, t, *((None, None) if row is None else row.values))] += 1
    return answers


def answers_by_engine(spark: Any, case: Generated, kind: str, mode: Mode) -> Counter[tuple[object, ...]]:
    view = view_of(kind, case.ttl)
    names = list(KEYS[kind][0])
    key_types = ", ".join(f"{name} {'string' if dtype == 'string' else 'bigint'}" for name, dtype in KEYS[kind][0].items())
    rows = [
        (*key, r.event_time, r.available_time, r.created_time, r.attempt, r.partition, r.digest, r.retracted, *r.values)
        for key, own in case.rows.items()
        for r in own
    ]
    schema = (
        f"{key_types}, event_time timestamp, available_time timestamp, created_time timestamp, attempt bigint, "
        "event_date date, row_digest string, retracted boolean, n bigint, s string"
    )
    table = ViewTable(view, ("n", "s"), spark.createDataFrame(rows, schema), case.history)
    spine = spark.createDataFrame([(*key, t) for key, t in case.spine], f"{key_types}, event_time timestamp")
    joined = join(spark, spine, [table], mode)
    assert joined.columns == [*names, "event_time", "history__n", "history__s"]
    collected = joined.selectExpr(*names, "unix_micros(event_time) AS t", "history__n", "history__s").collect()
    start = datetime(1970, 1, 1, tzinfo=UTC)
    return Counter(
        (
            *(row[name] for name in names),
            None if row["t"] is None else start + timedelta(microseconds=row["t"]),
            row["history__n"],
            row["history__s"],
        )
        for row in collected
    )


@pytest.mark.parametrize(
    ("kind", "zone"), [("composite", "UTC"), ("composite", "Asia/Tokyo"), ("mixed", "UTC"), ("int", "America/New_York")]
)
def test_the_sql_engine_agrees_with_the_rule(spark: Any, kind: str, zone: str) -> None:
    compared = Counter[str]()
    ttls = cycle([None, 6 * STEP, STEP])
    spark.conf.set("spark.sql.session.timeZone", zone)
    spark.conf.set("spark.sql.shuffle.partitions", "1")

    @settings(max_examples=3, phases=[Phase.generate])
    @given(seed=st.integers(2**16, 2**63))
    def agrees(seed: int) -> None:
        case = generate(Random(seed), kind, next(ttls))
        for mode in MODES:
            expected = answers_by_rule(case, mode)
            assert answers_by_engine(spark, case, kind, mode) == expected, mode
            compared["cases"] += len(case.spine)
            compared["answered"] += sum(n for answer, n in expected.items() if answer[-2:] != (None, None))

    try:
        agrees()
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        spark.conf.set("spark.sql.shuffle.partitions", "4")
    assert compared["cases"] >= 500
    assert compared["answered"] >= 0.15 * compared["cases"]
