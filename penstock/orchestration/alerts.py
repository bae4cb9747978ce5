"""The sensor that follows what should be looked at, and tells it."""

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile

import dagster as dg

from penstock.clock import MICROSECOND
from penstock.offline.lake import feature_table
from penstock.quality.alert_sinks import sinks, tell
from penstock.quality.alerts import Condition, alert_events, follow, log_alerts, next_time, open_alerts, skew_conditions
from penstock.quality.canary import read_canary
from penstock.quality.freshness import freshness
from penstock.quality.skew import Level
from penstock.quality.skew_log import DAY, judged_windows, on_time
from penstock.sdk import FeatureClient
from penstock.serving.access import local_key
from penstock.store import Store

_EVERY_S = 60
_CANARY_S = 5.0
_REMEMBERED = 8 * DAY  # a view that is not served any more is forgotten after this
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]


def alert_sensor(store: Store, jobs: tuple[str, ...]) -> dg.SensorDefinition:
    """Every minute: what there is to be looked at, as alerts; what happened to these is told to each sink once it takes it.

    Args:
        store: the project.
        jobs: whose runs are to succeed.
    """

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="opens, follows and ends alerts: skew, freshness, days held back, reads that are wrong, runs that failed",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        events = alert_events(store.lake)
        at = next_time(events, store.clock.now())
        news = follow(open_alerts(events), [*conditions(store), *canaries(store), *failed_runs(context.instance, jobs)], at)
        if news:
            log_alerts(store.lake, news)
        told = {name: datetime.fromisoformat(time) for name, time in json.loads(context.cursor or "{}").items()}
        if context.cursor is None:
            told = dict.fromkeys(sinks(store.settings.alerts), at - MICROSECOND)  # what is wrong now is news to all
        told, failed = tell(store.settings.alerts, [*events, *news], store.settings.root.name, told)
        context.update_cursor(json.dumps({name: time.isoformat() for name, time in told.items()}))
        if failed:
            context.log.error(f"not told, and tried again: {'; '.join(failed)}")
        there = open_alerts([*events, *news])
        return dg.SkipReason("; ".join(f"{alert.level}: {alert.key}" for alert in there.values()) or "nothing is to be looked at")

    return look


def conditions(store: Store) -> Iterator[Condition]:
    """What of a project should be looked at now."""
    now, views = store.clock.now(), store.project.views
    mine = {(view.name, view.version) for view in views}
    windows = [entry for entry in store.skew(since=now - _REMEMBERED) if (entry.view, entry.version) in mine]
    yield from skew_conditions(windows)
    judged = on_time(judged_windows(store.lake), now)
    if judged in (Level.WARNING, Level.CRITICAL):
        yield Condition(
            "skew:judged_on_time", judged, "what is served is no longer compared with what training is given: look at the job `skew`"
        )
    for view in views:
        ledger = store.ledger(view)
        if not ledger:
            continue
        found = freshness(view, ledger, now)
        if not found.kept:
            said = f"{view.ref}: what is online is complete up to {found.complete_until:%Y-%m-%d %H:%M} UTC, the SLA is {found.sla}"
            yield Condition(f"freshness:{view.ref}", Level.WARNING, said)
        held = store.due(view).held if store.lake.version(feature_table(view)) is not None else {}
        if held:
            first = min(held)
            yield Condition(f"held_back:{view.ref}", Level.WARNING, f"{view.ref}: {len(held)} day(s) are held back; {first}: {held[first]}")


def canaries(store: Store) -> Iterator[Condition]:
    """Services of which a read through the gateway failed, a warning, or gave what the lake does not have."""
    url, key = store.settings.alerts.canary_url, store.settings.alerts.canary_key
    if url is None:
        return
    services = store.services_online()
    with FeatureClient(url, api_key=local_key(store.settings) if key is None else key.reveal(), timeout_s=_CANARY_S) as client:
        for service in services:
            read = read_canary(store.lake, service, client, store.clock.now())
            if read.problems:
                level = Level.CRITICAL if read.complete_until else Level.WARNING  # an answer that is wrong; none, or it cannot be told
                yield Condition(f"canary:{service.name}", level, "; ".join(read.problems))


def failed_runs(instance: dg.DagsterInstance, jobs: tuple[str, ...]) -> Iterator[Condition]:
    """Jobs whose newest ended run failed, and is not tried again."""
    for job in jobs:
        records = instance.get_run_records(dg.RunsFilter(job_name=job, statuses=_ENDED), limit=20)
        failed = list(takewhile(lambda record: record.dagster_run.status is dg.DagsterRunStatus.FAILURE, records))
        if failed and failed[0].dagster_run.tags.get("dagster/will_retry") != "true":
            run = failed[0].dagster_run.run_id
            yield Condition(f"run:{job}", Level.WARNING, f"{job}: the last {len(failed)} run(s) failed, the newest is {run}")
