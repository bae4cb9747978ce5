"""polars: a chain of join_asof in one process; of rows of one event time the last created one is picked first."""

import shutil
from datetime import timedelta

import polars as pl

from benchmarks.point_in_time.engines.common import FEATURES, TTL_DAYS, VIEWS, arguments, files_of, measure


def main() -> None:
    root, out, runs, _ = arguments()  # threads are set by POLARS_MAX_THREADS

    def work() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        rows = pl.scan_parquet(root / "spine_parquet" / "*.parquet").sort("event_time").collect()
        for view in VIEWS:
            features = (
                pl.scan_parquet(files_of(root, view), hive_partitioning=False)
                .select("user_id", "event_time", "created_time", *FEATURES)
                .sort("event_time", "created_time")
                .collect()
            )
            rows = rows.join_asof(
                features.drop("created_time").rename({name: f"{view}__{name}" for name in FEATURES}),
                on="event_time",
                by="user_id",
                strategy="backward",
                tolerance=timedelta(days=TTL_DAYS),
                check_sortedness=False,
            )
        rows.write_parquet(out / "result.parquet")

    measure(runs, work)


if __name__ == "__main__":
    main()
