"""External tables: read, never altered, used as far as they go; and views whose rows they hold."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.clock import FixedClock, to_micros
from penstock.contract import Feature, FeatureView, FreshnessSla, Source, available_after, count, days, delta, hours, minutes, parquet
from penstock.errors import SourceError
from penstock.offline.attempt import Audit, outdated, run_attempt
from penstock.offline.commit import read_features
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import AttemptEntry
from penstock.offline.sources import newest_available, version
from penstock.quality.contracts import audit
from tests.world import MONDAY, customer

pytestmark = pytest.mark.real
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = MONDAY.date()
TIME = pa.timestamp("us", tz="UTC")


def orders_at(table: Any, **changes: Any) -> Source:
    schema = {"customer": "string", "amount": "float64", "event_time": "timestamp"}
    return Source("orders", schema=schema, table=table, owner="shop", **changes)


def spending(source: Source) -> FeatureView:
    return FeatureView(
        name="spending",
        version=1,
        entity=customer,
        source=source,
        owner="tests",
        aggregations=[count(over=[days(1)])],
        every=minutes(15),
        ttl=hours(48),
        freshness=FreshnessSla(total=minutes(30)),
    )


def copied(source: Source) -> FeatureView:
    return FeatureView(
        name="copied",
        version=1,
        entity=customer,
        rows=source,
        features=[Feature("amount", "float64")],
        owner="tests",
        delay=source.availability.at_most,
        ttl=hours(48),
        freshness=FreshnessSla(total=minutes(30)),
    )


def rows(*orders: tuple[str, float, datetime]) -> pa.Table:
    names = ("customer", "amount", "event_time")
    return pa.table(dict(zip(names, map(list, zip(*orders, strict=True)), strict=True))).cast(
        pa.schema([("customer", pa.string()), ("amount", pa.float64()), ("event_time", TIME)])
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    (tmp_path / "data").mkdir()
    return Lake(str(tmp_path / "lake"), str(tmp_path))


NOON = FixedClock(MONDAY + 12 * HOUR)
TWO = rows(("ann", 1.0, MONDAY + HOUR), ("ann", 2.0, MONDAY + 2 * HOUR))


def compute(spark: Any, lake: Lake, view: FeatureView, clock: FixedClock = NOON) -> AttemptEntry:
    (entry,) = run_attempt(spark, lake, view, [TODAY], clock=clock, run_id="", audit=audit)
    return entry


def test_a_view_over_parquet_files_is_complete_as_far_as_their_newest_row(spark: Any, lake: Lake) -> None:
    source = orders_at(parquet("data/orders"))
    (Path(lake.project) / "data/orders").mkdir()
    pq.write_table(TWO, f"{lake.project}/data/orders/1.parquet")
    entry = compute(spark, lake, spending(source))
    # the newest row is of 02:00 and was known a microsecond later
    assert entry.complete_until == MONDAY + 2 * HOUR + timedelta(microseconds=1)
    assert (entry.state, entry.inputs) == ("passed", {"data/orders": version(lake, source)})
    counted = {(r["event_time"], r["count_1d"]) for r in read_features(spark, lake, spending(source)).collect()}
    assert [n for _, n in sorted(counted)] == [1]  # at 01:15; 02:15 is later than the newest row

    assert outdated(lake, spending(source), [TODAY], clock=NOON) == []
    pq.write_table(rows(("bob", 3.0, MONDAY + 5 * HOUR)), f"{lake.project}/data/orders/2.parquet")
    assert outdated(lake, spending(source), [TODAY], clock=NOON) == [TODAY]
    later = compute(spark, lake, spending(source))
    assert later.inputs != entry.inputs
    assert later.complete_until > MONDAY + 5 * HOUR


def test_rows_computed_elsewhere_are_compared_by_row_however_their_table_was_written(spark: Any, lake: Lake) -> None:
    location = f"{lake.project}/data/mart"
    view = copied(orders_at(delta("data/mart"), availability=available_after(hours(1))))
    write_deltalake(location, TWO)
    first = compute(spark, lake, view)
    # a row is available an hour after its event time: that of 02:00 says that all until 02:00 is in
    assert (first.state, first.rows, first.changed, first.complete_until) == ("passed", 2, 2, MONDAY + 2 * HOUR)
    write_deltalake(location, TWO, mode="overwrite")
    assert compute(spark, lake, view).changed == 0
    changed = rows(("ann", 1.0, MONDAY + HOUR), ("ann", 2.5, MONDAY + 2 * HOUR))
    write_deltalake(location, changed, mode="overwrite")
    third = compute(spark, lake, view)
    assert (third.changed, third.retracted, third.inputs) == (1, 0, {"data/mart": 2})
    assert DeltaTable(location).version() == 2  # it was only read


def test_a_row_that_was_known_later_than_the_delay_says_is_none_of_the_view(spark: Any, lake: Lake) -> None:
    table = TWO.append_column("known", pa.array([MONDAY + HOUR + minutes(30), MONDAY + 9 * HOUR], TIME))
    write_deltalake(f"{lake.project}/data/mart", table)
    from penstock.contract import available_at

    schema = {"customer": "string", "amount": "float64", "event_time": "timestamp", "known": "timestamp"}
    source = Source("mart", schema=schema, table=delta("data/mart"), availability=available_at("known", at_most=hours(1)), owner="shop")
    assert compute(spark, lake, copied(source)).rows == 1


def test_a_row_without_an_event_time_refuses_the_days_by_name(spark: Any, lake: Lake) -> None:
    bad = pa.concat_tables([TWO, TWO.slice(0, 1).set_column(2, "event_time", pa.array([None], TIME))])
    write_deltalake(f"{lake.project}/data/mart", bad)
    entry = compute(spark, lake, copied(orders_at(delta("data/mart"), availability=available_after(hours(1)))))
    assert (entry.state, entry.reasons) == ("quarantined", ["event_time_not_null: 1 row(s), expected none"])
    entry = compute(spark, lake, spending(orders_at(delta("data/mart"))))  # in a window there is no place for it
    assert (entry.state, entry.rows) == ("passed", 1)


def test_a_table_that_is_not_there_or_not_as_declared_is_said_so(spark: Any, lake: Lake) -> None:
    with pytest.raises(SourceError, match=r"there is no delta table at .*data/mart") as missing:
        compute(spark, lake, spending(orders_at(delta("data/mart"))))
    assert "starts from the project's folder" in missing.value.hint
    with pytest.raises(SourceError, match=r"there is no parquet table at .*data/orders"):
        compute(spark, lake, spending(orders_at(parquet("data/orders"))))
    write_deltalake(f"{lake.project}/data/mart", TWO.slice(0, 0))
    with pytest.raises(SourceError, match="has no rows with a time in 'event_time'"):
        newest_available(lake, orders_at(delta("data/mart")), NOON.now())
    pq.write_table(TWO.drop_columns(["event_time"]), f"{lake.project}/data/orders")
    with pytest.raises(SourceError, match="'event_time' of data/orders is not a time"):
        newest_available(lake, orders_at(parquet("data/orders")), NOON.now())
    pq.write_table(TWO.set_column(1, "amount", pa.array([1, 2], pa.int64())), f"{lake.project}/data/whole")
    entry = compute(spark, lake, spending(orders_at(parquet("data/whole"))))
    assert entry.reasons[0].startswith("sources_as_declared: source 'orders'")
    assert "'amount' bigint, expected double" in entry.reasons[0]


def test_files_that_pandas_wrote_are_read_and_times_without_a_zone_refused(spark: Any, lake: Lake) -> None:
    source = orders_at(parquet("data/orders.parquet"))
    TWO.to_pandas().astype({"event_time": "datetime64[ns, UTC]"}).to_parquet(f"{lake.project}/data/orders.parquet")
    assert pq.read_schema(f"{lake.project}/data/orders.parquet").field("event_time").type == pa.timestamp("ns", tz="UTC")
    assert compute(spark, lake, spending(source)).complete_until == MONDAY + 2 * HOUR + timedelta(microseconds=1)
    (row,) = read_features(spark, lake, spending(source)).selectExpr("unix_micros(event_time) AS at").collect()
    assert row["at"] == to_micros(MONDAY + HOUR + minutes(15))
    TWO.to_pandas().assign(event_time=lambda t: t["event_time"].dt.tz_localize(None)).to_parquet(f"{lake.project}/data/orders.parquet")
    with pytest.raises(SourceError, match="has no time zone") as naive:
        compute(spark, lake, spending(source))
    assert "tz_localize" in naive.value.hint


def test_a_row_of_the_future_does_not_make_a_table_complete_until_then(lake: Lake) -> None:
    write_deltalake(f"{lake.project}/data/mart", pa.concat_tables([TWO, rows(("bob", 3.0, MONDAY + 900 * DAY))]))
    source = orders_at(delta("data/mart"), availability=available_after(hours(1)))
    assert newest_available(lake, source, NOON.now()) == MONDAY + 3 * HOUR  # the row of 02:00, known an hour later


def test_files_that_change_while_they_are_read_fail_the_attempt(spark: Any, lake: Lake) -> None:
    source = orders_at(parquet("data/orders"))
    (Path(lake.project) / "data/orders").mkdir()
    pq.write_table(TWO, f"{lake.project}/data/orders/1.parquet")

    def writes_meanwhile(*given: Any) -> Any:
        pq.write_table(TWO, f"{lake.project}/data/orders/2.parquet")
        return audit.judge(*given)

    with pytest.raises(SourceError, match="changed while they were read"):
        run_attempt(spark, lake, spending(source), [TODAY], clock=NOON, run_id="", audit=Audit(audit.look, writes_meanwhile))
    assert lake.version(feature_table(spending(source))) == 0  # created, nothing committed
