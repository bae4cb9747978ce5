"""A real Spark session with Delta. The session is the test run's own (`spark`, of tests/conftest.py)."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from penstock.config import Settings
from penstock.runtime.spark import spark_session

pytestmark = pytest.mark.real

# Nanoseconds, milliseconds or a shifted zone would each change one of its digits.
INSTANT = datetime(2013, 3, 10, 6, 59, 59, 123457, tzinfo=UTC)


def test_a_running_session_is_returned_as_it_is(settings: Settings, spark: SparkSession) -> None:
    assert spark_session(settings) is spark


def test_the_session_is_in_utc(spark: SparkSession) -> None:
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.sql("SELECT CAST(TIMESTAMP '2013-07-01 00:00:00' AS LONG)").first() == (1372636800,)  # 00:00 UTC, not local


def test_a_delta_table_gives_back_microseconds(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    spark.createDataFrame([("AA", INSTANT)], "carrier string, at timestamp").write.format("delta").save(path)
    rows = spark.read.format("delta").load(path).selectExpr("carrier", "CAST(at AS STRING)", "unix_micros(at)").collect()
    assert rows == [("AA", "2013-03-10 06:59:59.123457", 1362898799123457)]
    assert (tmp_path / "table" / "_delta_log").is_dir()


def test_delta_replaces_one_partition_and_reads_an_older_version(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    spark.createDataFrame([("a", 1), ("b", 2)], "part string, n int").write.format("delta").partitionBy("part").save(path)
    fresh = spark.createDataFrame([("b", 3)], "part string, n int")
    fresh.write.format("delta").mode("overwrite").option("replaceWhere", "part = 'b'").save(path)
    assert sorted(spark.read.format("delta").load(path).collect()) == [("a", 1), ("b", 3)]
    assert sorted(spark.read.format("delta").option("versionAsOf", 0).load(path).collect()) == [("a", 1), ("b", 2)]


def test_python_functions_run_in_this_python(spark: SparkSession) -> None:
    unchanged = spark.range(3).mapInArrow(lambda batches: batches, "id long")
    assert sorted(row.id for row in unchanged.collect()) == [0, 1, 2]


def test_a_session_leaves_nothing_in_the_working_folder(spark: SparkSession) -> None:
    spark.sql("CREATE TABLE scratch_table (n int) USING parquet")
    spark.sql("DROP TABLE scratch_table")
    assert not [name for name in ("spark-warehouse", "metastore_db", "derby.log") if Path(name).exists()]
