"""What is staged of sorted rows: what a reader of all of them at once would say, however they are cut."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.clock import to_micros
from penstock.contract import Entity, Feature
from penstock.offline import stage as stage_module
from penstock.offline.content import row_digests
from penstock.offline.stage import Part, _compared, _Layout, _pieces, _Stage
from tests.world import MONDAY, view_of_orders

VIEW = view_of_orders(entity=Entity("customer", {"customer": "string"}), features=[Feature("amount", "float64")])
LAYOUT = _Layout.of(VIEW)
CREATED = MONDAY + timedelta(days=9)
TIME = pa.timestamp("us", tz="UTC")
CURRENT = pa.struct([("created", TIME), ("digest", pa.binary()), ("available", TIME), ("retracted", pa.bool_())])


class Held(NamedTuple):
    created: datetime
    amount: float | None
    late: bool
    retracted: bool


class Given(NamedTuple):
    """A row of the table (`held`), or a computed one."""

    customer: str | None
    event_time: datetime
    amount: float | None
    held: Held | None


def digest(amount: float | None) -> bytes:
    found: bytes = row_digests(pa.table({"amount": pa.array([amount], pa.float64())}), ["amount"])[0].as_py()
    return found


def table(rows: list[Given]) -> pa.Table:
    """As Spark hands them on: sorted by day, key, time, the table's rows first and in order of their making."""

    def order(row: Given) -> tuple[Any, ...]:
        held = (1,) if row.held is None else (0, row.held.created, b"" if row.held.retracted else digest(row.held.amount))
        return row.event_time.date(), row.customer is not None, row.customer or "", row.event_time, held

    rows = sorted(rows, key=order)
    current = [
        None
        if held is None
        else {
            "created": held.created,
            "digest": b"" if held.retracted else digest(held.amount),
            "available": row.event_time + VIEW.delay + timedelta(hours=held.late),
            "retracted": held.retracted,
        }
        for row in rows
        for held in [row.held]
    ]
    return pa.table(
        {
            "customer": pa.array([row.customer for row in rows], pa.string()),
            "event_time": pa.array([row.event_time for row in rows], TIME),
            "amount": pa.array([None if row.held else row.amount for row in rows], pa.float64()),
            "_day": pa.array([row.event_time.date() for row in rows], pa.date32()),
            "_complete": pa.array([True] * len(rows)),
            "_current": pa.array(current, CURRENT),
        }
    )


amounts = st.sampled_from([None, 1.0, 2.0])
held_rows = st.builds(Held, st.sampled_from([MONDAY + timedelta(days=n) for n in range(3)]), amounts, st.booleans(), st.booleans())
given_rows = st.builds(
    Given,
    st.sampled_from([None, "ann", "bob"]),
    st.sampled_from([MONDAY + timedelta(hours=18 * n) for n in range(3)]),
    amounts,
    st.none() | held_rows,
)


def by_definition(rows: list[Given]) -> tuple[int, list[tuple[Any, ...]]]:
    """How many computed rows repeat another, and (customer, event time, amount, retracted) of what changed."""
    groups = defaultdict(list)
    for row in rows:
        groups[row.customer, row.event_time].append(row)
    repeated, changes = 0, []
    for (customer, at), of in groups.items():
        computed = [row for row in of if row.held is None]
        held = [row.held for row in of if row.held is not None]
        counts = max(held, key=lambda one: (one.created, b"" if one.retracted else digest(one.amount)), default=None)
        repeated += max(0, len(computed) - 1)
        if not computed and counts is not None and not counts.retracted:
            changes.append((customer, at, None, True))
        if computed and (counts is None or counts.retracted or counts.late or counts.amount != computed[0].amount):
            changes.append((customer, at, computed[0].amount, False))
    return repeated, changes


def of_one_making(rows: list[Given]) -> list[Given]:
    """At most one row of a key, time and making: which of two counts would else be open."""
    seen = {(row.customer, row.event_time, row.held and row.held.created): row for row in rows}
    return list(seen.values())


