"""The one call a project makes: its definitions as Dagster's."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg

from penstock.contract.source import Source
from penstock.offline.ingest import Fetch
from penstock.orchestration.alerts import alert_sensor
from penstock.orchestration.assets import contract_check, distribution_check, external_source, feature_asset, online_asset, source_asset
from penstock.orchestration.health import health_checks, health_sensor, on_time_check
from penstock.orchestration.partitions import daily_partitions, range_tags
from penstock.orchestration.publish_sensor import WAITING, publish_sensor
from penstock.orchestration.repair_sensor import repair_sensor
from penstock.orchestration.skew import SKEW_JOB, skew_assets
from penstock.orchestration.training import training_asset, training_key
from penstock.orchestration.upkeep import COMPACT_JOB, SHIP_JOB, compact_job, schedules, ship_job
from penstock.store import Store, open

PUBLISH_JOB, REFRESH_JOB, REPAIR_JOB = "publish_online", "refresh", "repair"

# Of the runs that wait for the one JVM, what readers wait for goes first, and backfills, which have no tag, last.
_FIRST, _NEXT = {"dagster/priority": "2"}, {"dagster/priority": "1"}


def definitions(root: str | Path, *, ingest: Mapping[str, Fetch], package: str = "feature_assets") -> dg.Definitions:
    """Assets, checks, jobs, schedule and sensor of a project.

    Args:
        root: the project's folder.
        ingest: source name → how its facts are fetched; a source not named is only read.
        package: the package of feature files.
    """
    store = open(root, package=package)
    with warnings.catch_warnings():
        # Partitioned checks are in preview; penstock/orchestration/evaluations.py says what we rely on.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        return definitions_of(store, ingest)


def definitions_of(store: Store, ingest: Mapping[str, Fetch]) -> dg.Definitions:
    """Assets, checks, jobs, schedules and sensors of an open project."""
    if not store.project.views:
        return dg.Definitions()  # a new project: nothing to run yet
    partitions = daily_partitions(store.settings)
    ingested = [source for source in store.project.sources if source.name in ingest]
    sources = [source_asset(store, source, partitions, ingest[source.name]) for source in ingested]
    features = [feature_asset(store, view, partitions) for view in store.project.views]
    online = [online_asset(store, view, partitions) for view in store.project.views]
    training = [training_asset(store, service) for service in store.project.services]
    skew = skew_assets(store)
    return dg.Definitions(
        assets=[*sources, *_external_sources(store, ingest, partitions), *features, *online, *training, skew],
        asset_checks=[
            *[contract_check(store, view, partitions) for view in store.project.views],
            *[distribution_check(store, view, partitions) for view in store.project.views],
            *[check for view in store.project.views for check in health_checks(store, view)],
            on_time_check(store),
        ],
        jobs=[
            *[dg.define_asset_job(f"training_{s.name}", selection=[training_key(s)]) for s in store.project.services],
            dg.define_asset_job(PUBLISH_JOB, selection=dg.AssetSelection.assets(*online), tags=_FIRST),
            dg.define_asset_job(REFRESH_JOB, selection=dg.AssetSelection.assets(*sources, *features), tags=_NEXT),
            dg.define_asset_job(REPAIR_JOB, selection=dg.AssetSelection.assets(*features), tags=_NEXT),
            dg.define_asset_job(SKEW_JOB, selection=dg.AssetSelection.assets(*skew.keys)),
            compact_job(store),
            ship_job(store),
        ],
        schedules=[_refresh_schedule(store, ingested), *schedules(store)],
        sensors=[
            publish_sensor(store, PUBLISH_JOB),
            repair_sensor(store, REPAIR_JOB, REFRESH_JOB),
            health_sensor(store),
            alert_sensor(store, (PUBLISH_JOB, REFRESH_JOB, REPAIR_JOB, SKEW_JOB, COMPACT_JOB, SHIP_JOB)),
        ],
        executor=dg.in_process_executor,  # one process, one JVM a run
    )


def _external_sources(store: Store, ingest: Mapping[str, Fetch], partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetSpec]:
    return [external_source(source, partitions) for source in store.project.sources if source.name not in ingest]


def _refresh_schedule(store: Store, ingested: Sequence[Source]) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="refresh",
        job_name=REFRESH_JOB,
        cron_schedule=store.settings.dagster.refresh_cron,
        execution_timezone="UTC",
        # Where the Clock stands still there is nothing new to come.
        default_status=dg.DefaultScheduleStatus.RUNNING if store.settings.clock.now is None else dg.DefaultScheduleStatus.STOPPED,
        description="ingests and computes, up to now, every day that is open or was missed",
    )
    def refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if context.instance.get_runs(dg.RunsFilter(job_name=REFRESH_JOB, statuses=WAITING), limit=1):
            return dg.SkipReason("a refresh waits already; it will take what is open when it starts")
        return dg.RunRequest(tags=range_tags(*store.days_to_refresh(ingested)))

    return refresh
