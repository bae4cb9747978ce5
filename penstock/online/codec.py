"""Bytes of the online store: keys no two of which are alike, and values no damage of which goes unseen.

    key    format u8 | per join key: type u8, length u32, payload
    value  format u8 | schema_id u32 | event_time i64 | attempt i64 | crc32 u32 | msgpack list

All integers are big-endian. The checksum covers everything but itself. A value whose numbers are all finite and
of which nothing is null says so by its format, so that a reader need not look at each.
"""

import math
import struct
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from penstock.clock import from_micros, to_micros
from penstock.dtypes import accepts
from penstock.errors import CorruptValue, InvalidEntity, PublicationError

KEY_FORMAT = 1
_KEY_FORMAT_BYTE = bytes((KEY_FORMAT,))
VALUE_FORMAT, PLAIN_VALUE_FORMAT = 1, 2
MAX_KEY_BYTES = 65_535  # Cassandra's limit for a partition key

REVISIONS = 1000  # how many revisions of one event time a write token can tell apart

_TAGS = {"bool": 1, "int32": 2, "int64": 3, "string": 4, "timestamp": 5, "date": 6, "binary": 7}
_PART = struct.Struct(">BI")
_INT64 = struct.Struct(">q")
_INT64_END = 2**63
_INT64_PART = struct.Struct(">BIq")
_HEADER = struct.Struct(">BIqq")
_CRC = struct.Struct(">I")
_HEADER_AND_CRC = struct.Struct(">BIqqI")
_BODY, _HEADER_BYTES = _HEADER_AND_CRC.size, _HEADER.size
_unpack_header = _HEADER_AND_CRC.unpack_from

_encode_values = msgspec.msgpack.Encoder().encode
_decode_values = msgspec.msgpack.Decoder(list).decode


def encode_key(join_keys: Sequence[tuple[str, str]], values: Sequence[object]) -> bytes:
    """The bytes of one entity's join key; two keys that differ in any value or type differ in bytes.

    Args:
        join_keys: name and dtype of each part, in the entity's order.
        values: one per join key, of exactly its dtype: True is no integer, 1 no string.

    Raises:
        InvalidEntity: a value is missing, of another type, or too long; names key, value and dtype.
    """
    if len(values) != len(join_keys):
        raise InvalidEntity(f"{len(values)} value(s) for {len(join_keys)} join key(s): {', '.join(name for name, _ in join_keys)}")
    key = _KEY_FORMAT_BYTE
    for (name, dtype), value in zip(join_keys, values, strict=True):
        if dtype == "int64" and type(value) is int and -_INT64_END <= value < _INT64_END:  # most keys, in one step
            key += _INT64_PART.pack(_TAGS["int64"], _INT64.size, value)
            continue
        payload = _key_payload(name, dtype, value)
        key += part_head(dtype, len(payload)) + payload
    if len(key) > MAX_KEY_BYTES:
        names = ", ".join(name for name, _ in join_keys)
        raise InvalidEntity(f"join key ({names}) takes {len(key)} bytes; at most {MAX_KEY_BYTES} are allowed")
    return key


def part_head(dtype: str, length: int) -> bytes:
    """What stands before a payload of `length` bytes in a key."""
    return _PART.pack(_TAGS[dtype], length)


def _key_payload(name: str, dtype: str, value: object) -> bytes:
    # Subclasses are refused: a pandas Timestamp has nanoseconds, and two of them would share a key.
    if dtype not in _TAGS or not accepts(dtype, value) or (dtype == "timestamp" and type(value) is not datetime):
        raise InvalidEntity(f"join key '{name}' is {dtype}, got {_shown(value)}")
    try:
        match value:
            case bool():
                return bytes((value,))
            case int():
                return _INT64.pack(value)
            case datetime():
                return _INT64.pack(to_micros(value))
            case date():
                return _INT64.pack(value.toordinal())
            case bytes() | bytearray():
                return bytes(value)
        return str(value).encode()
    except UnicodeEncodeError:
        raise InvalidEntity(f"join key '{name}' is {dtype}, got text that is not valid Unicode") from None
    except OverflowError:  # the year 1 or 9999, in a zone that puts it outside UTC's years
        raise InvalidEntity(f"join key '{name}' is {dtype}, got {_shown(value)}, which UTC cannot tell") from None


def decode_key(join_keys: Sequence[tuple[str, str]], key: bytes) -> tuple[Any, ...]:
    """The values of a join key, as `encode_key` was given them; an instant in UTC.

    Raises:
        InvalidEntity: the bytes are not of these join keys.
    """
    values: list[Any] = []
    start, whole = 1, key[:1] == bytes((KEY_FORMAT,))
    for _, dtype in join_keys:
        if whole and start + _PART.size <= len(key):
            tag, length = _PART.unpack_from(key, start)
            start += _PART.size + length
            if tag == _TAGS.get(dtype) and start <= len(key):
                values.append(_key_value(dtype, key[start - length : start]))
    if len(values) != len(join_keys) or start != len(key):
        raise InvalidEntity(f"{key[:40].hex()} is no key of {', '.join(f'{name} ({dtype})' for name, dtype in join_keys) or 'nobody'}")
    return tuple(values)


