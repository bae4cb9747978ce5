"""The hash of rows: by values alone, whatever their order, their files and the width of their types."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from penstock.offline.content import Content, content_of, row_digests

DAY = datetime(2026, 3, 2, tzinfo=UTC)
ROWS = pa.table(
    {
        "n": pa.array([1, 2, None, 2], pa.int64()),
        "x": [1.5, float("nan"), None, 0.0],
        "s": ["a", "", None, "é"],
        "b": [b"\x00", b"", None, b"a"],
        "t": pa.array([DAY, DAY + timedelta(microseconds=1), None, DAY], pa.timestamp("us", tz="UTC")),
        "d": [date(2026, 3, 2), date(1969, 1, 1), None, date(2026, 3, 2)],
        "ok": [True, False, None, True],
        "l": pa.array([[1], [], None, [1, None]], pa.list_(pa.int64())),
        "m": [Decimal("1.10"), Decimal("-1.10"), None, Decimal("0.00")],
    }
)


def test_the_order_of_rows_and_columns_and_how_they_are_cut_play_no_part() -> None:
    whole = content_of(ROWS)
    assert content_of(ROWS.take([3, 1, 0, 2])) == whole
    assert content_of(ROWS.select(list(reversed(ROWS.schema.names)))) == whole
    assert content_of(ROWS.slice(0, 1)) + content_of(ROWS.slice(1)) == whole
    assert sum((content_of(ROWS.slice(n, 1)) for n in range(4)), Content()) == whole


def test_the_same_rows_twice_are_not_once() -> None:
    assert content_of(pa.concat_tables([ROWS, ROWS])) != content_of(ROWS)
    assert content_of(pa.concat_tables([ROWS, ROWS])).rows == 8


def test_types_that_hold_the_same_values_differently_are_one() -> None:
    wide = ROWS.set_column(2, "s", ROWS["s"].cast(pa.large_string())).set_column(3, "b", ROWS["b"].cast(pa.large_binary()))
    assert content_of(wide) == content_of(ROWS)
    in_tokyo = ROWS.set_column(4, "t", ROWS["t"].cast(pa.timestamp("us", tz="Asia/Tokyo")))
    assert content_of(in_tokyo) == content_of(ROWS)


def test_every_change_of_one_value_is_seen() -> None:
    whole = content_of(ROWS)
    microsecond_later = DAY + timedelta(microseconds=1)
    changes: dict[str, list[tuple[int, Any]]] = {
        "n": [(0, 3), (0, None), (2, 0)],
        "x": [(0, 1.5000000000000002), (1, None), (3, -0.0)],
        "s": [(0, "b"), (1, None), (2, ""), (3, "e\u0301")],
        "b": [(0, b"")],
        "t": [(0, microsecond_later)],
        "d": [(0, date(2026, 3, 3))],
        "ok": [(0, False)],
        "l": [(0, [1, None]), (1, None)],
        "m": [(0, Decimal("1.11"))],
    }
    for name, row, value in [(name, row, value) for name, of_column in changes.items() for row, value in of_column]:
        values = ROWS[name].to_pylist()
        values[row] = value
        changed = ROWS.set_column(ROWS.schema.names.index(name), name, pa.array(values, ROWS.schema.field(name).type))
        assert content_of(changed) != whole, (row, name, value)


def test_values_that_swap_their_rows_or_their_columns_are_seen() -> None:
    one = pa.table({"a": [1, 2], "b": [3, 4]})
    assert content_of(one) != content_of(pa.table({"a": [2, 1], "b": [3, 4]}))
    assert content_of(one) != content_of(pa.table({"a": [3, 4], "b": [1, 2]}))
    assert content_of(one) != content_of(pa.table({"a": [1, 2], "c": [3, 4]}))
    assert content_of(pa.table({"a": [1]})) != content_of(pa.table({"a": [1.0]}))


def test_no_two_of_many_small_sets_are_alike() -> None:
    random = Random(7)
    seen = {}
    for _ in range(3_000):
        values = tuple(sorted(random.choice([0, 1, 2, 3, None]) or 0 for _ in range(random.randint(1, 4))))
        text = content_of(pa.table({"n": pa.array(values, pa.int64())})).text
        assert seen.setdefault(text, values) == values


@pytest.mark.parametrize("rows", [0, 1])
def test_a_hash_stays_what_it_is(rows: int) -> None:
    # kept in manifests: it may never change
    expected = {0: "941e0c502c87478811f1b6a130227018", 1: "f1e6078979a85a710ec3bf0e4127b02e"}[rows]
    assert content_of(ROWS.slice(0, rows)).text == expected


def test_a_row_has_sixteen_bytes_that_differ_where_its_values_do() -> None:
    numbers = [(None if n == 3 else n / 7, None if other == 3 else other / 7) for n in range(60) for other in range(60)]
    rows = pa.table({"amount": [one for one, _ in numbers], "refund": [other for _, other in numbers]})
    digests = row_digests(rows, ["amount", "refund"]).to_pylist()
    assert {len(digest) for digest in digests} == {16}
    assert len(set(digests)) == 3600
    assert row_digests(rows, ["refund", "amount"]).to_pylist() == digests
    assert row_digests(ROWS, ROWS.schema.names).to_pylist() == [
        row_digests(ROWS.slice(n, 1), ROWS.schema.names)[0].as_py() for n in range(ROWS.num_rows)
    ]
