"""A training set per service as an asset: materialize it with a launch config."""

from typing import Any

import dagster as dg
from pydantic import Field

from penstock.contract.service import FeatureService
from penstock.orchestration.assets import POOL, feature_key, owner_of
from penstock.store import Store


class TrainingSetConfig(dg.Config):
    """What to build."""

    query: str = Field("", description="SQL of the rows to enrich: join keys, event_time, labels; {source} stands for a source's table")
    table: str = Field("", description="instead of a query: a Delta table, by its name in the lake or its location")
    name: str = Field("", description="the training set's name; default: the service's")
    mode: str = Field("observed", description="what counts as known: event, assumed, observed or restated")
    split: str = Field("", description="time:<ISO 8601> or hash:<share>:<columns>: adds a column `split`, train or test")


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
        made = store.training_set(
            config.name or service.name,
            store.spine(query=config.query, table=config.table),
            service.name,
            mode=mode,
            split=config.split,
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
                "rows_by_rule": {f"{one.view}@{one.version}": one.rows_by_rule for one in made.inputs},
            }
        )

    return training_set
