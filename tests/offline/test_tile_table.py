"""Views made of tiles: the same rows as without, and tiles are made anew exactly where their source changed. On real Spark and Delta."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.clock import FixedClock
from penstock.contract import (
    Entity,
    FeatureView,
    FreshnessSla,
    Source,
    approx_distinct,
    approx_quantile,
    available_at,
    count,
    days,
    delta,
    first,
    hours,
    largest,
    last,
    mean,
    parquet,
    smallest,
    std,
    total,
)
from penstock.errors import CommitError, SourceError
from penstock.offline import tile_table as module
from penstock.offline.compute import compute_rows
from penstock.offline.lake import Lake, feature_table, tile_table
from penstock.offline.sources import versions
from penstock.offline.tile_table import refresh_tiles
from penstock.point_in_time.preview import preview
from tests.world import MONDAY, World, customer, orders, view_of_orders

pytestmark = pytest.mark.real
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = MONDAY.date()
TIME = pa.timestamp("us", tz="UTC")

EXACT = [
    count(over=[days(1), days(7), days(30)]),
    smallest("amount", over=[days(7)]),
    largest("amount", over=[days(30)]),
    first("amount", over=[days(7)]),
    last("amount", over=[days(7), days(30)]),
    approx_quantile("amount", 0.5, over=[days(30)]),
    approx_distinct("amount", over=[days(30)]),
]
FLOATS = [total("amount", over=[days(7)]), mean("amount", over=[days(30)]), std("amount", over=[days(30)])]


def spending(tiles: timedelta | None, every: timedelta = DAY, **changes: Any) -> FeatureView:
    settings = {"compute": None, "features": (), "aggregations": EXACT, "every": every, "tiles": tiles, "name": "spending", **changes}
    return view_of_orders(**settings)


@pytest.fixture
def world(spark: Any, tmp_path: Path) -> World:
    """Three weeks of orders of a few customers, the last three days without one."""
    world = World(spark, Lake(str(tmp_path)), FixedClock(MONDAY + 6 * HOUR), view=spending(DAY))
    random = Random(4)
    for _ in range(150):
        at = MONDAY - timedelta(seconds=random.randint(3 * 86_400, 21 * 86_400))
        world.place(random.choice(["ann", "bob", "cy", None]), random.choice([None, 1.5, 2.0, random.random() * 1000]), at)
    world.ingest(days_before(25))
    return world


def days_before(n: int) -> list[date]:
    return [TODAY - k * DAY for k in range(n, -1, -1)]


def rows_of(frame: Any) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in frame.collect())


def computed(world: World, view: FeatureView, start: datetime, last: datetime) -> list[tuple[Any, ...]]:
    return rows_of(compute_rows(world.spark, world.lake, view, versions(world.lake, view), start, last))


def refreshed(world: World, start: datetime = MONDAY - 14 * DAY, last: datetime = MONDAY) -> dict[date, str]:
    """What each day's tiles were made from, once they are there."""
    refresh_tiles(world.spark, world.lake, world.view, versions(world.lake, world.view), start, last)
    return {day: kept.mark for day, kept in module._held(world.lake, world.view).items()}


@pytest.mark.parametrize(("tiles", "every"), [(DAY, DAY), (HOUR, DAY), (HOUR, 6 * HOUR)])
def test_rows_from_tiles_are_those_from_rows(world: World, tiles: timedelta, every: timedelta) -> None:
    start = MONDAY - 14 * DAY
    world.view = spending(tiles, every)
    expected = computed(world, spending(None, every), start, MONDAY)
    assert len(expected) > 30
    assert computed(world, world.view, start, MONDAY) == expected  # nothing is kept yet: made for this once
    assert tile_table(world.view) not in [path.parent.name for path in Path(world.lake.uri).glob("tiles/*/v1")]
    refreshed(world)
    assert computed(world, world.view, start, MONDAY) == expected


def test_kept_and_made_at_once_are_equal_to_the_bit_in_any_range_and_any_number_of_tasks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.view = spending(DAY, aggregations=[*EXACT, *FLOATS])
    start = MONDAY - 14 * DAY
    at_once = computed(world, world.view, start, MONDAY)
    refreshed(world)
    assert computed(world, world.view, start, MONDAY) == at_once
    monkeypatch.setattr(module, "_TILES_PER_TASK", 20)
    files = [file for day in module._held(world.lake, world.view).values() for file in day.files]
    assert len(module._ranges(world.lake.location(tile_table(world.view)), files, ["customer"])) > 1
    by_day = [row for n in range(14, -1, -1) for row in computed(world, world.view, MONDAY - n * DAY, MONDAY - n * DAY)]
    assert sorted(by_day) == at_once


def test_an_attempt_keeps_tiles_and_a_second_one_makes_none(world: World) -> None:
    world.compute(TODAY - DAY, TODAY)
    before = world.lake.version(tile_table(world.view))
    assert before is not None
    world.clock.advance(HOUR)
    (_, again) = world.compute(TODAY - DAY, TODAY)
    assert again.changed == 0
    assert world.lake.version(tile_table(world.view)) == before


