"""A view as assets: its sources, its features with their contract check, and its online copy."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg

from penstock.contract.fingerprint import transformation_fingerprint
from penstock.contract.source import Source
from penstock.contract.view import FeatureView
from penstock.offline.ingest import Fetch
from penstock.offline.lake import feature_table, raw_table
from penstock.offline.logs import AttemptEntry, last_attempts, newest
from penstock.offline.profiles import remarks_of
from penstock.offline.sources import table_name
from penstock.offline.watermark import DAY
from penstock.online.ledger import Publication
from penstock.orchestration.evaluations import Result, evaluations
from penstock.orchestration.partitions import days_of
from penstock.quality.drift import is_compared
from penstock.store import Store

_FEATURES = "features"
_LOOK_BACK = 4  # days: so far back is the newest closed day looked for that stands for an open one
POOL = "spark"  # one run at a time holds a JVM and writes tables


def source_key(source: Source) -> dg.AssetKey:
    """The asset of a source."""
    return dg.AssetKey(["sources", source.name])


def feature_key(view: FeatureView) -> dg.AssetKey:
    """The asset of a view's offline rows."""
    return dg.AssetKey([_FEATURES, view.name])


def is_feature(key: dg.AssetKey) -> bool:
    """Whether an asset is some view's offline rows."""
    return key.path[0] == _FEATURES


def online_key(view: FeatureView) -> dg.AssetKey:
    """The asset of a view's online values."""
    return dg.AssetKey(["online", view.name])


