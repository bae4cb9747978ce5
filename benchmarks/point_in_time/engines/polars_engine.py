"""polars: a chain of join_asof in one process; of rows of one event time the last created one is picked first."""

import shutil
from datetime import timedelta

import polars as pl

from benchmarks.point_in_time.engines.common import arguments, measure, views_of


def main() -> None:
    root, out, runs, _ = arguments()  # threads are set by POLARS_MAX_THREADS

    def work() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        rows = pl.scan_parquet(root / "spine_parquet" / "*.parquet").sort("event_time").collect()
        for view in views_of(root):
            features = (
                pl.scan_parquet(view.files, hive_partitioning=False)
                .select(*view.keys, "event_time", "created_time", *view.features)
                .sort("event_time", "created_time")
                .collect()
            )
            rows = rows.join_asof(
                features.drop("created_time").rename({name: f"{view.name}__{name}" for name in view.features}),
                on="event_time",
                by=list(view.keys),
                strategy="backward",
                tolerance=timedelta(seconds=view.ttl_s),
                check_sortedness=False,
            )
        rows.write_parquet(out / "result.parquet")

    measure(runs, work)


if __name__ == "__main__":
    main()
