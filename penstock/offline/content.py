"""A hash of rows that does not depend on their order, on files, on the engine or on versions of libraries.

Each value becomes 64 bits: numbers and times their own, mixed; text, bytes and nested values BLAKE2b of their canonical
form; null a constant. A row is its columns' hashes chained in order of column name, twice with different beginnings; a set
of rows is their number and the sums of both, so parts can be hashed apart and added up. Equal rows count as often as they
are there. The mixing is the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import blake2b
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Bits = npt.NDArray[np.uint64]

_NULL = np.uint64(0x9E3779B97F4A7C15)
_NAN = 0x7FF8000000000000
_LANES = (np.uint64(0x243F6A8885A308D3), np.uint64(0x13198A2E03707344))  # digits of pi
_MASK = 2**64 - 1


@dataclass(frozen=True)
class Content:
    """The hash of some rows; of two disjoint parts, the sum is that of both together."""

    rows: int = 0
    sums: tuple[int, int] = (0, 0)

    def __add__(self, other: Self) -> "Content":
        sums = tuple((mine + theirs) & _MASK for mine, theirs in zip(self.sums, other.sums, strict=True))
        return Content(self.rows + other.rows, (sums[0], sums[1]))

    @property
    def text(self) -> str:
        """As it stands in manifests: 32 hexadecimal digits."""
        packed = b"".join(n.to_bytes(8, "big") for n in (self.rows, *self.sums))
        return blake2b(packed, digest_size=16).hexdigest()


def content_of(rows: pa.Table, columns: Sequence[str] | None = None) -> Content:
    """The hash of rows; of these columns alone, if they are given. Times are UTC microseconds."""
    sums = [int(lane.sum(dtype=np.uint64)) for lane in _lanes(rows, rows.schema.names if columns is None else columns)]
    return Content(rows.num_rows, (sums[0], sums[1]))


def row_digests(rows: pa.Table, columns: Sequence[str]) -> pa.Array:
    """The hash of each row's values in some columns, 16 bytes: equal exactly where all of them, nulls included, are equal."""
    both = np.column_stack(_lanes(rows, columns)).astype(">u8")
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), rows.num_rows, [None, pa.py_buffer(both.tobytes())]).cast(pa.binary())


def _lanes(rows: pa.Table, columns: Sequence[str]) -> list[Bits]:
    """Both hashes of each row."""
    lanes = [np.full(rows.num_rows, lane, np.uint64) for lane in _LANES]
    for name in sorted(columns):
        seed = np.uint64(_digest(f"{name}:{_kind(rows.schema.field(name).type)}".encode()))
        values = hashes(rows[name], seed)
        lanes = [mixed(lane * np.uint64(5) + values) for lane in lanes]
    return lanes


def hashes(column: pa.ChunkedArray, seed: np.uint64 = _NULL) -> Bits:
    """64 bits of each value, equal for equal values and else as good as random."""
    return mixed(_bits(column) ^ seed)


def differ(first: pa.ChunkedArray, second: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """For each row, whether two columns differ: null is equal to null, NaN to NaN, 0.0 to -0.0."""
    if pa.types.is_floating(first.type):
        first, second = pc.add(first, 0.0), pc.add(second, 0.0)
    found: npt.NDArray[np.bool_] = hashes(first) != hashes(second)
    return found


def mixed(bits: Bits) -> Bits:
    """Bits that tell nothing of what they were made of, and are equal where that was."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _kind(kind: pa.DataType) -> str:
    """The name of a type by which its values are hashed: the same for every width of offsets, nullable or not."""
    if pa.types.is_large_string(kind):
        return "string"
    if pa.types.is_large_binary(kind):
        return "binary"
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz is not None else "timestamp_ntz"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_kind(kind.value_type)}>"
    return str(kind)


def _bits(column: pa.ChunkedArray) -> Bits:
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
    elif pa.types.is_date32(kind):
        column = column.cast(pa.int32()).cast(pa.int64())
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        column = column.cast(pa.int64()) if kind != pa.uint64() else column
    elif pa.types.is_floating(kind):
        return _float_bits(column.cast(pa.float64()))
    else:
        return _bits_of_anything(column)
    return _with_nulls(column, pc.fill_null(column, 0).to_numpy().astype(np.uint64, casting="unsafe"))


def _float_bits(column: pa.ChunkedArray) -> Bits:
    values = np.ascontiguousarray(pc.fill_null(column, 0.0).to_numpy())
    bits = values.view(np.uint64).copy()
    bits[np.isnan(values)] = np.uint64(_NAN)  # there are many NaNs, and they all mean the same
    return _with_nulls(column, bits)


def _bits_of_anything(column: pa.ChunkedArray) -> Bits:
    if pa.types.is_nested(column.type) or pa.types.is_decimal(column.type):
        digests = [_digest(json.dumps(value, default=_json, sort_keys=True).encode()) for value in column.to_pylist()]
        return _with_nulls(column, np.array(digests, np.uint64))
    encoded = column.combine_chunks().dictionary_encode()
    distinct = [_digest(value.encode() if isinstance(value, str) else bytes(value)) for value in encoded.dictionary.to_pylist()]
    place = pc.fill_null(encoded.indices, 0).to_numpy()
    return _with_nulls(column, np.array(distinct or [0], np.uint64)[place])


def _with_nulls(column: pa.ChunkedArray, bits: Bits) -> Bits:
    if column.null_count:
        bits = np.where(np.asarray(pc.is_null(column)), _NULL, bits)
    return bits


def _digest(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def _json(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime | date) else repr(value)
