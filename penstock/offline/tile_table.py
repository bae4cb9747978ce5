"""The tiles of a view: kept in a Delta table by day, made anew where their day of the source has other files.

    source files of a day ──► tiles of that day, with what they were made from ──► windows of any range

Each day's tiles name the source files and the definition they were made from. Where that is what it would be now, they are
used; else they are made again, by whoever commits rows of the view. The table is derived from the source alone and may be
deleted at any time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentWriteException,
    MetadataChangedException,
)
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from penstock.clock import MICROSECOND, to_micros
from penstock.contract.fingerprint import digest
from penstock.contract.view import FeatureView
from penstock.dtypes import spark_type
from penstock.errors import CommitError
from penstock.offline.arrow import arrow_type
from penstock.offline.create import create_table
from penstock.offline.feature_files import Asked, FeatureFile, FeatureReader, feature_files
from penstock.offline.lake import Lake, tile_table, why_not_plain
from penstock.offline.sources import location, read_source, table_name
from penstock.offline.watermark import DAY, days_between, start_of
from penstock.offline.windows.inputs import output_schema, with_inputs
from penstock.offline.windows.plan import WindowPlan, plan_of
from penstock.offline.windows.tiles import ROWS, columns_of, rows_of_tiles, tiles_of

_CONFLICTS = (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentWriteException,
    MetadataChangedException,
)
_REMEDY = "remove the folder of the view's tiles: they are derived, and made again"
_FORMAT = 1  # of the states; another one makes all tiles anew
_ROWS_AT_ONCE = 250_000  # source rows a task holds, or those of one entity and day if they are more
_TILES_PER_TASK = 1_000_000
_SHUFFLED_PARTS = 64
_EARLIEST, _LATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_ALWAYS = datetime(9999, 12, 31, tzinfo=UTC)


def refresh_tiles(spark: SparkSession, lake: Lake, view: FeatureView, inputs: Mapping[str, int], start: datetime, last: datetime) -> None:
    """Make the tiles that the rows of a view with `start <= event_time <= last` are computed from, where they are not there yet.

    Args:
        spark, lake, view: with what, where and of what.
        inputs: source table → version to read.
        start, last: the range of event times.

    Raises:
        SourceError: the source is not as declared.
        CommitError: another writer changed the table meanwhile.
    """
    wanted = _made_from(lake, view, inputs, _days(view, start, last + MICROSECOND))
    held = _held(lake, view)
    stale = [day for day, mark in wanted.items() if day not in held or held[day].mark != mark]
    if not stale:
        return
    table = tile_table(view)
    _create(spark, lake, view)
    marks = F.broadcast(spark.createDataFrame([(day, wanted[day]) for day in stale], "event_date date, made_from string"))
    keys = list(view.entity.join_keys)
    rows = _built(spark, lake, view, inputs, stale).join(marks, "event_date")
    try:
        (
            rows.sortWithinPartitions("event_date", *keys, "event_time", "available_time")
            .write.format("delta")
            .mode("overwrite")
            .option("replaceWhere", f"event_date IN ({', '.join(repr(str(day)) for day in stale)})")
            .save(lake.location(table))
        )
    except _CONFLICTS:
        raise CommitError(
            f"{table}: another writer changed the tiles of {stale[0]} to {stale[-1]} while they were made",
            hint="run it again; runs that compute one view share a Dagster pool, so look for a writer outside it",
        ) from None
    _mark_empty(lake, view, {day: wanted[day] for day in sorted(set(stale) - set(_held(lake, view)))})


def windowed_from_tiles(
    spark: SparkSession, lake: Lake, view: FeatureView, inputs: Mapping[str, int], start: datetime, end: datetime
) -> DataFrame:
    """The rows of a view with `start <= event_time < end`, from the tiles that are kept; where one of them is missing or of another
    state of the source, from tiles made for this once.

    Raises:
        SourceError: the source is not as declared.
    """
    wanted = _made_from(lake, view, inputs, _days(view, start, end))
    held = _held(lake, view)
    work = _Work(plan_of(view), _length(view), tuple(view.entity.join_keys), _features(view), to_micros(start), to_micros(end))
    schema = output_schema(view)
    if not wanted:
        return spark.createDataFrame([], schema)
    if any(day not in held or held[day].mark != mark for day, mark in wanted.items()):
        keys = [F.col(key) for key in work.keys]
        part = F.pmod(F.xxhash64(*keys), F.lit(_SHUFFLED_PARTS)) if keys else F.lit(True)
        return _built(spark, lake, view, inputs, list(wanted)).groupBy(part).applyInArrow(_at_once(work), schema)
    files = [file for day in wanted for file in held[day].files]
    ranges = _ranges(lake.location(tile_table(view)), files, work.keys)
    read = _from_files(work, lake.location(tile_table(view)), files, ranges)
    return spark.range(0, len(ranges), 1, len(ranges)).mapInArrow(read, schema)


@dataclass(frozen=True)
class _Day:
    """What is kept of a day."""

    mark: str
    files: list[FeatureFile]


@dataclass(frozen=True)
class _Work:
    """What a task does with tiles; plain values: definitions may live in modules that workers cannot import."""

    plan: WindowPlan
    tile: int
    keys: tuple[str, ...]
    features: tuple[tuple[str, Any], ...]
    start: int
    end: int

    def __call__(self, tiles: pa.Table) -> Iterator[pa.Table]:
        for rows in rows_of_tiles(self.plan, self.tile, tiles, self.keys, self.start, self.end):
            columns = [rows[name] for name in (*self.keys, "event_time")]
            columns += [rows[f"value_{n}"].cast(dtype) for n, (_, dtype) in enumerate(self.features)]
            yield pa.table(columns, names=[*self.keys, "event_time", *(name for name, _ in self.features)])

    @property
    def columns(self) -> list[str]:
        return [*self.keys, "event_time", "available_time", *columns_of(self.plan)]


def _length(view: FeatureView) -> int:
    assert view.tiles is not None
    return view.tiles // MICROSECOND


def _features(view: FeatureView) -> tuple[tuple[str, Any], ...]:
    return tuple((f.name, arrow_type(f.dtype)) for f in view.features)


def _days(view: FeatureView, start: datetime, end: datetime) -> list[date]:
    """The days whose tiles the windows of a range reach: those of the grid's step before it too, to compare with."""
    assert view.every is not None
    return days_between((start - view.every - view.reach).date(), (end - MICROSECOND).date())