def test_a_correction_makes_anew_the_tiles_of_its_day_alone(world: World) -> None:
    marks = refreshed(world)
    version = world.lake.version(tile_table(world.view))
    wrong = next(order for order in world.placed if order.customer == "ann" and order.amount is not None)
    world.placed[world.placed.index(wrong)] = replace(wrong, amount=5000.0)
    world.ingest([wrong.at.date()])
    after = refreshed(world)
    assert [day for day in marks if marks[day] != after[day]] == [wrong.at.date()]
    changed = [row["path"] for row in pa.table(world.lake.open(tile_table(world.view)).get_add_actions(flatten=True)).to_pylist()]
    kept = [row["path"] for row in pa.table(world.lake.open(tile_table(world.view), version).get_add_actions(flatten=True)).to_pylist()]
    assert len(set(changed) - set(kept)) == 1
    start = MONDAY - 14 * DAY
    assert computed(world, world.view, start, MONDAY) == computed(world, spending(None), start, MONDAY)


def test_days_without_rows_are_looked_at_once(world: World) -> None:
    world.place(None, 1.0, MONDAY - DAY + HOUR)  # a day whose only row has no customer
    world.ingest([TODAY - DAY])
    marks = refreshed(world)
    assert TODAY - DAY in marks  # it has a file, so it was looked at
    assert TODAY - 2 * DAY not in marks  # it has none
    version = world.lake.version(tile_table(world.view))
    assert refreshed(world) == marks
    assert world.lake.version(tile_table(world.view)) == version


def test_other_states_under_the_same_names_make_the_table_anew(world: World) -> None:
    world.view = spending(DAY, aggregations=[mean("amount", over=[days(7)], name="amount")])
    refreshed(world)
    world.view = spending(DAY, aggregations=[largest("amount", over=[days(7)], name="amount")])
    refreshed(world)
    plain = spending(None, aggregations=[largest("amount", over=[days(7)], name="amount")])
    start = MONDAY - 14 * DAY
    assert computed(world, world.view, start, MONDAY) == computed(world, plain, start, MONDAY) != []
    assert {name for name in world.lake.open(tile_table(world.view)).schema().to_arrow().names if name.startswith("amount")} == {
        "amount__count",
        "amount__max",
    }


def test_a_preview_keeps_no_tiles(world: World) -> None:
    rows = preview(world.spark, world.lake, world.view, [{"customer": "ann"}], MONDAY, TODAY - 9 * DAY, TODAY)
    assert rows_of(rows) == [row for row in computed(world, spending(None), MONDAY - 9 * DAY, MONDAY) if row[0] == "ann"] != []
    assert world.lake.version(tile_table(world.view)) is None


def test_a_damaged_tile_is_named_and_what_to_do_about_it_helps(world: World) -> None:
    world.compute(TODAY)
    where = Path(world.lake.location(tile_table(world.view)))
    day = max(day for day, kept in module._held(world.lake, world.view).items() if kept.files[0].rows > 1)
    (file,) = where.glob(f"event_date={day}/*/*.parquet")
    file.write_bytes(b"nothing of the kind")
    world.clock.advance(HOUR)
    with pytest.raises(SourceError, match=rf"{file.name} cannot be read: .*\n  hint: remove the folder of the view's tiles"):
        world.compute(TODAY)
    shutil.rmtree(where)
    (entry,) = world.compute(TODAY)
    assert (entry.state, entry.changed) == ("passed", 0)


def test_another_writer_of_the_same_days_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    refreshed(world)
    held = module._held(world.lake, world.view)
    day = max(day for day in held if held[day].files[0].rows > 1)
    location = world.lake.location(tile_table(world.view))
    tiling = module._tiling

    def while_another_writes(*arguments: Any) -> Callable[..., Any]:
        run = tiling(*arguments)

        def beside(batches: Any) -> Any:
            rows = DeltaTable(location).to_pyarrow_table(partitions=[("event_date", "=", str(day))]).slice(0, 1)
            write_deltalake(location, rows, mode="append")
            yield from run(batches)

        return beside

    monkeypatch.setattr(module, "_tiling", while_another_writes)
    one = next(order for order in world.placed if order.customer is not None and order.at.date() == day)
    world.placed.remove(one)
    world.ingest([day])
    with pytest.raises(CommitError, match=f"tiles/spending/v1: another writer changed the tiles of {day} to {day}"):
        refreshed(world)


