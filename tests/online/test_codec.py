"""Keys no two of which are alike; values that come back exactly, or not at all."""

import math
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TypeAlias
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.clock import to_micros
from penstock.errors import CorruptValue, InvalidEntity, PublicationError
from penstock.online.codec import MAX_KEY_BYTES, decode_key, decode_value, encode_key, encode_value, possible_checksums, write_token
from tests.online.keys import ALIKE, Parts
from tests.online.keys import identity as alike

UTF8 = st.text(st.characters(exclude_categories=("Cs",)))
INT64 = st.integers(-(2**63), 2**63 - 1)
ZONES = st.timezones() | st.just(UTC) | st.just(timezone(timedelta(hours=-5)))
INSTANTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=ZONES)
KEY_VALUES = {
    "bool": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": INT64,
    "string": UTF8,
    "timestamp": INSTANTS,
}
SCALARS = {**KEY_VALUES, "float32": st.floats(width=32), "float64": st.floats()}

KEYS = st.lists(
    st.sampled_from(sorted(KEY_VALUES)).flatmap(lambda dtype: st.tuples(st.just(dtype), KEY_VALUES[dtype])), min_size=1, max_size=3
)


def key_of(parts: list[tuple[str, object]]) -> bytes:
    return encode_key([(f"k{n}", dtype) for n, (dtype, _) in enumerate(parts)], [value for _, value in parts])


def identity(parts: list[tuple[str, object]]) -> list[tuple[str, object]]:
    """What a key is: its types and values, instants whatever their zone."""
    return [(dtype, to_micros(value) if isinstance(value, datetime) else value) for dtype, value in parts]


@given(KEYS, KEYS)
def test_two_keys_are_equal_in_bytes_exactly_when_they_are_equal(one: list[tuple[str, object]], other: list[tuple[str, object]]) -> None:
    assert (key_of(one) == key_of(other)) == (identity(one) == identity(other))
    assert key_of(one) == key_of(list(one))


@given(st.lists(ALIKE, max_size=40))
def test_keys_that_are_nearly_alike_never_share_bytes(keys: list[Parts]) -> None:
    assert len({key_of(parts) for parts in keys}) == len({alike(parts) for parts in keys})


@given(KEYS)
def test_a_key_tells_its_values_again(parts: list[tuple[str, object]]) -> None:
    join_keys = [(f"k{n}", dtype) for n, (dtype, _) in enumerate(parts)]
    assert identity(list(zip((dtype for dtype, _ in parts), decode_key(join_keys, key_of(parts)), strict=True))) == identity(parts)


def test_a_key_of_other_join_keys_is_not_read_as_these() -> None:
    key = encode_key([("carrier", "string"), ("day", "date")], ["UA", date(2013, 1, 1)])
    assert decode_key([("carrier", "string"), ("day", "date")], key) == ("UA", date(2013, 1, 1))
    assert decode_key([], encode_key([], [])) == ()
    for join_keys, damaged in (
        ([("carrier", "string")], key),
        ([("carrier", "string"), ("day", "int64")], key),
        ([("carrier", "string"), ("day", "date"), ("more", "int64")], key),
        ([("carrier", "string"), ("day", "date")], key[:-1]),
        ([("carrier", "string"), ("day", "date")], key + b"\0"),
        ([("carrier", "string"), ("day", "date")], b"\x02" + key[1:]),
        ([], b""),
    ):
        with pytest.raises(InvalidEntity, match="is no key of"):
            decode_key(join_keys, damaged)


@given(UTF8, UTF8)
def test_moving_text_between_the_parts_of_a_key_makes_another_key(left: str, right: str) -> None:
    keys = {key_of([("string", (left + right)[:n]), ("string", (left + right)[n:])]) for n in range(len(left + right) + 1)}
    assert len(keys) == len(left + right) + 1


def test_crafted_keys_do_not_collide() -> None:
    crafted: list[list[tuple[str, object]]] = [
        [("string", "1"), ("string", "23")],
        [("string", "12"), ("string", "3")],
        [("string", "123")],
        [("string", "123"), ("string", "")],
        [("string", ""), ("string", "123")],
        [("int64", 1)],
        [("int32", 1)],
        [("string", "1")],
        [("bool", True)],
        [("timestamp", datetime(1970, 1, 1, 0, 0, 0, 1, UTC))],  # 1 µs
        [("string", "\x01")],
        [("string", "\x00\x00\x00\x00\x00\x00\x00\x01")],  # the bytes of int64 1
        # one string that contains the very bytes with which another key begins its second part
        [("string", "a\x04\x00\x00\x00\x01b")],
        [("string", "a"), ("string", "b")],
        [("string", "é")],
        [("string", "e\u0301")],  # looks the same, is another string
    ]
    assert len({key_of(parts) for parts in crafted}) == len(crafted)


def test_one_instant_in_two_zones_is_one_key() -> None:
    noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    assert key_of([("timestamp", noon)]) == key_of([("timestamp", noon.astimezone(timezone(timedelta(hours=-5))))])


