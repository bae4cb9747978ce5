"""What a commit changed in a source: rows that came, went or are others, and nothing else. Real Delta tables, no JVM."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.clock import to_micros
from penstock.contract import Source, available_after, available_at, delta, hours, minutes
from penstock.errors import SourceError
from penstock.offline import changes as changes_module
from penstock.offline.changes import Change, changes, note_changes
from penstock.offline.lake import Lake

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
SCHEMA = {"customer": "string", "amount": "float64", "event_time": "timestamp"}
TIME = pa.timestamp("us", tz="UTC")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), str(tmp_path))


def orders(**changes: Any) -> Source:
    settings: dict[str, Any] = {
        "schema": SCHEMA,
        "owner": "shop",
        "table": delta("shop/orders"),
        "availability": available_after(minutes(5)),
    }
    return Source("orders", **{**settings, **changes})


def rows(*of: tuple[str, float | None, datetime]) -> pa.Table:
    customers, amounts, times = zip(*of, strict=True)
    return pa.table({"customer": customers, "amount": pa.array(amounts, pa.float64()), "event_time": pa.array(times, TIME)})


def write(lake: Lake, table: pa.Table, **options: Any) -> int:
    where = f"{lake.project}/shop/orders"
    write_deltalake(where, table, **{"mode": "append", **options})
    return DeltaTable(where).version()


def found(lake: Lake, source: Source, since: int = 0) -> list[tuple[int, str, int]]:
    """(version, day, rows) of what was changed since a version."""
    note_changes(lake, source, since)
    return [(change.version, str(change.day), change.rows) for change in changes(lake, source, since)]


def test_rows_that_came_are_told_by_day_with_their_times(lake: Lake) -> None:
    write(lake, rows(("ann", 1.0, MONDAY)))
    write(lake, rows(("ann", 2.0, MONDAY + HOUR), ("bob", 3.0, MONDAY + 3 * HOUR), ("eve", 4.0, MONDAY - DAY)))
    source = orders()
    assert note_changes(lake, source, 0) == 1
    assert changes(lake, source, 0) == [
        Change(
            table="shop/orders",
            version=1,
            day=(MONDAY - DAY).date(),
            first_event_us=to_micros(MONDAY - DAY),
            last_event_us=to_micros(MONDAY - DAY),
            first_known_us=to_micros(MONDAY - DAY + 5 * HOUR / 60),
            rows=1,
        ),
        Change(
            table="shop/orders",
            version=1,
            day=MONDAY.date(),
            first_event_us=to_micros(MONDAY + HOUR),
            last_event_us=to_micros(MONDAY + 3 * HOUR),
            first_known_us=to_micros(MONDAY + HOUR + 5 * HOUR / 60),
            rows=2,
        ),
    ]


def test_of_a_table_written_anew_only_rows_that_differ_are_told(lake: Lake) -> None:
    whole = [("ann", 1.0, MONDAY + n * HOUR) for n in range(60)]
    write(lake, rows(*whole))
    write(lake, rows(*reversed(whole)), mode="overwrite")
    assert found(lake, orders()) == []
    whole[3] = ("ann", 9.0, MONDAY + 3 * HOUR)
    write(lake, rows(*whole), mode="overwrite")
    assert found(lake, orders()) == [(2, "2026-03-02", 2)]  # one went, another came
    del whole[30]
    write(lake, rows(*whole, ("bob", None, MONDAY + 3 * HOUR)), mode="overwrite")
    assert found(lake, orders(), 2) == [(3, "2026-03-02", 1), (3, "2026-03-03", 1)]


def test_a_row_that_is_there_twice_and_then_once_has_changed(lake: Lake) -> None:
    twice = ("ann", 1.0, MONDAY)
    write(lake, rows(twice, twice, ("bob", 2.0, MONDAY)))
    write(lake, rows(twice, ("bob", 2.0, MONDAY)), mode="overwrite")
    assert found(lake, orders()) == [(1, "2026-03-02", 1)]


def test_a_table_too_large_for_memory_is_compared_by_days(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "_ROWS_AT_ONCE", 10)
    whole = [(f"c{n % 7}", float(n), MONDAY + n * HOUR) for n in range(100)]
    write(lake, rows(*whole))
    whole[50] = ("c1", -1.0, MONDAY + 50 * HOUR)
    write(lake, rows(*whole), mode="overwrite")
    assert found(lake, orders()) == [(1, "2026-03-04", 2)]


def test_change_data_is_read_where_the_table_keeps_it(lake: Lake) -> None:
    kept = {"delta.enableChangeDataFeed": "true"}
    write(lake, rows(("ann", 1.0, MONDAY), ("bob", 2.0, MONDAY + DAY)), configuration=kept)
    DeltaTable(f"{lake.project}/shop/orders").update(updates={"amount": "7.0"}, predicate="customer = 'bob'")
    DeltaTable(f"{lake.project}/shop/orders").delete("customer = 'ann'")
    assert found(lake, orders()) == [(1, "2026-03-03", 2), (2, "2026-03-02", 1)]


def test_folding_files_and_columns_nobody_declared_change_nothing(lake: Lake) -> None:
    table = rows(("ann", 1.0, MONDAY)).append_column("comment", pa.array(["first"]))
    write(lake, table)
    write(lake, rows(("bob", 1.0, MONDAY)).append_column("comment", pa.array(["second"])))
    note_changes(lake, orders(), 1)
    DeltaTable(f"{lake.project}/shop/orders").optimize.compact()
    DeltaTable(f"{lake.project}/shop/orders").update(updates={"comment": "'other'"})
    assert found(lake, orders(), 1) == []
    assert note_changes(lake, orders(), 1) == 3


def test_commits_are_looked_at_once_and_many_of_them_in_turns(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(6):
        write(lake, rows(("ann", float(n), MONDAY + n * HOUR)))
    monkeypatch.setattr(changes_module, "COMMITS_AT_ONCE", 2)
    source = orders()
    assert [note_changes(lake, source, 0) for _ in range(4)] == [2, 4, 5, 5]
    assert [change.version for change in changes(lake, source, 0)] == [1, 2, 3, 4, 5]
    log = lake.version("log/changes")
    assert note_changes(lake, source, 0) == 5
    assert lake.version("log/changes") == log


def test_commits_of_before_the_first_look_are_looked_at_when_a_view_that_read_them_is_there_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes_module, "COMMITS_AT_ONCE", 2)
    source = orders()
    for hour in range(7):
        write(lake, rows(("ann", 1.0, MONDAY + hour * HOUR)))
    assert note_changes(lake, source, 5) == 6
    assert [change.version for change in changes(lake, source, 0)] == [6]
    assert note_changes(lake, source, 5) == 6
    assert note_changes(lake, source, 1) == 1  # 4 and 5, and nothing between 1 and 3 yet
    assert [change.version for change in changes(lake, source, 0)] == [4, 5, 6]
    assert note_changes(lake, source, 1) == 6
    assert [change.version for change in changes(lake, source, 0)] == [2, 3, 4, 5, 6]
    write(lake, rows(("ann", 1.0, MONDAY)))
    assert note_changes(lake, source, 3) == 7
    assert [change.version for change in changes(lake, source, 0)] == [2, 3, 4, 5, 6, 7]
    assert len(changes_module.read_rows(lake, changes_module.CHANGES, pc.field("rows") > 0)) == 6  # each looked at once


def test_where_the_log_no_longer_tells_anything_may_have_changed(lake: Lake) -> None:
    write(lake, rows(("ann", 1.0, MONDAY)))
    write(lake, rows(("bob", 2.0, MONDAY)), mode="overwrite")
    gone = next(Path(lake.project, "shop/orders").glob("*.parquet"))  # what went may have been removed
    for file in Path(lake.project, "shop/orders").glob("*.parquet"):
        gone = file if file.stat().st_mtime_ns < gone.stat().st_mtime_ns else gone
    gone.unlink()
    note_changes(lake, orders(), 0)
    (change,) = changes(lake, orders(), 0)
    assert (change.version, change.day, change.rows) == (1, None, -1)
    assert change.first_event_us < to_micros(MONDAY) < change.last_event_us


def test_rows_known_on_another_day_are_told_apart(lake: Lake) -> None:
    source = orders(schema={**SCHEMA, "seen": "timestamp"}, availability=available_at("seen", at_most=hours(48)))
    seen = pa.array([MONDAY + HOUR, MONDAY + 25 * HOUR, None], TIME)
    write(lake, rows(("ann", 0.0, MONDAY - DAY)).append_column("seen", pa.array([MONDAY], TIME)))
    late = rows(("ann", 1.0, MONDAY), ("ann", 2.0, MONDAY), ("eve", 3.0, MONDAY)).append_column("seen", seen)
    write(lake, late)
    note_changes(lake, source, 0)
    assert [(c.first_known_us, c.rows) for c in changes(lake, source, 0)] == [
        (to_micros(MONDAY + HOUR), 1),
        (to_micros(MONDAY + 25 * HOUR), 1),  # eve's is no fact yet
    ]


def test_lists_are_compared_too(lake: Lake) -> None:
    def written(*of: tuple[str, list[int]], **options: Any) -> None:
        names, lists = zip(*of, strict=True)
        times = pa.array([MONDAY + n * HOUR for n in range(len(of))], TIME)
        write(lake, pa.table({"customer": names, "seen_items": pa.array(lists, pa.list_(pa.int64())), "event_time": times}), **options)

    source = orders(schema={"customer": "string", "seen_items": "list[int64]", "event_time": "timestamp"})
    written(("ann", [1, 2]))
    written(("bob", [3]), ("eve", []))
    note_changes(lake, source, 1)
    DeltaTable(f"{lake.project}/shop/orders").optimize.compact()
    assert found(lake, source, 1) == []
    written(("ann", [1, 2]), ("eve", [4]), mode="overwrite")
    assert [(at, rows) for at, _, rows in found(lake, source, 2)] == [(3, 3)]  # bob's row went, eve's is another


def test_sources_over_one_table_have_each_their_own_changes(lake: Lake) -> None:
    left, landed = orders(), orders(event_time="landed", schema={"customer": "string", "late_min": "float64", "landed": "timestamp"})

    def flights(late_min: float) -> pa.Table:
        of = rows(("ann", 1.0, MONDAY)).append_column("late_min", pa.array([late_min]))
        return of.append_column("landed", pa.array([MONDAY + 30 * HOUR], TIME))

    write(lake, flights(5.0))
    write(lake, flights(7.0), mode="overwrite")
    assert found(lake, left) == []  # what it declares is equal
    assert found(lake, landed) == [(1, "2026-03-03", 2)]
    assert found(lake, left) == []


def test_a_table_made_anew_counts_from_zero_and_so_does_what_is_known_of_it(lake: Lake) -> None:
    for n in range(3):
        write(lake, rows(("ann", float(n), MONDAY + n * HOUR)))
    assert len(found(lake, orders())) == 2
    shutil.rmtree(f"{lake.project}/shop/orders")
    write(lake, rows(("ann", 5.0, MONDAY)))
    assert found(lake, orders()) == []
    write(lake, rows(("bob", 6.0, MONDAY + DAY)))
    assert found(lake, orders()) == [(1, "2026-03-03", 1)]


def test_rows_without_a_time_that_are_gone_alter_nothing_and_may_have_mended_something(lake: Lake) -> None:
    untimed = pa.table({"customer": ["eve"], "amount": [1.0], "event_time": pa.array([None], TIME)})
    write(lake, rows(("ann", 1.0, MONDAY)))
    write(lake, untimed)
    assert found(lake, orders()) == []
    DeltaTable(f"{lake.project}/shop/orders").delete("event_time IS NULL")
    assert [(change.version, change.mends) for change in noted(lake, orders())] == [(2, True)]


def test_a_column_of_another_type_may_break_what_reads_it_or_mend_it(lake: Lake) -> None:
    narrow = pa.schema([("customer", pa.string()), ("amount", pa.float32()), ("event_time", TIME)])
    write(lake, rows(("ann", 1.0, MONDAY)))
    for table in (rows(("ann", 1.0, MONDAY)).cast(narrow), rows(("ann", 1.0, MONDAY))):
        write(lake, table, mode="overwrite", schema_mode="overwrite")
    assert [(change.version, change.mends) for change in noted(lake, orders())] == [(1, True), (2, True)]


def noted(lake: Lake, source: Source) -> list[Change]:
    note_changes(lake, source, 0)
    return changes(lake, source, 0)


def test_a_table_that_is_not_there_is_an_error(lake: Lake) -> None:
    with pytest.raises(SourceError, match="there is no delta table"):
        note_changes(lake, orders(), 0)
