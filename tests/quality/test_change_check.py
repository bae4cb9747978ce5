"""A change tried before it is merged: what would be computed, held to its contract and compared, and nothing written."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F

from penstock.clock import FixedClock
from penstock.contract import Feature, FeatureService, FeatureView
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts
from penstock.quality.change_check import changed_views, check_definitions, check_view
from penstock.registry.project import Project
from penstock.registry.snapshot import Snapshot, compile_snapshot
from penstock.report.checks import Checked, Outcome
from tests.world import MONDAY, World, last_order, view_of_orders

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SUNDAY = (MONDAY - DAY).date()


def doubled(rows: Any) -> Any:
    return rows.selectExpr("customer", "event_time", "amount * 2 AS amount")


def negative(rows: Any) -> Any:
    return rows.selectExpr("customer", "event_time", "-amount AS amount")


def fewer(rows: Any) -> Any:
    return rows.where(F.col("customer") != "c7").select("customer", "event_time", "amount")


def misspelt(rows: Any) -> Any:
    return rows.select("customer", "event_time", "amuont")


@pytest.fixture(scope="module")
def world(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Sunday is closed and committed, Monday is open."""
    world = World(spark, Lake(str(tmp_path_factory.mktemp("lake"))), FixedClock(MONDAY + 12 * HOUR))
    for n in range(1_440):
        world.place(f"c{n % 50}", float(n % 97), MONDAY - DAY + n * timedelta(minutes=1))
    world.place("c1", 3.0, MONDAY + HOUR)
    world.compute(SUNDAY, MONDAY.date())
    return world


def check(world: World, view: FeatureView, **given: Any) -> dict[str, Checked]:
    before = world.lake.version(feature_table(world.view)), len(attempts(world.lake, feature_table(world.view)))
    found = check_view(world.spark, world.lake, view, world.clock.now(), **given)
    assert (world.lake.version(feature_table(world.view)), len(attempts(world.lake, feature_table(world.view)))) == before
    assert {one.of for one in found} == {view.ref}
    return {one.name: one for one in found}


@pytest.mark.real
def test_a_view_that_is_as_it_was_gives_the_rows_that_are_committed(world: World) -> None:
    found = check(world, view_of_orders())
    assert {name: one.outcome for name, one in found.items()} == dict.fromkeys(("contract", "served", "values"), Outcome.PASSED)
    assert found["contract"].said == "1,440 rows of 2026-03-01 keep it"
    assert found["served"].said == "1,440 rows are served as they are trained on"
    assert found["values"].said == "the 1,440 rows of 2026-03-01 are those committed"
    assert check(world, view_of_orders(), day=MONDAY.date())["values"].said == "the 1 rows of 2026-03-02 are those committed"


@pytest.mark.real
@pytest.mark.parametrize(
    ("compute", "name", "outcome", "said"),
    [
        (doubled, "values", Outcome.WARNING, "1,425 of 1,440 rows of 2026-03-01 are others than those committed (amount 1,425); 0 came"),
        (doubled, "distribution", Outcome.WARNING, "2026-03-01, beside the rows committed: amount: psi"),
        (fewer, "values", Outcome.WARNING, "0 of 1,411 rows of 2026-03-01 are others than those committed; 0 came, 29 went"),
        (fewer, "distribution", Outcome.PASSED, "1 features of 2026-03-01 are distributed as those committed"),
        (negative, "contract", Outcome.FAILED, "2026-03-01: amount_at_least_0: 1425 row(s), expected none"),
        (misspelt, "computed", Outcome.FAILED, "amuont"),
    ],
)  # fmt: skip
def test_what_a_change_does_is_counted(world: World, compute: Any, name: str, outcome: Outcome, said: str) -> None:
    found = check(world, view_of_orders(compute=compute))[name]
    assert found.outcome is outcome
    assert said in found.said


@pytest.mark.real
def test_a_view_that_is_new_or_has_no_source_rows_is_not_said_to_pass(world: World, tmp_path: Path) -> None:
    new = check(world, view_of_orders(name="newer"))
    assert (new["contract"].outcome, new["values"].outcome) == (Outcome.PASSED, Outcome.SKIPPED)
    (nothing,) = check_view(world.spark, Lake(str(tmp_path)), view_of_orders(), world.clock.now())
    assert (nothing.name, nothing.outcome) == ("computed", Outcome.SKIPPED)


def snapshot(*views: FeatureView) -> Snapshot:
    return compile_snapshot(Project("shop", views, (FeatureService("orders", views=list(views), owner="tests"),)))


def test_definitions_are_held_against_what_is_published() -> None:
    before = snapshot(view_of_orders())
    outcomes = {
        "nothing published": check_definitions(before, None),
        "the same": check_definitions(before, before),
        "another function": check_definitions(snapshot(view_of_orders(compute=doubled)), before),
        "another feature": check_definitions(snapshot(view_of_orders(features=[Feature("amount", "float32")])), before),
    }
    assert {name: max(one.outcome for one in found) for name, found in outcomes.items() if name != "another feature"} == {
        "nothing published": Outcome.SKIPPED,
        "the same": Outcome.PASSED,
        "another function": Outcome.WARNING,
    }
    refused = [one.said for one in outcomes["another feature"] if one.outcome is Outcome.FAILED]
    assert refused == ["feature view last_order@1.schema_id changed: refused: the features of a version do not change; raise its version"]


def test_only_views_that_differ_are_computed() -> None:
    same, changed, new = view_of_orders(), view_of_orders(name="other", compute=doubled), view_of_orders(name="newer")
    before = snapshot(same, view_of_orders(name="other", compute=last_order))
    assert changed_views([same, changed, new], snapshot(same, changed, new), before) == [changed, new]
    assert changed_views([same], snapshot(same), None) == [same]
