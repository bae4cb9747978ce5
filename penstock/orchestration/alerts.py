"""The sensor that follows what should be looked at, and tells it."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from itertools import takewhile

import dagster as dg

from penstock.clock import MICROSECOND
from penstock.contract.service import FeatureService
from penstock.contract.view import FeatureView
from penstock.errors import PenstockError
from penstock.offline.lake import feature_table
from penstock.quality.alert_sinks import Told, sinks, tell
from penstock.quality.alerts import Condition, alert_events, follow, log_alerts, next_time, open_alerts, skew_conditions
from penstock.quality.canary import read_canary
from penstock.quality.freshness import freshness
from penstock.quality.skew import Level
from penstock.quality.skew_log import DAY, judged_windows, on_time
from penstock.sdk import FeatureClient
from penstock.serving.access import local_key
from penstock.store import Store

logger = logging.getLogger(__name__)
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
        seen = [
            *conditions(store),
            *guarded("canaries", partial(canaries, store), hides="canary:*"),
            *guarded("runs", partial(failed_runs, context.instance, jobs), hides="run:*"),
        ]
        news = follow(open_alerts(events), seen, at)
        if news:
            log_alerts(store.lake, news)
        told = {name: _read(text) for name, text in json.loads(context.cursor or "{}").items()}
        if context.cursor is None:
            told = dict.fromkeys(sinks(store.settings.alerts), at - MICROSECOND)  # what is wrong now is news to all
        told, failed = tell(store.settings.alerts, [*events, *news], store.settings.root.name, told)
        context.update_cursor(json.dumps({name: _written(how_far) for name, how_far in told.items()}))
        if failed:
            context.log.error(f"not told, and tried again: {'; '.join(failed)}")
        there = open_alerts([*events, *news])
        return dg.SkipReason("; ".join(f"{alert.level}: {alert.key}" for alert in there.values()) or "nothing is to be looked at")

    return look


def guarded(group: str, look: Callable[[], Iterable[Condition]], *, hides: str | None = None) -> Iterator[Condition]:
    """What there is to be looked at of a group; if that cannot be told, this is one more condition, and its alerts stay as they are.

    Args:
        group: its name, for people.
        look: tells its conditions.
        hides: the keys of its alerts, see `Condition`; None: its name is the only one.
    """
    try:
        yield from look()
    except Exception as error:
        logger.warning("alerts: %s cannot be looked at", group, exc_info=True)
        why = error.message if isinstance(error, PenstockError) else str(error).partition("\n")[0]
        said = f"{group} cannot be looked at: {type(error).__name__}: {why}"
        yield Condition(f"alerts:{group}", Level.WARNING, said, hides=group if hides is None else hides)


def conditions(store: Store) -> Iterator[Condition]:
    """What of a project should be looked at now; each group by itself, so that one that cannot be told keeps no other from being told."""
    yield from guarded("skew", partial(_skew, store), hides="skew:*@*")  # all of views and services, which `judged_on_time` is not
    yield from guarded("judged_on_time", partial(_judged_on_time, store), hides="skew:judged_on_time")
    for view in store.project.views:
        yield from guarded(f"freshness:{view.ref}", partial(_late, store, view))
        yield from guarded(f"held_back:{view.ref}", partial(_held_back, store, view))


def _skew(store: Store) -> list[Condition]:
    since, mine = store.clock.now() - _REMEMBERED, {(view.name, view.version) for view in store.project.views}
    # Of a day that began before that, not all hours would be there to say what was told already.
    windows = [entry for entry in store.skew(since=since) if (entry.view, entry.version) in mine and entry.since >= since]
    return skew_conditions(windows)


def _judged_on_time(store: Store) -> Iterator[Condition]:
    judged = on_time(judged_windows(store.lake), store.clock.now())
    if judged in (Level.WARNING, Level.CRITICAL):
        yield Condition(
            "skew:judged_on_time", judged, "what is served is no longer compared with what training is given: look at the job `skew`"
        )


def _late(store: Store, view: FeatureView) -> Iterator[Condition]:
    ledger = store.ledger(view)
    found = freshness(view, ledger, store.clock.now())
    if ledger and not found.kept:
        said = f"{view.ref}: what is online is complete up to {found.complete_until:%Y-%m-%d %H:%M} UTC, the SLA is {found.sla}"
        yield Condition(f"freshness:{view.ref}", Level.WARNING, said)


def _held_back(store: Store, view: FeatureView) -> Iterator[Condition]:
    if store.ledger(view) and store.lake.version(feature_table(view)) is not None:
        held = store.due(view).held
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
            yield from guarded(f"canary:{service.name}", partial(_canary, store, service, client))


def _canary(store: Store, service: FeatureService, client: FeatureClient) -> Iterator[Condition]:
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


def _written(told: Told) -> str:
    return told.isoformat() if isinstance(told, datetime) else f"{told[0].isoformat()} {told[1]}"


def _read(text: str) -> Told:
    time, _, key = text.partition(" ")
    return (datetime.fromisoformat(time), key) if key else datetime.fromisoformat(time)
