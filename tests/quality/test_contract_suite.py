"""The suite that a view's contract is written as: Great Expectations takes it, and it fails on what the contract refuses."""

import json
import logging
import warnings
from datetime import datetime, timedelta
from typing import Any

import pytest

from penstock.clock import MICROSECOND
from penstock.contract import Entity, Feature, FeatureView
from penstock.quality.contract_suite import BEGIN, LATEST, suite
from tests.world import MONDAY, view_of_orders

pytestmark = pytest.mark.real
VIEW = view_of_orders(
    features=[
        Feature("amount", "float64", minimum=0, maximum=100, null_budget=0.5),
        Feature("n", "int64", nullable=False),
        Feature("shop", "string", allowed=["north", "south"]),
        Feature("shape", "list[float64]"),
    ],
    row_count=(2, 4),
    warn_only=["amount_at_most_100"],
)
SCHEMA = "customer string, event_time timestamp, amount double, n bigint, shop string, shape array<double>"
GOOD = [("ann", 1.0, 1, "north", [1.0]), ("bob", None, 2, None, None), ("cid", 100.0, 3, "south", [])]


def at(hour: int) -> datetime:
    return MONDAY + timedelta(hours=hour)


@pytest.fixture(scope="module")
def gx() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations
        from great_expectations.data_context.types.base import ProgressBarsConfig
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = great_expectations.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def broken(gx: Any, frame: Any, view: FeatureView = VIEW) -> dict[str, str]:
    """Rule → severity of what fails, as somebody would run the exported file."""
    from great_expectations import ExpectationSuite

    written = ExpectationSuite(**json.loads(json.dumps(suite(view))))
    asset = gx.data_sources.add_or_update_spark("days").add_dataframe_asset("day")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(batch_parameters={"dataframe": frame})
    outcome = batch.validate(written, expectation_parameters={BEGIN: MONDAY, LATEST: at(24) - MICROSECOND})
    assert len(outcome.results) == len(suite(view)["expectations"])
    found = {}
    for result in outcome.results:
        assert not result.exception_info.get("raised_exception"), result.exception_info
        if not result.success:
            found[result.expectation_config.meta["rule"]] = str(result.expectation_config.severity).rpartition(".")[2].lower()
    return found


@pytest.mark.parametrize(
    ("rows", "rules"),
    [
        (GOOD, {}),
        ([], {"rows_at_least_2": "critical"}),
        ([*GOOD, *GOOD[:2]], {"rows_at_most_4": "critical", "one_row_per_key_and_event_time": "critical"}),
        ([*GOOD, (None, 1.0, 1, None, None)], {"join_keys_not_null": "critical"}),
        ([*GOOD, ("dan", float("nan"), 1, None, None)], {"amount_is_a_number": "critical", "amount_at_most_100": "warning"}),
        ([*GOOD, ("dan", float("inf"), 1, None, None)], {"amount_is_a_number": "critical", "amount_at_most_100": "warning"}),
        ([*GOOD, ("dan", 101.0, 1, None, None)], {"amount_at_most_100": "warning"}),
        ([*GOOD, ("dan", -1.0, 1, None, None)], {"amount_at_least_0": "critical"}),
        ([*GOOD, ("dan", 1.0, None, None, None)], {"n_not_null": "critical"}),
        ([*GOOD, ("dan", 1.0, 1, "west", None)], {"shop_allowed": "critical"}),
        ([GOOD[0], GOOD[1], ("dan", None, 1, None, None)], {"amount_null_budget": "critical"}),
        (
            [(key, None, 1, None, None) for key in "xyz"],
            dict.fromkeys(("amount_not_all_null", "amount_null_budget", "shop_not_all_null", "shape_not_all_null"), "critical"),
        ),
    ],
)
def test_it_fails_where_the_contract_does(spark: Any, gx: Any, rows: list[tuple[Any, ...]], rules: dict[str, str]) -> None:
    frame = spark.createDataFrame([(key, at(1), *rest) for key, *rest in rows], SCHEMA)
    assert broken(gx, frame) == rules


def test_a_row_later_than_the_day_is_complete_and_a_column_of_another_type(spark: Any, gx: Any) -> None:
    late = spark.createDataFrame([("ann", at(1), 1.0, 1, "north", [1.0]), ("ann", at(25), 1.0, 1, "north", [1.0])], SCHEMA)
    assert broken(gx, late) == {"event_time_not_in_future": "critical"}
    begins = late.where("event_time < '2026-03-03'")
    assert broken(gx, begins.union(begins.selectExpr("customer", "event_time - interval 1 day", "amount", "n", "shop", "shape"))) == {
        "event_time_not_in_future": "critical"
    }
    other = late.where("event_time < '2026-03-03'").union(late.where("event_time < '2026-03-03'").withColumn("customer", late.shop))
    assert broken(gx, other.withColumn("n", other.n.cast("int"))) == {"schema": "critical"}


def test_a_budget_that_is_just_kept_and_an_entity_without_keys(spark: Any, gx: Any) -> None:
    view = view_of_orders(entity=Entity("market", None), features=[Feature("amount", "float64", null_budget=0.7)])
    rows = [(at(n), 1.0 if n < 3 else None) for n in range(10)]
    frame = spark.createDataFrame(rows, "event_time timestamp, amount double")
    assert broken(gx, frame, view) == {}
    assert broken(gx, frame.union(frame.limit(1)), view) == {"one_row_per_key_and_event_time": "critical"}
