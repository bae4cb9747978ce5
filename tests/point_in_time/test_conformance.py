"""The SQL engine agrees with as_of.py on generated histories, in every mode and for every kind of key."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import cycle
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from penstock.as_of import Mode
from penstock.contract import Entity, Feature, FeatureView, FreshnessSla, Source, hours
from penstock.point_in_time.sql_engine import ViewTable, join
from tests.point_in_time.histories import KEYS, MODES, STEP, Generated, answers_by_rule, generate

pytestmark = pytest.mark.real


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

    @settings(max_examples=4, phases=[Phase.generate])
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
    assert compared["cases"] >= 3_000
    assert compared["answered"] >= 0.3 * compared["cases"]
