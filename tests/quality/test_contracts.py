"""Contract rules refuse what they should, and none passes because there was nothing to look at."""

from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from penstock.contract import Entity, Feature
from penstock.errors import PenstockError
from penstock.offline.attempt import audited
from penstock.quality.contracts import Rule, audit, rules, unexpected, validate
from tests.world import MONDAY, view_of_orders

pytestmark = pytest.mark.real
DAY = timedelta(days=1)
TODAY, CLOSED = MONDAY.date(), {MONDAY.date(): MONDAY + DAY}
VIEW = view_of_orders(features=[Feature("amount", "float64", minimum=0, maximum=100), Feature("n", "int64", nullable=False)])


def judge(spark: Any, rows: list[tuple[Any, ...]], days: dict[date, datetime] | None = None) -> Any:
    frame = spark.createDataFrame(rows, "customer string, event_time timestamp, amount double, n bigint")
    return audited(audit, VIEW, frame, days or CLOSED)[TODAY]


def at(hour: int) -> datetime:
    return MONDAY + timedelta(hours=hour)


def test_good_rows_pass_every_rule(spark: Any) -> None:
    verdict = judge(spark, [("ann", at(1), 0.0, 1), ("ann", at(2), 100.0, 2), ("bob", at(1), None, 3)])
    assert verdict.passed
    assert verdict.rows == 3
    assert len(verdict.gates) == len(rules(VIEW)) == 10


@pytest.mark.parametrize(
    ("rows", "broken"),
    [
        ([], {"has_rows"}),
        ([("ann", at(1), None, 1), ("bob", at(1), None, 1)], {"amount_not_all_null"}),
        ([("ann", at(1), float("nan"), 1), ("bob", at(1), 1.0, 1)], {"amount_is_a_number", "amount_at_most_100"}),
        ([("ann", at(1), float("-inf"), 1), ("bob", at(1), 1.0, 1)], {"amount_is_a_number", "amount_at_least_0"}),
        ([(None, at(1), 1.0, 1)], {"join_keys_not_null"}),
        ([("ann", at(1), 1.0, 1), ("ann", at(1), 2.0, 1)], {"one_row_per_key_and_event_time"}),
        ([("ann", at(1), 100.5, 1)], {"amount_at_most_100"}),
        ([("ann", at(1), -0.5, 1)], {"amount_at_least_0"}),
        ([("ann", at(1), 1.0, None)], {"n_not_null"}),
    ],
)
def test_a_broken_rule_is_named(spark: Any, rows: list[tuple[Any, ...]], broken: set[str]) -> None:
    verdict = judge(spark, rows)
    assert {name for name, passed in verdict.gates.items() if not passed} == broken
    assert {reason.partition(":")[0] for reason in verdict.reasons} == broken


def test_a_row_later_than_its_day_is_complete_is_refused(spark: Any) -> None:
    open_day = {TODAY: at(12)}
    assert judge(spark, [("ann", at(12), 1.0, 1)], open_day).passed  # exactly as far as it is complete
    verdict = judge(spark, [("ann", at(12) + timedelta(microseconds=1), 1.0, 1)], open_day)
    assert verdict.reasons == ["event_time_not_in_future: 1 row(s), expected none"]


def test_an_open_day_may_still_be_empty_and_a_closed_one_may_not(spark: Any) -> None:
    assert judge(spark, [], {TODAY: at(1)}).passed
    assert not judge(spark, []).passed


SHOPS = view_of_orders(
    features=[
        Feature("shop", "string", allowed=["north", "south"]),
        Feature("items", "int32", allowed=[1, 2, 3]),
        Feature("rating", "float64", null_budget=0.5, maximum=5),
    ],
    row_count=(2, 4),
)


