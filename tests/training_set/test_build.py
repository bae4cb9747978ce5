"""A training set: what is kept, how it is split, and what is refused."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock.clock import FixedClock
from penstock.contract import FeatureService
from penstock.errors import SpineError
from penstock.offline.lake import Lake
from penstock.point_in_time.spine import FrameRows
from penstock.training_set.build import Recipe, build
from penstock.training_set.manifest import Manifest, manifests
from penstock.training_set.split import ByHash, ByTime, Stratified, parse_split, with_split
from tests.world import MONDAY, World, resources_of

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "time",
        "time:yesterday",
        "time:2026-03-02T00:00:00",
        "hash:0.2",
        "hash:2:customer",
        "hash:x:customer",
        "hash:0.2:,",
        "stratified:0.2:late,customer",
        "random:0.2",
    ],
)
def test_what_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(SpineError, match="expected 'time:<ISO 8601 with offset>', 'hash:"):
        parse_split(text)


def test_a_split_is_read_from_its_text() -> None:
    assert parse_split("time:2026-03-02T00:00:00Z") == ByTime(MONDAY)
    assert parse_split("hash:0.25:customer, shop") == ByHash(0.25, ("customer", "shop"))
    assert parse_split("stratified:0.2:late") == Stratified(0.2, "late")


@pytest.fixture
def world(spark: Any, tmp_path: Path) -> World:
    world = World(spark, Lake(str(tmp_path)), FixedClock(MONDAY + 12 * HOUR))
    for n in range(10):
        world.place(f"c{n}", float(n), MONDAY + HOUR)
    world.compute(MONDAY.date())
    return world


def made(world: World, rows: list[tuple[Any, ...]], **options: Any) -> Manifest:
    spine = world.spark.createDataFrame(rows, "customer string, event_time timestamp, late boolean")
    service = FeatureService("spend", views=[world.view], owner="ml")
    recipe = Recipe(**{"mode": "assumed", **options})
    return build(world.lake, service, FrameRows(spine), resources_of(world.spark), name="spend", clock=world.clock, recipe=recipe)


SPINE = [(f"c{n % 10}", MONDAY + (n % 4) * HOUR, n % 3 == 0) for n in range(40)]


@pytest.mark.real
def test_the_manifest_names_what_was_read_and_the_same_again_has_the_same_content(world: World) -> None:
    first, again = made(world, SPINE), made(world, list(reversed(SPINE)))
    assert (first.rows, first.spine_rows, first.mode, first.split) == (40, 40, "assumed", "")
    assert first.content == again.content
    assert first.columns[-1] == ("last_order__amount", "double")
    (one,) = first.inputs
    assert (one.view, one.delta_version, one.attempts, one.rows_by_rule) == ("last_order", 1, 1, {"assumed": 40})
    assert [kept.id for kept in manifests(world.lake, "spend")] == [first.id]  # the same at the same time is the same build
    assert made(world, SPINE[1:]).content != first.content
    kept = world.lake.dataset(first.table).to_table()
    # orders of 01:00 are known at 01:00; spine times are 00:00 to 03:00
    assert kept["last_order__amount"].null_count == 10
    assert kept.num_rows == 40


@pytest.mark.real
def test_a_split_by_time_cuts_at_the_instant_and_one_by_hash_keeps_an_entity_on_one_side(world: World) -> None:
    by_time = world.lake.dataset(made(world, SPINE, split=f"time:{(MONDAY + 2 * HOUR).isoformat()}").table).to_table().to_pylist()
    assert {(row["event_time"] >= MONDAY + 2 * HOUR, row["split"]) for row in by_time} == {(False, "train"), (True, "test")}
    by_hash = world.lake.dataset(made(world, SPINE, split="hash:0.3:customer").table).to_table().to_pylist()
    sides = {row["customer"]: {other["split"] for other in by_hash if other["customer"] == row["customer"]} for row in by_hash}
    assert all(len(side) == 1 for side in sides.values())


def test_a_split_by_hash_has_its_share_whatever_the_zone_its_times_are_shown_in() -> None:
    times = pa.array([MONDAY + n * timedelta(seconds=1.234567) for n in range(20_000)], pa.timestamp("us", tz="UTC"))
    many = pa.table({"id": range(20_000), "event_time": times})
    for columns in (("id",), ("event_time",), ("id", "event_time")):
        split = with_split(many, ByHash(0.3, columns), ("id", "event_time"), 0)["split"]
        assert abs(split.to_pylist().count("test") / 20_000 - 0.3) < 0.02  # six standard deviations
        in_tokyo = many.set_column(1, "event_time", many["event_time"].cast(pa.timestamp("us", tz="Asia/Tokyo")))
        assert with_split(in_tokyo, ByHash(0.3, columns), ("id", "event_time"), 0)["split"].equals(split)
        assert not with_split(many, ByHash(0.3, columns), ("id", "event_time"), 1)["split"].equals(split)


@pytest.mark.real
def test_what_cannot_be_built_is_refused(world: World) -> None:
    for options, message in (
        ({"mode": "guessed"}, "mode 'guessed': expected one of event, assumed, observed, restated"),
        ({"split": "hash:0.2:shop"}, "split by 'shop': not in the spine; it has customer, event_time, late"),
    ):
        with pytest.raises(SpineError, match=message):
            made(world, SPINE, **options)
    with pytest.raises(SpineError, match="the spine has no rows"):
        made(world, [])
    assert manifests(world.lake, "spend") == []
