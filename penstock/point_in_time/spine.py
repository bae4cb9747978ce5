"""The rows to enrich, wherever they are: in memory, in a Delta table, or what Spark will compute.

Whatever they come from, the engines see the join keys in the types their entities declare and `event_time` as
UTC microseconds; all other columns are passed through as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_schema

from penstock.dtypes import spark_type
from penstock.errors import SpineError
from penstock.offline.arrow import plain_type
from penstock.offline.lake import dataset_of
from penstock.point_in_time.view_join import ViewJoin

EVENT_TIME = "event_time"
_UTC = pa.timestamp("us", tz="UTC")
_SAMPLED = 100_000  # rows that say where to cut a spine into tiles
_A_FEW = {"batch_readahead": 2, "fragment_readahead": 1}  # batches held beside the one in hand


@dataclass(frozen=True)
class Extent:
    """How much a spine asks.

    Args:
        rows: all of them, those without an event time too.
        first, last: its event times, microseconds; None: it has none.
    """

    rows: int
    first: int | None
    last: int | None


@dataclass(frozen=True)
class Tile:
    """Some rows of a spine: those between two places in the order of some columns, nulls first.

    Args:
        columns: the order.
        begin, end: values of these columns, the first included, the second not; None: there is no such bound.
    """

    columns: tuple[str, ...]
    begin: tuple[Any, ...] | None
    end: tuple[Any, ...] | None


class Rows(Protocol):
    """A spine that can be read without Spark."""

    @property
    def schema(self) -> pa.Schema: ...

    def extent(self) -> Extent: ...

    def cut(self, columns: Sequence[str], parts: int) -> list[Tile]:
        """About `parts` tiles of about as many rows each, every row in one of them."""
        ...

    def read(self, tile: Tile) -> pa.Table: ...

    def batches(self) -> Iterator[pa.Table]:
        """All rows, a part after the other."""
        ...


@dataclass(frozen=True)
class TableRows:
    """A spine in memory."""

    rows: pa.Table

    @property
    def schema(self) -> pa.Schema:
        return self.rows.schema

    def extent(self) -> Extent:
        return Extent(self.rows.num_rows, *_ends(self.rows[EVENT_TIME]))

    def cut(self, columns: Sequence[str], parts: int) -> list[Tile]:
        return _tiles(self.rows.select(list(dict.fromkeys(columns))), columns, parts)

    def read(self, tile: Tile) -> pa.Table:
        return self.rows.filter(_within(tile))

    def batches(self) -> Iterator[pa.Table]:
        yield self.rows


@dataclass(frozen=True)
class DeltaRows:
    """A spine that is a Delta table at a version, or some of its columns."""

    location: str
    version: int
    columns: tuple[str, ...] | None = None

    @property
    def schema(self) -> pa.Schema:
        schema = canonical(self._dataset().schema)
        return schema if self.columns is None else pa.schema([schema.field(name) for name in self.columns])

    def extent(self) -> Extent:
        dataset = self._dataset()
        ends = [_ends(pa.chunked_array([batch.column(0)])) for batch in dataset.to_batches(columns=[EVENT_TIME], **_A_FEW)]
        times = [time for pair in ends for time in pair if time is not None]
        return Extent(dataset.count_rows(), min(times, default=None), max(times, default=None))

    def cut(self, columns: Sequence[str], parts: int) -> list[Tile]:
        if parts == 1:
            return _tiles(pa.table({}), columns, 1)
        wanted = list(dict.fromkeys(columns))
        each = max(1, self._dataset().count_rows() // _SAMPLED)
        sampled = [batch.take(pa.array(range(0, batch.num_rows, each))) for batch in self._dataset().to_batches(columns=wanted, **_A_FEW)]
        return _tiles(pa.Table.from_batches(sampled), columns, parts)

    def read(self, tile: Tile) -> pa.Table:
        # By the first column alone while all of the spine is looked at; exactly, of what that leaves.
        near: pa.Table = self._dataset().to_table(columns=self._wanted, filter=_near(tile), use_threads=False, **_A_FEW)
        return cast(near.filter(_within(tile)), self.schema)

    def batches(self) -> Iterator[pa.Table]:
        schema = self.schema
        for batch in self._dataset().to_batches(columns=self._wanted, **_A_FEW):
            yield cast(pa.Table.from_batches([batch]), schema)

    @property
    def _wanted(self) -> list[str] | None:
        return None if self.columns is None else list(self.columns)

    def _dataset(self) -> Any:
        return dataset_of(DeltaTable(self.location, version=self.version))


@dataclass(frozen=True)
class FrameRows:
    """A spine that Spark computes."""

    rows: DataFrame

    @property
    def schema(self) -> pa.Schema:
        return canonical(to_arrow_schema(self.rows.schema, timezone="UTC"))

    def extent(self) -> Extent:
        time = F.unix_micros(EVENT_TIME)
        counted = self.rows.agg(F.count(F.lit(1)), F.min(time), F.max(time)).collect()[0]
        return Extent(int(counted[0]), counted[1], counted[2])


Spine: TypeAlias = TableRows | DeltaRows | FrameRows


def _ends(times: pa.ChunkedArray) -> tuple[int | None, int | None]:
    ends = pc.min_max(times.cast(_UTC).cast(pa.int64()))
    return ends["min"].as_py(), ends["max"].as_py()


def _tiles(sample: pa.Table, columns: Sequence[str], parts: int) -> list[Tile]:
    columns = tuple(dict.fromkeys(columns))
    bounds: list[tuple[Any, ...]] = []
    if parts > 1 and sample.num_rows:
        order = pc.sort_indices(sample, sort_keys=[(name, "ascending", "at_start") for name in columns])
        places = pa.array(sorted({len(order) * part // parts for part in range(1, parts)}))
        at = sample.take(order.take(places))
        bounds = list(dict.fromkeys(zip(*(at[name].to_pylist() for name in columns), strict=True)))
    return [Tile(columns, begin, end) for begin, end in zip([None, *bounds], [*bounds, None], strict=True)]


def _near(tile: Tile) -> pc.Expression:
    """What holds of all rows of a tile, of its first column alone."""
    column, near = pc.field(tile.columns[0]), pc.scalar(True)
    if tile.begin is not None and tile.begin[0] is not None:
        near = near & (column >= pc.scalar(pa.scalar(tile.begin[0])))
    if tile.end is not None and tile.end[0] is not None:
        before = column <= pc.scalar(pa.scalar(tile.end[0]))
        near = near & (before if tile.begin is not None and tile.begin[0] is not None else before | column.is_null())
    return near


def _within(tile: Tile) -> pc.Expression:
    """Whether a row lies in a tile: one that is not before `begin`, and before `end`."""
    inside = pc.scalar(True)
    if tile.begin is not None:
        inside = inside & ~_before(tile.columns, tile.begin)
    if tile.end is not None:
        inside = inside & _before(tile.columns, tile.end)
    return inside


def _before(columns: Sequence[str], bound: Sequence[Any]) -> pc.Expression:
    name, value = columns[0], bound[0]
    column = pc.field(name)
    if value is None:  # nothing comes before null
        less, equal = pc.scalar(False), column.is_null()
    else:
        scalar = pc.scalar(pa.scalar(value))
        less, equal = column.is_null() | (column < scalar), column == scalar
        equal = equal & ~column.is_null()
    if len(columns) == 1:
        return less
    return less | (equal & _before(columns[1:], bound[1:]))


def table_rows(given: Any) -> TableRows:
    """A pandas, polars or Arrow table as a spine.

    Raises:
        SpineError: it is none of these, or has times that microseconds cannot tell.
    """
    if isinstance(given, pa.Table):
        table = given
    elif isinstance(given, pa.RecordBatchReader):
        table = given.read_all()
    elif type(given).__module__.partition(".")[0] == "pandas":
        table = pa.Table.from_pandas(given, preserve_index=False)
    elif hasattr(given, "__arrow_c_stream__") or hasattr(given, "__arrow_c_array__"):
        table = pa.table(given)
    else:
        raise SpineError(
            f"a spine cannot be a {type(given).__name__}",
            hint="give a Spark DataFrame, a pandas, polars or Arrow table, SQL text, or store.spine(table=...)",
        )
    _require_names_once(table.schema.names)
    return TableRows(cast(table, canonical(table.schema)))


def _require_names_once(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise SpineError(f"the spine has two columns named {', '.join(map(repr, twice))}", hint="rename one of them")


def canonical(schema: pa.Schema) -> pa.Schema:
    """The schema the engines give a spine: UTC microseconds, plain strings; every column may hold nulls."""
    return pa.schema([(field.name, _canonical(field.type)) for field in schema])


def _canonical(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _canonical(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us") if kind.tz is None else _UTC
    return plain_type(kind)


def cast(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows in the types of a canonical schema; the same rows, where they are already.

    Raises:
        SpineError: a time is finer than microseconds, or beyond the years they can tell.
    """
    if rows.schema.equals(schema):
        return rows
    columns = []
    for field in schema:
        try:
            columns.append(rows[field.name].cast(field.type))
        except pa.ArrowInvalid:
            raise SpineError(
                f"the spine's '{field.name}' is {rows.schema.field(field.name).type} and does not fit {field.type}",
                hint="a time finer than microseconds is rounded first, e.g. with dt.floor('us') in pandas",
            ) from None
    return pa.table(columns, schema=schema)


