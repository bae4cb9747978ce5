"""The files of a feature table at one version, read by row group: no JVM, no shuffle, only what is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow.fs import FileSystem

from penstock.clock import EPOCH, MICROSECOND
from penstock.errors import SourceError
from penstock.offline.arrow import plain, plain_schema
from penstock.offline.join_keys import Ints

_EARLIEST, _LATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True)
class FeatureFile:
    """One file.

    Args:
        path: below the table's location.
        day: its partition, in days since 1970.
        rows, bytes: how much it holds.
        first, last: the event times it spans, in microseconds.
        low, high: bounds of its first join key; None: not known.
    """

    path: str
    day: int
    rows: int
    bytes: int
    first: int
    last: int
    low: Any = None
    high: Any = None


def feature_files(table: DeltaTable, first_key: str | None = None) -> list[FeatureFile]:
    """The files of a feature table at its version, in order of partition.

    Args:
        table: at its version.
        first_key: its first join key, whose bounds are wanted.
    """
    listed = pa.table(table.get_add_actions(flatten=True))
    # Without statistics a file spans all times.
    columns = {name: listed[name].to_pylist() if name in listed.column_names else [None] * listed.num_rows for name in _columns(first_key)}
    files = [
        FeatureFile(
            path=unquote(path),
            day=(day - EPOCH.date()).days,
            rows=rows or 0,
            bytes=size,
            first=_EARLIEST if first is None else _micros(first),
            # Delta's statistics are cut to milliseconds, the greatest value's too.
            last=_LATEST if last is None else _micros(last) + 999,
            low=None if isinstance(high, datetime) else low,
            high=None if isinstance(high, datetime) else high,
        )
        for path, day, rows, size, first, last, low, high in zip(*columns.values(), strict=True)
    ]
    return sorted(files, key=lambda file: (file.day, file.path))


def _columns(first_key: str | None) -> tuple[str, ...]:
    times = ("path", "partition.event_date", "num_records", "size_bytes", "min.event_time", "max.event_time")
    return (*times, f"min.{first_key}", f"max.{first_key}")


def _micros(time: datetime) -> int:
    return (time - EPOCH) // MICROSECOND


@dataclass(frozen=True)
class Asked:
    """What a tile asks of a table: event times from `first` to `last`, and of the first join key from `low` to `high`.

    Args:
        first, last: microseconds, both included.
        low, high: both included; None: any.
    """

    first: int
    last: int
    low: Any = None
    high: Any = None

    def may_be_in(self, first: int, last: int, low: Any, high: Any) -> bool:
        """Whether rows with these bounds may be asked for."""
        return self.may_have_times(first, last) and self.may_have_keys(low, high)

    def may_have_times(self, first: int, last: int) -> bool:
        """Whether event times between these may be asked for."""
        return last >= self.first and first <= self.last

    def may_have_keys(self, low: Any, high: Any) -> bool:
        """Whether first join keys between these may be asked for; None: not known."""
        return self.low is None or low is None or high is None or (low <= self.high and high >= self.low)


@dataclass(frozen=True)
class Part:
    """The row groups of one file that may hold what is asked for, and where their rows stand among all such.

    Args:
        file, metadata: which, and its footer.
        groups: their numbers.
        begins: where each begins, from the first of them.
        begin, rows: where the first of them begins, and how many rows they have.
    """

    file: FeatureFile
    metadata: Any
    groups: tuple[int, ...]
    begins: Ints
    begin: int
    rows: int


class FeatureReader:
    """Reads some files of one table: first what the rule of time needs of every row, then the features of a few.

    Args:
        location: of the table.
        files: those that may hold what will be asked for.
        remedy: what to do about one that cannot be read.
    """

    def __init__(
        self, location: str, files: Sequence[FeatureFile], remedy: str = "restore it, or compute its partition again as a new version"
    ) -> None:
        self._remedy = remedy
        self._files, self._root = FileSystem.from_uri(location)
        self._location = location
        self._listed = files
        self._footers: dict[str, Any] = {}
        self._parts: list[Part] = []

    def select(self, asked: Asked, first_key: str | None) -> list[Part]:
        """The parts of files that may hold what is asked for; `take` counts places through them.

        Raises:
            SourceError: a file is missing or damaged.
        """
        self._parts, begin = [], 0
        for file in self._listed:
            if not asked.may_be_in(file.first, file.last, file.low, file.high):
                continue
            metadata = self._footer(file)
            groups = tuple(_row_groups(metadata, asked, first_key))
            if groups:
                sizes = [metadata.row_group(n).num_rows for n in groups]
                part = Part(file, metadata, groups, np.cumsum([0, *sizes[:-1]]), begin, sum(sizes))
                self._parts.append(part)
                begin += part.rows
        return self._parts

    def read(self, part: Part, columns: Sequence[str]) -> pa.Table:
        """These columns of a part.

        Raises:
            SourceError: its file is missing or damaged.
        """
        return self._read(part.file, part.metadata, part.groups, columns)

    def take(self, places: Ints, columns: Sequence[str]) -> pa.Table:
        """These columns of the rows at some places, ascending, among all that were read."""
        begins = np.array([part.begin for part in self._parts], np.int64)
        bounds = np.append(np.searchsorted(places, begins), len(places))
        taken = []
        for part, low, high in zip(self._parts, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            if low < high:
                taken.append(self._take(part, places[low:high] - part.begin, columns))
        if not taken:
            return self._schema(columns).empty_table()
        return pa.concat_tables(taken, promote_options="permissive")

    def _take(self, part: Part, places: Ints, columns: Sequence[str]) -> pa.Table:
        of_group = np.searchsorted(part.begins, places, "right") - 1
        wanted = np.unique(of_group)
        # The rows of a group move up by the groups before it that are not read.
        sizes = np.array([part.metadata.row_group(part.groups[n]).num_rows for n in wanted.tolist()], np.int64)
        moved = np.cumsum(sizes) - sizes
        rows = self._read(part.file, part.metadata, [part.groups[n] for n in wanted.tolist()], columns)
        return rows.take(pa.array(places - part.begins[of_group] + moved[np.searchsorted(wanted, of_group)]))

    def _schema(self, columns: Sequence[str]) -> pa.Schema:
        schema = plain_schema(self._footer(self._listed[0]).schema.to_arrow_schema())
        return pa.schema([schema.field(name) for name in columns])

    def _footer(self, file: FeatureFile) -> Any:
        if file.path not in self._footers:
            try:
                self._footers[file.path] = pq.read_metadata(f"{self._root}/{file.path}", filesystem=self._files)
            except (OSError, pa.ArrowException) as error:
                raise self._unreadable(file, error) from None
        return self._footers[file.path]

    def _read(self, file: FeatureFile, metadata: Any, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        try:
            with pq.ParquetFile(f"{self._root}/{file.path}", filesystem=self._files, metadata=metadata) as parquet:
                return plain(parquet.read_row_groups(list(groups), columns=list(columns), use_threads=False))
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(file, error) from None

    def _unreadable(self, file: FeatureFile, error: Exception) -> SourceError:
        if isinstance(error, FileNotFoundError):
            what = "is gone, although the table's log names it"
        else:
            what = f"cannot be read: {str(error).partition(chr(10))[0]}"
        return SourceError(f"{self._location}: the file {file.path} {what}", hint=self._remedy)


def _row_groups(metadata: Any, asked: Asked, first_key: str | None) -> Iterator[int]:
    if not metadata.num_row_groups:
        return
    # Not by the footer's schema: that and the footer hold each other, and would be in memory until garbage is collected.
    names = [metadata.row_group(0).column(n).path_in_schema for n in range(metadata.num_columns)]
    time, key = names.index("event_time"), -1 if first_key is None else names.index(first_key)
    for number in range(metadata.num_row_groups):
        about = metadata.row_group(number)
        low, high = (None, None) if key < 0 else _ends(about.column(key).statistics)
        if not asked.may_have_keys(low, high):
            continue  # most are, where a tile is a range of keys: their times are not looked at
        first, last = _ends(about.column(time).statistics)
        if asked.may_have_times(_EARLIEST if first is None else _micros(first), _LATEST if last is None else _micros(last)):
            yield number


def _ends(statistics: Any) -> tuple[Any, Any]:
    return (statistics.min, statistics.max) if statistics is not None and statistics.has_min_max else (None, None)