@pytest.mark.parametrize("kind", ["delta", "delta with deletion vectors", "parquet"])
def test_external_tables_are_tiled_too(spark: Any, tmp_path: Path, kind: str) -> None:
    where = str(tmp_path / "theirs")
    table = parquet(where) if kind == "parquet" else delta(where)
    source = Source("orders", schema={"customer": "string", "amount": "float64", "event_time": "timestamp"}, table=table, owner="shop")
    random = Random(8)

    def write(day: date, n: int) -> None:
        at = [datetime(day.year, day.month, day.day, tzinfo=MONDAY.tzinfo) + timedelta(seconds=random.randint(0, 86_399)) for _ in range(n)]
        rows = pa.table(
            {
                "customer": [random.choice(["ann", "bob"]) for _ in at],
                "amount": [random.random() for _ in at],
                "event_time": pa.array(at, TIME),
            }
        )
        if kind == "parquet":
            Path(where).mkdir(exist_ok=True)
            pq.write_table(rows, f"{where}/{day}-{random.random()}.parquet")
        else:
            write_deltalake(where, rows, mode="append")

    for n in range(10, 0, -1):
        write(TODAY - n * DAY, 20)
    world = World(spark, Lake(str(tmp_path / "lake")), FixedClock(MONDAY), view=spending(DAY, source=source))
    start = MONDAY - 3 * DAY

    def same() -> dict[date, str]:
        marks = refreshed(world, start)
        assert computed(world, world.view, start, MONDAY) == computed(world, spending(None, source=source), start, MONDAY) != []
        return marks

    if kind == "delta with deletion vectors":
        spark.sql(f"ALTER TABLE delta.`{where}` SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')")
        same()
        spark.sql(f"DELETE FROM delta.`{where}` WHERE amount < 0.1")
        same()
        return
    before = same()
    write(TODAY - 2 * DAY, 5)
    after = same()
    changed = [day for day in after if after[day] != before.get(day)]
    # Delta's log says which days a file has; of Parquet files only that they changed.
    assert changed == [TODAY - 2 * DAY] if kind == "delta" else TODAY - 2 * DAY in changed


def test_a_table_of_somebody_elses_is_not_taken_to_be_partitioned_by_day(spark: Any, tmp_path: Path) -> None:
    where = str(tmp_path / "theirs")
    source = Source(
        "orders", schema={"customer": "string", "amount": "float64", "event_time": "timestamp"}, table=delta(where), owner="shop"
    )

    def write(amount: float) -> None:
        at = MONDAY - 26 * HOUR  # on Saturday in UTC; their event_date is another
        rows = {"customer": ["ann"], "amount": [amount], "event_time": pa.array([at], TIME), "event_date": pa.array([TODAY])}
        write_deltalake(where, pa.table(rows), mode="append", partition_by=["event_date"])

    write(1.0)
    world = World(spark, Lake(str(tmp_path / "lake")), FixedClock(MONDAY), view=spending(DAY, source=source))
    for amount in (1.0, 2.0):
        refreshed(world, MONDAY - 3 * DAY)
        expected = computed(world, spending(None, source=source), MONDAY - 3 * DAY, MONDAY)
        assert computed(world, world.view, MONDAY - 3 * DAY, MONDAY) == expected != []
        write(amount + 1)


def test_a_source_that_is_not_as_declared_is_refused_before_anything_is_kept(world: World) -> None:
    wrong = Source(
        "orders", schema={**orders.schema, "amount": "int64"}, owner="tests", availability=available_at("available_time", at_most=HOUR)
    )
    world.view = spending(DAY, source=wrong, aggregations=[count(over=[days(7)]), total("amount", over=[days(7)])])
    with pytest.raises(SourceError, match="'amount' double, expected bigint"):
        refreshed(world)
    (entry,) = world.compute(TODAY)
    assert entry.state == "quarantined"
    assert "'amount' double, expected bigint" in entry.reasons[0]


def test_rows_known_late_count_from_the_end_of_a_tile_after_they_were_known(spark: Any, tmp_path: Path) -> None:
    world = World(spark, Lake(str(tmp_path)), FixedClock(MONDAY + DAY), view=spending(HOUR, HOUR, aggregations=[count(over=[hours(4)])]))
    at = MONDAY + 3 * HOUR + timedelta(minutes=59, seconds=59, microseconds=999_999)  # known as it strikes four
    world.place("ann", 1.0, MONDAY + 3 * HOUR)
    world.place("ann", 1.0, at)
    world.place("bob", 1.0, MONDAY + 4 * HOUR)
    world.ingest([TODAY])
    refreshed(world, MONDAY, MONDAY + DAY)
    found = [(row[0], row[1].hour, row[2]) for row in computed(world, world.view, MONDAY, MONDAY + DAY)]
    assert found == [("ann", 4, 2), ("ann", 8, 0), ("bob", 5, 1), ("bob", 9, 0)]
    assert found == [
        (r[0], r[1].hour, r[2]) for r in computed(world, spending(None, HOUR, aggregations=[count(over=[hours(4)])]), MONDAY, MONDAY + DAY)
    ]


def test_the_tiles_of_a_view_without_join_keys(world: World) -> None:
    everyone = {"entity": Entity("shop", None), "freshness": FreshnessSla(total=hours(1))}
    world.view = spending(DAY, **everyone)
    start = MONDAY - 14 * DAY
    expected = computed(world, spending(None, **everyone), start, MONDAY)
    assert computed(world, world.view, start, MONDAY) == expected != []
    refreshed(world)
    assert computed(world, world.view, start, MONDAY) == expected
    assert customer.join_keys  # the other tests have one
    assert feature_table(world.view) == "features/spending/v1"
