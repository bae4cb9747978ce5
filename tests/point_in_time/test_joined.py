"""Joins as a user writes them: spines of every kind, views under names, keys of every type, and what is refused."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.contract import Feature, FeatureView
from penstock.contract.service import select
from penstock.errors import CommitError, ContractError, SourceError, SpineError
from penstock.offline.arrow import arrow_type
from penstock.offline.lake import Lake, feature_table
from penstock.offline.maintenance import compact
from penstock.point_in_time.spine import DeltaRows
from tests.point_in_time.conftest import Join
from tests.point_in_time.tables import CREATED, DAY, HOUR, a_view, publish_at, write_rows

UTC_MICROS = pa.timestamp("us", tz="UTC")
SPEND = a_view()


def spine(**columns: Any) -> pa.Table:
    """A spine from lists; `at` are its event times."""
    at = pa.array(columns.pop("at"), UTC_MICROS)
    return pa.table({**columns, "event_time": at})


def amounts(rows: pa.Table, column: str = "spend__amount", by: str = "event_time") -> list[Any]:
    values: list[Any] = rows.sort_by(by)[column].to_pylist()
    return values


def test_the_newest_value_at_or_before_each_time_within_the_ttl(lake: Lake, joined: Join) -> None:
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}, {"user": 1, "at": DAY + 2 * HOUR, "amount": 2.0}])
    microsecond = timedelta(microseconds=1)
    # from 00:00 the first, from 02:00 the second, until 02:00 of the next day, ttl 1 day
    times = [DAY - microsecond, DAY, DAY + 2 * HOUR - microsecond, DAY + 2 * HOUR, DAY + 26 * HOUR, DAY + 26 * HOUR + microsecond]
    assert amounts(joined(spine(user=[1] * 6, at=times), [SPEND]).to_arrow()) == [None, 1.0, 1.0, 2.0, 2.0, None]


def test_spines_of_pandas_arrow_and_delta_give_the_same(lake: Lake, joined: Join, tmp_path: Path) -> None:
    write_rows(lake, SPEND, [{"user": n, "at": DAY, "amount": float(n)} for n in range(5)])
    table = spine(user=[4, 0, 2], label=["a", "b", "c"], at=[DAY + n * HOUR for n in range(3)])
    write_deltalake(str(tmp_path / "spine"), table)
    frame = table.to_pandas()
    in_berlin = frame.assign(event_time=frame["event_time"].dt.tz_convert("Europe/Berlin"))
    batches = pa.RecordBatchReader.from_batches(table.schema, table.to_batches())
    for given in (table, frame, in_berlin, batches, DeltaRows(str(tmp_path / "spine"), 0)):
        rows = joined(given, [SPEND]).to_arrow().sort_by("event_time")
        assert rows.schema.names == ["user", "label", "event_time", "spend__amount"]
        assert rows.to_pydict() == {**table.to_pydict(), "spend__amount": [4.0, 0.0, 2.0]}


def test_a_polars_spine(lake: Lake, columnar: Join) -> None:
    polars = pytest.importorskip("polars")
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    made = columnar(polars.from_arrow(spine(user=[1], name=["x"], at=[DAY])), [SPEND]).to_polars()
    assert made["spend__amount"].to_list() == [1.0]


def test_the_same_view_under_two_names_for_two_columns(lake: Lake, joined: Join) -> None:
    weather = a_view("weather", {"airport": "string"})
    write_rows(lake, weather, [{"airport": "JFK", "at": DAY, "amount": 5.0}, {"airport": "LAX", "at": DAY, "amount": 25.0}])
    flights = spine(origin=["JFK", "LAX", None], dest=["LAX", "SFO", "JFK"], at=[DAY, DAY + HOUR, DAY + 2 * HOUR])
    both = [weather.named("from_weather", on={"airport": "origin"}), weather.named("to_weather", on={"airport": "dest"})]
    rows = joined(flights, both).to_arrow()
    assert amounts(rows, "from_weather__amount") == [5.0, 25.0, None]
    assert amounts(rows, "to_weather__amount") == [25.0, None, 5.0]


def test_views_of_different_entities_and_one_of_none(lake: Lake, joined: Join) -> None:
    market = a_view("market", one=True)
    shop = a_view("shop", {"shop": "string", "city": "string"})
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    write_rows(lake, market, [{"at": DAY, "amount": 100.0}, {"at": DAY + 2 * HOUR, "amount": 200.0}])
    write_rows(lake, shop, [{"shop": "a", "city": "x", "at": DAY, "amount": 7.0}])
    asked = spine(user=[1, None, 2], shop=["a", "a", "a"], city=["x", None, "y"], at=[DAY, DAY + HOUR, DAY + 3 * HOUR])
    rows = joined(asked, [SPEND, market, shop]).to_arrow()
    assert amounts(rows) == [1.0, None, None]
    assert amounts(rows, "market__amount") == [100.0, 100.0, 200.0]  # it belongs to every row
    assert amounts(rows, "shop__amount") == [7.0, None, None]


KEYS_THAT_COLLIDE = {
    "int64": [1, 12, -1, 2**53, 2**53 + 1, 2**62],
    "int32": [1, 12, -1],
    "string": ["", "1", "12", "e\u0301", "é", "a|b", "A"],
    "binary": [b"", b"\x00", b"\x00\x00", b"\xff", b"1"],
    "date": [date(2026, 3, 1), date(1969, 12, 31), date(1970, 1, 1)],
    "timestamp": [DAY, DAY + timedelta(microseconds=1), datetime(1, 1, 1, tzinfo=UTC)],
    "bool": [True, False],
}


@pytest.mark.parametrize("dtype", KEYS_THAT_COLLIDE)
def test_one_key_never_gets_anothers_value(lake: Lake, joined: Join, dtype: str) -> None:
    view = a_view("typed", {"key": dtype, "part": "string"})
    keys = [(key, part) for key in KEYS_THAT_COLLIDE[dtype] for part in ("", "1", "23")]
    write_rows(lake, view, [{"key": key, "part": part, "at": DAY, "amount": float(n)} for n, (key, part) in enumerate(keys)])

    asked = pa.table(
        {
            "key": pa.array([key for key, _ in keys], arrow_type(dtype)),
            "part": [part for _, part in keys],
            "n": range(len(keys)),
            "event_time": pa.array([DAY] * len(keys), UTC_MICROS),
        }
    )
    assert amounts(joined(asked, [view]).to_arrow(), "typed__amount", by="n") == [float(n) for n in range(len(keys))]


def test_a_mode_may_be_another_for_one_view(lake: Lake, joined: Join) -> None:
    other = a_view("other", delay=2 * HOUR)
    late = a_view("late", delay=2 * HOUR)
    for view in (other, late):
        write_rows(lake, view, [{"user": 1, "at": DAY, "amount": 1.0}])
    rows = joined(spine(user=[1], at=[DAY]), [other, late], "assumed", overrides={"late": "event"}).to_arrow()
    assert (rows["other__amount"].to_pylist(), rows["late__amount"].to_pylist()) == ([None], [1.0])


def test_the_times_of_the_row_that_was_used_may_be_asked_for(lake: Lake, joined: Join) -> None:
    late = a_view("late", delay=2 * HOUR)
    write_rows(lake, late, [{"user": 1, "at": DAY, "amount": 1.0}])
    rows = joined(spine(user=[1, 1], at=[DAY + HOUR, DAY + 3 * HOUR]), [late], "assumed", with_times=True).to_arrow().sort_by("event_time")
    assert rows.schema.names == ["user", "event_time", "late__amount", "late__event_time", "late__known_at"]
    assert rows["late__event_time"].to_pylist() == [None, DAY]
    assert rows["late__known_at"].to_pylist() == [None, DAY + 2 * HOUR]
    none = joined(spine(user=[1], at=[None]), [late], "assumed", with_times=True).to_arrow()
    assert none["late__known_at"].to_pylist() == [None]


def test_observed_reads_the_ledger_from_the_day_it_went_live(lake: Lake, joined: Join) -> None:
    corrected = CREATED + 5 * HOUR
    write_rows(
        lake,
        SPEND,
        [{"user": 1, "at": DAY + 20 * HOUR, "amount": 1.0}, {"user": 1, "at": DAY + 20 * HOUR, "amount": 9.0, "created": corrected}],
    )
    publish_at(lake, SPEND, DAY.date(), CREATED, CREATED + HOUR)
    publish_at(lake, SPEND, DAY.date(), corrected, corrected + HOUR)
    at = [DAY + 21 * HOUR, CREATED, CREATED + HOUR, corrected, corrected + HOUR]
    asked = spine(user=[1] * 5, at=at)
    # live since 31 h: before as assumed, known at once; then the old value until the correction is readable
    assert amounts(joined(asked, [SPEND], "observed").to_arrow()) == [1.0, 1.0, 1.0, 1.0, 9.0]
    assert amounts(joined(asked, [SPEND], "restated").to_arrow()) == [9.0] * 5


def test_n_rows_in_n_rows_out_duplicates_and_nulls_included(lake: Lake, joined: Join) -> None:
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    asked = spine(user=[1, 1, None, 1, 2], at=[DAY, DAY, DAY, None, DAY])
    rows = joined(asked, [SPEND]).to_arrow()
    assert sorted(rows["spend__amount"].to_pylist(), key=str) == [1.0, 1.0, None, None, None]


def test_a_view_whose_table_is_empty_and_a_spine_outside_all_files(lake: Lake, joined: Join) -> None:
    empty = a_view("empty")
    write_rows(lake, empty, [])
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    rows = joined(spine(user=[1, 1], at=[DAY - 400 * HOUR, DAY + 400 * HOUR]), [empty, SPEND]).to_arrow()
    assert rows.schema.field("empty__amount").type == pa.float64()
    assert (rows["empty__amount"].null_count, rows["spend__amount"].null_count) == (2, 2)


def test_names_without_the_views(lake: Lake, joined: Join) -> None:
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    asked = spine(user=[1], at=[DAY])
    assert joined(asked, [SPEND], full_feature_names=False).to_arrow().schema.names == ["user", "event_time", "amount"]
    twice = [SPEND, SPEND.named("again")]
    with pytest.raises(SpineError, match="column 'amount' of feature view 'spend' would be written twice: feature view 'spend' has it"):
        joined(asked, twice, full_feature_names=False)


def test_the_plan_says_what_is_read_and_why(lake: Lake, columnar: Join) -> None:
    write_rows(lake, SPEND, [{"user": 1, "at": DAY + n * 24 * HOUR, "amount": 1.0} for n in range(6)])
    text = columnar(spine(user=[1], at=[DAY + 49 * HOUR]), [SPEND]).explain()
    assert "engine    columnar" in text
    assert "spend@1: version 0, mode event, ttl 1 day, 0:00:00, 1 features; 1 of 6 files" in text
    assert "runs      in this process, without Spark" in text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: spine(user=[1], at=[DAY]).slice(1), "the spine has no rows"),
        (
            lambda: pd.DataFrame({"user": [1], "event_time": [pd.Timestamp("2026-03-02")]}),
            "without a time zone, expected timestamp",
        ),
        (lambda: spine(user=["1"], at=[DAY]), "join key 'user' is string in the spine, bigint in 'spend'"),
        (lambda: pd.DataFrame({"user": [1, None], "event_time": [DAY, DAY]}), r"is double in the spine.*\n.*astype\('Int64'\)"),
        (lambda: spine(account=[1], at=[DAY]), "join key 'user' of .* is not in the spine; it has account, event_time"),
        (lambda: pa.table({"user": [1]}), "the spine's 'event_time' is missing"),
        (
            lambda: spine(user=[1], spend__amount=[1.0], at=[DAY]),
            "'spend__amount' of .* would be written twice: the spine has it",
        ),
        (
            lambda: pa.table({"user": [1], "event_time": pa.array([1], pa.timestamp("ns", tz="UTC"))}),
            r"'event_time' is timestamp\[ns, tz=UTC\] and does not fit",
        ),
        (lambda: [1, 2], "a spine cannot be a list"),
        (lambda: pa.table([pa.array([1]), pa.array([1])], names=["user", "user"]), "two columns named 'user'"),
    ],
)
def test_what_is_no_spine_is_refused(lake: Lake, columnar: Join, given: Any, message: str) -> None:
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    with pytest.raises(SpineError, match=message):
        columnar(given(), [SPEND])


def test_what_cannot_be_joined_is_refused(lake: Lake, columnar: Join) -> None:
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    asked = spine(user=[1], at=[DAY])
    with pytest.raises(SpineError, match="feature view other@1 has no table yet"):
        columnar(asked, [a_view("other")])
    with pytest.raises(SpineError, match="mode 'guessed': expected one of event, assumed, observed, restated"):
        columnar(asked, [SPEND], "guessed")  # type: ignore[arg-type]
    with pytest.raises(SpineError, match="a mode is given for 'spent', which is not joined; joined are spend"):
        columnar(asked, [SPEND], overrides={"spent": "event"})
    with pytest.raises(ContractError, match="on= names 'person'; the view's join keys are 'user'"):
        SPEND.named("other", on={"person": "user"})
    with pytest.raises(ContractError, match="join key 'user' is int64 for one view and string for 'shop'"):
        select([SPEND, a_view("shop", {"user": "string"})], "the test")


def files_of(lake: Lake, view: FeatureView) -> list[Path]:
    return sorted(Path(lake.location(feature_table(view))).glob("event_date=*/*.parquet"))


def test_a_missing_and_a_damaged_file_are_named(lake: Lake, columnar: Join) -> None:
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    planned = columnar(spine(user=[1], at=[DAY]), [SPEND])
    (file,) = files_of(lake, SPEND)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=rf"{file.name} cannot be read"):
        planned.to_arrow()
    file.unlink()
    with pytest.raises(SourceError, match=rf"{file.name} is gone, although the table's log names it"):
        planned.to_arrow()


def test_what_is_kept_is_there_whole_and_is_not_written_over(lake: Lake, joined: Join, tmp_path: Path) -> None:
    write_rows(lake, SPEND, [{"user": n, "at": DAY, "amount": float(n)} for n in range(5)])
    planned = joined(spine(user=[*range(5), None], at=[DAY + n * HOUR for n in range(5)] + [None]), [SPEND])
    expected = planned.to_arrow().sort_by("user")
    assert planned.to_delta("training/kept") == planned.to_parquet(str(tmp_path / "kept")) == 6
    kept = lake.open("training/kept")
    assert kept.to_pyarrow_table().cast(expected.schema).sort_by("user").equals(expected)
    actions = pa.table(kept.get_add_actions(flatten=True))
    assert sum(actions["num_records"].to_pylist()) == 6
    assert (min(actions["min.event_time"].to_pylist()), max(actions["max.event_time"].to_pylist())) == (DAY, DAY + 4 * HOUR)
    assert pq.read_table(tmp_path / "kept").cast(expected.schema).sort_by("user").equals(expected)
    for keep in (lambda: planned.to_delta("training/kept"), lambda: planned.to_parquet(str(tmp_path / "kept"))):
        with pytest.raises(CommitError, match="already"):
            keep()
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_what_fails_leaves_nothing_readable(lake: Lake, columnar: Join, tmp_path: Path) -> None:
    write_rows(lake, SPEND, [{"user": 1, "at": DAY, "amount": 1.0}])
    planned = columnar(spine(user=[1], at=[DAY]), [SPEND])
    files_of(lake, SPEND)[0].unlink()
    for keep in (lambda: planned.to_delta("training/kept"), lambda: planned.to_parquet(str(tmp_path / "kept"))):
        with pytest.raises(SourceError):
            keep()
    assert lake.version("training/kept") is None
    assert not (tmp_path / "kept").exists()


def test_a_value_in_the_last_millisecond_of_a_file_is_found(lake: Lake, columnar: Join) -> None:
    # Spark cuts the statistics of times to milliseconds: the greatest one, too
    last = DAY + 23 * HOUR + timedelta(microseconds=1_999)
    write_rows(lake, SPEND, [{"user": 1, "at": last, "amount": 1.0}])
    log = Path(lake.location(feature_table(SPEND))) / "_delta_log" / "00000000000000000000.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "add" in line:
            stats = json.loads(line["add"]["stats"])
            stats["maxValues"]["event_time"] = (DAY + 23 * HOUR + timedelta(milliseconds=1)).isoformat(timespec="milliseconds")[:-6] + "Z"
            line["add"]["stats"] = json.dumps(stats)
    log.write_text("\n".join(json.dumps(line) for line in lines))
    # the oldest event time in question is `last` itself, ttl 1 day
    assert amounts(columnar(spine(user=[1], at=[last + 24 * HOUR]), [SPEND]).to_arrow()) == [1.0]


def test_a_spine_table_may_be_partitioned_and_have_statistics_of_some_columns_only(lake: Lake, columnar: Join, tmp_path: Path) -> None:
    write_rows(lake, SPEND, [{"user": n, "at": DAY, "amount": float(n)} for n in range(40)])
    table = spine(
        user=[*range(38), None, 5], region=["a b", None] * 20, label=list(range(40)), at=[DAY + n % 7 * HOUR for n in range(39)] + [None]
    )
    without = {"delta.dataSkippingStatsColumns": "label"}
    write_deltalake(str(tmp_path / "spine"), table, partition_by=["region"], configuration=without)
    planned = columnar(DeltaRows(str(tmp_path / "spine"), 0), [SPEND])
    for tiles in (1, 5):
        rows = replace(planned, plan=replace(planned.plan, tiles=tiles)).to_arrow().sort_by("label")
        assert rows.select(table.schema.names).equals(table.sort_by("label").cast(rows.select(table.schema.names).schema))
        assert rows["spend__amount"].to_pylist() == [*[float(n) for n in range(38)], None, None]


def test_files_of_several_writers_need_not_agree_on_nulls_nor_on_which_type_of_text(lake: Lake, columnar: Join) -> None:
    view = a_view(keys={"name": "string"}, features=[Feature("amount", "string")])
    write_rows(lake, view, [{"name": f"n{n}", "at": DAY + n * HOUR, "amount": str(n)} for n in range(0, 48, 2)])
    file = files_of(lake, view)[0]
    rows = pq.read_table(file, partitioning=None)
    kinds = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
    other = pa.schema([pa.field(field.name, kinds.get(field.type, field.type), nullable=False) for field in rows.schema])
    pq.write_table(rows.cast(other), file)
    asked = spine(name=[f"n{n}" for n in range(48)], at=[DAY + n * HOUR for n in range(48)])
    assert amounts(columnar(asked, [view]).to_arrow()) == [None if n % 2 else str(n) for n in range(48)]
    folded = columnar(asked, [view])
    write_rows(lake, view, [{"name": "n0", "at": DAY, "amount": "late", "created": CREATED + HOUR}])
    assert compact(lake, view, before=DAY.date() + timedelta(days=1)).files == 2
    assert amounts(columnar(asked, [view]).to_arrow()) == ["late", *amounts(folded.to_arrow())[1:]]


def test_rows_that_another_writer_updated_in_place_are_read(lake: Lake, columnar: Join) -> None:
    view = a_view(keys={"name": "string"}, features=[Feature("amount", "string"), Feature("parts", "list[string]")])
    write_rows(lake, view, [{"name": f"n{n}", "at": DAY + n * HOUR, "amount": str(n), "parts": [str(n), None]} for n in range(24)])
    # delta-rs leaves views of strings behind.
    DeltaTable(lake.location(feature_table(view))).update(updates={"amount": "'other'"}, predicate="name = 'n3'")
    assert any(pa.string_view() in pq.read_schema(file).types for file in files_of(lake, view))
    write_rows(lake, view, [{"name": "n30", "at": DAY + 30 * HOUR, "amount": "30", "parts": []}])
    asked = spine(name=["n2", "n3", "n30"], at=[DAY + n * HOUR for n in (2, 3, 30)])
    rows = columnar(asked, [view]).to_arrow()
    assert amounts(rows) == ["2", "other", "30"]
    assert amounts(rows, "spend__parts") == [["2", None], ["3", None], []]