@given(st.lists(given_rows, min_size=1, max_size=12).map(of_one_making))
def test_what_changed_is_what_the_definition_says(rows: list[Given]) -> None:
    computed, repeated, changes = _compared(table(rows), LAYOUT, to_micros(CREATED))
    assert computed.num_rows == sum(row.held is None for row in rows)
    found = [
        (row["customer"], row["event_time"].astimezone(UTC), row["amount"], row["retracted"])
        for row in changes.select(["customer", "event_time", "amount", "retracted"]).to_pylist()
    ]
    assert (repeated, sorted(found, key=repr)) == (0, sorted(by_definition(rows)[1], key=repr))
    for row in changes.to_pylist():
        assert row["row_digest"] == (b"" if row["retracted"] else digest(row["amount"]))
        assert (row["available_time"], row["created_time"], row["attempt"]) == (row["event_time"] + VIEW.delay, CREATED, to_micros(CREATED))


@given(st.lists(given_rows, min_size=1, max_size=20))
def test_every_computed_row_beyond_the_first_of_its_key_and_time_repeats_it(rows: list[Given]) -> None:
    assert _compared(table(rows), LAYOUT, 0)[1] == by_definition(rows)[0]


class Looked:
    """Says how many rows there are, how many repeat another, and their amounts."""

    def __call__(self, part: Part) -> bytes:
        return f"{part.day} {part.rows.num_rows} {part.repeated}".encode()


@given(st.lists(given_rows, min_size=1, max_size=30).map(of_one_making), st.integers(1, 7), st.integers(1, 9))
def test_pieces_are_of_one_day_and_cut_no_key_and_time(rows: list[Given], at_once: int, batch: int) -> None:
    whole = table(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_module, "_ROWS_AT_ONCE", at_once)
        pieces = list(_pieces(whole.combine_chunks().to_batches(batch), LAYOUT.keys))
    assert pa.concat_tables(pieces).combine_chunks().equals(whole.combine_chunks())
    assert all(len(piece["_day"].unique()) == 1 for piece in pieces)
    marks = [set(zip(piece["customer"].to_pylist(), piece["event_time"].to_pylist(), strict=True)) for piece in pieces]
    assert sum(map(len, marks)) == len(set().union(*marks))


def test_a_day_is_one_file_and_says_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "_ROWS_AT_ONCE", 4)
    rows = [Given(f"c{n}", MONDAY + timedelta(hours=h), float(n), None) for n in range(5) for h in (1, 2, 30)]
    rows.append(Given("dan", MONDAY + timedelta(hours=3), None, Held(MONDAY, 1.0, False, False)))
    of_days = dict(_said(_Stage(LAYOUT, str(tmp_path), to_micros(CREATED), Looked()), table(rows)))
    assert list(of_days) == [MONDAY.date(), MONDAY.date() + timedelta(days=1)]
    monday = of_days[MONDAY.date()]
    assert (monday.file.rows, monday.file.retracted, len(monday.seen)) == (11, 1, 3)
    (path,) = tmp_path.glob("event_date=2026-03-02/*.parquet")
    assert path == tmp_path / monday.file.add.path
    held = pq.read_table(path, partitioning=None)
    assert held.schema.names == LAYOUT.schema.names
    assert held["customer"].to_pylist() == sorted(held["customer"].to_pylist())
    assert '"numRecords": 11' in monday.file.add.stats
    assert '"event_time": "2026-03-02T01:00:00.000Z"' in monday.file.add.stats


def test_what_fails_half_way_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "_ROWS_AT_ONCE", 2)

    def fails_at_last(part: Part) -> bytes:
        if "c4" in part.rows["customer"].to_pylist():
            raise ValueError("as asked")
        return b""

    rows = [Given(f"c{n}", MONDAY + timedelta(hours=1), float(n), None) for n in range(5)]
    with pytest.raises(ValueError, match="as asked"):
        _said(_Stage(LAYOUT, str(tmp_path), to_micros(CREATED), fails_at_last), table(rows))
    assert list(tmp_path.rglob("*.parquet")) == []


def _said(stage: _Stage, rows: pa.Table) -> list[tuple[date, Any]]:
    told = pa.Table.from_batches(stage(rows.combine_chunks().to_batches(2))).to_pylist()
    return [(one["day"], msgspec.msgpack.decode(one["told"], type=stage_module._Day)) for one in told]
