"""Check results per partition, in the one form Dagster shows for range runs.

A returned AssetCheckResult gives a range run one result with no partition. An AssetCheckEvaluation is shown
for its partition, if it names the materialization it judged. The class that names it is private to Dagster,
so it is used here only; tests/orchestration holds this file to what the UI reads.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData


class Result(NamedTuple):
    """What a check came to for one partition."""

    passed: bool
    metadata: Mapping[str, Any]
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR


def latest_materializations(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: list[str]
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """Partition → its newest materialization of an asset; those never materialized are left out."""
    found: dict[str, AssetCheckEvaluationTargetMaterializationData] = {}
    cursor: str | None = None
    while len(found) < len(partitions):
        page = instance.fetch_materializations(dg.AssetRecordsFilter(asset_key=key, asset_partitions=partitions), limit=500, cursor=cursor)
        for record in page.records:  # newest first
            partition = record.partition_key
            if partition is not None and partition not in found:
                found[partition] = AssetCheckEvaluationTargetMaterializationData(
                    storage_id=record.storage_id, run_id=record.event_log_entry.run_id, timestamp=record.timestamp
                )
        if not page.has_more:
            break
        cursor = page.cursor
    return found


def evaluations(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    check: str,
    results: Mapping[str, Result],
) -> Iterator[dg.AssetCheckEvaluation]:
    """One evaluation per partition.

    A partition that this instance never materialized (its lake was filled by another) has nothing to show it on.
    """
    targets = latest_materializations(instance, key, list(results))
    for partition, (passed, metadata, severity) in results.items():
        if partition not in targets:
            continue
        yield dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=check,
            passed=passed,
            partition=partition,
            severity=severity,
            blocking=False,  # the refused partition was held back before its commit; its neighbours in the range go on
            metadata=dict(metadata),
            target_materialization_data=targets[partition],
        )
