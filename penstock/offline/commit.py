"""Feature tables are bitemporal: a commit adds what changed and never rewrites what was served.

A computed partition is compared with its current rows. An unchanged row is not written again; a changed
value is a new row of the same (key, event_time) with a later `created_time`; a (key, event_time) that is
no longer computed gets a retraction. So re-runs are idempotent by content.
"""

import json
from collections.abc import Mapping
from datetime import date, datetime

from deltalake import CommitProperties
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from penstock.clock import from_micros, to_micros
from penstock.contract.rules import RESERVED_COLUMNS
from penstock.contract.view import FeatureView
from penstock.dtypes import spark_type
from penstock.errors import CommitError
from penstock.offline.create import create_table
from penstock.offline.delta_files import bounded
from penstock.offline.lake import RETENTION, Lake, feature_table
from penstock.offline.spark_tables import columns_of, read_ours
from penstock.offline.stage import StagedFile

# Written into every commit of ours, under Delta's userMetadata.
METADATA_FORMAT = 1


def create_feature_table(spark: SparkSession, lake: Lake, view: FeatureView) -> None:
    """Make the table of a view version; done already is no error.

    Raises:
        CommitError: the table is there with other columns: the view was changed under one version.
    """
    table = feature_table(view)
    if lake.version(table) is not None:
        _require_same_columns(columns_of(lake, table), table, view)
        return
    columns = [f"`{key}` {spark_type(dtype)} NOT NULL" for key, dtype in view.entity.join_keys.items()]
    columns += ["event_time TIMESTAMP NOT NULL", "available_time TIMESTAMP NOT NULL", "created_time TIMESTAMP NOT NULL"]
    columns += ["attempt BIGINT NOT NULL", "retracted BOOLEAN NOT NULL", "row_digest BINARY NOT NULL"]
    columns += [f"`{f.name}` {spark_type(f.dtype)}" for f in view.features] + ["event_date DATE NOT NULL"]
    properties = {**RETENTION, "delta.dataSkippingStatsColumns": ",".join(bounded(view.entity.join_keys))}
    listed = ", ".join(f"'{name}' = '{value}'" for name, value in properties.items())
    declared = f"({', '.join(columns)}) USING DELTA PARTITIONED BY (event_date) TBLPROPERTIES ({listed})"
    create_table(spark, lake, table, declared)


def _require_same_columns(columns: Mapping[str, str], table: str, view: FeatureView) -> None:
    if columns.get("row_digest") != "binary":
        raise CommitError(
            f"{table} was made by a Penstock of before row digests were 16 bytes; this one cannot add to it",
            hint=f"move it away and compute {view.ref} again, or raise the view's version",
        )
    held = {name: dtype for name, dtype in columns.items() if name not in RESERVED_COLUMNS}
    declared = {name: spark_type(dtype) for name, dtype in {**view.entity.join_keys, **{f.name: f.dtype for f in view.features}}.items()}
    if held != declared:
        odd = [
            f"'{name}' {held.get(name, 'missing')}, declared {declared.get(name, 'nowhere')}"
            for name in {**declared, **held}
            if held.get(name) != declared.get(name)
        ]
        raise CommitError(
            f"{table}: {len(odd)} column(s) are not as feature view {view.ref} declares: {'; '.join(odd)}",
            hint=f"raise the view's version to {view.version + 1}: changed features are a new version beside the old one",
        )


def read_features(
    spark: SparkSession, lake: Lake, view: FeatureView, version: int | None = None, days: tuple[date, date] | None = None
) -> DataFrame:
    """All rows of a view's table, retractions and corrected ones included, at a version or the newest; if asked for, of the partitions
    from one day to another, both included."""
    rows = read_ours(spark, lake, feature_table(view), version, days)
    return rows if days is None else rows.where(F.col("event_date").between(F.lit(days[0]), F.lit(days[1])))


def current_rows(rows: DataFrame, view: FeatureView) -> DataFrame:
    """Of each (key, event_time) the row that counts: the greatest (created_time, row_digest); retractions stay."""
    newest = Window.partitionBy(*view.entity.join_keys, "event_time").orderBy(F.desc("created_time"), F.desc("row_digest"))
    return rows.withColumn("_nth", F.row_number().over(newest)).where("_nth = 1").drop("_nth")


def commit_files(
    lake: Lake, view: FeatureView, files: Mapping[date, StagedFile], *, read: int, created: datetime, metadata: Mapping[str, object]
) -> int:
    """Make staged files part of a view's table, all of them or none.

    Args:
        lake, view: where to and what.
        files: what changed, by day; none: no commit.
        read: the version that the changes were compared with.
        created: the attempt's created time, later than any in the table.
        metadata: goes into the commit's userMetadata.

    Returns:
        The version that holds the days now.

    Raises:
        CommitError: the table moved on while the comparison was made; or a row would lie in the future.
    """
    table = feature_table(view)
    future = {str(day): from_micros(file.latest).isoformat() for day, file in files.items() if file.latest > to_micros(created)}
    if future:
        raise CommitError(f"{table}: rows would become available after now ({created.isoformat()}): {future}")
    if not files:
        return read
    note = {"format": METADATA_FORMAT, "attempt": to_micros(created), "compared_with": read, **metadata}
    opened = lake.open(table, read)
    said = CommitProperties(
        custom_metadata={"userMetadata": json.dumps(note, sort_keys=True, default=str)},
        max_commit_retries=0,  # the version after the one compared with, or none
    )
    try:
        adds: list[AddAction | RemoveAction] = [files[day].add for day in sorted(files)]
        opened.create_write_transaction(adds, "append", opened.schema(), ["event_date"], commit_properties=said)
    except DeltaError as error:
        newest = lake.version(table)
        if newest == read:
            raise
        raise CommitError(
            f"{table}: another writer committed version {newest} while changes against version {read} were computed",
            hint="run the partition again; runs that write one table share a Dagster pool, so look for a writer outside it",
        ) from error
    return read + 1


def last_created(lake: Lake, view: FeatureView) -> datetime | None:
    """The created time of the table's last commit of ours; None: there is none."""
    for entry in lake.commits(feature_table(view)):
        note = json.loads(entry.get("userMetadata", "{}"))
        if "attempt" in note:
            return from_micros(note["attempt"])
    return None