def _made_from(lake: Lake, view: FeatureView, inputs: Mapping[str, int], days: Sequence[date]) -> dict[date, str]:
    """Day → a mark that changes with the source's files that may hold its rows and with the definition; days without are left out."""
    source = view.sources[0]
    at = inputs[table_name(source)]
    definition = [
        _FORMAT,
        str(view.tiles),
        str(view.delay),
        list(view.entity.join_keys.items()),
        [[name, str(dtype)] for name, dtype in columns_of(plan_of(view)).items()],
        [sorted(source.schema.items()), source.event_time, source.availability.column, str(source.availability.at_most)],
    ]
    if source.table is not None and source.table.format != "delta":
        return {day: digest([*definition, str(at)])[:16] for day in days}
    table = DeltaTable(location(lake, source), version=at)
    if why_not_plain(table) is not None:  # rows go without a new file
        return {day: digest([*definition, str(at)])[:16] for day in days}
    files = list(_spans(pa.table(table.get_add_actions(flatten=True)), source.event_time, by_day=source.table is None))
    found = {day: sorted(path for path, first, last in files if first <= day <= last) for day in days}
    return {day: digest([*definition, paths])[:16] for day, paths in found.items() if paths}


def _spans(listed: pa.Table, event_time: str, *, by_day: bool) -> Iterator[tuple[str, date, date]]:
    """Each file and the days that its rows may be of; `by_day`: the table is ours, partitioned by the day of the event time."""
    for row in listed.to_pylist():
        first, last = row.get(f"min.{event_time}"), row.get(f"max.{event_time}")
        if by_day:  # somebody else's event_date may be a day of another zone, or of another time
            yield row["path"], row["partition.event_date"], row["partition.event_date"]
        elif isinstance(first, datetime) and isinstance(last, datetime):
            yield row["path"], _utc(first).date(), (_utc(last) + timedelta(milliseconds=1)).date()  # statistics are cut to milliseconds
        else:
            yield row["path"], date.min, date.max


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _held(lake: Lake, view: FeatureView) -> dict[date, _Day]:
    table = tile_table(view)
    if lake.version(table) is None:
        return {}
    opened = lake.open(table)
    listed = pa.table(opened.get_add_actions(flatten=True))
    if not listed.num_rows:
        return {}
    marks = dict(zip(listed["partition.event_date"].to_pylist(), listed["partition.made_from"].to_pylist(), strict=True))
    days = {day: _Day(mark, []) for day, mark in marks.items()}
    for file in feature_files(opened, next(iter(view.entity.join_keys), None)):
        days[date(1970, 1, 1) + file.day * DAY].files.append(file)
    return days


