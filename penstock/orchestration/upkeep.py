"""Keeping tables small: each night the files of closed days are folded."""

from datetime import UTC

import dagster as dg

from penstock.offline.lake import feature_table
from penstock.offline.maintenance import compact
from penstock.orchestration.assets import POOL
from penstock.store import Store

COMPACT_JOB = "compact"


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


def compact_schedule(store: Store) -> dg.ScheduleDefinition:
    """When it runs."""
    return dg.ScheduleDefinition(
        name=COMPACT_JOB,
        job_name=COMPACT_JOB,
        cron_schedule=store.settings.dagster.compact_cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING if store.settings.clock.now is None else dg.DefaultScheduleStatus.STOPPED,
        description="folds the small files of closed days",
    )
