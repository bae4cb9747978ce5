"""Which rows of a training set are for training and which for testing, as a column `split`.

time:2026-11-01T00:00:00Z         rows before this event time are `train`, the others `test`
hash:0.2:tailnum                  of the values of these columns (commas between several) one in five is `test`;
                                  a value is always on the same side, so an entity is never on both
stratified:0.2:late               of the rows of each value of this column one in five is `test`; equal rows go together

The last two depend on the seed and on values alone: not on the order of rows, the engine or the session's time zone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.clock import parse_instant, to_micros
from penstock.errors import SpineError
from penstock.offline.content import hashes, mixed

COLUMN = "split"
_EXACT_UP_TO = 10_000  # rows of one value whose places are all looked at
_STRATA = 1_000
_FORMS = (
    "expected 'time:<ISO 8601 with offset>', 'hash:<share from 0 to 1>:<column>[,<column>]' or 'stratified:<share from 0 to 1>:<column>'"
)


@dataclass(frozen=True)
class ByTime:
    """Rows at or after `at` are for testing."""

    at: datetime


@dataclass(frozen=True)
class ByHash:
    """A share of the values of some columns is for testing."""

    share: float
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Stratified:
    """Of each value of a column the same share of rows is for testing."""

    share: float
    column: str


Split: TypeAlias = ByTime | ByHash | Stratified


def parse_split(text: str) -> Split:
    """A split from its text.

    Raises:
        SpineError: it is not one.
    """
    kind, _, rest = text.partition(":")
    try:
        if kind == "time":
            return ByTime(parse_instant(rest))
        if kind in ("hash", "stratified"):
            share, _, columns = rest.partition(":")
            names = tuple(name.strip() for name in columns.split(",") if name.strip())
            if 0 < float(share) < 1 and names and (kind == "hash" or len(names) == 1):
                return ByHash(float(share), names) if kind == "hash" else Stratified(float(share), names[0])
    except ValueError as error:
        raise SpineError(f"split '{text}': {error}; {_FORMS}") from None
    raise SpineError(f"split '{text}': {_FORMS}")


def check_split(schema: pa.Schema, split: Split) -> None:
    """Refuse a split that the rows cannot be given.

    Raises:
        SpineError: they have a column `split` already, or lack one that is hashed.
    """
    if COLUMN in schema.names:
        raise SpineError(f"the spine already has a column '{COLUMN}'", hint="rename it, or leave the split out")
    asked = split.columns if isinstance(split, ByHash) else (split.column,) if isinstance(split, Stratified) else ()
    missing = [name for name in asked if name not in schema.names]
    if missing:
        raise SpineError(f"split by {', '.join(map(repr, missing))}: not in the spine; it has {', '.join(schema.names)}")


def thresholds(batches: Iterable[pa.Table], split: Stratified, spine_columns: Sequence[str], seed: int) -> dict[object, int]:
    """Value of the column → below which of its rows' places lies the share that is for testing.

    Of a value with few rows exactly the share, rounded; of one with more than 10,000 the share of all places, which is
    it within a percent. One pass, in memory that does not grow with the rows.

    Raises:
        SpineError: the column has more than 1,000 values.
    """
    places: dict[object, list[npt.NDArray[np.uint64]]] = {}
    counts: Counter[object] = Counter()
    for rows in batches:
        of_row = _places(rows, spine_columns, seed)
        encoded = rows[split.column].combine_chunks().dictionary_encode(null_encoding="encode")
        number = encoded.indices.to_numpy()
        for n, value in enumerate(encoded.dictionary.to_pylist()):
            mine = of_row[number == n]
            counts[value] += len(mine)
            if counts[value] <= _EXACT_UP_TO:
                places.setdefault(value, []).append(mine)
            else:
                places[value] = []
        if len(counts) > _STRATA:
            raise SpineError(
                f"split by '{split.column}': it has more than {_STRATA:,} values", hint="stratify by a column with few, a label for one"
            )
    found = {}
    for value, parts in places.items():
        ranked = np.sort(np.concatenate(parts)) if parts else None
        wanted = round(split.share * counts[value])
        if ranked is None:
            found[value] = int(split.share * 2.0**64)
        else:
            found[value] = int(ranked[wanted]) if wanted < len(ranked) else 2**64 - 1
    return found


def with_split(
    rows: pa.Table, split: Split, spine_columns: Sequence[str], seed: int, of_value: Mapping[object, int] | None = None
) -> pa.Table:
    """The rows with a column `split`: `train` or `test`; a row without an event time is `train`.

    Args:
        rows: of the spine, features may be attached.
        split: which.
        spine_columns: the columns of the spine: rows that agree in all of them are on one side.
        seed: another seed is another split; by time it plays no part.
        of_value: what `thresholds` gives, if the split is stratified.
    """
    is_test = _is_test(rows, split, spine_columns, seed, of_value or {})
    return rows.append_column(COLUMN, pc.if_else(pa.array(is_test), "test", "train"))


def _is_test(
    rows: pa.Table, split: Split, spine_columns: Sequence[str], seed: int, of_value: Mapping[object, int]
) -> npt.NDArray[np.bool_]:
    if isinstance(split, ByTime):
        limit = pa.scalar(to_micros(split.at), pa.int64()).cast(pa.timestamp("us", tz="UTC"))
        return np.asarray(pc.fill_null(pc.greater_equal(rows["event_time"], limit), False))
    if isinstance(split, ByHash):
        return _places(rows, split.columns, seed) < np.uint64(int(split.share * 2.0**64))
    encoded = rows[split.column].combine_chunks().dictionary_encode(null_encoding="encode")
    limits = np.array([of_value[value] for value in encoded.dictionary.to_pylist()] or [0], np.uint64)
    is_test: npt.NDArray[np.bool_] = _places(rows, spine_columns, seed) < limits[encoded.indices.to_numpy()]
    return is_test


def _places(rows: pa.Table, columns: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    """A number from 0 to 2^64 for each row, as good as random, by the values of some columns alone."""
    place = np.full(rows.num_rows, seed % 2**64, np.uint64)
    for name in columns:
        place = mixed(place * np.uint64(5) + hashes(rows[name]))
    return place
