"""DuckDB: a chain of ASOF joins in one process; of rows of one event time the last created one is picked first."""

import shutil

import duckdb

from benchmarks.point_in_time.engines.common import FEATURES, TTL_DAYS, VIEWS, arguments, files_of, measure


def main() -> None:
    root, out, runs, cores = arguments()
    spine = str(root / "spine_parquet" / "*.parquet")
    text = f"SELECT * FROM read_parquet('{spine}')"
    for view in VIEWS:
        columns = ", ".join(
            f"CASE WHEN s.event_time - f.event_time <= INTERVAL {TTL_DAYS} DAY THEN f.{name} END AS {view}__{name}" for name in FEATURES
        )
        # Corrections share key and event time: one row each is left, the last created.
        rows = (
            f"SELECT user_id, event_time, {', '.join(FEATURES)} FROM read_parquet('{files_of(root, view)}', hive_partitioning = false) "
            "QUALIFY row_number() OVER (PARTITION BY user_id, event_time ORDER BY created_time DESC) = 1"
        )
        text = f"SELECT s.*, {columns} FROM ({text}) s ASOF LEFT JOIN ({rows}) f ON s.user_id = f.user_id AND s.event_time >= f.event_time"

    def work() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        connection = duckdb.connect(config={"threads": cores})
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"COPY ({text}) TO '{out}/result.parquet' (FORMAT parquet)")
        connection.close()

    measure(runs, work)


if __name__ == "__main__":
    main()