def _key_value(dtype: str, payload: bytes) -> Any:
    match dtype:
        case "bool":
            return payload != b"\0"
        case "string":
            return payload.decode()
        case "binary":
            return payload
    (number,) = _INT64.unpack(payload)
    if dtype == "timestamp":
        return from_micros(number)
    return date.fromordinal(number) if dtype == "date" else number


class Stored(NamedTuple):
    """A decoded value.

    Args:
        schema_id: what the positions of `values` mean.
        event_time_us: when the values were true.
        attempt: which attempt computed them.
        values: one per feature of the view, in its order.
        plain: none of them is null, NaN or infinite.
        checksum: of the bytes; equal bytes have equal ones.
    """

    schema_id: int
    event_time_us: int
    attempt: int
    values: list[object]
    plain: bool
    checksum: int


def encode_value(schema_id: int, event_time_us: int, attempt: int, values: Sequence[object]) -> bytes:
    """The bytes of one view's values of one entity; `decode_value` gives back exactly what went in.

    Args:
        values: None, bool, 64-bit int, float (NaN and infinities as they are), str, timezone-aware
            datetime (to the microsecond), or a list of these.

    Raises:
        PublicationError: a value is of any other type, which msgpack would silently turn into another.
    """
    blob, _ = _encoded(schema_id, event_time_us, attempt, values, PLAIN_VALUE_FORMAT if all(map(is_plain, values)) else VALUE_FORMAT)
    return blob


def possible_checksums(schema_id: int, event_time_us: int, attempt: int, values: Sequence[object]) -> set[int]:
    """The checksums that a value may have been stored with, by this Penstock or an earlier one.

    Raises:
        PublicationError: as `encode_value`.
    """
    return {_encoded(schema_id, event_time_us, attempt, values, form)[1] for form in (VALUE_FORMAT, PLAIN_VALUE_FORMAT)}


def _encoded(schema_id: int, event_time_us: int, attempt: int, values: Sequence[object], form: int) -> tuple[bytes, int]:
    for position, value in enumerate(values):
        if not _storable(value):
            raise PublicationError(f"feature {position + 1} of {len(values)}: {_shown(value)} cannot be stored online")
    try:
        blob = pack_value(schema_id, event_time_us, attempt, list(values), form)
    except (struct.error, UnicodeEncodeError, OverflowError) as error:
        raise PublicationError(f"a value cannot be stored online: {error}") from None
    (checksum,) = _CRC.unpack_from(blob, _HEADER.size)
    return blob, checksum


def pack_value(schema_id: int, event_time_us: int, attempt: int, values: Sequence[object], form: int) -> bytes:
    """The bytes of values that are known to be storable, and to be of this format: those of `encode_value`, unchecked."""
    header = _HEADER.pack(form, schema_id, event_time_us, attempt)
    body = _encode_values(values)
    return header + _CRC.pack(crc32(body, crc32(header))) + body


def decode_value(blob: bytes) -> Stored:
    """What `encode_value` was given.

    Raises:
        CorruptValue: the bytes are damaged, cut short, or of an unknown format.
    """
    if len(blob) <= _BODY:
        raise CorruptValue(f"a stored value of {len(blob)} bytes; the shortest has {_BODY + 1}")
    body = blob[_BODY:]
    version, schema_id, event_time_us, attempt, checksum = _unpack_header(blob)
    if checksum != crc32(body, crc32(blob[:_HEADER_BYTES])):
        raise CorruptValue("a stored value does not pass its checksum")
    if version not in (VALUE_FORMAT, PLAIN_VALUE_FORMAT):
        raise CorruptValue(f"a stored value of format {version}; this Penstock reads formats {VALUE_FORMAT} and {PLAIN_VALUE_FORMAT}")
    try:
        return Stored(schema_id, event_time_us, attempt, _decode_values(body), version == PLAIN_VALUE_FORMAT, checksum)
    except msgspec.DecodeError as error:
        raise CorruptValue(f"a stored value passes its checksum and is not a list: {error}") from None


def is_plain(value: object) -> bool:
    """Whether a value is there and can be said in JSON: not null, NaN or infinite, nor a list with a number that is."""
    if type(value) is float:
        return math.isfinite(value)
    return all(type(item) is not float or math.isfinite(item) for item in value) if type(value) is list else value is not None


def write_token(event_time_us: int, revision: int) -> int:
    """What orders the writes of one key: later event times first, then later corrections of the same one.

    Raises:
        PublicationError: the event time was revised 1000 times, or lies outside the years a token can tell.
    """
    if not 0 <= revision < REVISIONS:
        raise PublicationError(
            f"revision {revision} of event time {event_time_us} µs; a key's event time can be revised {REVISIONS - 1} times",
            hint="find what rewrites this key so often, then publish the view under a new generation",
        )
    token = event_time_us * REVISIONS + revision
    if not -(2**63) < token < 2**63:
        raise PublicationError(f"event time {event_time_us} µs is outside 1677..2262, the years a write token can tell apart")
    return token


_SCALARS = (bool, int, float, str, datetime, type(None))


def _storable(value: object) -> bool:
    if type(value) is list:
        return all(type(item) is not list and _storable(item) for item in value)
    if type(value) is int:
        return -(2**63) <= value < 2**63
    if type(value) is datetime:
        return value.utcoffset() is not None
    return type(value) in _SCALARS


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:80] + '…'} ({type(value).__name__})"
