"""One pass over computed rows: each day is looked at, compared with what its table holds, and what changed is written as a file.

    computed rows ──┐                                 ┌──► what the audit sees of them
    current rows ───┴──► by day, sorted by key, time ─┴──► a file of the changes, in the table's folder and not in its log

A file that no log names is read by nobody. Once the audit has judged, `commit` names those of the days that passed, and the others are
removed. A task has a day whole, in pieces of bounded size: rows of one key and time stand beside each other, so that to compare them
takes no join and to find repeated ones no count.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import Any, TypeAlias
from urllib.parse import unquote
from uuid import uuid4

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction
from pyarrow.fs import FileSystem
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from penstock.clock import MICROSECOND, to_micros
from penstock.config import ROWS_PER_GROUP
from penstock.contract.view import FeatureView
from penstock.offline.arrow import arrow_type
from penstock.offline.compute import is_complete, judged_day
from penstock.offline.content import row_digests
from penstock.offline.delta_files import added, bounded
from penstock.offline.lake import Lake, feature_table, listed_files

_ROWS_AT_ONCE, _BYTES_AT_ONCE = 1_000_000, 256_000_000
_TIME = pa.timestamp("us", tz="UTC")
_CURRENT = "struct<created: timestamp, digest: binary, available: timestamp, retracted: boolean>"

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """Computed rows of one day, all of them or a piece.

    Args:
        day: theirs; of rows later than all days the last one, of rows without an event time None.
        rows: join keys, event_time and features.
        complete: of each row whether its day is complete so far; null without an event time.
        repeated: how many rows repeat the key and event time of another.
    """

    day: date | None
    rows: pa.Table
    complete: pa.ChunkedArray
    repeated: int


Look: TypeAlias = Callable[[Part], bytes]
"""What is seen of a part, as it is handed on to the audit. It is run in Spark's tasks, so it holds plain values only."""

Seen: TypeAlias = Mapping[date | None, Sequence[bytes]]
"""Day → what was seen of each of its parts; days without rows are not there."""


class StagedFile(msgspec.Struct, frozen=True):
    """What changed of one day, written and not committed.

    Args:
        add: what the table's log has to say of it.
        rows, retracted: how many there are, and how many of them are retractions.
        latest: the greatest available time in it, in microseconds.
    """

    add: AddAction
    rows: int
    retracted: int
    latest: int


class _Day(msgspec.Struct):
    """What a task says of a day."""

    seen: list[bytes]
    file: StagedFile | None


@dataclass(frozen=True)
class Staged:
    """Computed rows as they wait for the audit."""

    seen: Seen
    files: Mapping[date, StagedFile]


def stage(
    view: FeatureView,
    rows: DataFrame,
    current: DataFrame,
    complete_until: Mapping[date, datetime],
    *,
    location: str,
    created: datetime,
    look: Look,
) -> Staged:
    """Look at the computed rows of some days, and write down what of them is not in the table yet.

    Args:
        view: theirs.
        rows: join keys, event_time and features.
        current: all rows of the view's table in these days, superseded ones and retractions included.
        complete_until: the days, with the event time up to which they were computed; current rows after it are left alone.
        location: of the view's table.
        created: when the attempt was made.
        look: what the audit wants to see.

    Raises:
        SourceError, FunctionError: within a task; see `task_errors`.
    """
    keys = list(view.entity.join_keys)
    held = current.where(is_complete(complete_until)).select(
        *keys,
        "event_time",
        F.to_date("event_time").alias("_day"),
        F.lit(True).alias("_complete"),
        F.struct(F.col("created_time"), F.col("row_digest"), F.col("available_time"), F.col("retracted")).cast(_CURRENT).alias("_current"),
    )
    both = _judged(view, rows, complete_until)
    found = _days(view, both.unionByName(held, allowMissingColumns=True), _Stage(_Layout.of(view), location, to_micros(created), look))
    return Staged({day: one.seen for day, one in found}, {day: one.file for day, one in found if day is not None and one.file is not None})


def remove_uncommitted(lake: Lake, view: FeatureView, staged: Staged) -> None:
    """Remove the staged files that the table's log does not name: of refused days, and all where the attempt came to nothing."""
    if not staged.files:
        return
    named = {unquote(file["path"]) for file in listed_files(lake.open(feature_table(view)))}
    files, root = FileSystem.from_uri(lake.location(feature_table(view)))
    for file in staged.files.values():
        if file.add.path not in named:
            files.delete_file(f"{root}/{file.add.path}")


