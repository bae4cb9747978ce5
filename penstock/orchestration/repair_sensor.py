"""Computes what commits of sources changed: days that can go further, and days that late or corrected rows reach.

Level-triggered like the publish sensor: each look asks anew which partitions were computed from other source rows than there
are now. A commit is looked at in the Delta log, without a JVM; a run is asked for only where it reaches a partition.
"""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from penstock.contract.view import FeatureView
from penstock.orchestration.assets import feature_key
from penstock.orchestration.partitions import range_tags
from penstock.orchestration.publish_sensor import RUNS_PER_LOOK, UNFINISHED, is_computing, shared_ranges, why_wait
from penstock.publication.due import named
from penstock.publication.repair import RepairPlan
from penstock.store import Store


def repair_sensor(store: Store, job: str, refresh_job: str) -> dg.SensorDefinition:
    """The sensor of a project.

    Args:
        store: the project.
        job: computes features.
        refresh_job: ingests and computes; while it runs nothing else is asked for.
    """

    @dg.sensor(
        name="repair",
        job_name=job,
        minimum_interval_seconds=store.settings.dagster.repair_every_s,
        # Where the Clock stands still, no source goes on.
        default_status=dg.DefaultSensorStatus.RUNNING if store.settings.clock.now is None else dg.DefaultSensorStatus.STOPPED,
        description="computes the days that new, late or corrected source rows reach",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if is_computing(context.instance, UNFINISHED, job, refresh_job) or _is_backfilling(context.instance):
            return dg.SensorResult(skip_reason="features are being computed")
        waits = why_wait(context.instance, job, "repair", store.settings.dagster.repair_every_s)
        if waits is not None:
            return dg.SensorResult(skip_reason=waits)
        repairs = store.repair_plan()
        wanted: dict[FeatureView, set[date]] = {}
        for view in store.project.views:
            days = set(repairs.days(view, automatic_only=True))
            if not any(source.name in repairs.unread for source in view.sources):
                days.update(store.behind(view))
            wanted[view] = {day for day in days if day >= store.settings.dagster.first_day}
        requests = [
            dg.RunRequest(tags=range_tags(first, last), asset_selection=[feature_key(view) for view in views])
            for (first, last), views in shared_ranges(wanted).items()
        ][:RUNS_PER_LOOK]
        remarks = [*repairs.problems(store.project.views), *beyond_horizon(store.project.views, repairs)]
        if not requests:
            return dg.SensorResult(skip_reason="; ".join(["every computed day is of the newest source rows", *remarks]))
        context.log.info("; ".join([f"{len(requests)} run(s) requested", *remarks]))
        return dg.SensorResult(run_requests=requests)

    return look


def beyond_horizon(views: Sequence[FeatureView], repairs: RepairPlan) -> list[str]:
    """What is not repaired unasked, a sentence per view."""
    return [
        f"{len(days)} day(s) of {view.ref} before the horizon wait for `penstock repair run`: {named(days)}"
        for view in views
        if (days := repairs.waiting(view))
    ]


def _is_backfilling(instance: dg.DagsterInstance) -> bool:
    return any(backfill.status.value == "REQUESTED" for backfill in instance.get_backfills(limit=20))
