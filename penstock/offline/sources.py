"""A source's table, ours or external: which version it is at, how far it goes, and its rows.

An external table is read and never written to. A Delta table is read at a pinned version; Parquet files have
none, so a digest of their listing stands for it, and files that change while they are read fail the attempt.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pyarrow.fs import FileSystem
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from penstock.clock import MICROSECOND, from_micros
from penstock.contract.fingerprint import digest
from penstock.contract.source import Source
from penstock.contract.view import FeatureView
from penstock.dtypes import spark_type
from penstock.errors import SourceError
from penstock.offline.lake import Lake, dataset_of, raw_table
from penstock.offline.logs import AttemptEntry, last_attempts
from penstock.offline.spark_tables import read_ours

_TIME = pa.timestamp("us", tz="UTC")

HowFar = Iterable[AttemptEntry] | datetime
"""How far a source is in: what the attempt log says of an ingested one; the newest available time in an external one."""


def table_name(source: Source) -> str:
    """What a source's table is called in logs and manifests: `raw/<name>`, or an external one's location."""
    return raw_table(source) if source.table is None else source.table.location


def location(lake: Lake, source: Source) -> str:
    """Where a source's table is."""
    if source.table is None:
        return lake.location(raw_table(source))
    where = source.table.location
    return where if "://" in where or Path(where).is_absolute() else str(Path(lake.project) / where)


def open_table(lake: Lake, source: Source) -> DeltaTable:
    """A source's Delta table as it is now.

    Raises:
        SourceError: there is no such table.
    """
    try:
        return DeltaTable(location(lake, source))
    except (TableNotFoundError, FileNotFoundError):
        raise _missing(lake, source) from None


def version(lake: Lake, source: Source) -> int:
    """The version of a source's table now.

    Raises:
        SourceError: there is no such table.
    """
    if source.table is None or source.table.format == "delta":
        return open_table(lake, source).version()
    try:
        listed = [[f.path, f.size, str(f.mtime_ns)] for f in _files(lake, source)]
        return int(digest(sorted(listed))[:15], 16)
    except (TableNotFoundError, FileNotFoundError):
        raise _missing(lake, source) from None


def versions(lake: Lake, view: FeatureView) -> dict[str, int]:
    """Table → version, of all sources of a view.

    Raises:
        SourceError: a source has no table.
    """
    return {table_name(source): version(lake, source) for source in view.sources}


def how_far(lake: Lake, view: FeatureView, now: datetime) -> dict[str, HowFar]:
    """Source name → how far it is in, of all sources of a view."""
    return {s.name: last_attempts(lake, raw_table(s)) if s.table is None else newest_available(lake, s, now) for s in view.sources}


def newest_available(lake: Lake, source: Source, now: datetime) -> datetime:
    """The newest available time in an external table, up to now: what is later may still be missing from it.

    Raises:
        SourceError: there is no such table, it has no rows, or the column is no time.
    """
    column, after = source.availability.column or source.event_time, source.availability.at_most
    if source.availability.column is not None:
        after = timedelta(0)
    try:
        data = _dataset(lake, source)
        _require_zone(source, column, data.schema)
        latest = pa.scalar(now - after, _TIME)
        newest = max((time for batch in data.to_batches(columns=[column]) for time in _newest(batch[column], latest)), default=None)
    except (TableNotFoundError, FileNotFoundError):
        raise _missing(lake, source) from None
    except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SourceError(f"source '{source.name}': '{column}' of {table_name(source)} is not a time: {error}") from None
    if newest is None:
        raise SourceError(f"source '{source.name}': {table_name(source)} has no rows with a time in '{column}' up to now")
    return from_micros(newest) + after


def _newest(times: Any, latest: Any) -> Iterator[int]:
    cast = times.cast(_TIME, safe=False)  # nanoseconds may be cut
    known = pc.max(cast.filter(pc.less_equal(cast, latest)))
    if known.is_valid:
        yield known.value


def _require_zone(source: Source, column: str, schema: Any) -> None:
    if pa.types.is_timestamp(schema.field(column).type) and schema.field(column).type.tz is None:
        raise SourceError(
            f"source '{source.name}': '{column}' of {table_name(source)} has no time zone; it could mean any instant",
            hint="write it in UTC, e.g. with dt.tz_localize('UTC') in pandas",
        )


def _missing(lake: Lake, source: Source) -> SourceError:
    if source.table is None:
        return SourceError(
            f"source '{source.name}' has no table {raw_table(source)} in the lake",
            hint=f"ingest its days first: `penstock ingest {source.name} FROM TO`",
        )
    return SourceError(
        f"source '{source.name}': there is no {source.table.format} table at {location(lake, source)}",
        hint="correct its table=; a relative location starts from the project's folder",
    )


