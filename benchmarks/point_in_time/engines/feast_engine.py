"""Feast 0.67: its Spark or its DuckDB offline store, on the same Parquet files, with a created column."""

import shutil
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, Int64, String

from benchmarks.point_in_time.engines.common import FEATURES, TTL_DAYS, VIEWS, arguments, files_of, measure

warnings.filterwarnings("ignore")


def main() -> None:
    root, out, runs, cores = arguments()
    kind = sys.argv[5]
    home = out.parent / f"feast-{kind}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    store = FeatureStore(config=RepoConfig(**_config(kind, home, cores)))
    is_text = "string" in root.name
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING if is_text else ValueType.INT64)
    views = [_view(kind, root, view, user) for view in VIEWS]
    store.apply([user, *views])
    wanted = [f"{view}:{name}" for view in VIEWS for name in FEATURES]

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


def _view(kind: str, root: Path, view: str, user: Entity) -> FeatureView:
    times = {"timestamp_field": "event_time", "created_timestamp_column": "created_time"}
    source: Any
    if kind == "spark":
        from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource  # noqa: PLC0415

        source = SparkSource(name=f"{view}_source", path=str(root / "lake" / "features" / view / "v1"), file_format="parquet", **times)
    else:
        source = FileSource(name=f"{view}_source", path=files_of(root, view), **times)
    kinds = [Float64] * 6 + [Int64] * 3 + [String]
    return FeatureView(
        name=view,
        entities=[user],
        ttl=timedelta(days=TTL_DAYS),
        schema=[Field(name=name, dtype=dtype) for name, dtype in zip(FEATURES, kinds, strict=True)],
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