def _create(spark: SparkSession, lake: Lake, view: FeatureView) -> None:
    """Make the table, anew where it has other states: it is derived, and who reads it reads a version."""
    table = tile_table(view)
    declared = [*_columns(view), ("event_date", "DATE"), ("made_from", "STRING")]
    schema = ", ".join(f"`{name}` {dtype}" for name, dtype in declared)
    if lake.version(table) is None:
        stats = ",".join([*view.entity.join_keys, "event_time", "available_time"])
        properties = f"'delta.enableDeletionVectors' = 'false', 'delta.dataSkippingStatsColumns' = '{stats}'"
        create_table(spark, lake, table, f"({schema}) USING DELTA PARTITIONED BY (event_date, made_from) TBLPROPERTIES ({properties})")
    elif [field.name for field in lake.open(table).schema().fields] != [name for name, _ in declared]:
        nothing = spark.createDataFrame([], schema)
        nothing.write.format("delta").mode("overwrite").option("overwriteSchema", "true").partitionBy("event_date", "made_from").save(
            lake.location(table)
        )


_SPARK_TYPES = {"int64": "BIGINT", "double": "DOUBLE", "list<item: int64>": "ARRAY<BIGINT>", "list<item: double>": "ARRAY<DOUBLE>"}


def _columns(view: FeatureView) -> list[tuple[str, str]]:
    """Names and Spark types of a tile's columns, but the partition's."""
    states = [(name, _SPARK_TYPES[str(dtype)]) for name, dtype in columns_of(plan_of(view)).items()]
    keys = [(key, spark_type(dtype)) for key, dtype in view.entity.join_keys.items()]
    return [*keys, ("event_time", "TIMESTAMP"), ("available_time", "TIMESTAMP"), *states]


def _built(spark: SparkSession, lake: Lake, view: FeatureView, inputs: Mapping[str, int], days: Sequence[date]) -> DataFrame:
    """The tiles of some days, with `event_date`."""
    source, keys = view.sources[0], list(view.entity.join_keys)
    rows = read_source(spark, lake, source, inputs[table_name(source)], start_of(min(days)), _ALWAYS)
    ours = (F.col("event_time") < F.lit(start_of(max(days)) + DAY)) & F.col("event_date").isin(list(days))
    needed = with_inputs(view, rows).withColumn("event_date", F.to_date("event_time")).where(ours)
    sorted_ = needed.repartition("event_date").sortWithinPartitions("event_date", *keys)
    schema = ", ".join(f"`{name}` {dtype}" for name, dtype in _columns(view))
    tiles = sorted_.mapInArrow(_tiling(plan_of(view), _length(view), keys), schema)
    return tiles.withColumn("event_date", F.to_date("event_time"))