def _files(lake: Lake, source: Source) -> list[Any]:
    data = _dataset(lake, source)
    return data.filesystem.get_file_info(data.files)  # type: ignore[no-any-return]


def _dataset(lake: Lake, source: Source) -> Any:
    where = location(lake, source)
    if source.table is None or source.table.format == "delta":
        return dataset_of(DeltaTable(where))
    files, path = FileSystem.from_uri(where)
    return ds.dataset(path, filesystem=files, format="parquet", partitioning="hive")


def read_table(spark: SparkSession, lake: Lake, source: Source, at: int | None = None, days: tuple[date, date] | None = None) -> DataFrame:
    """All of a source's table, at a version or the newest; of an ingested one, if asked for, at least the partitions of some days.

    Raises:
        SourceError: there is no such table, or Spark cannot read it.
    """
    external = source.table
    if external is None:
        try:
            return read_ours(spark, lake, raw_table(source), at, days)
        except TableNotFoundError:
            raise _missing(lake, source) from None
    reader = spark.read.format(external.format)
    if at is not None and external.format == "delta":
        reader = reader.option("versionAsOf", at)
    try:
        frame = reader.load(location(lake, source))
    except AnalysisException as error:
        if "PATH_NOT_FOUND" in str(error) or "DELTA_TABLE_NOT_FOUND" in str(error):
            raise _missing(lake, source) from None
        raise SourceError(f"source '{source.name}': {location(lake, source)} cannot be read: {error}") from None
    if external.format == "parquet":
        # pandas writes nanoseconds, which the session reads as numbers.
        for field in _dataset(lake, source).schema:
            if pa.types.is_timestamp(field.type) and (field.type.unit, field.type.tz is None) == ("ns", False):
                frame = frame.withColumn(field.name, F.expr(f"timestamp_micros(`{field.name}` div 1000)"))
    return frame


def read_source(
    spark: SparkSession, lake: Lake, source: Source, at: int, start: datetime, known_by: datetime, *, with_timeless: bool = False
) -> DataFrame:
    """The rows of a source from event time `start` on that were available at `known_by`; if asked, those without an
    event time too.

    Returns:
        Its declared columns, `event_time` and `available_time`.

    Raises:
        SourceError: a declared column is missing or of another type.
    """
    frame = read_table(spark, lake, source, at, (start.date(), known_by.date()))
    seen = dict(frame.dtypes)
    wrong = [
        f"'{name}' {seen.get(name, 'missing')}, expected {spark_type(dtype)}"
        for name, dtype in source.schema.items()
        if seen.get(name) != spark_type(dtype)
    ]
    if wrong:
        raise SourceError(
            f"source '{source.name}' at version {at}: {len(wrong)} column(s) not as declared: {'; '.join(wrong)}",
            hint="mend the table (a time without a zone: say which it is in, e.g. dt.tz_localize('UTC') in pandas),"
            " or declare the source as it is and raise the version of the views that read it",
        )
    if source.table is None:
        frame = frame.where(F.col("event_date").between(F.lit(start.date()), F.lit(known_by.date())))
    event, rule = F.col(source.event_time), source.availability
    available = (
        F.col(rule.column)
        if rule.column is not None
        else F.expr(f"{source.event_time} + INTERVAL {rule.at_most // MICROSECOND} MICROSECOND")
    )
    columns = [F.col(name) for name in source.schema if name not in ("event_time", "available_time")]
    frame = frame.select(*columns, event.alias("event_time"), available.alias("available_time"))
    in_time = (F.col("event_time") >= F.lit(start)) & (F.col("event_time") <= F.lit(known_by))
    kept = in_time & (F.col("available_time") <= F.lit(known_by))
    return frame.where(kept | F.col("event_time").isNull() if with_timeless else kept)


def require_unchanged(lake: Lake, view: FeatureView, read: Mapping[str, int]) -> None:
    """Nothing, if the files of external Parquet sources are those that were listed before they were read.

    Raises:
        SourceError: they are not: what was computed may be of both.
    """
    for source in view.sources:
        if source.table is not None and source.table.format == "parquet" and version(lake, source) != read[table_name(source)]:
            raise SourceError(
                f"source '{source.name}': the files at {location(lake, source)} changed while they were read",
                hint="run it again; files that change often are better kept as a Delta table, which has versions",
            )
