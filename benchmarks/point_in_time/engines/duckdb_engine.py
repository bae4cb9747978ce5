"""DuckDB: a chain of ASOF joins in one process; of rows of one event time the last created one is picked first."""

import shutil

import duckdb

from benchmarks.point_in_time.engines.common import arguments, measure, views_of


def main() -> None:
    root, out, runs, cores = arguments()
    spine = str(root / "spine_parquet" / "*.parquet")
    text = f"SELECT * FROM read_parquet('{spine}')"
    for view in views_of(root):
        columns = ", ".join(
            f"CASE WHEN s.event_time - f.event_time <= INTERVAL {view.ttl_s} SECOND THEN f.{name} END AS {view.name}__{name}"
            for name in view.features
        )
        keys = ", ".join(view.keys)
        # Corrections share key and event time: one row each is left, the last created.
        rows = (
            f"SELECT {keys}, event_time, {', '.join(view.features)} FROM read_parquet('{view.files}', hive_partitioning = false) "
            f"QUALIFY row_number() OVER (PARTITION BY {keys}, event_time ORDER BY created_time DESC) = 1"
        )
        same = " AND ".join(f"s.{key} = f.{key}" for key in view.keys)
        text = f"SELECT s.*, {columns} FROM ({text}) s ASOF LEFT JOIN ({rows}) f ON {same} AND s.event_time >= f.event_time"

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