def looked_at(view: FeatureView, rows: DataFrame, complete_until: Mapping[date, datetime], look: Look) -> Seen:
    """What the audit wants to see of rows that are written nowhere."""
    found = _days(view, _judged(view, rows, complete_until), _Stage(_Layout.of(view), None, 0, look))
    return {day: one.seen for day, one in found}


def _judged(view: FeatureView, rows: DataFrame, complete_until: Mapping[date, datetime]) -> DataFrame:
    return rows.select(
        *view.entity.join_keys,
        "event_time",
        *view.feature_names,
        judged_day(complete_until).alias("_day"),
        is_complete(complete_until).alias("_complete"),
        F.lit(None).cast(_CURRENT).alias("_current"),
    )


def _days(view: FeatureView, rows: DataFrame, of_days: "_Stage") -> list[tuple[date | None, _Day]]:
    order = [F.asc(name) for name in ("_day", *view.entity.join_keys, "event_time")]
    of_each = rows.repartition("_day").sortWithinPartitions(*order, F.asc_nulls_last("_current"))
    told = of_each.mapInArrow(of_days, "day date, told binary").collect()
    return [(row["day"], msgspec.msgpack.decode(row["told"], type=_Day)) for row in told]


@dataclass(frozen=True)
class _Layout:
    """The columns of a view, as plain values: definitions may live in modules that tasks cannot import."""

    keys: tuple[str, ...]
    features: tuple[str, ...]
    delay: int
    schema: pa.Schema

    @classmethod
    def of(cls, view: FeatureView) -> "_Layout":
        keys = [(name, arrow_type(dtype)) for name, dtype in view.entity.join_keys.items()]
        fixed = [("event_time", _TIME), ("available_time", _TIME), ("created_time", _TIME), ("attempt", pa.int64())]
        fixed += [("retracted", pa.bool_()), ("row_digest", pa.binary())]
        features = [(feature.name, arrow_type(feature.dtype)) for feature in view.features]
        schema = pa.schema([*keys, *fixed, *features])
        return cls(tuple(view.entity.join_keys), tuple(view.feature_names), view.delay // MICROSECOND, schema)


@dataclass(frozen=True)
class _Stage:
    """Sorted rows → what is to be said of each of their days. Without a location nothing is written."""

    layout: _Layout
    location: str | None
    created: int
    look: Look

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for day, pieces in groupby(_pieces(batches, self.layout.keys), key=lambda piece: piece["_day"][0].as_py()):
            told = msgspec.msgpack.encode(self._told(day, pieces))
            yield pa.RecordBatch.from_pydict({"day": pa.array([day], pa.date32()), "told": pa.array([told], pa.binary())})

    def _told(self, day: date | None, pieces: Iterable[pa.Table]) -> _Day:
        seen: list[bytes] = []
        file = None if day is None or self.location is None else _File(self.location, day, self.layout)
        try:
            for piece in pieces:
                computed, repeated, changes = _compared(piece, self.layout, self.created)
                if computed.num_rows:
                    columns = [*self.layout.keys, "event_time", *self.layout.features]
                    seen.append(self.look(Part(day, computed.select(columns), computed["_complete"], repeated)))
                if file is not None and changes.num_rows:
                    file.write(changes)
            return _Day(seen, None if file is None else file.staged())
        except BaseException:
            if file is not None:
                file.remove()
            raise


class _File:
    """A file of changes of one day, made with its first row."""

    def __init__(self, location: str, day: date, layout: _Layout) -> None:
        self._files, self._root = FileSystem.from_uri(location)
        self._day, self._layout = day, layout
        self._name = f"event_date={day}/part-{uuid4()}.snappy.parquet"
        self._writer: Any = None
        self._rows = self._retracted = 0
        self._bounds: dict[str, tuple[Any, Any]] = {}

    @property
    def _path(self) -> str:
        return f"{self._root}/{self._name}"

    def write(self, rows: pa.Table) -> None:
        if self._writer is None:
            self._files.create_dir(self._path.rpartition("/")[0], recursive=True)
            self._writer = pq.ParquetWriter(self._path, self._layout.schema, filesystem=self._files)
        self._writer.write_table(rows, row_group_size=ROWS_PER_GROUP)
        self._rows += rows.num_rows
        self._retracted += pc.sum(rows["retracted"]).as_py() or 0
        for name in bounded(self._layout.keys):
            ends = pc.min_max(rows[name])
            low, high = ends["min"].as_py(), ends["max"].as_py()
            if low is not None:
                before = self._bounds.get(name, (low, high))
                self._bounds[name] = (min(low, before[0]), max(high, before[1]))

    def staged(self) -> StagedFile | None:
        if self._writer is None:
            return None
        self._writer.close()
        add = added(self._files, self._path, self._name, self._rows, self._bounds, {"event_date": self._day.isoformat()})
        return StagedFile(add, self._rows, self._retracted, to_micros(self._bounds["available_time"][1]))

    def remove(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._files.delete_file(self._path)


def _pieces(batches: Iterable[pa.RecordBatch], keys: Sequence[str]) -> Iterator[pa.Table]:
    """Sorted rows in tables of one day each, of not much more than so many rows; rows of one key and time stay together."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        for of_day in _of_one_day(batch):
            if held and held[0]["_day"][0] != of_day["_day"][0]:
                yield pa.Table.from_batches(held)
                held, rows, size = [], 0, 0
            held.append(of_day)
            rows, size = rows + of_day.num_rows, size + of_day.nbytes
            if rows >= _ROWS_AT_ONCE or size >= _BYTES_AT_ONCE:
                piece = pa.Table.from_batches(held)
                last = int(np.flatnonzero(_begins(piece, keys))[-1])  # what follows may be of the last row's key and time
                if last:
                    yield piece.slice(0, last)
                held = piece.slice(last).to_batches()
                rows = size = 0
    if held:
        yield pa.Table.from_batches(held)


def _of_one_day(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    begin = 0
    for end in pc.run_end_encode(batch["_day"]).run_ends.to_pylist():
        yield batch.slice(begin, end - begin)
        begin = end


def _begins(rows: pa.Table, keys: Sequence[str]) -> Mask:
    """Of sorted rows whether each is the first of its key and event time."""
    begins = np.zeros(rows.num_rows, bool)
    begins[:1] = True
    for name in (*keys, "event_time"):
        column = rows[name].combine_chunks()
        before, after = column[:-1], column[1:]
        one_null = pc.not_equal(pc.is_null(before), pc.is_null(after))
        begins[1:] |= np.asarray(pc.or_(one_null, pc.fill_null(pc.not_equal(before, after), False)))
    return begins


def _compared(rows: pa.Table, layout: _Layout, created: int) -> tuple[pa.Table, int, pa.Table]:
    """Of sorted rows those that were computed, how many of these repeat another, and the changes as the table is to have them."""
    begins, is_held = _begins(rows, layout.keys), np.asarray(pc.is_valid(rows["_current"]))
    follows_held = np.append(False, is_held[:-1]) & ~begins  # computed ones: the first of their key and time, the held ones before it
    repeated = int((~is_held & ~begins & ~follows_held).sum())
    computed = rows.filter(pa.array(~is_held)) if is_held.any() else rows
    digests = _spread(row_digests(computed, layout.features), ~is_held)
    available = pc.add(rows["event_time"].cast(pa.int64()).combine_chunks(), layout.delay)
    changed = ~is_held
    if is_held.any():
        current = rows["_current"].combine_chunks()
        is_retracted = np.asarray(pc.fill_null(pc.struct_field(current, "retracted"), False))
        at = np.flatnonzero(~is_held & follows_held)
        unchanged = ~is_retracted[at - 1]
        for now, held in (
            (available, pc.struct_field(current, "available").cast(pa.int64())),
            (digests, pc.struct_field(current, "digest")),
        ):
            unchanged &= np.asarray(pc.equal(now.take(at), held.take(at - 1)), dtype=bool)
        changed[at] = ~unchanged
        # Of a key and time the current row that counts is the last of them; nothing computed stands after it.
        changed |= is_held & np.append(begins[1:], True) & ~is_retracted
    picked = pa.array(changed)
    made = pa.repeat(pa.scalar(created, pa.int64()), int(changed.sum()))
    columns = {
        **{name: rows[name].filter(picked) for name in (*layout.keys, "event_time", *layout.features)},
        "available_time": available.filter(picked).cast(_TIME),
        "created_time": made.cast(_TIME),
        "attempt": made,
        "retracted": pa.array(is_held[changed]),
        "row_digest": digests.filter(picked),
    }
    table = pa.table([columns[name] for name in layout.schema.names], names=layout.schema.names)
    return computed, repeated, table.cast(layout.schema)


def _spread(digests: pa.Array, there: Mask) -> pa.Array:
    """Digests at the places of their rows; empty at the others."""
    place = np.where(there, np.cumsum(there) - 1, len(digests))
    return pa.concat_arrays([digests, pa.array([b""], pa.binary())]).take(pa.array(place))
