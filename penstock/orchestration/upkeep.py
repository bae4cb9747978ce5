"""Keeping tables small, and what gateways logged in the lake: jobs beside those of the views."""

from datetime import UTC

import dagster as dg

from penstock.offline.lake import feature_table
from penstock.offline.maintenance import compact
from penstock.orchestration.assets import POOL
from penstock.orchestration.skew import SKEW_JOB
from penstock.store import Store

COMPACT_JOB = "compact"
SHIP_JOB = "ship_feature_log"


def compact_job(store: Store) -> dg.JobDefinition:
    """Folds each closed day of every view's table into one file; no row changes, and every version stays readable."""

    @dg.op(name="fold_closed_days", pool=POOL, description="folds each closed day of every view's table into one file")
    def fold(context: dg.OpExecutionContext) -> None:
        today = store.clock.now().astimezone(UTC).date()
        for view in store.project.views:
            if store.lake.version(feature_table(view)) is not None:
                done = compact(store.lake, view, before=today)
                context.log.info(f"{view.ref}: {done.files} files folded, of {len(done.days)} day(s)")

    @dg.job(name=COMPACT_JOB, description="folds the small files of closed days, so that joins read few")
    def job() -> None:
        fold()

    return job


def ship_job(store: Store) -> dg.JobDefinition:
    """Brings what gateways logged of their answers to `log/served`."""

    @dg.op(name="ship_segments", pool=POOL, description="brings the gateways' segments of the feature log to the lake, each once")
    def ship(context: dg.OpExecutionContext) -> None:
        done = store.ship_feature_log()
        context.log.info(f"{done.segments} segment(s): {done.rows} rows, {done.dropped} dropped by gateways")

    @dg.job(name=SHIP_JOB, description="brings what gateways logged of their answers to the lake")
    def job() -> None:
        ship()

    return job


def schedules(store: Store) -> list[dg.ScheduleDefinition]:
    """When they run, and when the feature log is judged."""
    settings = store.settings
    crons = {COMPACT_JOB: settings.dagster.compact_cron, SHIP_JOB: settings.dagster.ship_cron, SKEW_JOB: settings.dagster.skew_cron}
    return [
        dg.ScheduleDefinition(
            name=job,
            job_name=job,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING if store.settings.clock.now is None else dg.DefaultScheduleStatus.STOPPED,
        )
        for job, cron in crons.items()
    ]