def source_asset(store: Store, source: Source, partitions: dg.PartitionsDefinition[str], fetch: Fetch) -> dg.AssetsDefinition:
    """An ingested source: materialize it to bring its days to what is known now."""

    @dg.asset(
        key=source_key(source),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(store.settings.dagster.days_per_run),
        group_name="sources",
        kinds={"deltalake"},
        owners=[owner_of(source.owner)],
        description=source.description,
        pool=f"raw_{source.name}",
        metadata={"dagster/table_name": raw_table(source), "dagster/column_schema": _columns(source.schema)},
    )
    def ingest(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        for entry in store.ingest(source, days_of(context), fetch=fetch, run_id=context.run.run_id):
            context.add_asset_metadata(_row_counts(entry), partition_key=entry.partition.isoformat())
        return dg.MaterializeResult()

    return ingest


def external_source(source: Source, partitions: dg.PartitionsDefinition[str]) -> dg.AssetSpec:
    """A source that somebody else writes: shown where it stands, never materialized here."""
    return dg.AssetSpec(
        source_key(source),
        partitions_def=partitions if source.table is None else None,
        group_name="sources",
        kinds={"deltalake" if source.table is None or source.table.format == "delta" else "parquet"},
        owners=[owner_of(source.owner)],
        description=source.description,
        metadata={"dagster/table_name": table_name(source), "dagster/column_schema": _columns(source.schema)},
    )


def feature_asset(store: Store, view: FeatureView, partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """A view's offline rows: materialize it to compute, check and commit days of it."""
    days_before = -(-view.reach // DAY)
    window = dg.TimeWindowPartitionMapping(start_offset=-days_before, allow_nonexistent_upstream_partitions=True)

    @dg.asset(
        key=feature_key(view),
        deps=[
            # An external table has no partitions of ours.
            dg.AssetDep(source_key(source), partition_mapping=window if source.table is None else None)
            for source in view.sources
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(store.settings.dagster.days_per_run),
        group_name=view.entity.name,
        kinds={"deltalake", "pyspark"},
        owners=[owner_of(view.owner)],
        description=view.description,
        code_version=transformation_fingerprint(view),
        pool=POOL,
        metadata={
            "dagster/table_name": feature_table(view),
            "dagster/column_schema": _columns(
                {**view.entity.join_keys, **{f.name: f.dtype for f in view.features}}, {f.name: f.description for f in view.features}
            ),
            "version": view.version,
            "ttl": str(view.ttl),
            "freshness": str(view.freshness.total),
            "status": str(view.status),
        },
    )
    def compute(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        for entry in store.compute(view, days_of(context), run_id=context.run.run_id):
            context.add_asset_metadata(_attempt_metadata(entry), partition_key=entry.partition.isoformat())
        return dg.MaterializeResult()

    return compute


def contract_check(store: Store, view: FeatureView, partitions: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    """What the contract said of each partition. It was judged before the commit: a refused partition has
    changed nothing, and is shown here as failed without failing its neighbours."""

    @dg.asset_check(
        asset=feature_key(view),
        name="contract",
        blocking=True,
        partitions_def=partitions,
        description="schema, rows, keys, uniqueness, times, nulls, ranges and sets as the view declares them, judged before the commit",
    )
    def contract(context: dg.AssetCheckExecutionContext) -> Any:
        days = days_of(context)
        judged = newest(last_attempts(store.lake, feature_table(view)))
        results = {day.isoformat(): _verdict(judged[day]) for day in days if day in judged}
        yield from evaluations(context.instance, feature_key(view), "contract", results)
        yield dg.Output(None)  # ends the step without a result that has no partition

    return contract


def distribution_check(store: Store, view: FeatureView, partitions: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    """What was remarked on each closed day, beside the same weekday of the weeks before. A warning: what drifts may be right."""

    @dg.asset_check(
        asset=feature_key(view),
        name="distribution",
        partitions_def=partitions,
        description="the values of a closed day are distributed as on the same weekday of the four weeks before",
    )
    def distribution(context: dg.AssetCheckExecutionContext) -> Any:
        days = days_of(context)
        last = max(days)
        found = remarks_of(store.lake, view, {*days, *(last - n * DAY for n in range(1, _LOOK_BACK))})
        results = {day.isoformat(): _drift(found[day]) for day in days if day in found and is_compared(view, day, last)}
        if last not in found:
            results[last.isoformat()] = _drift_before(found)
        yield from evaluations(context.instance, feature_key(view), "distribution", results)
        yield dg.Output(None)  # ends the step without a result that has no partition

    return distribution


def online_asset(store: Store, view: FeatureView, partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """A view's online values: materialize it to publish days of it; the sensor does so by itself."""

    @dg.asset(
        key=online_key(view),
        deps=[feature_key(view)],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(store.settings.dagster.days_per_run),
        group_name=view.entity.name,
        kinds={"cassandra"},
        owners=[owner_of(view.owner)],
        description=f"{view.ref} as readers get it",
        pool=POOL,
        metadata={"dagster/table_name": f"online_{view.entity.name}"},
    )
    def publish(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        days = days_of(context)
        done = store.publish(view, days, run_id=context.run.run_id)
        online, held = store.online(view), store.due(view).held
        for day in days:
            context.add_asset_metadata(_publication_metadata(online.get(day), held.get(day)), partition_key=day.isoformat())
        served = store.publish_services()
        return dg.MaterializeResult(
            metadata={
                "keys_written": done.written,
                "keys_deleted": done.deleted,
                "keys_read_back": done.read_back,
                **({"invalidation marks": ", ".join(f"{mark}: {step}d" for mark, step in done.steps)} if done.steps else {}),
                "services": ", ".join(name for name, is_served in served.items() if is_served) or "none yet",
            }
        )

    return publish


def owner_of(owner: str) -> str:
    """An owner as Dagster takes it: a mail address, or `team:<name>`."""
    return owner if "@" in owner else f"team:{owner}"


def _time(micros: int) -> dg.MetadataValue:
    return dg.MetadataValue.timestamp(micros / 1_000_000)


def _columns(schema: Mapping[str, str], descriptions: Mapping[str, str] | None = None) -> dg.TableSchema:
    return dg.TableSchema([dg.TableColumn(name, dtype, (descriptions or {}).get(name)) for name, dtype in schema.items()])


def _row_counts(entry: AttemptEntry) -> dict[str, Any]:
    return {"dagster/partition_row_count": entry.rows, "changed": entry.changed, "delta_version": entry.delta_version}


def _attempt_metadata(entry: AttemptEntry) -> dict[str, Any]:
    return {
        **_row_counts(entry),
        "state": entry.state,
        "retracted": entry.retracted,
        "complete_until": dg.MetadataValue.timestamp(entry.complete_until),
        "attempt": entry.attempt,
        "inputs": entry.inputs,
        **({"reasons": "; ".join(entry.reasons)} if entry.reasons else {}),
        **({"warnings": "; ".join(entry.warnings)} if entry.warnings else {}),
    }


def _publication_metadata(row: Publication | None, held: str | None) -> dict[str, Any]:
    """What is online of a day: Dagster marks every day of a run as materialized, published or not."""
    if row is None:
        return {"state": "not online: held back" if held else "not online: not computed", **({"reasons": held} if held else {})}
    times = {"complete_until": _time(row.complete_until_us), "readable_at": _time(row.readable_at_us)}
    newer = {"reasons": f"a newer attempt is held back: {held}"} if held else {}
    return {"state": "online", "attempt": row.attempt, **times, **newer}


def _drift(remarks: list[str] | None) -> Result:
    if remarks is None:
        said = {"state": "insufficient data: there are not yet three weeks to compare with"}
        return Result(False, said, dg.AssetCheckSeverity.WARN)
    return Result(not remarks, {"remarks": "; ".join(remarks)} if remarks else {}, dg.AssetCheckSeverity.WARN)


def _drift_before(found: Mapping[date, list[str] | None]) -> Result:
    """Of a day that is open still: what the newest closed one came to. Dagster shows an asset by its newest partition, and that is
    always an open one; without a result it would be shown as failed all day long."""
    if not found:
        return _drift(None)
    newest_closed = max(found)
    result = _drift(found[newest_closed])
    return result._replace(metadata={**result.metadata, "said of": f"{newest_closed}, the newest day that has ended"})


def _verdict(entry: AttemptEntry) -> Result:
    failed = [name for name, passed in entry.gates.items() if not passed]
    metadata: dict[str, Any] = {"rules": len(entry.gates), "rows": entry.rows}
    if failed:
        metadata |= {"failed": ", ".join(failed), "reasons": "; ".join(entry.reasons), "state": entry.state}
        metadata |= {"warnings": "; ".join(entry.warnings)} if entry.warnings else {}
        return Result(False, metadata)
    if entry.warnings:
        return Result(False, metadata | {"warnings": "; ".join(entry.warnings)}, dg.AssetCheckSeverity.WARN)
    return Result(True, metadata)
