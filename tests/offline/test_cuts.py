"""A function that uses what it could not have known, or more of the past than it says, is refused by name."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Window
from pyspark.sql import functions as F

from penstock.clock import FixedClock
from penstock.contract import Feature
from penstock.offline.commit import read_features
from penstock.offline.cuts import GATE, cuts
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import AttemptEntry
from tests.world import MONDAY, World, view_of_orders

pytestmark = pytest.mark.real
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = MONDAY.date()


def since(hours_back: int) -> Any:
    seconds = hours_back * 3600
    return Window.partitionBy("customer").orderBy(F.col("event_time").cast("long")).rangeBetween(-seconds, 0)


def sum_of_three_hours(orders: Any) -> Any:
    return orders.select("customer", "event_time", F.sum("amount").over(since(3)).alias("amount"))


def sum_of_the_day(orders: Any) -> Any:
    per_day = Window.partitionBy("customer", F.to_date("event_time"))
    return orders.select("customer", "event_time", F.sum("amount").over(per_day).alias("amount"))


def sum_so_far(orders: Any) -> Any:
    so_far = Window.partitionBy("customer").orderBy("event_time")
    return orders.select("customer", "event_time", F.sum("amount").over(so_far).alias("amount"))


def next_amount(orders: Any) -> Any:
    in_order = Window.partitionBy("customer").orderBy("event_time")
    return orders.select("customer", "event_time", F.lead("amount").over(in_order).alias("amount"))


def sum_of_the_next_half_hour(orders: Any) -> Any:
    soon = Window.partitionBy("customer").orderBy(F.col("event_time").cast("long")).rangeBetween(0, 1800)
    return orders.select("customer", "event_time", F.sum("amount").over(soon).alias("amount"))


def computed(spark: Any, folder: Path, function: Any, **changes: Any) -> tuple[World, list[AttemptEntry]]:
    """Three days of orders and the start of a fourth, ten an hour, ann's and bob's by turns; the last two whole days computed."""
    view = view_of_orders(compute=function, features=[Feature("amount", "float64")], **{"lookback": 3 * HOUR, **changes})
    world = World(spark, Lake(str(folder)), FixedClock(MONDAY + DAY + 3 * HOUR), view)
    for n in range(3 * 240 + 20):
        world.place("ann" if n % 2 else "bob", n / 10, MONDAY - 2 * DAY + n * timedelta(minutes=6))
    world.ingest([TODAY - 2 * DAY, TODAY - DAY, TODAY, TODAY + DAY])
    return world, world.compute(TODAY - DAY, TODAY)


def test_a_function_that_uses_what_was_known_within_its_lookback_passes(spark: Any, tmp_path: Path) -> None:
    _, entries = computed(spark, tmp_path, sum_of_three_hours)
    assert [(entry.state, entry.gates[GATE]) for entry in entries] == [("passed", True)] * 2


def test_what_happens_after_a_row_and_is_available_with_it_may_be_used(spark: Any, tmp_path: Path) -> None:
    world, entries = computed(spark, tmp_path, sum_of_the_next_half_hour, delay=HOUR)
    assert [(entry.state, entry.gates[GATE]) for entry in entries] == [("passed", True)] * 2
    # The last row of the day uses orders of the next: complete to the end, since those are in.
    assert entries[-1].complete_until == MONDAY + DAY
    (last,) = read_features(spark, world.lake, world.view).where("customer = 'ann'").orderBy(F.desc("event_time")).limit(1).collect()
    # ann's are n = 719 at 23:54 (71.9), 721 at 00:06 (72.1) and 723 at 00:18 (72.3); 725 is at 00:30
    assert last["amount"] == pytest.approx(71.9 + 72.1 + 72.3)


@pytest.mark.parametrize("function", [sum_of_the_day, next_amount, sum_so_far, sum_of_the_next_half_hour])
def test_a_function_that_looks_ahead_or_further_back_than_it_says_is_refused_on_every_day(
    spark: Any, tmp_path: Path, function: Any
) -> None:
    world, entries = computed(spark, tmp_path, function)
    assert [entry.state for entry in entries] == ["quarantined"] * 2
    assert all(not entry.gates[GATE] for entry in entries)
    assert "come out otherwise from what was known then" in entries[0].reasons[-1]
    assert world.lake.version(feature_table(world.view)) == 0


def test_the_cuts_are_the_same_at_every_run_and_lie_within_the_last_day_and_another() -> None:
    view, limits = view_of_orders(), {TODAY + n * DAY: MONDAY + (n + 1) * DAY for n in range(9)}
    first = list(cuts(view, limits))
    assert first == list(cuts(view, limits))
    assert next(cut.day for cut in first) == TODAY + 8 * DAY
    assert len({cut.day for cut in first}) == 2
    assert all(MONDAY < cut.at < limits[cut.day] and cut.at.date() == cut.day for cut in first)
    assert list(cuts(view, {TODAY: MONDAY - timedelta(microseconds=1)})) == []  # nothing of the day can be computed yet
