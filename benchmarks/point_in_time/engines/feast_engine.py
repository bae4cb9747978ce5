"""Feast 0.67: its Spark or its DuckDB offline store, on the same Parquet files, with a created column."""

import shutil
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Bool, Float64, Int32, Int64, String

from benchmarks.point_in_time.engines.common import View, arguments, measure, views_of

warnings.filterwarnings("ignore")

_TYPES = {"float64": Float64, "int32": Int32, "int64": Int64, "string": String, "bool": Bool}
_VALUE_TYPES = {"int64": ValueType.INT64, "string": ValueType.STRING}


def main() -> None:
    root, out, runs, cores = arguments()
    kind = sys.argv[5]
    home = out.parent / f"feast-{kind}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    store = FeatureStore(config=RepoConfig(**_config(kind, home, cores)))
    listed = views_of(root)
    keys = {key: dtype for view in listed for key, dtype in view.keys.items()}
    entities = {key: Entity(name=key, join_keys=[key], value_type=_VALUE_TYPES[dtype]) for key, dtype in keys.items()}
    views = [_view(kind, view, entities) for view in listed]
    store.apply([*entities.values(), *views])
    wanted = [f"{view.name}:{name}" for view in listed for name in view.features]

    def work() -> None:
        shutil.rmtree(out, ignore_errors=True)
        job = store.get_historical_features(entity_df=_spine(kind, root, store), features=wanted, full_feature_names=True)
        if kind == "spark":
            job.to_spark_df().write.parquet(str(out))  # type: ignore[attr-defined]
        else:
            out.mkdir(parents=True)
            job.to_df().to_parquet(out / "result.parquet")

    measure(runs, work)


def _config(kind: str, home: Path, cores: int) -> dict[str, Any]:
    offline: dict[str, Any] = {"type": "duckdb"}
    if kind == "spark":
        conf = {
            "spark.master": f"local[{cores}]",
            "spark.driver.memory": "8g",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "8",
            "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        }
        offline = {"type": "spark", "spark_conf": conf}
    return {
        "project": "bench",
        "provider": "local",
        "registry": str(home / "registry.db"),
        "offline_store": offline,
        "online_store": {"type": "sqlite", "path": str(home / "online.db")},
        "entity_key_serialization_version": 3,
    }


def _view(kind: str, view: View, entities: dict[str, Entity]) -> FeatureView:
    times = {"timestamp_field": "event_time", "created_timestamp_column": "created_time"}
    source: Any
    if kind == "spark":
        from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource  # noqa: PLC0415

        source = SparkSource(name=f"{view.name}_source", path=view.folder, file_format="parquet", **times)
    else:
        source = FileSource(name=f"{view.name}_source", path=view.files, **times)
    return FeatureView(
        name=view.name,
        entities=[entities[key] for key in view.keys],
        ttl=timedelta(seconds=view.ttl_s),
        schema=[Field(name=name, dtype=_TYPES[dtype]) for name, dtype in view.features.items()],
        source=source,
    )


def _spine(kind: str, root: Path, store: FeatureStore) -> Any:
    if kind == "spark":
        from feast.infra.offline_stores.contrib.spark_offline_store import spark as feast_spark  # noqa: PLC0415

        # A view over the files: a pandas spine of a million rows went through the driver, and out of memory at 6 GB.
        spark = feast_spark.get_spark_session_or_start_new_with_repoconfig(store.config.offline_store)
        rows = spark.read.parquet(str(root / "spine_parquet")).withColumnRenamed("event_time", "event_timestamp")
        rows.createOrReplaceTempView("the_spine")
        return "SELECT * FROM the_spine"
    return pd.read_parquet(root / "spine_parquet").rename(columns={"event_time": "event_timestamp"})


if __name__ == "__main__":
    main()