def judge_shops(spark: Any, rows: list[tuple[Any, ...]], limit: datetime = MONDAY + DAY, view: Any = SHOPS) -> Any:
    stamped = [("ann", at(n), *row) for n, row in enumerate(rows)]
    frame = spark.createDataFrame(stamped, "customer string, event_time timestamp, shop string, items int, rating double")
    return audited(audit, view, frame, {TODAY: limit})[TODAY]


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        ([("north", 1, 4.0), ("south", 3, None)], []),
        ([(None, None, 4.0), ("south", 3, None)], []),  # null is no value of a set: it has rules of its own
        ([("north", 1, 4.0), ("South", 3, 1.0)], ["shop_allowed: 1 row(s), expected none"]),
        ([("north", 0, 4.0), ("south", 4, 1.0)], ["items_allowed: 2 row(s), expected none"]),
        ([("north", 1, None), ("south", 3, None), ("south", 3, 1.0)], ["rating_null_budget: 0.6667 of the rows, expected at most 0.5"]),
        ([("north", 1, 4.0)], ["rows_at_least_2: 1, expected at least 2"]),
        ([("north", 1, 4.0)] * 5, ["rows_at_most_4: 5, expected at most 4"]),
    ],
)
def test_sets_null_budgets_and_row_counts(spark: Any, rows: list[tuple[Any, ...]], reasons: list[str]) -> None:
    verdict = judge_shops(spark, rows)
    assert verdict.reasons == reasons
    assert verdict.passed is not bool(reasons)


def test_an_open_day_may_have_few_rows_and_many_nulls_and_never_too_many_rows(spark: Any) -> None:
    assert judge_shops(spark, [("north", 1, None)], at(23)).passed
    assert judge_shops(spark, [("north", 1, 1.0)] * 5, at(23)).reasons == ["rows_at_most_4: 5, expected at most 4"]


def test_a_rule_that_warns_refuses_nothing_and_is_told(spark: Any) -> None:
    view = view_of_orders(features=SHOPS.features, row_count=(2, 4), warn_only=["rows_at_least_2", "rating_at_most_5"])
    verdict = judge_shops(spark, [("north", 1, 9.0)], view=view)
    assert verdict.passed
    assert verdict.reasons == []
    assert verdict.warnings == ["rows_at_least_2: 1, expected at least 2", "rating_at_most_5: 1 row(s), expected none"]
    assert not {"rows_at_least_2", "rating_at_most_5"} & set(verdict.gates)
    both = judge_shops(spark, [("west", 1, 9.0), ("north", 1, 1.0)], view=view)
    assert (both.reasons, both.warnings) == (["shop_allowed: 1 row(s), expected none"], ["rating_at_most_5: 1 row(s), expected none"])


def test_a_day_without_rows_is_refused_unless_the_view_says_it_may_be_empty(spark: Any) -> None:
    reasons = {reason.partition(":")[0] for reason in judge_shops(spark, []).reasons}
    assert reasons == {"rows_at_least_2"}
    for allowed in ({"row_count": (0, None)}, {"warn_only": ["has_rows"]}):
        assert judge_shops(spark, [], view=view_of_orders(features=SHOPS.features, **allowed)).passed


def test_what_is_counted_is_told_in_full(spark: Any) -> None:
    view = view_of_orders(features=[Feature("amount", "float64", maximum=1_000_001, null_budget=0)], row_count=(200_000, None))
    frame = spark.range(199_999).selectExpr(
        "CAST(id AS string) AS customer", "TIMESTAMP '2026-03-02 01:00:00' AS event_time", "IF(id = 7, NULL, 1000001.5D) AS amount"
    )
    assert audited(audit, view, frame, CLOSED)[TODAY].reasons == [
        "rows_at_least_200000: 199999, expected at least 200000",
        "amount_null_budget: 5e-06 of the rows, expected at most 0",
        "amount_at_most_1000001: 199998 row(s), expected none",
    ]


