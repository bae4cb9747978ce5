"""Alarms in the UI: is a view fresh, and is all of it computed by today's code and from the newest source rows?

`freshness` stands on the online asset and runs after each publication, `code_version` and `source_data` on the feature asset
and run after each computation. Time passes between runs and code changes without one, so a sensor judges both
every minute, and reports what has changed since it last did.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from penstock.contract.view import FeatureView
from penstock.errors import SourceError
from penstock.offline.lake import feature_table
from penstock.offline.logs import last_attempts
from penstock.offline.sources import how_far
from penstock.orchestration.assets import feature_key, online_key
from penstock.orchestration.skew import LOG_KEY, severity_of
from penstock.publication.repair import RepairPlan
from penstock.quality.freshness import computed_by_other_code, freshness, over_budget, stages
from penstock.quality.skew import Level
from penstock.quality.skew_log import SKEW, judged_windows, on_time
from penstock.store import Store

FRESHNESS, CODE_VERSION, SOURCE_DATA, ON_TIME = "freshness", "code_version", "source_data", "judged_on_time"
_EVERY_S = 60


def judge_freshness(store: Store, view: FeatureView) -> dg.AssetCheckEvaluation:
    """Whether what is online of a view is complete to within its SLA."""
    found = freshness(view, store.ledger(view), store.clock.now())
    metadata: dict[str, Any] = {"sla": str(found.sla), "age": "nothing is online" if found.age is None else str(found.age)}
    if found.complete_until is not None:
        metadata["complete_until"] = dg.MetadataValue.timestamp(found.complete_until)
    return _evaluation(online_key(view), FRESHNESS, found.kept, metadata)


def judge_code_version(store: Store, view: FeatureView) -> dg.AssetCheckEvaluation:
    """Whether every committed day of a view was computed by the code that is defined now."""
    days = computed_by_other_code(view, last_attempts(store.lake, feature_table(view)))
    metadata: dict[str, Any] = {"days_by_other_code": len(days)}
    if days:
        metadata |= {"first": days[0].isoformat(), "last": days[-1].isoformat(), "what_to_do": "materialize these days"}
    return _evaluation(feature_key(view), CODE_VERSION, not days, metadata)


def judge_source_data(view: FeatureView, repairs: RepairPlan) -> dg.AssetCheckEvaluation:
    """Whether every day of a view was computed from the source rows there are now. A source that cannot be looked at may have changed."""
    days, unread = repairs.days(view), repairs.problems([view])
    metadata: dict[str, Any] = {"days_of_other_source_rows": len(days)}
    if days:
        waiting = repairs.waiting(view)
        metadata |= {"first": days[0].isoformat(), "last": days[-1].isoformat(), "not_repaired_unasked": len(waiting)}
        metadata |= {"what_to_do": "penstock repair run" if waiting else "nothing: the repair sensor computes them"}
    if unread:
        metadata["not_looked_at"] = "; ".join(unread)
    return _evaluation(feature_key(view), SOURCE_DATA, not days and not unread, metadata)


def judge_on_time(store: Store) -> dg.AssetCheckEvaluation:
    """Whether the windows of the feature log are judged as they settle: nothing else would tell that the judge is gone."""
    windows = judged_windows(store.lake)
    level = on_time(windows, store.clock.now())
    last = max((until for _, until in windows), default=None)
    metadata = {"level": str(level), "judged_until": "nothing yet" if last is None else dg.MetadataValue.timestamp(last)}
    return _evaluation(LOG_KEY, ON_TIME, level is Level.PASSED, metadata, severity_of(level))


def _evaluation(
    key: dg.AssetKey, check: str, passed: bool, metadata: dict[str, Any], severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(asset_key=key, check_name=check, passed=passed, metadata=metadata, severity=severity, blocking=False)


def _result(evaluation: dg.AssetCheckEvaluation) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=evaluation.passed, metadata=evaluation.metadata, severity=evaluation.severity)


def _stages(store: Store, view: FeatureView) -> dict[str, Any]:
    """How much of the view's age each stage makes, of what it is allowed; not each minute: a table of others is read to tell."""
    now = store.clock.now()
    try:
        inputs = how_far(store.lake, view, now)
    except SourceError as error:
        return {"stages": f"cannot be told: {error.message}"}
    found = stages(view, inputs, last_attempts(store.lake, feature_table(view)), store.ledger(view), None, now)
    shown = {stage.name: f"{stage.lag} of {stage.budget}" if stage.budget else str(stage.lag) for stage in found if stage.lag is not None}
    return {**shown, "delay": str(view.delay), "over_budget": ", ".join(over_budget(found)) or "none"}


