"""Publishes what is due. Level-triggered: each look asks anew what is committed and not yet online.

Nothing of what is due is remembered between looks, so nothing can be missed: a partition that was held back and
is mended, a store that was down, a daemon that was off for a day are all found at the next look. What a run has
committed waits for its rest, up to two minutes: a publication costs a JVM, so they must be few. It waits for no other run.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import takewhile

import dagster as dg

from penstock.contract.view import FeatureView
from penstock.orchestration.assets import is_feature, online_key
from penstock.orchestration.partitions import range_tags
from penstock.publication.due import Due, contiguous
from penstock.store import Store

RUNS_PER_LOOK = 10
LONGEST_WAIT_S = 300
LONGEST_WAIT_FOR_THE_REST_S = 120
WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING]
UNFINISHED = [*WAITING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_NOT_WAITING = "not waiting"  # an empty cursor would leave the one before it


def publish_sensor(store: Store, job: str) -> dg.SensorDefinition:
    """The sensor of a project; it runs by default and asks for at most `RUNS_PER_LOOK` runs at a time.

    Args:
        store: the project.
        job: publishes.
    """

    @dg.sensor(
        name="publish",
        job_name=job,
        minimum_interval_seconds=store.settings.dagster.publish_every_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="publishes every partition whose newest attempt passed its checks and is not online yet",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        found = {view: store.due(view) for view in store.project.views}
        held = held_back(found)

        def skip(why: str, cursor: str = _NOT_WAITING) -> dg.SensorResult:
            return dg.SensorResult(skip_reason=_sentences(why, held), cursor=cursor)

        if context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1):
            return skip("a publication is running")
        waits = why_wait(context.instance, job, "publication", store.settings.dagster.publish_every_s)
        if waits is not None:
            return skip(waits)
        requests = [
            dg.RunRequest(tags=range_tags(first, last), asset_selection=[online_key(view) for view in views])
            for (first, last), views in shared_ranges({view: due.ready for view, due in found.items()}).items()
        ][:RUNS_PER_LOOK]
        if not requests:
            return skip("all that is committed is online")
        since = time.time() if context.cursor in (None, _NOT_WAITING) else float(context.cursor)
        if time.time() - since < LONGEST_WAIT_FOR_THE_REST_S and is_going_on(
            context.instance, set().union(*(d.runs for d in found.values()))
        ):
            return skip(f"{len(requests)} run(s) wait for the rest of what is being computed", cursor=str(since))
        context.log.info(_sentences(f"{len(requests)} run(s) requested", held))
        return dg.SensorResult(run_requests=requests, cursor=_NOT_WAITING)

    return look


def is_going_on(instance: dg.DagsterInstance, runs: Collection[str]) -> bool:
    """Whether one of these runs may commit more."""
    going_on = dg.RunsFilter(run_ids=sorted(run for run in runs if run), statuses=[dg.DagsterRunStatus.STARTED])
    return bool(going_on.run_ids) and bool(instance.get_runs(going_on, limit=1))


def is_computing(instance: dg.DagsterInstance, statuses: Sequence[dg.DagsterRunStatus], *jobs: str) -> bool:
    """Whether there is a run, in one of these states, that may commit more features: of one of these jobs, or of any features."""
    runs = instance.get_runs(dg.RunsFilter(statuses=statuses))
    return any(run.job_name in jobs or any(is_feature(key) for key in run.asset_selection or ()) for run in runs)


def why_wait(instance: dg.DagsterInstance, job: str, what: str, every_s: int) -> str | None:
    """Why not to start a job now: its newest runs failed, and it is tried ever more seldom; None: go on."""
    ended = [
        (record.dagster_run.status is dg.DagsterRunStatus.FAILURE, record.end_time or 0.0)
        for record in instance.get_run_records(dg.RunsFilter(job_name=job), limit=20)
    ]
    failures, not_before = wait_after_failures(ended, every_s)
    if time.time() >= not_before:  # the machine's time, in which Dagster tells when runs ended
        return None
    return f"the last {failures} {what}(s) failed; tried again at {datetime.fromtimestamp(not_before, UTC):%H:%M:%S} UTC"


def wait_after_failures(ended: Iterable[tuple[bool, float]], every_s: int) -> tuple[int, float]:
    """How many of the newest runs failed in a row, and before which time (epoch seconds) not to try again.

    Args:
        ended: newest first, whether a run failed and when it ended.
        every_s: the wait doubles from this with each failure in a row, up to `LONGEST_WAIT_S`.
    """
    failed = list(takewhile(lambda run: run[0], ended))
    if not failed:
        return 0, 0.0
    return len(failed), failed[0][1] + min(every_s * 2 ** len(failed), LONGEST_WAIT_S)


def shared_ranges(wanted: Mapping[FeatureView, Iterable[date]]) -> dict[tuple[date, date], list[FeatureView]]:
    """Ranges of days that views want → the views that want just these; oldest first. A run costs a JVM."""
    ranges: dict[tuple[date, date], list[FeatureView]] = {}
    for view, of_view in wanted.items():
        for days in contiguous(of_view):
            ranges.setdefault(days, []).append(view)
    return dict(sorted(ranges.items()))


def held_back(found: Mapping[FeatureView, Due]) -> list[str]:
    """What is held back and why, a sentence per partition."""
    return [f"{view.ref} {day}: {why}" for view, due in found.items() for day, why in sorted(due.held.items())]


def _sentences(first: str, held: Sequence[str]) -> str:
    return first if not held else f"{first}; held back: " + " | ".join(held)
