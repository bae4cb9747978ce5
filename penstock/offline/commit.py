"""Feature tables are bitemporal: a commit adds what changed and never rewrites what was served.

A computed partition is compared with its current rows. An unchanged row is not written again; a changed
value is a new row of the same (key, event_time) with a later `created_time`; a (key, event_time) that is
no longer computed gets a retraction. So re-runs are idempotent by content.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from penstock.clock import MICROSECOND, from_micros, to_micros
from penstock.contract.rules import RESERVED_COLUMNS
from penstock.contract.view import FeatureView
from penstock.dtypes import spark_type
from penstock.errors import CommitError
from penstock.offline.compute import is_complete
from penstock.offline.create import create_table
from penstock.offline.lake import RETENTION, Lake, feature_table
from penstock.offline.spark_tables import columns_of, read_ours

# Written into every commit of ours, under Delta's userMetadata.
METADATA_FORMAT = 1

# to_json by itself drops nulls, cuts timestamps to milliseconds and writes them in the session's time zone.
EXACT_JSON = {"ignoreNullFields": "false", "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX", "timeZone": "UTC"}


@dataclass(frozen=True)
class Changes:
    """What a commit added, per partition: rows in all, and retractions among them."""

    version: int
    rows: Mapping[date, tuple[int, int]]


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
    keys = ",".join([*view.entity.join_keys, "event_time", "available_time", "created_time", "attempt"])
    properties = {**RETENTION, "delta.dataSkippingStatsColumns": keys}
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


def row_digest(view: FeatureView) -> Column:
    """A digest of a row's features, 16 bytes: equal exactly where all values, nulls included, are equal.

    In it a feature goes by its place among the names in order, not by its name: of a row's text the names were the most. The text
    is hashed twice, by XXH64 with two seeds: what is compared is one row with the one before it of its key and time, in good faith,
    for which SHA-256 buys nothing for a third more.
    """
    values = F.struct(*[F.col(name).alias(str(place)) for place, name in enumerate(sorted(view.feature_names))])
    text = F.to_json(values, EXACT_JSON)
    return F.concat(*[F.unhex(F.lpad(F.hex(hashed), 16, "0")) for hashed in (F.xxhash64(text), F.xxhash64(F.lit(1), text))])


def current_rows(rows: DataFrame, view: FeatureView) -> DataFrame:
    """Of each (key, event_time) the row that counts: the greatest (created_time, row_digest); retractions stay."""
    newest = Window.partitionBy(*view.entity.join_keys, "event_time").orderBy(F.desc("created_time"), F.desc("row_digest"))
    return rows.withColumn("_nth", F.row_number().over(newest)).where("_nth = 1").drop("_nth")


def commit_changes(
    spark: SparkSession,
    lake: Lake,
    view: FeatureView,
    computed: DataFrame,
    complete_until: Mapping[date, datetime],
    *,
    created: datetime,
    metadata: Mapping[str, object],
) -> Changes:
    """Write what differs between the computed rows of some partitions and the table's current ones.

    Args:
        spark, lake, view: where to and what.
        computed: join keys, event_time, features, row_digest; rows of these partitions up to their `complete_until`. Read
            twice, so cached.
        complete_until: the partitions, with the event time up to which they were computed; current rows
            after it are left alone.
        created: the attempt's created time, later than any in the table.
        metadata: goes into the commit's userMetadata.

    Returns:
        The version that holds the partitions now and what changed; nothing changed: no commit.

    Raises:
        CommitError: the table moved on while the comparison was made; or a row would lie in the future.
    """
    table = feature_table(view)
    read = lake.version(table)
    if read is None:
        raise CommitError(f"{table} does not exist; create it first")
    # Where there are no files of these days the optimizer knows that there is nothing to shuffle and sort for.
    current = read_features(spark, lake, view, read, (min(complete_until), max(complete_until)))
    changes = _differences(view, computed, current, complete_until)
    changes = changes.withColumn("created_time", F.lit(created)).withColumn("attempt", F.lit(to_micros(created)))
    changes = changes.select(*_columns(view))
    counted = changes.groupBy("event_date").agg(
        F.count("*").alias("rows"),
        F.sum(F.col("retracted").cast("int")).alias("retracted"),
        F.max(F.unix_micros("available_time")).alias("latest"),
    )
    per_day = {row["event_date"]: row for row in counted.collect()}
    future = {str(day): from_micros(row["latest"]).isoformat() for day, row in per_day.items() if row["latest"] > to_micros(created)}
    if future:
        raise CommitError(f"{table}: rows would become available after now ({created.isoformat()}): {future}")
    if per_day:
        # Compared once more: the digests alone are cheaper to compare twice than all values to keep.
        _append(lake, view, changes, read, created, metadata)
    version = lake.version(table)
    assert version is not None
    return Changes(
        version, {day: (per_day[day]["rows"], per_day[day]["retracted"]) if day in per_day else (0, 0) for day in complete_until}
    )


def _columns(view: FeatureView) -> list[str]:
    fixed = ["event_time", "available_time", "created_time", "attempt", "retracted", "row_digest"]
    return [*view.entity.join_keys, *fixed, *view.feature_names, "event_date"]


def _differences(view: FeatureView, computed: DataFrame, table: DataFrame, complete_until: Mapping[date, datetime]) -> DataFrame:
    keys = [*view.entity.join_keys, "event_time"]
    current = current_rows(table.where(is_complete(complete_until)), view).select(
        *keys, F.col("row_digest").alias("_digest"), F.col("retracted").alias("_retracted"), F.col("available_time").alias("_available")
    )
    available = F.expr(f"event_time + INTERVAL {view.delay // MICROSECOND} MICROSECOND")
    new = computed.withColumn("_new", F.lit(True))
    both = new.join(current, keys, "full_outer").withColumn("available_time", available)
    is_new = F.col("_new").isNotNull()
    differs = (F.col("_digest") != F.col("row_digest")) | (F.col("_available") != F.col("available_time"))
    changed = is_new & (F.col("_digest").isNull() | F.col("_retracted") | differs)
    vanished = ~is_new & ~F.col("_retracted")
    return (
        both.where(changed | vanished)
        .withColumn("retracted", ~is_new)
        .withColumn("row_digest", F.coalesce("row_digest", F.lit(b"")))
        .withColumn("event_date", F.to_date("event_time"))
    )


def _append(lake: Lake, view: FeatureView, changes: DataFrame, read: int, created: datetime, metadata: Mapping[str, object]) -> None:
    table = feature_table(view)
    if lake.version(table) != read:
        raise CommitError(
            f"{table}: another writer committed version {lake.version(table)} while changes against version {read} were computed",
            hint="run the partition again; runs that write one table share a Dagster pool, so look for a writer outside it",
        )
    note = {"format": METADATA_FORMAT, "attempt": to_micros(created), "compared_with": read, **metadata}
    (
        changes.repartition("event_date")
        .sortWithinPartitions("event_date", *view.entity.join_keys, "event_time", "created_time")
        .write.format("delta")
        .mode("append")
        .partitionBy("event_date")
        .option("userMetadata", json.dumps(note, sort_keys=True, default=str))
        # Appends never conflict. Two that name the same application do, and an older one that comes late is left out:
        # so a run that was given up, but whose JVM still works, cannot commit beside the one that took its place.
        .option("txnAppId", table)
        .option("txnVersion", to_micros(created))
        .save(lake.location(table))
    )
    if last_created(lake, view) != created:
        raise CommitError(f"{table}: the changes of attempt {to_micros(created)} were left out: a later attempt has committed")


def last_created(lake: Lake, view: FeatureView) -> datetime | None:
    """The created time of the table's last commit of ours; None: there is none."""
    for entry in lake.commits(feature_table(view)):
        note = json.loads(entry.get("userMetadata", "{}"))
        if "attempt" in note:
            return from_micros(note["attempt"])
    return None