def health_checks(store: Store, view: FeatureView) -> list[dg.AssetChecksDefinition]:
    """The checks of a view that nothing waits for."""

    @dg.asset_check(asset=online_key(view), name=FRESHNESS, description="what is online is complete to within the view's freshness SLA")
    def fresh() -> dg.AssetCheckResult:
        found = _result(judge_freshness(store, view))
        return found._replace(metadata={**found.metadata, **_stages(store, view)})

    @dg.asset_check(asset=feature_key(view), name=CODE_VERSION, description="every day was computed by the code that is defined now")
    def code() -> dg.AssetCheckResult:
        return _result(judge_code_version(store, view))

    @dg.asset_check(asset=feature_key(view), name=SOURCE_DATA, description="every day was computed from the source rows there are now")
    def data() -> dg.AssetCheckResult:
        return _result(judge_source_data(view, store.repair_plan()))

    return [fresh, code, data]


def on_time_check(store: Store) -> dg.AssetChecksDefinition:
    """`judge_on_time` as a check of the feature log's asset; the sensor says the same between two runs, and when there are none."""

    @dg.asset_check(asset=LOG_KEY, name=ON_TIME, description="the windows of the feature log are judged as they settle")
    def judged_on_time() -> dg.AssetCheckResult:
        return _result(judge_on_time(store))

    return judged_on_time


def health_sensor(store: Store) -> dg.SensorDefinition:
    """Judges all views every minute; an hour after it was last said, the same is said again."""

    @dg.sensor(
        name="health",
        minimum_interval_seconds=_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="says which views are late, and which were computed by older code or from older source rows",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        judged = list(_judge_all(store, store.project.views))
        news, cursor = changed(judged, context.cursor, store.clock.now())
        bad = [f"{e.asset_key.path[-1]}: {e.check_name}" for e in judged if not e.passed]
        why = dg.SkipReason("all is well" if not bad else "alarms: " + ", ".join(bad))
        return dg.SensorResult(asset_events=news, cursor=cursor, skip_reason=why)

    return look


def _judge_all(store: Store, views: Sequence[FeatureView]) -> Iterator[dg.AssetCheckEvaluation]:
    repairs = store.repair_plan()
    for view in views:
        if store.online(view):  # a view that was never published is not late, it is not there
            yield judge_freshness(store, view)
        if store.lake.version(feature_table(view)) is not None:
            yield judge_code_version(store, view)
            yield judge_source_data(view, repairs)
    if store.lake.version(SKEW) is not None:
        yield judge_on_time(store)


def changed(judged: Sequence[dg.AssetCheckEvaluation], cursor: str | None, now: datetime) -> tuple[list[dg.AssetCheckEvaluation], str]:
    """Those that differ from what was said last, or all if that is an hour old; and the cursor to go on with."""
    said: dict[str, bool] = {}
    hour = now.strftime("%Y-%m-%dT%H")
    if cursor is not None:
        last = json.loads(cursor)
        said = last["said"] if last["hour"] == hour else {}
    verdicts = {f"{e.asset_key.to_user_string()}:{e.check_name}": e for e in judged}
    news = [e for name, e in verdicts.items() if said.get(name) != e.passed]
    return news, json.dumps({"hour": hour, "said": {name: e.passed for name, e in verdicts.items()}})
