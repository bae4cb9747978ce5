"""A batch's writes are those of its rows, one by one: same keys, same tokens, same bytes, same refusals."""

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import InvalidEntity, PublicationError
from penstock.online.codec import MAX_KEY_BYTES, decode_value
from penstock.online.store import Slot
from penstock.publication.encode import Target, write_of, writes_of

TIME = pa.timestamp("us", tz="UTC")
ARROW = {
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "timestamp": TIME,
    "date": pa.date32(),
    "binary": pa.binary(),
}
INT64 = st.integers(-(2**63), 2**63 - 1)
INSTANTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": INT64,
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "string": st.text(st.characters(exclude_categories=("Cs",))),
    "timestamp": INSTANTS,
    "date": st.dates(),
    "binary": st.binary(max_size=20),
}
KEY_TYPES = sorted(set(VALUES) - {"float32", "float64"})
FEATURE_TYPES = sorted(set(VALUES) - {"date", "binary"})


def arrow(dtype: str) -> pa.DataType:
    return pa.list_(ARROW[dtype[5:-1]]) if dtype.startswith("list[") else ARROW[dtype]


def of_type(dtype: str) -> st.SearchStrategy[Any]:
    return st.lists(VALUES[dtype[5:-1]], max_size=3) if dtype.startswith("list[") else VALUES[dtype]


def target(keys: list[str], features: list[str]) -> Target:
    named = tuple((f"k{n}", dtype) for n, dtype in enumerate(keys))
    return Target("thing", named, tuple((f"f{n}", dtype) for n, dtype in enumerate(features)), 7, Slot("view", 2, 3))


def batch_of(where: Target, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    values = pa.struct([pa.field(name, arrow(dtype)) for name, dtype in where.features])
    fields = [pa.field(name, arrow(dtype)) for name, dtype in where.join_keys]
    fields += [pa.field("event_time_us", pa.int64()), pa.field("attempt", pa.int64()), pa.field("_values", values)]
    return pa.RecordBatch.from_pylist(rows, pa.schema([*fields, pa.field("e_us", pa.int64()), pa.field("revision", pa.int64())]))


def row_of(key: dict[str, Any], values: dict[str, Any] | None, e_us: int = 5, revision: int = 0) -> dict[str, Any]:
    alive = values is not None
    return {
        **key,
        "event_time_us": 5 if alive else None,
        "attempt": 9 if alive else None,
        "_values": values,
        "e_us": e_us,
        "revision": revision,
    }


@st.composite
def batches(draw: st.DrawFn) -> tuple[Target, pa.RecordBatch]:
    where = target(
        draw(st.lists(st.sampled_from(KEY_TYPES), max_size=3)),
        draw(st.lists(st.sampled_from([*FEATURE_TYPES, "list[float64]", "list[int64]", "list[string]"]), min_size=1, max_size=4)),
    )
    key = st.fixed_dictionaries({name: VALUES[dtype] for name, dtype in where.join_keys})
    values = st.fixed_dictionaries({name: st.none() | of_type(dtype) for name, dtype in where.features})
    row = st.builds(row_of, key, st.none() | values, st.integers(-(10**15), 10**15), st.integers(0, 999))
    return where, batch_of(where, draw(st.lists(row, max_size=6)))


@given(batches(), st.integers(0, 3))
def test_the_writes_of_a_batch_are_those_of_its_rows(given: tuple[Target, pa.RecordBatch], start: int) -> None:
    where, batch = given
    some = batch.slice(start)  # Arrow slices share buffers: an offset must not shift a column
    assert writes_of(where, some) == [write_of(where, row) for row in some.to_pylist()]


def test_rows_of_numbers_become_the_bytes_that_the_codec_gives() -> None:
    where = target(["int64", "string"], ["float32", "int64"])
    (kept, gone) = writes_of(
        where, batch_of(where, [row_of({"k0": -1, "k1": "é"}, {"f0": 0.5, "f1": None}), row_of({"k0": 2, "k1": ""}, None, revision=3)])
    )
    assert kept.value is not None
    assert (kept.token, decode_value(kept.value).values, decode_value(kept.value).plain) == (5_000, [0.5, None], False)
    assert (gone.token, gone.value) == (5_003, None)


TOO_LONG = "x" * MAX_KEY_BYTES
REFUSED = {
    "a null key": ({"k0": None}, 5, 0, InvalidEntity, "join key 'k0' is string, got None"),
    "a long key": ({"k0": TOO_LONG}, 5, 0, InvalidEntity, "at most 65535 are allowed"),
    "the 1000th revision": ({"k0": "a"}, 5, 1000, PublicationError, "revision 1000 of event time 5"),
    "a year no token tells": ({"k0": "a"}, 2**62, 0, PublicationError, "is outside 1677..2262"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_row_is_refused_for_refuses_its_batch(what: str) -> None:
    key, e_us, revision, error, message = REFUSED[what]
    where = target(["string"], ["float64"])
    rows = [row_of({"k0": "good"}, {"f0": 1.0}), row_of(key, {"f0": 1.0}, e_us, revision)]
    with pytest.raises(error, match=message):
        writes_of(where, batch_of(where, rows))


def test_a_time_without_a_zone_is_refused_not_guessed() -> None:
    where = target(["date"], ["timestamp"])
    row = row_of({"k0": date(2026, 1, 1)}, {"f0": datetime(2026, 1, 1)})
    batch = pa.RecordBatch.from_pylist([row])
    with pytest.raises(PublicationError, match="cannot be stored online"):
        writes_of(where, batch)
