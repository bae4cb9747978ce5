"""What a change of definitions means, and the history of what was published."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.contract import Budget, Feature, FeatureService, SkewPolicy, hours
from penstock.errors import ContractError, RegistryError
from penstock.offline.lake import Lake
from penstock.offline.registry_log import find_snapshot, log_snapshot, snapshots
from penstock.registry.plan import diff
from penstock.registry.project import Project
from penstock.registry.snapshot import Snapshot, compile_snapshot, load_snapshot
from tests.world import MONDAY, view_of_orders


def snapshot(**changes: Any) -> Snapshot:
    view = view_of_orders(**changes)
    return compile_snapshot(Project("shop", (view,), (FeatureService("spend", views=[view], owner="ml"),)))


def said(before: Snapshot, after: Snapshot) -> set[tuple[str, str, str]]:
    return {(change.what, change.field, change.means) for change in diff(before, after)}


def test_equal_definitions_do_not_differ() -> None:
    assert diff(snapshot(), snapshot()) == []


def test_a_description_changes_no_value_and_says_so() -> None:
    (change,) = diff(snapshot(), snapshot(description="what they spent last"))
    assert (change.what, change.kind, change.field) == ("feature view last_order@1", "changed", "description")
    assert (change.before, change.after, change.means) == ("", "what they spent last", "")


def test_a_shorter_ttl_outdates_the_partitions_and_the_contract() -> None:
    assert said(snapshot(), snapshot(ttl=hours(24))) == {
        ("feature view last_order@1", "ttl_us", "values expire at another age, online and in training"),
        ("feature view last_order@1", "fingerprint", "its partitions are outdated: compute them again"),
        ("feature service spend", "contract", "clients that pinned the old contract get ContractMismatch"),
    }


def test_a_new_version_is_a_view_beside_the_old_one() -> None:
    changes = diff(snapshot(), snapshot(version=2))
    assert {(c.what, c.kind) for c in changes if c.what.startswith("feature view")} == {
        ("feature view last_order@1", "removed"),
        ("feature view last_order@2", "added"),
    }


def test_nested_fields_are_named_by_their_path() -> None:
    from penstock.contract import Feature

    fields = {c.field for c in diff(snapshot(), snapshot(features=[Feature("amount", "float64", unit="dollar", minimum=0)]))}
    assert "features.amount.unit" in fields
    assert ("feature view last_order@1", "schema_id", "refused: the features of a version do not change; raise its version") in said(
        snapshot(), snapshot(features=[Feature("amount", "int64", unit="euro")])
    )


def test_the_history_holds_each_published_snapshot_once_until_it_changes(tmp_path: Path) -> None:
    lake, first, second = Lake(str(tmp_path)), snapshot(), snapshot(description="new")
    assert snapshots(lake) == []
    appended = [log_snapshot(lake, one, MONDAY + timedelta(hours=n)) for n, one in enumerate([first, first, second, first])]
    assert appended == [True, False, True, True]
    known = snapshots(lake)
    assert [(one.at, one.snapshot) for one in known] == [
        (MONDAY, first),
        (MONDAY + timedelta(hours=2), second),
        (MONDAY + timedelta(hours=3), first),
    ]
    assert find_snapshot(known, second.fingerprint[:6]) == second
    with pytest.raises(RegistryError, match="0 published snapshots have a fingerprint that begins with 'nope'"):
        find_snapshot(known, "nope")


def test_a_view_that_chooses_no_consistency_is_described_as_before_there_was_a_choice() -> None:
    plain, one = snapshot(), snapshot(consistency="local_one")
    assert b"consistency" not in plain.to_json()
    assert b'"consistency":"local_one"' in one.to_json()
    assert [load_snapshot(each.to_json()) for each in (plain, one)] == [plain, one]
    ((what, field, means),) = said(plain, one)
    assert (what, field) == ("feature view last_order@1", "consistency")
    assert "older value after a node failed" in means


def test_what_skew_a_view_and_a_service_may_have_is_in_the_snapshot_where_it_is_not_the_default() -> None:
    plain = snapshot()
    assert b"skew" not in plain.to_json()
    assert b"budgets" not in plain.to_json()
    assert snapshot(skew=SkewPolicy()) == plain
    strict = snapshot(skew=SkewPolicy(budgets={"age": Budget(0.1, 0.2)}, hold_back=True))
    assert load_snapshot(strict.to_json()) == strict
    assert said(plain, strict) == {("feature view last_order@1", "skew", "")}
    stricter = snapshot(skew=SkewPolicy(budgets={"age": Budget(0.1, 0.2)}))
    ((what, field, means),) = said(strict, stricter)
    assert (what, field) == ("feature view last_order@1", "skew.hold_back")
    assert "refused" in means
    view = view_of_orders()
    services = [FeatureService("orders", views=[view], owner="ml", budgets=budgets) for budgets in ({}, {"age": Budget(0.1, 0.2)})]
    before, after = (compile_snapshot(Project("shop", (view,), (service,))) for service in services)
    assert said(before, after) == {("feature service orders", "budgets", "")}


def test_a_service_has_no_budget_of_a_check_that_there_is_not() -> None:
    with pytest.raises(ContractError, match="feature service 'orders': there is no check 'fresh'; they are fidelity, staleness,"):
        FeatureService("orders", views=[view_of_orders()], owner="ml", budgets={"fresh": Budget(0.1, 0.2)})


def test_what_rows_are_held_to_is_in_the_snapshot_where_it_is_not_the_default() -> None:
    plain = snapshot()
    for absent in (b"row_count", b"warn_only", b"null_budget", b"allowed"):
        assert absent not in plain.to_json()
    strict = snapshot(
        row_count=(5, 9), warn_only=["rows_at_most_9"], features=[Feature("amount", "float64", unit="euro", minimum=0, null_budget=0.1)]
    )
    assert load_snapshot(strict.to_json()) == strict
    changes = {(field, means.partition(":")[0]) for _, field, means in said(plain, strict)}
    held = "days computed from now on are held to it; those that are committed stay"
    assert changes == {("row_count", held), ("warn_only", held), ("features.amount.null_budget", held)}
    assert strict.views[0].fingerprint == plain.views[0].fingerprint  # nothing is to be computed again
