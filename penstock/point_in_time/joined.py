"""A spine with features attached: planned at once, computed when it is asked for, in the form that is asked for."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from penstock.errors import SpineError
from penstock.offline.arrow import arrow_type
from penstock.offline.commit import read_features
from penstock.offline.lake import RETENTION, Lake
from penstock.offline.memory import give_back
from penstock.point_in_time import sql_engine
from penstock.point_in_time.columnar_engine import Attach, Finish, Written, in_process, on_spark, write_frame, write_on_spark, write_table
from penstock.point_in_time.on_demand import OnDemandJoin, appending, check_on_demand
from penstock.point_in_time.planner import Plan, explained, files_of, plan
from penstock.point_in_time.sinks import as_delta, as_parquet
from penstock.point_in_time.spine import DeltaRows, FrameRows, Spine, TableRows, check, column_types
from penstock.point_in_time.view_join import ViewJoin

# A JVM takes about as long to start as this process takes to join so much.
_IN_PROCESS_BYTES = 256_000_000


@dataclass(frozen=True)
class Resources:
    """What a join may use.

    Args:
        spark: gives the session; asked for only if Spark is needed.
        tasks: how many tasks run side by side.
        task_bytes: how much memory one of them may take.
    """

    spark: Callable[[], SparkSession]
    tasks: int
    task_bytes: int


def join(
    lake: Lake,
    spine: Spine,
    joins: Sequence[ViewJoin],
    resources: Resources,
    engine: Literal["columnar", "sql"] | None = None,
    on_demand: Sequence[OnDemandJoin] = (),
) -> "Joined":
    """Attach to each spine row the feature values known at its event time, under the rule of `penstock.as_of`.

    Args:
        lake: where the views' tables are.
        spine: n rows: the views' join keys, `event_time` (timestamp), any labels.
        joins: the views; output columns follow their order.
        resources: what may be used.
        engine: which; None: the columnar one unless there is a reason against it, which `explain` tells.
        on_demand: what is computed of the joined rows; its columns come last.

    Returns:
        n rows, order not kept: the spine's columns, then `<view>__<feature>`. Null where no row is eligible.

    Raises:
        SpineError: the spine has no rows; a join key, a request field or the event time is missing or has another type; a column
            would be written twice; or the columnar engine is asked for and cannot do it.
        SourceError: a table no longer has the version that is asked for.
    """
    check(spine, joins)
    check_on_demand(column_types(spine.schema), joins, on_demand)
    extent = spine.extent()
    if not extent.rows:
        raise SpineError("the spine has no rows", hint="check its query, and whether its source has been ingested")
    made = plan(lake, joins, extent, len(spine.schema), tasks=resources.tasks, task_bytes=resources.task_bytes, engine=engine)
    give_back()  # what looking at a large spine took
    if engine == "columnar" and made.why_sql is not None:
        raise SpineError(f"the columnar engine cannot join this: {made.why_sql}", hint="leave the engine out, and SQL does")
    return Joined(lake, spine, made, resources, tuple(on_demand))


@dataclass(frozen=True)
class Joined:
    """The join of a spine with some views, not computed yet.

    Every form holds the same rows, in no particular order. What is asked for twice is computed twice.
    """

    lake: Lake
    spine: Spine
    plan: Plan
    resources: Resources
    on_demand: tuple[OnDemandJoin, ...] = ()

    @cached_property
    def schema(self) -> pa.Schema:
        """Its columns: the spine's, then the features, those computed at the request last."""
        stored = [field for one in self.plan.joins for field in _columns(one)]
        return pa.schema([*self.spine.schema, *stored, *(field for one in self.on_demand for field in one.fields)])

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""
        names: list[str] = self.schema.names
        return names

    def explain(self) -> str:
        """What will be read, in which tiles, by which engine and why; a line each."""
        where = "in this process, without Spark" if self._without_spark else "in Spark's tasks"
        computed = [f"computed  {one.function.view}: {len(one.names)} features by {one.function.source.name}" for one in self.on_demand]
        return "\n".join([*explained(self.plan), *computed, f"runs      {where}"])

    def to_spark(self) -> DataFrame:
        """As a Spark DataFrame, computed when that is."""
        spark = self.resources.spark()
        if self.plan.why_sql is None:
            return on_spark(spark, self._on_spark(spark), self.plan, self._attach, self.schema)
        tables = [sql_engine.ViewTable(one, read_features(spark, self.lake, one.view, one.version)) for one in self.plan.joins]
        joined = sql_engine.join(spark, frame_of(spark, self.spine), tables)
        if not self.on_demand:
            return joined
        types = from_arrow_schema(self.schema, prefer_timestamp_ntz=True)
        return joined.mapInArrow(appending(self.on_demand, self.schema), types)

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """As Arrow batches, one after the other: never all of them in memory."""
        if isinstance(self.spine, TableRows | DeltaRows) and self._without_spark:
            for table in in_process(self.spine, self.plan, self._attach):
                yield from table.to_batches()
            return
        with self._staging() as folder:
            files, root = FileSystem.from_uri(folder)
            for written in self.write_files(folder):
                if not written.path:
                    continue
                with pq.ParquetFile(f"{root}/{written.path}", filesystem=files) as parquet:
                    for batch in parquet.iter_batches():
                        yield batch.cast(self.schema)

    def to_arrow(self) -> pa.Table:
        """As one Arrow table: all of it in this process."""
        return pa.Table.from_batches(self.to_batches(), schema=self.schema)

    def to_pandas(self) -> Any:
        """As a pandas DataFrame: all of it in this process."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """As a polars DataFrame, where polars is installed: all of it in this process."""
        import polars  # noqa: PLC0415  # the user's own: nothing here needs it

        return polars.from_arrow(self.to_arrow())

    def to_delta(self, table: str) -> int:
        """As a new Delta table, by its name in the lake or its location; returns the number of rows.

        Raises:
            CommitError: there is a table already.
        """
        location = table if "://" in table or Path(table).is_absolute() else self.lake.location(table)
        return sum(one.rows for one in as_delta(location, self.schema, self.write_files, RETENTION))

    def to_parquet(self, folder: str) -> int:
        """As Parquet files in a new folder; returns the number of rows.

        Raises:
            CommitError: there is something in it already.
        """
        where = folder if "://" in folder else str(Path(folder).resolve())
        return sum(one.rows for one in as_parquet(where, self.write_files))

    def write_files(self, folder: str, finish: Finish | None = None) -> list[Written]:
        """As Parquet files with names of their own in a folder that is there, each written by the task that made it.

        Args:
            folder: where.
            finish: what is done to the rows of each tile first, and what to tell of them; it crosses to workers.
        """
        if isinstance(self.spine, TableRows | DeltaRows) and self._without_spark:
            return [write_table(folder, table, finish) for table in in_process(self.spine, self.plan, self._attach)]
        spark = self.resources.spark()
        if self.plan.why_sql is None:
            return write_on_spark(spark, self._on_spark(spark), self.plan, self._attach, folder, finish)
        return write_frame(self.to_spark(), self.schema, folder, finish)

    @property
    def _without_spark(self) -> bool:
        return not isinstance(self.spine, FrameRows) and self.plan.why_sql is None and self.plan.bytes <= _IN_PROCESS_BYTES

    @cached_property
    def _attach(self) -> Attach:
        files = files_of(self.lake, self.plan, {field.name: field.type for field in self.schema}, self.resources.task_bytes)
        return Attach(tuple(files), self.on_demand, tuple(self.columns))

    def _on_spark(self, spark: SparkSession) -> DeltaRows | FrameRows:
        return self.spine if isinstance(self.spine, DeltaRows) else FrameRows(frame_of(spark, self.spine))

    @contextmanager
    def _staging(self) -> Iterator[str]:
        name = f"staging/{uuid.uuid4()}"
        folder = self.lake.make_folder(name)
        try:
            yield folder
        finally:
            self.lake.remove_folder(name)


def frame_of(spark: SparkSession, spine: Spine) -> DataFrame:
    """A spine as Spark's own."""
    if isinstance(spine, FrameRows):
        return spine.rows
    if isinstance(spine, DeltaRows):
        rows = spark.read.format("delta").option("versionAsOf", spine.version).load(spine.location)
        return rows if spine.columns is None else rows.select(*[F.col(f"`{name}`") for name in spine.columns])
    return spark.createDataFrame(spine.rows)


def _columns(join: ViewJoin) -> list[pa.Field]:
    dtypes = {feature.name: feature.dtype for feature in join.view.features}
    fields = [pa.field(join.column(feature), arrow_type(dtypes[feature])) for feature in join.features]
    return fields + [pa.field(name, arrow_type("timestamp")) for name in join.times]