def check(spine: Spine, joins: Sequence[ViewJoin]) -> None:
    """Refuse a spine that the views cannot be joined to.

    Raises:
        SpineError: a join key or the event time is missing or has another type, or a column would be written twice.
    """
    _require_names_once(spine.rows.columns if isinstance(spine, FrameRows) else spine.schema.names)
    seen = column_types(spine.schema)
    if seen.get(EVENT_TIME) != "timestamp":
        raise SpineError(
            f"the spine's '{EVENT_TIME}' is {_shown(seen.get(EVENT_TIME))}, expected timestamp (with a time zone)",
            hint="name the time of each row event_time; a timestamp without a zone could mean any instant: "
            "say which zone, e.g. with to_utc_timestamp in SQL or dt.tz_localize in pandas",
        )
    taken = dict.fromkeys(seen, "the spine")
    for join in joins:
        for key, dtype in join.view.entity.join_keys.items():
            column = join.on[key]
            what = f"join key '{key}' of feature view '{join.view.name}'" + (f" ('{column}' in the spine)" if column != key else "")
            if column not in seen:
                raise SpineError(f"{what} is not in the spine; it has {', '.join(seen)}")
            if seen[column] != spark_type(dtype):
                hint = "cast it in the spine"
                if seen[column] in ("double", "float"):
                    hint += "; pandas makes integers with missing values floats: astype('Int64') keeps them"
                kinds = f"{_shown(seen[column])} in the spine, {spark_type(dtype)} in '{join.view.name}'"
                raise SpineError(f"join key '{column}' is {kinds}", hint=hint)
        for column in join.columns:
            if column in taken:
                raise SpineError(
                    f"column '{column}' of feature view '{join.view.name}' would be written twice: {taken[column]} has it",
                    hint="rename it in the spine, or give the view another name",
                )
            taken[column] = f"feature view '{join.view.name}'"


def column_types(schema: pa.Schema) -> dict[str, str]:
    """Column → its type, as Spark names it."""
    return {field.name: _spark_name(field.type) for field in schema}


def _spark_name(kind: pa.DataType) -> str:
    try:
        return str(from_arrow_type(kind, prefer_timestamp_ntz=True).simpleString())
    except Exception:  # pyspark's error has no type of its own for "Arrow has a type that Spark has not"
        return str(kind)


def _shown(kind: str | None) -> str:
    if kind is None:
        return "missing"
    return "timestamp without a time zone" if kind == "timestamp_ntz" else kind
