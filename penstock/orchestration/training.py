"""A training set per service as an asset: materialize it with a launch config."""

from typing import Any

import dagster as dg
from pydantic import Field

from penstock.clock import parse_instant
from penstock.contract.service import FeatureService
from penstock.orchestration.assets import POOL, feature_key, owner_of
from penstock.store import Store


class TrainingSetConfig(dg.Config):
    """What to build."""

    query: str = Field("", description="SQL of the rows to enrich: join keys, event_time, labels; {source} stands for a source's table")
    table: str = Field("", description="instead of a query: a Delta table, by its name in the lake or its location")
    name: str = Field("", description="the training set's name; default: the service's")
    mode: str = Field("observed", description="what counts as known: event, assumed, observed or restated")
    overrides: dict[str, str] = Field(default_factory=dict, description="view's name → another mode for it")
    split: str = Field("", description="time:<ISO 8601>, hash:<share>:<columns> or stratified:<share>:<column>: adds a column `split`")
    seed: int = Field(0, description="of the split")
    labels: list[str] = Field(default_factory=list, description="<column>:<column that says when it was known>; see the cut-off")
    cutoff: str = Field("", description="ISO 8601 with offset: rows whose labels were not known by then are left out; default: now")


def training_key(service: FeatureService) -> dg.AssetKey:
    """The asset of a service's training sets."""
    return dg.AssetKey(["training", service.name])


def training_asset(store: Store, service: FeatureService) -> dg.AssetsDefinition:
    """The training sets of a service; each materialization is a build of its own, with its manifest."""

    @dg.asset(
        key=training_key(service),
        deps=[
            dg.AssetDep(feature_key(view), partition_mapping=dg.AllPartitionMapping())
            for view in dict.fromkeys(part.view for part in service.selection)
        ],
        group_name="training",
        kinds={"deltalake", "pyspark"},
        owners=[owner_of(service.owner)],
        description=f"a spine with the features of {service.name}, as they were known: {service.description or 'for training'}",
        pool=POOL,
    )
    def training_set(config: TrainingSetConfig) -> dg.MaterializeResult:  # type: ignore[type-arg]
        mode: Any = config.mode
        overrides: Any = config.overrides
        made = store.training_set.build(
            config.name or service.name,
            store.spine(query=config.query, table=config.table),
            service.name,
            mode=mode,
            overrides=overrides,
            split=config.split,
            seed=config.seed,
            labels=config.labels,
            cutoff=parse_instant(config.cutoff) if config.cutoff else None,
            spine_text=config.query or config.table,
        )
        return dg.MaterializeResult(
            metadata={
                "dagster/table_name": made.table,
                "dagster/row_count": made.rows,
                "mode": made.mode,
                "content": made.content,
                "contract": made.contract,
                "split": made.split or "none",
                "rows_by_rule": {one.name: one.rows_by_rule for one in made.inputs},
                "excluded": made.excluded,
            }
        )

    return training_set
