"""Our tables in Spark: the rows that Delta itself gives, whichever way the files are named."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

from penstock.offline.lake import Lake
from penstock.offline.spark_tables import columns_of, read_ours

pytestmark = pytest.mark.real

DAY = timedelta(days=1)
MONDAY = date(2026, 3, 2)
TIME = pa.timestamp("us", tz="UTC")


def rows(day: date, *amounts: float | None, **more: Any) -> pa.Table:
    n = len(amounts)
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return pa.table(
        {
            "customer": [f"c{k}" for k in range(n)],
            "amount": pa.array(amounts, pa.float64()),
            "event_time": pa.array([at] * n, TIME),
            "event_date": [day] * n,
            **more,
        }
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "a lake* of {many} signs?"))


def write(lake: Lake, table: pa.Table, **options: Any) -> None:
    write_deltalake(lake.prepare("raw/orders"), table, mode="append", partition_by=["event_date"], **options)


def found(spark: Any, lake: Lake, *asked: Any) -> list[Any]:
    frame = read_ours(spark, lake, "raw/orders", *asked)
    return sorted(tuple(row) for row in frame.withColumn("event_time", frame["event_time"].cast("string")).collect())


def test_each_version_has_the_rows_it_had(spark: Any, lake: Lake) -> None:
    for n in range(3):
        write(lake, rows(MONDAY + n * DAY, 1.0, None))
    DeltaTable(lake.location("raw/orders")).delete("customer = 'c1'")
    counts = [len(found(spark, lake, version)) for version in range(4)]
    assert counts == [2, 4, 6, 3]
    assert found(spark, lake) == found(spark, lake, 3)
    assert found(spark, lake)[0] == ("c0", 1.0, "2026-03-02 12:00:00", MONDAY)


def test_of_some_days_their_files_are_read_alone(spark: Any, lake: Lake) -> None:
    for n in range(4):
        write(lake, rows(MONDAY + n * DAY, float(n)))
    assert [row[1] for row in found(spark, lake, None, (MONDAY + DAY, MONDAY + 2 * DAY))] == [1.0, 2.0]
    days = read_ours(spark, lake, "raw/orders", None, (MONDAY + DAY, MONDAY + 2 * DAY))
    assert len(days.inputFiles()) == 2
    nothing = read_ours(spark, lake, "raw/orders", None, (MONDAY + 9 * DAY, MONDAY + 9 * DAY))
    assert (nothing.count(), nothing.columns) == (0, days.columns)


def test_a_column_that_came_later_is_null_before_and_columns_stand_as_the_table_has_them(spark: Any, lake: Lake) -> None:
    write(lake, rows(MONDAY, 1.0))
    write(lake, rows(MONDAY + DAY, 2.0, note=["new"]), schema_mode="merge")
    frame = read_ours(spark, lake, "raw/orders")
    assert frame.columns == list(columns_of(lake, "raw/orders")) == ["customer", "amount", "event_time", "event_date", "note"]
    assert [row["note"] for row in frame.orderBy("event_date").collect()] == [None, "new"]


def test_what_files_do_not_say_themselves_is_read_by_delta(spark: Any, lake: Lake, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    where = lake.location("raw/orders")
    spark.range(4).selectExpr("id", "DATE'2026-03-02' AS event_date").write.format("delta").option(
        "delta.enableDeletionVectors", "true"
    ).save(where)
    spark.sql(f"DELETE FROM delta.`{where}` WHERE id = 2")
    assert sorted(row["id"] for row in read_ours(spark, lake, "raw/orders").collect()) == [0, 1, 3]


def test_a_table_that_is_not_there_is_an_error(spark: Any, lake: Lake) -> None:
    with pytest.raises(TableNotFoundError):
        read_ours(spark, lake, "raw/nothing")