class Text(str):
    """A string that is not exactly one."""


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int64", True),
        ("int64", 1.0),
        ("int64", "1"),
        ("int64", 2**63),
        ("int32", 2**31),
        ("int64", None),
        ("bool", 1),
        ("string", 1),
        ("string", b"a"),
        ("string", Text("a")),
        ("string", None),
        ("string", "\ud800"),
        ("timestamp", datetime(2013, 1, 1)),
        ("timestamp", "2013-01-01T00:00:00Z"),
        ("timestamp", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))),
        ("float64", 1.0),
    ],
)
def test_a_key_of_another_type_is_refused_and_named(dtype: str, value: object) -> None:
    with pytest.raises(InvalidEntity, match=f"join key 'tail_number' is {dtype}, got "):
        encode_key([("tail_number", dtype)], [value])


def test_a_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(InvalidEntity, match=r"1 value\(s\) for 2 join key\(s\): carrier, origin"):
        encode_key([("carrier", "string"), ("origin", "string")], ["UA"])
    with pytest.raises(InvalidEntity, match=rf"at most {MAX_KEY_BYTES} are allowed"):
        encode_key([("carrier", "string")], ["U" * MAX_KEY_BYTES])


def test_an_error_does_not_repeat_a_long_value() -> None:
    with pytest.raises(InvalidEntity) as caught:
        encode_key([("origin", "int64")], ["x" * 10_000])
    assert len(str(caught.value)) < 200


VALUES = st.lists(
    st.none() | st.one_of(*SCALARS.values()) | st.one_of(*[st.lists(scalars, max_size=3) for scalars in SCALARS.values()]), max_size=5
)
Encoded: TypeAlias = tuple[int, int, int, list[object]]
STORED = st.tuples(st.integers(0, 2**32 - 1), INT64, INT64, VALUES)


def exact(value: object) -> object:
    """A form equal only for equal values of equal types: NaN equals itself, True is not 1, 0.0 is not -0.0."""
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, datetime):
        return ("instant", to_micros(value))
    if isinstance(value, float):
        return ("float", "nan" if math.isnan(value) else value.hex())
    return (type(value).__name__, value)


@given(STORED)
def test_what_is_decoded_is_exactly_what_was_encoded(stored: Encoded) -> None:
    decoded = decode_value(encode_value(*stored))
    assert decoded[:3] == stored[:3]
    assert exact(decoded.values) == exact(stored[3])


@pytest.mark.parametrize(
    ("values", "plain"),
    [
        ([], True),
        ([0.0, 0, "", False, [], [1.0, "a"], datetime(2013, 1, 1, tzinfo=UTC)], True),
        ([1.0, None], False),
        ([math.nan], False),
        ([-math.inf, 1], False),
        ([[1.0, math.inf]], False),
    ],
)
def test_a_value_says_whether_anything_in_it_is_null_or_not_finite(values: list[object], plain: bool) -> None:
    assert decode_value(encode_value(1, 0, 1, values)).plain is plain


def test_a_value_may_have_been_stored_by_a_penstock_that_knew_no_plain_values() -> None:
    for values in ([1.0, "a"], [None]):
        stored = decode_value(encode_value(1, 5, 7, values))
        possible = possible_checksums(1, 5, 7, values)
        assert stored.checksum in possible
        assert len(possible) == 2
    # format 1, schema 1, event time 5, attempt 7, checksum, msgpack of [1.0]
    before = (
        bytes.fromhex("01 00000001 0000000000000005 0000000000000007")
        + crc32(bytes.fromhex("01 00000001 0000000000000005 0000000000000007 91cb3ff0000000000000")).to_bytes(4)
        + bytes.fromhex("91cb3ff0000000000000")
    )
    assert decode_value(before).values == [1.0]
    assert decode_value(before).checksum in possible_checksums(1, 5, 7, [1.0])


def test_equal_bytes_have_equal_checksums_and_another_attempt_another() -> None:
    one, same, other = (decode_value(encode_value(1, 0, attempt, [1.0])).checksum for attempt in (7, 7, 8))
    assert one == same != other


@given(STORED)
def test_every_flipped_bit_is_found(stored: Encoded) -> None:
    blob = encode_value(*stored)
    for bit in range(len(blob) * 8):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptValue):
            decode_value(bytes(damaged))


@given(STORED, st.binary(min_size=1, max_size=3))
def test_a_value_cut_short_or_grown_is_found(stored: Encoded, more: bytes) -> None:
    blob = encode_value(*stored)
    for damaged in [*(blob[:n] for n in range(len(blob))), blob + more]:
        with pytest.raises(CorruptValue):
            decode_value(damaged)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_value_are_found(blob: bytes) -> None:
    with pytest.raises(CorruptValue):
        decode_value(blob)


@pytest.mark.parametrize("value", [b"bytes", {"a": 1}, (1,), 2**63, datetime(2013, 1, 1), object(), [[1]], 1 + 2j, "\ud800"])
def test_a_value_of_no_dtype_is_refused(value: object) -> None:
    with pytest.raises(PublicationError, match="cannot be stored online"):
        encode_value(1, 0, 1, [1.0, value])


def test_write_tokens_order_by_event_time_then_revision() -> None:
    tokens = [write_token(us, revision) for us in (-2, -1, 0, 1) for revision in (0, 1, 999)]
    assert tokens == sorted(set(tokens))
    assert write_token(5, 7) == 5_007


@pytest.mark.parametrize(("event_time_us", "revision"), [(0, 1000), (0, -1), (2**63 // 1000 + 1, 0), (-(2**63) // 1000, 0)])
def test_a_token_out_of_bounds_is_refused(event_time_us: int, revision: int) -> None:
    with pytest.raises(PublicationError):
        write_token(event_time_us, revision)