def _tiling(plan: WindowPlan, tile: int, keys: list[str]) -> Callable[..., Iterator[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts: list[pa.Table] = []
        held, enough = 0, _ROWS_AT_ONCE
        for batch in batches:
            parts.append(pa.Table.from_batches([batch]))
            held += batch.num_rows
            if held < enough:
                continue
            rows = pa.concat_tables(parts).combine_chunks()
            whole = _begin_of_last(rows, ["event_date", *keys])
            if whole:
                yield from tiles_of(plan, tile, rows.slice(0, whole), keys).to_batches()
            parts, held = [rows.slice(whole)], rows.num_rows - whole
            enough = max(_ROWS_AT_ONCE, 2 * held)
        if held:
            yield from tiles_of(plan, tile, pa.concat_tables(parts).combine_chunks(), keys).to_batches()

    return run


def _begin_of_last(rows: pa.Table, columns: Sequence[str]) -> int:
    """Where the last entity's day begins, in rows sorted by both."""
    other = np.zeros(rows.num_rows, np.bool_)
    for column in columns:
        other |= np.asarray(pc.not_equal(rows[column], rows[column][-1]).to_numpy())
    found = np.flatnonzero(other)
    return int(found[-1]) + 1 if len(found) else 0


def _mark_empty(lake: Lake, view: FeatureView, days: Mapping[date, str]) -> None:
    """Write down that these days have no tiles, so that they are not looked for again."""
    if not days:
        return
    types = {key: arrow_type(dtype) for key, dtype in view.entity.join_keys.items()}
    types |= {"event_time": arrow_type("timestamp"), "available_time": arrow_type("timestamp"), **columns_of(plan_of(view))}
    rows = [{"event_time": start_of(day), "available_time": start_of(day), ROWS: 0} for day in days]
    columns = {name: pa.array([row.get(name) for row in rows], dtype) for name, dtype in types.items()}
    columns |= {"event_date": pa.array(list(days), pa.date32()), "made_from": pa.array(list(days.values()))}
    write_deltalake(lake.location(tile_table(view)), pa.table(columns), mode="append")


def _at_once(work: _Work) -> Callable[[pa.Table], pa.Table]:
    def run(tiles: pa.Table) -> pa.Table:
        found = list(work(tiles))
        return pa.concat_tables(found) if found else _nothing(work, tiles)

    return run


def _nothing(work: _Work, tiles: pa.Table) -> pa.Table:
    schema = pa.schema([*(tiles.schema.field(key) for key in (*work.keys, "event_time")), *work.features])
    return schema.empty_table()


_Bound = tuple[Any, ...] | None


def _ranges(where: str, files: Sequence[FeatureFile], keys: Sequence[str]) -> list[tuple[_Bound, _Bound]]:
    """Ranges of keys, `[low, high)`, with about as many tiles each; None: no bound."""
    tasks = ceil(sum(file.rows for file in files) / _TILES_PER_TASK)
    largest = max(files, key=lambda file: file.rows)
    if tasks < 2 or not keys or largest.rows < tasks:
        return [(None, None)]
    reader = FeatureReader(where, [largest], _REMEDY)
    (part,) = reader.select(Asked(_EARLIEST, _LATEST), None)
    held = reader.read(part, keys)
    places = [largest.rows * n // tasks for n in range(1, tasks)]
    bounds = sorted({tuple(row.values()) for row in held.take(pa.array(places)).to_pylist()})
    return list(pairwise([None, *bounds, None]))


def _from_files(
    work: _Work, where: str, files: Sequence[FeatureFile], ranges: Sequence[tuple[_Bound, _Bound]]
) -> Callable[..., Iterator[pa.RecordBatch]]:
    def run(numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number in (n for batch in numbers for n in batch.column(0).to_pylist()):
            tiles = _read(work, where, files, *ranges[number])
            for rows in work(tiles):
                yield from rows.to_batches()

    return run


def _read(work: _Work, where: str, files: Sequence[FeatureFile], low: _Bound, high: _Bound) -> pa.Table:
    """The tiles of a range of keys; file by file, so that no more than one is held beside them."""
    first_key = work.keys[0] if work.keys and low != high else None
    reader = FeatureReader(where, files, _REMEDY)
    # What has no bound is bounded by what the files have: a range of which one end is open prunes as well.
    lowest = min((file.low for file in files if file.low is not None), default=None)
    highest = max((file.high for file in files if file.high is not None), default=None)
    ends = (low[0] if low else lowest, high[0] if high else highest)
    if None in ends:
        ends = (None, None)
    found = []
    for part in reader.select(Asked(_EARLIEST, _LATEST, *ends), first_key):
        rows = reader.read(part, work.columns)
        for bound, is_low in ((low, True), (high, False)):
            if bound is not None:
                from_bound = _at_or_after(rows, work.keys, bound)
                rows = rows.filter(from_bound if is_low else pc.invert(from_bound))
        found.append(rows)
    return pa.concat_tables(found, promote_options="permissive")


def _at_or_after(rows: pa.Table, keys: Sequence[str], bound: tuple[Any, ...]) -> pa.ChunkedArray:
    """Whether each row's keys, compared in order, are not before a bound; a null is before everything."""
    found = pa.chunked_array([pa.repeat(pa.scalar(True), rows.num_rows)])
    for key, value in zip(reversed(keys), reversed(bound), strict=True):
        column = rows[key]
        scalar = pa.scalar(value, column.type)
        found = pc.or_(pc.greater(column, scalar), pc.and_(pc.equal(column, scalar), found))
    return pc.fill_null(found, False)
