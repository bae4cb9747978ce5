"""What windows of the feature log came to, as Dagster shows it, and what is told of it."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
import pytest

from penstock.clock import FixedClock, to_micros
from penstock.config import AlertSettings, FeatureLogSettings, LakeSettings, Settings
from penstock.contract import FeatureService
from penstock.contract.skew import BUDGETS
from penstock.offline.logs import copy_publications
from penstock.online.ledger import Publication
from penstock.orchestration.alerts import alert_sensor, canaries, failed_runs
from penstock.orchestration.health import ON_TIME, judge_on_time
from penstock.orchestration.skew import LOG_KEY, examples_table, skew_assets, skew_key
from penstock.quality.alerts import Condition, alert_events, open_alerts
from penstock.quality.canary import Canary
from penstock.quality.cases import Example
from penstock.quality.findings import Finding
from penstock.quality.skew import CHECKS, TRAINING, Level, SkewCheck
from penstock.quality.skew_log import HOUR, SkewEntry, log_skew
from penstock.registry.project import Project
from penstock.store import Store
from tests.quality.skew_entries import entry, judged
from tests.world import MONDAY, view_of_orders

VIEW = view_of_orders()
MINUTE = timedelta(minutes=1)
EXAMPLE = Example("request", 0, MONDAY, {"customer": "a|b"}, Finding.STALE, (MONDAY - HOUR, 9), MONDAY, {"amount": (1.5, None)})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    settings = Settings(
        root=tmp_path, lake=LakeSettings(path=str(tmp_path / "lake")), feature_log=FeatureLogSettings(folder=str(tmp_path / "log"))
    )
    project = Project("shop", (VIEW,), (FeatureService("basket", views=[VIEW], owner="ml"),))
    return Store(settings, project, FixedClock(MONDAY + 12 * HOUR + 6 * MINUTE))


def judge(store: Store) -> dict[str, tuple[bool, str, dict[str, Any]]]:
    """Check → whether it passed, its severity, and what is shown with it."""
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([skew_assets(store)], instance=instance)
        evaluated = done.get_asset_check_evaluations()
        assert {event.asset_key for event in done.get_asset_materialization_events()} == {LOG_KEY, skew_key(VIEW)}
    return {
        one.check_name: (one.passed, one.severity.value, {name: value.value for name, value in one.metadata.items()}) for one in evaluated
    }


def test_what_was_not_served_has_not_passed(store: Store) -> None:
    checks = judge(store)
    assert set(checks) == set(CHECKS)
    for passed, severity, shown in checks.values():
        assert (passed, severity, shown["level"]) == (False, "WARN", "insufficient_data")
    assert [(one.since, one.until) for one in store.skew()] == [
        (MONDAY - 24 * HOUR, MONDAY),
        (MONDAY + 11 * HOUR, MONDAY + 12 * HOUR),
    ]


def with_judged(store: Store, *entries: SkewEntry) -> None:
    log_skew(store.lake, [entry(MONDAY, timedelta(days=1)), *entries])


def test_the_newest_hour_is_shown_with_what_is_bad_and_examples(store: Store) -> None:
    bad = msgspec.structs.replace(judged(MONDAY + 12 * HOUR, {"amount": 100}, late=20), examples=[EXAMPLE])
    with_judged(store, judged(MONDAY + 11 * HOUR, {"amount": 0}), bad)
    checks = judge(store)
    shown = {name: (passed, severity, metadata["level"]) for name, (passed, severity, metadata) in checks.items()}
    assert shown == {
        **dict.fromkeys(BUDGETS, (True, "WARN", "passed")),
        "values": (False, "ERROR", "critical"),
        "age": (False, "WARN", "warning"),
        "training": (False, "WARN", "insufficient_data"),
    }
    assert "a\\|b" in checks["values"][2]["examples"]
    assert "examples" not in checks["fidelity"][2]


def test_the_newest_day_is_shown_where_only_days_have_a_check(store: Store) -> None:
    warned = SkewCheck(TRAINING, Level.WARNING, 1, 2, "otherwise")
    log_skew(store.lake, [entry(MONDAY, timedelta(days=1), checks=[warned]), judged(MONDAY + 12 * HOUR, {"amount": 0})])
    passed, severity, metadata = judge(store)[TRAINING]
    assert (passed, severity, metadata["level"], metadata["said"]) == (False, "WARN", "warning", "otherwise")


def test_a_pipe_in_a_key_does_not_break_the_table() -> None:
    lines = examples_table([EXAMPLE]).splitlines()
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("minutes", "passed", "severity"), [(6, True, "WARN"), (126, False, "WARN"), (186, False, "ERROR"), (30_000, False, "ERROR")]
)
def test_that_nothing_is_judged_any_more_is_an_alarm(store: Store, minutes: int, passed: bool, severity: str) -> None:
    with_judged(store, judged(MONDAY + 12 * HOUR, {"amount": 0}))
    store.clock.at = MONDAY + 12 * HOUR + minutes * MINUTE  # type: ignore[attr-defined]
    found = judge_on_time(store)
    assert (found.check_name, found.passed, found.severity.value) == (ON_TIME, passed, severity)


def look(store: Store, instance: dg.DagsterInstance, cursor: str | None) -> tuple[str, str]:
    """What a tick of the sensor says, and its cursor."""
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    tick = alert_sensor(store, ("publish_online",)).evaluate_tick(context)
    assert tick.skip_message is not None
    assert tick.cursor is not None
    return tick.skip_message, tick.cursor


def test_alerts_are_opened_and_ended_as_windows_come_and_each_is_told_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="penstock")
    clock: FixedClock = store.clock  # type: ignore[assignment]
    with dg.DagsterInstance.ephemeral() as instance:
        assert look(store, instance, None)[0] == "nothing is to be looked at"
        with_judged(store, judged(MONDAY + 12 * HOUR, {"amount": 100}))
        said, cursor = look(store, instance, None)
        assert said == "critical: skew:last_order@1:values"
        clock.advance(MINUTE)
        assert look(store, instance, cursor) == (said, cursor)
        clock.advance(HOUR)
        log_skew(store.lake, [judged(MONDAY + 13 * HOUR, {"amount": 0})])
        said, after = look(store, instance, cursor)
        assert (said, after == cursor) == ("nothing is to be looked at", False)
        clock.advance(3 * HOUR)
        assert look(store, instance, after)[0] == "critical: skew:judged_on_time"
    assert [event.what for event in alert_events(store.lake)] == ["opened", "resolved", "opened"]
    told = [record.getMessage().partition(": ")[0] for record in caplog.records if record.name.endswith("alert_sinks")]
    assert told == ["critical opened", "critical resolved", "critical opened"]


def test_a_sink_that_does_not_answer_is_tried_again_and_the_alert_is_open_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "http://127.0.0.1:9/secret")
    alerts = AlertSettings.model_validate({"webhook": "env:HOOK"})
    broken = Store(store.settings.model_copy(update={"alerts": alerts}), store.project, store.clock)
    with_judged(broken, judged(MONDAY + 12 * HOUR, {"amount": 100}))
    with dg.DagsterInstance.ephemeral() as instance:
        _, cursor = look(broken, instance, None)
    told = json.loads(cursor)
    assert told["log"] > told["webhook"]
    assert list(open_alerts(alert_events(broken.lake))) == ["skew:last_order@1:values"]


def test_a_service_that_is_read_wrong_or_not_at_all_is_an_alert(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(canaries(store)) == []
    at = to_micros(MONDAY + HOUR)
    which = {"view": VIEW.name, "version": 1, "generation": 1, "partition": MONDAY.date(), "attempt": 1}
    row = Publication(**which, complete_until_us=at, readable_at_us=at, run_id="", keys=1)
    watched = AlertSettings(canary_url="http://127.0.0.1:9")
    store = Store(store.settings.model_copy(update={"alerts": watched}), store.project, store.clock)
    assert list(canaries(store)) == []  # nothing of it is online yet
    copy_publications(store.lake, [row])
    (gone,) = canaries(store)
    assert (gone.key, gone.level) == ("canary:basket", Level.WARNING)
    assert gone.said.startswith("basket: ")
    wrong = Canary("basket", {VIEW.ref: MONDAY}, ["basket: last_order@1 of customer=ann is value"])
    monkeypatch.setattr("penstock.orchestration.alerts.read_canary", lambda *_: wrong)
    assert list(canaries(store)) == [Condition("canary:basket", Level.CRITICAL, wrong.problems[0])]
    with dg.DagsterInstance.ephemeral() as instance:
        assert "critical: canary:basket" in look(store, instance, None)[0]


def test_a_job_whose_last_run_failed_is_an_alert_unless_it_is_tried_again(store: Store) -> None:
    @dg.job(name="publish_online")
    def fails() -> None:
        @dg.op
        def fail() -> None:
            raise ValueError("no")

        fail()

    with dg.DagsterInstance.ephemeral() as instance:
        assert list(failed_runs(instance, ("publish_online",))) == []
        for _ in range(2):
            run_id = fails.execute_in_process(instance=instance, raise_on_error=False).run_id
        (condition,) = failed_runs(instance, ("publish_online",))
        assert condition.said == f"publish_online: the last 2 run(s) failed, the newest is {run_id}"
        instance.add_run_tags(run_id, {"dagster/will_retry": "true"})
        assert list(failed_runs(instance, ("publish_online",))) == []
