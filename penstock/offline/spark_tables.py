"""Our tables in Spark: the files that their logs list, read as what they are.

Delta's own reader works a table's log up as a job of Spark's, with each new version and once more for each condition: 2 CPU-seconds
for a table of ten files where naming these takes 0.2 (ADR 0028). What a log lists is known without it, as everywhere else here. Where the
files do not say themselves what the rows are, or are not on this machine's disks, Delta reads them.
"""

import json
import re
from datetime import date
from urllib.parse import unquote

from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from penstock.offline.lake import Lake, listed_files, why_not_plain

_PATTERN = re.compile(r"([\\{}\[\]*?])")  # signs of which Spark makes a pattern of a path
_READ_BY_ALL = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}  # of the log, or of columns that Spark knows: files are as ever


def read_ours(spark: SparkSession, lake: Lake, table: str, version: int | None = None, days: tuple[date, date] | None = None) -> DataFrame:
    """The rows of a table of the lake.

    Args:
        spark, lake, table: with what, where and which.
        version: as it was; None: as it is.
        days: of which partitions, first and last; None: of all. Of a table read by Delta all: keep the condition.

    Raises:
        TableNotFoundError: it is not there.
    """
    opened, where = lake.open(table, version), lake.location(table)
    if "://" in where or why_not_plain(opened) is not None or not _READ_BY_ALL.issuperset(opened.protocol().reader_features or ()):
        return spark.read.format("delta").option("versionAsOf", opened.version()).load(where)
    schema = _schema(opened)
    paths = [
        f"{where}/{unquote(file['path'])}"
        for file in listed_files(opened)
        if days is None or days[0] <= file["partition.event_date"] <= days[1]
    ]
    if not paths:
        return spark.createDataFrame([], schema).limit(0)  # by which the optimizer knows that it is empty
    files = spark.read.schema(schema).option("basePath", where).parquet(*[_PATTERN.sub(r"\\\1", path) for path in paths])
    return files.select(*schema.names)  # partition columns come last


def columns_of(lake: Lake, table: str) -> dict[str, str]:
    """Column → Spark's name of its type, of a table of the lake as it is."""
    return {field.name: field.dataType.simpleString() for field in _schema(lake.open(table)).fields}


def _schema(opened: DeltaTable) -> StructType:
    return StructType.fromJson(json.loads(opened.schema().to_json()))
