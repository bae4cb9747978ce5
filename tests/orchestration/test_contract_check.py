"""What the contract and the weeks before said of each partition, as Dagster shows it."""

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from penstock.clock import FixedClock
from penstock.config import LakeSettings, Settings
from penstock.offline.logs import log_attempts
from penstock.offline.profiles import Profile, log_profiles
from penstock.orchestration.assets import contract_check, distribution_check, feature_key
from penstock.orchestration.partitions import range_tags
from penstock.registry.project import Project
from penstock.store import Store
from tests.world import MONDAY, attempt_entry, view_of_orders

VIEW = view_of_orders()
DAYS = [(MONDAY + timedelta(days=n)).date() for n in range(3)]


@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.PreviewWarning")  # checks of partitions are one; so are ours
def test_a_refused_day_is_an_error_a_day_of_which_a_rule_warns_a_warning(tmp_path: Path) -> None:
    store = Store(
        Settings(root=tmp_path, lake=LakeSettings(path=str(tmp_path / "lake"))),
        Project("shop", (VIEW,), ()),
        FixedClock(MONDAY + timedelta(days=3)),
    )
    good, warned, refused = (attempt_entry(day, rows=7, gates={"has_rows": True}) for day in DAYS)
    warned = attempt_entry(DAYS[1], rows=9, gates={"has_rows": True}, warnings=["rows_at_most_8: 9, expected at most 8"])
    refused = attempt_entry(DAYS[2], state="quarantined", gates={"has_rows": False}, reasons=["has_rows: 0, expected at least 1"])
    log_attempts(store.lake, [good, warned, refused])
    partitions = dg.DailyPartitionsDefinition("2026-03-01")

    @dg.asset(key=feature_key(VIEW), partitions_def=partitions)
    def features() -> None: ...

    found = {}
    with dg.DagsterInstance.ephemeral() as instance:
        for day in DAYS:
            assets = [features, contract_check(store, VIEW, partitions)]
            done = dg.materialize(assets, instance=instance, partition_key=day.isoformat(), raise_on_error=False)
            (one,) = done.get_asset_check_evaluations()
            found[one.partition] = (one.passed, one.severity.value, {name: value.value for name, value in one.metadata.items()})
    assert found == {
        "2026-03-02": (True, "ERROR", {"rules": 1, "rows": 7}),
        "2026-03-03": (False, "WARN", {"rules": 1, "rows": 9, "warnings": "rows_at_most_8: 9, expected at most 8"}),
        "2026-03-04": (
            False,
            "ERROR",
            {"rules": 1, "rows": 0, "failed": "has_rows", "reasons": "has_rows: 0, expected at least 1", "state": "quarantined"},
        ),
    }


@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.PreviewWarning", "ignore::dagster_shared.utils.warnings.BetaWarning")
def test_days_that_were_not_compared_with_weeks_before_have_no_verdict_on_it(tmp_path: Path) -> None:
    store = Store(
        Settings(root=tmp_path, lake=LakeSettings(path=str(tmp_path / "lake"))),
        Project("shop", (VIEW,), ()),
        FixedClock(MONDAY + timedelta(days=60)),
    )
    days = [(MONDAY + timedelta(days=n)).date() for n in range(40)]
    remarks = dict.fromkeys(days) | {days[-2]: ["amount: otherwise"], days[-1]: []}
    same = {"view": VIEW.name, "version": 1, "attempt": 1, "statistics": {}}
    log_profiles(store.lake, [Profile(partition=day, remarks=remarks[day], **same) for day in days])
    partitions = dg.DailyPartitionsDefinition("2026-03-01")

    @dg.asset(key=feature_key(VIEW), partitions_def=partitions, backfill_policy=dg.BackfillPolicy.single_run())
    def features() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        assets = [features, distribution_check(store, VIEW, partitions)]
        done = dg.materialize(assets, instance=instance, tags=range_tags(days[0], days[-1]))
        found = {one.partition: (one.passed, one.severity.value) for one in done.get_asset_check_evaluations()}
    assert len(found) == 31
    assert (found[str(days[-1])], found[str(days[-2])], found[str(days[9])]) == ((True, "WARN"), (False, "WARN"), (False, "WARN"))
    assert str(days[8]) not in found


@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.PreviewWarning", "ignore::dagster_shared.utils.warnings.BetaWarning")
def test_an_open_day_is_shown_as_the_newest_closed_one_was_judged_and_never_as_passed_without_one(tmp_path: Path) -> None:
    store = Store(
        Settings(root=tmp_path, lake=LakeSettings(path=str(tmp_path / "lake"))),
        Project("shop", (VIEW,), ()),
        FixedClock(MONDAY + timedelta(days=3)),
    )
    partitions = dg.DailyPartitionsDefinition("2026-03-01")

    @dg.asset(key=feature_key(VIEW), partitions_def=partitions)
    def features() -> None: ...

    def shown() -> tuple[bool, str, dict[str, object]]:
        with dg.DagsterInstance.ephemeral() as instance:
            assets = [features, distribution_check(store, VIEW, partitions)]
            done = dg.materialize(assets, instance=instance, partition_key=DAYS[-1].isoformat())
            (one,) = done.get_asset_check_evaluations()
            return one.passed, one.severity.value, {name: value.value for name, value in one.metadata.items()}

    nothing = {"state": "insufficient data: there are not yet three weeks to compare with"}
    assert shown() == (False, "WARN", nothing)
    same = {"view": VIEW.name, "version": 1, "attempt": 1, "statistics": {}}
    log_profiles(store.lake, [Profile(partition=DAYS[0], remarks=[], **same)])
    assert shown() == (True, "WARN", {"said of": "2026-03-02, the newest day that has ended"})
    log_profiles(store.lake, [Profile(partition=DAYS[1], remarks=["amount: otherwise"], **same)])
    assert shown() == (False, "WARN", {"remarks": "amount: otherwise", "said of": "2026-03-03, the newest day that has ended"})
    log_profiles(store.lake, [Profile(partition=DAYS[2], remarks=[], **same)])
    assert shown() == (True, "WARN", {})
