"""A file that comes late repairs the days its windows reach and rewrites the keys it is about. Real Spark, Delta and Cassandra."""

from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from penstock.clock import FixedClock
from penstock.config import Settings
from penstock.contract import FeatureView, FreshnessSla, Source, count, days, delta, hours, minutes, total
from penstock.offline.attempt import run_attempt
from penstock.offline.commit import current_rows, read_features
from penstock.offline.lake import Lake
from penstock.offline.watermark import days_between
from penstock.online.cassandra import CassandraStore
from penstock.publication.due import contiguous
from penstock.publication.publish import publish
from penstock.publication.repair import repair_plan
from penstock.quality.contracts import audit
from tests.online_content import require_what_the_rule_gives
from tests.world import MONDAY, customer

pytestmark = pytest.mark.real
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
DAYS, CUSTOMERS, LATE_CUSTOMERS = 30, 500, 5
NOW = MONDAY + 18 * HOUR
FIRST, TODAY = MONDAY.date() - (DAYS - 1) * DAY, MONDAY.date()
LATE = TODAY - 3 * DAY

orders = Source(
    "orders",
    table=delta("shop/orders"),
    schema={"customer": "string", "amount": "float64", "event_time": "timestamp"},
    owner="shop",
)
VIEW = FeatureView(
    name="late_spending",
    version=1,
    entity=customer,
    source=orders,
    owner="tests",
    aggregations=[count(over=[days(2)]), total("amount", over=[days(7)])],
    every=hours(6),
    ttl=days(2),
    freshness=FreshnessSla(total=minutes(30)),
)


def placed(customers: range, amount: float, *of: datetime) -> pa.Table:
    rows = [(f"c{n}", amount + n, day + n % 17 * HOUR) for day in of for n in customers]
    names, amounts, times = zip(*rows, strict=True)
    return pa.table({"customer": names, "amount": amounts, "event_time": pa.array(times, pa.timestamp("us", tz="UTC"))})


def usual() -> pa.Table:
    return placed(range(CUSTOMERS), 1.0, *(MONDAY - n * DAY for n in range(DAYS + 8)))


def late() -> pa.Table:
    return placed(range(LATE_CUSTOMERS), 100.0, MONDAY - 3 * DAY)


def append(lake: Lake, rows: pa.Table) -> None:
    write_deltalake(f"{lake.project}/shop/orders", rows, mode="append")


def compute(spark: Any, lake: Lake, first: date, last: date, at: datetime) -> int:
    entries = run_attempt(spark, lake, VIEW, days_between(first, last), clock=FixedClock(at), run_id="test", audit=audit)
    assert all(entry.state == "passed" for entry in entries)
    return sum(entry.changed for entry in entries)


def rows(spark: Any, lake: Lake) -> list[tuple[Any, ...]]:
    columns = ["customer", "unix_micros(event_time)", *VIEW.feature_names]
    found = current_rows(read_features(spark, lake, VIEW), VIEW).where("NOT retracted").selectExpr(*columns).collect()
    return sorted(tuple(row) for row in found)


def test_one_day_and_a_hundredth_of_the_keys_are_what_a_late_file_costs(
    spark: Any, cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path: Path
) -> None:
    lake, whole = (Lake(str(tmp_path / name / "lake"), str(tmp_path / name)) for name in ("repaired", "whole"))
    connect = partial(CassandraStore.connect, *endpoint, cassandra_settings)

    def bring_online(at: datetime) -> int:
        done = publish(spark, lake, VIEW, days_between(FIRST, TODAY), connect=connect, clock=FixedClock(at), run_id="test", patience_s=60.0)
        return done.written + done.deleted

    append(lake, usual())
    compute(spark, lake, FIRST, TODAY, NOW)
    assert bring_online(NOW) == CUSTOMERS
    assert not repair_plan(lake, [VIEW], NOW, timedelta(days=30)).stale

    append(lake, late())
    plan = repair_plan(lake, [VIEW], NOW + HOUR, timedelta(days=30))
    assert plan.late_rows == {"orders": LATE_CUSTOMERS}
    ((first, last),) = contiguous(plan.days(VIEW))
    assert (first, last) == (LATE, TODAY)  # the day, and as much of the 7 days after it as there is
    changed = compute(spark, lake, first, last, NOW + HOUR)
    assert 0 < changed < 100
    assert not repair_plan(lake, [VIEW], NOW + HOUR, timedelta(days=30)).stale
    assert bring_online(NOW + HOUR) == LATE_CUSTOMERS <= 0.011 * CUSTOMERS

    append(whole, usual())
    append(whole, late())
    compute(spark, whole, FIRST, TODAY, NOW + HOUR)
    assert len(rows(spark, whole)) > 10_000
    assert rows(spark, lake) == rows(spark, whole)
    assert require_what_the_rule_gives(spark, lake, VIEW, connect) == CUSTOMERS
