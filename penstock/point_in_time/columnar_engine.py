"""The rule of time over plain files: tiles of the spine, each done by itself, in this process or in Spark's tasks.

No feature row is shuffled: a task reads the row groups its tile asks for and attaches their values to its rows.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from penstock.offline.task_errors import as_themselves
from penstock.point_in_time.on_demand import OnDemandJoin, appended
from penstock.point_in_time.planner import Plan
from penstock.point_in_time.spine import DeltaRows, FrameRows, Rows, TableRows, Tile, cast
from penstock.point_in_time.tile import ViewFiles, attach

OnSpark: TypeAlias = DeltaRows | FrameRows
"""A spine in a Delta table, which tasks read themselves, or one that Spark computes."""

_BATCH_ROWS = 20_000  # rows handed on at once
_TILES_A_TASK = 2  # at most: their rows of the spine are held together
_GROUP_ROWS = 100_000  # rows of a row group of what is written

_WRITTEN = "path string, rows bigint, bytes bigint, first bigint, last bigint, told string"

Finish: TypeAlias = Callable[[pa.Table], tuple[pa.Table, str]]
"""What is done to a joined tile before it is written, in the task that joined it: the rows to write, and what to tell of them."""


@dataclass(frozen=True)
class Written:
    """What a task wrote: a file's name in the folder (empty: there were no rows), what it holds, the event times it
    spans in microseconds, and what its `Finish` tells."""

    path: str
    rows: int
    bytes: int
    first: int | None
    last: int | None
    told: str = ""


@dataclass(frozen=True)
class Attach:
    """Attaches features to a tile.

    Args:
        views: what is read.
        on_demand: what is computed of that.
        order: the columns, those of the spine among them.
    """

    views: tuple[ViewFiles, ...]
    on_demand: tuple[OnDemandJoin, ...]
    order: tuple[str, ...]

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The tile's rows with their features."""
        computed = {name for one in self.on_demand for name in one.names}
        return appended(attach(self.views, rows, [name for name in self.order if name not in computed]), self.on_demand, self.order)


def in_process(rows: Rows, plan: Plan, attached: Attach) -> Iterator[pa.Table]:
    """The spine's rows with their features, tile by tile, without Spark."""
    for tile in rows.cut(plan.columns, plan.tiles):
        yield attached(rows.read(tile))


def on_spark(spark: SparkSession, spine: OnSpark, plan: Plan, attached: Attach, schema: pa.Schema) -> DataFrame:
    """The spine's rows with their features as a DataFrame of this schema; each of its partitions is a tile."""
    work = _InBatches(attached)
    return _map_tiles(spark, spine, plan, work, from_arrow_schema(schema, prefer_timestamp_ntz=True))


def write_on_spark(
    spark: SparkSession,
    spine: OnSpark,
    plan: Plan,
    attached: Attach,
    folder: str,
    finish: Finish | None,
) -> list[Written]:
    """The same, written as Parquet by the tasks themselves: a file each, in `folder`.

    A task that Spark runs twice writes two files; only the one it reported is named here.
    """
    written = _map_tiles(spark, spine, plan, _Write(attached, folder, finish), _WRITTEN)
    with as_themselves():
        return [Written(**row.asDict()) for row in written.collect()]


def write_frame(rows: DataFrame, schema: pa.Schema, folder: str, finish: Finish | None = None) -> list[Written]:
    """Any DataFrame, written the same way: a file for each of its partitions that has rows."""
    written = rows.mapInArrow(_from_batches(schema, _Write(Attach((), (), tuple(schema.names)), folder, finish)), _WRITTEN)
    with as_themselves():
        return [Written(**row.asDict()) for row in written.collect()]


def write_table(folder: str, rows: pa.Table, finish: Finish | None = None) -> Written:
    """Write rows, finished first, as one Parquet file with a name of its own."""
    rows, told = (rows, "") if finish is None else finish(rows)
    if not rows.num_rows:
        return Written("", 0, 0, None, None, told)
    files, root = FileSystem.from_uri(folder)
    name = f"part-{uuid.uuid4()}.snappy.parquet"
    # A dictionary pays where values repeat; of random numbers it is built and thrown away.
    repeating = [field.name for field in rows.schema if not pa.types.is_primitive(field.type)]
    pq.write_table(rows, f"{root}/{name}", filesystem=files, row_group_size=_GROUP_ROWS, use_dictionary=repeating)
    ends = pc.min_max(rows["event_time"].cast(pa.int64()))
    size = files.get_file_info(f"{root}/{name}").size
    return Written(name, rows.num_rows, size, ends["min"].as_py(), ends["max"].as_py(), told)


@dataclass(frozen=True)
class _InBatches:
    """A tile → its batches with features."""

    attached: Attach

    def __call__(self, rows: pa.Table) -> Iterator[pa.RecordBatch]:
        yield from self.attached(rows).combine_chunks().to_batches(max_chunksize=_BATCH_ROWS)


@dataclass(frozen=True)
class _Write:
    """A tile → one row that tells of the file it was written to."""

    attached: Attach
    folder: str
    finish: Finish | None

    def __call__(self, rows: pa.Table) -> Iterator[pa.RecordBatch]:
        one = write_table(self.folder, self.attached(rows), self.finish)
        yield pa.RecordBatch.from_pydict(
            {
                "path": pa.array([one.path], pa.string()),
                **{name: pa.array([getattr(one, name)], pa.int64()) for name in ("rows", "bytes", "first", "last")},
                "told": pa.array([one.told], pa.string()),
            }
        )


def _map_tiles(spark: SparkSession, spine: OnSpark, plan: Plan, work: Any, schema: Any) -> DataFrame:
    if isinstance(spine, DeltaRows):
        tiles = spine.cut(plan.columns, plan.tiles)
        each = max(1, min(_TILES_A_TASK, len(tiles) // plan.tasks))
        return spark.range(0, len(tiles), 1, -(-len(tiles) // each)).mapInArrow(_from_files(spine, tiles, work), schema)
    rows = spine.rows
    cut = rows.repartitionByRange(plan.tiles, *plan.columns) if plan.tiles > 1 else rows.repartition(1)
    return cut.mapInArrow(_from_batches(spine.schema, work), schema)


def _from_files(spine: DeltaRows, tiles: Sequence[Tile], work: Any) -> Callable[..., Iterator[pa.RecordBatch]]:
    def run(numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine = [tiles[number] for batch in numbers for number in batch.column(0).to_pylist()]
        if not mine:
            return
        # The spine is looked through once for all of them, which lie side by side.
        rows = TableRows(spine.read(Tile(mine[0].columns, mine[0].begin, mine[-1].end)))
        for tile in mine:
            yield from work(rows.read(tile))

    return run


def _from_batches(schema: pa.Schema, work: Any) -> Callable[..., Iterator[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = list(batches)
        if rows:
            yield from work(cast(pa.Table.from_batches(rows), schema))

    return run