def test_bounds_of_32_bits_and_numbers_in_lists(spark: Any) -> None:
    view = view_of_orders(features=[Feature("ratio", "float32", minimum=0.1, maximum=0.7), Feature("shape", "list[float64]")])
    schema = "customer string, event_time timestamp, ratio float, shape array<double>"
    fits = [("ann", at(1), 0.1, [1.0]), ("bob", at(1), 0.7, []), ("cid", at(1), None, None)]
    assert audited(audit, view, spark.createDataFrame(fits, schema), CLOSED)[TODAY].passed
    odd = [("ann", at(1), 0.09, [1.0, None, float("nan")]), ("bob", at(1), 0.71, [float("inf")])]
    assert audited(audit, view, spark.createDataFrame(odd, schema), CLOSED)[TODAY].reasons == [
        "ratio_at_least_0.1: 1 row(s), expected none",
        "ratio_at_most_0.7: 1 row(s), expected none",
        "shape_is_a_number: 2 row(s), expected none",
    ]


def test_a_view_of_an_entity_without_keys_is_judged(spark: Any) -> None:
    view = view_of_orders(entity=Entity("market", None))
    frame = spark.createDataFrame([(at(1), 1.0), (at(1), 2.0)], "event_time timestamp, amount double")
    assert audited(audit, view, frame, CLOSED)[TODAY].reasons == ["one_row_per_key_and_event_time: 1 row(s), expected none"]


def test_each_partition_has_a_verdict_of_its_own(spark: Any) -> None:
    days = {TODAY - DAY: MONDAY, TODAY: MONDAY + DAY, TODAY + DAY: MONDAY + 2 * DAY}
    frame = spark.createDataFrame(
        [("ann", at(-1), 1.0, 1), ("ann", at(1), -1.0, 1), ("ann", at(25), 1.0, 1)],
        "customer string, event_time timestamp, amount double, n bigint",
    )
    assert [verdict.passed for verdict in audited(audit, VIEW, frame, days).values()] == [True, False, True]


def test_a_rule_that_is_lost_on_the_way_is_an_error_and_never_a_pass() -> None:
    checks = rules(VIEW)
    profile = pd.DataFrame([{"partition": TODAY, **{rule.name: 1 for rule in checks}}])
    with pytest.raises(PenstockError, match=r"1 contract rule\(s\) could not be evaluated, nothing was counted for them: has_rows"):
        validate(profile.drop(columns=["has_rows"]), checks, {TODAY})
    with pytest.raises(PenstockError, match="0 of 2 expectations of the contract came back"):
        unexpected(COUNTS, [])


COUNTS = pd.DataFrame({"seen": [1.0, 3.0], "least": [0.0, 0.0], "most": [2.0, 2.0]})


def result(looked_at: int | None, unexpected_index_list: list[int], raised: bool = False) -> Any:
    return SimpleNamespace(
        exception_info={"raised_exception": raised}, result={"element_count": looked_at, "unexpected_index_list": unexpected_index_list}
    )


def test_an_expectation_that_raised_or_saw_too_little_is_an_error_and_never_a_pass() -> None:
    assert unexpected(COUNTS, [result(2, []), result(2, [1])]) == {1}
    with pytest.raises(PenstockError, match="looked at 1 of 2 counts"):
        unexpected(COUNTS, [result(2, []), result(1, [])])
    with pytest.raises(PenstockError, match="looked at 0 of 2 counts"):
        unexpected(COUNTS, [result(None, []), result(2, [])])
    with pytest.raises(PenstockError, match="'raised_exception': True"):
        unexpected(COUNTS, [result(2, []), result(2, [], raised=True)])


def test_bounds_are_inside_and_a_count_that_is_no_number_is_within_none() -> None:
    checks = [Rule("most", maximum=0), Rule("least", minimum=1, closed_days_only=True), Rule("both", 2, 3.5)]
    first, second, third = (TODAY + n * DAY for n in range(3))
    profile = pd.DataFrame(
        [
            {"partition": first, "most": 0, "least": 0, "both": 2},
            {"partition": second, "most": 1, "least": 0, "both": 3.6},
            {"partition": third, "most": float("nan"), "least": 1, "both": None},
        ]
    )
    assert validate(profile, checks, {first}) == {first: {"least"}, second: {"most", "both"}, third: {"most", "both"}}
