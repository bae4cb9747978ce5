"""From counts to levels: what warns, what is critical, and what is too little to say anything."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from penstock.contract.skew import BUDGETS, Budget, SkewPolicy
from penstock.errors import ContractError
from penstock.quality.findings import Finding
from penstock.quality.log_replay import ViewReplay
from penstock.quality.skew import ENOUGH, Completeness, Level, skew_checks, worst

ALL = Completeness(sampled=10_000, lacking=0)


def seen(rows: int = 10_000, changes: int = 1_000, late: int = 0, findings: Mapping[Finding, int] | None = None) -> ViewReplay:
    return ViewReplay("spending@1", 1, rows, changes, 0, late, findings or {}, {}, {}, 0)


def levels(replay: ViewReplay) -> dict[str, Level]:
    return {check.name: check.level for check in skew_checks(replay, ALL)}


def test_all_equal_and_enough_of_it_has_passed() -> None:
    assert levels(seen()) == dict.fromkeys(BUDGETS, Level.PASSED)
    assert levels(seen(findings={Finding.EARLY: 300, Finding.CACHED: 9_000})) == dict.fromkeys(BUDGETS, Level.PASSED)


@pytest.mark.parametrize("rows", [0, 1, 10_000])
def test_of_few_different_rows_nothing_is_said(rows: int) -> None:
    few = seen(rows=rows, changes=min(rows, ENOUGH - 1))
    assert levels(few) == {**dict.fromkeys(BUDGETS, Level.INSUFFICIENT_DATA), "log": Level.PASSED}
    assert "459 are needed" in skew_checks(few, ALL)[0].said


@pytest.mark.parametrize(
    ("check", "finding", "warning", "critical"),
    [
        ("fidelity", Finding.VALUE, 1, 5),
        ("fidelity", Finding.TYPE, 1, 5),
        ("staleness", Finding.STALE, 50, 100),
        ("presence", Finding.MISSING, 10, 100),
        ("presence", Finding.EXTRA, 10, 100),
    ],
)
def test_each_finding_counts_for_its_check_from_its_limits_on(check: str, finding: Finding, warning: int, critical: int) -> None:
    expected = {0: Level.PASSED, warning - 1: Level.PASSED, warning: Level.WARNING, critical - 1: Level.WARNING, critical: Level.CRITICAL}
    for bad, level in expected.items():
        found = levels(seen(findings={finding: bad}))
        assert found.pop(check) == level, bad
        assert set(found.values()) == {Level.PASSED}


def test_age_is_of_rows_that_were_served_late() -> None:
    assert [levels(seen(late=late))["age"] for late in (0, 9, 10, 99, 100)] == [
        Level.PASSED, Level.PASSED, Level.WARNING, Level.WARNING, Level.CRITICAL,
    ]  # fmt: skip


def test_what_is_bad_is_said_however_few_rows_there_are_and_critical_is_no_single_row() -> None:
    assert levels(seen(rows=20, changes=20, findings={Finding.STALE: 4}))["staleness"] == Level.WARNING
    assert levels(seen(rows=20, changes=20, findings={Finding.STALE: 5}))["staleness"] == Level.CRITICAL
    said = skew_checks(seen(rows=20, changes=20, findings={Finding.STALE: 5}), ALL)[1].said
    assert said == "spending@1: 5 of 20 rows are older than what was readable (25.00%; critical from 1.00%)"


def test_two_findings_of_one_check_are_added() -> None:
    assert levels(seen(findings={Finding.MISSING: 50, Finding.EXTRA: 50}))["presence"] == Level.CRITICAL


@pytest.mark.parametrize("shares", [(0.2, 0.1), (-0.1, 0.1), (0.1, 1.1)])
def test_a_budget_that_is_none_is_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ContractError, match="0 <= warning <= critical <= 1"):
        Budget(*shares)


def test_a_view_may_have_budgets_of_its_own() -> None:
    policy = SkewPolicy({"staleness": Budget(0.2, 0.5)})
    stale = seen(findings={Finding.STALE: 3_000})
    assert skew_checks(stale, ALL, policy.budgets)[1].level == Level.WARNING
    assert policy.budgets["age"] == BUDGETS["age"]
    with pytest.raises(ContractError, match="there is no check 'fresh'; they are fidelity, staleness,"):
        SkewPolicy({"fresh": Budget(0, 0)})


def of_features(**differing: int) -> ViewReplay:
    return ViewReplay("spending@1", 1, 10_000, 1_000, 0, 0, {}, differing, {"amount": 10_000, "orders": 1_000}, 0)


@pytest.mark.parametrize(("orders", "level"), [(4, Level.PASSED), (5, Level.WARNING), (9, Level.WARNING), (10, Level.CRITICAL)])
def test_a_feature_is_judged_by_the_rows_that_have_it(orders: int, level: Level) -> None:
    (check,) = [check for check in skew_checks(of_features(amount=3, orders=orders), ALL) if check.name == "values"]
    assert (check.level, check.bad, check.rows) == (level, orders, 1_000)
    assert check.said.startswith(f"spending@1.orders: {orders} of 1,000 values are not what training is given")


@pytest.mark.parametrize(
    ("sampled", "lacking", "level"),
    [(0, 0, Level.INSUFFICIENT_DATA), (10_000, 9, Level.PASSED), (10_000, 10, Level.WARNING), (10_000, 100, Level.CRITICAL)],
)
def test_what_is_not_in_the_log_was_not_looked_at(sampled: int, lacking: int, level: Level) -> None:
    check = skew_checks(seen(), Completeness(sampled, lacking))[-1]
    assert (check.name, check.level, check.bad, check.rows) == ("log", level, lacking, sampled)


def test_of_gateways_that_fell_silent_nobody_knows_what_lacks() -> None:
    heard = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)
    one, many = (("17-aa", heard),), tuple((f"{n}-aa", heard) for n in range(5))
    check = skew_checks(seen(), Completeness(10_000, 0, one))[-1]
    assert (check.name, check.level, check.bad) == ("log", Level.WARNING, 0)
    assert check.said.endswith("nothing was brought to the lake: 17-aa since 2026-03-02 09:20 UTC")
    assert skew_checks(seen(), Completeness(10_000, 0, many))[-1].said.endswith("2-aa since 2026-03-02 09:20 UTC and 2 more")
    assert skew_checks(seen(), Completeness(0, 0, one))[-1].level == Level.WARNING
    assert skew_checks(seen(), Completeness(10_000, 100, one))[-1].level == Level.CRITICAL


def test_the_worst_level_stands_for_all_and_what_cannot_be_told_is_not_passed() -> None:
    assert worst(skew_checks(seen(), ALL)) == Level.PASSED
    assert worst(skew_checks(seen(changes=3), ALL)) == Level.INSUFFICIENT_DATA
    assert worst(skew_checks(seen(changes=3, findings={Finding.VALUE: 1}), ALL)) == Level.WARNING
    assert worst(skew_checks(seen(late=100, findings={Finding.VALUE: 1}), ALL)) == Level.CRITICAL
    assert worst([]) == Level.INSUFFICIENT_DATA
