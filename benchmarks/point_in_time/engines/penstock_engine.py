"""Penstock: `columnar` or `sql`, in a mode; the spine a Delta table, the result Parquet files."""

import shutil
import sys
from typing import Any

import penstock.runtime.spark
from benchmarks.point_in_time.engines.common import arguments, measure
from benchmarks.point_in_time.views import VIEWS, view_of
from penstock.config import Settings, SparkSettings
from penstock.contract.service import select
from penstock.offline.lake import Lake
from penstock.point_in_time.joined import Resources, join
from penstock.point_in_time.spine import DeltaRows
from penstock.point_in_time.view_join import view_joins


def main() -> None:
    root, out, runs, cores = arguments()
    engine: Any = sys.argv[5]
    mode: Any = sys.argv[6]
    settings = Settings(spark=SparkSettings(master=f"local[{cores}]", driver_memory="6g" if engine == "sql" else "1g", short_jobs=False))
    session = penstock.runtime.spark.spark_session(settings)
    lake = Lake(str(root / "lake"))
    key = "string" if "string" in root.name else "int"
    resources = Resources(lambda: session, cores, settings.join.task_memory_mb * 1_000_000)

    def work() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        joins = view_joins(lake, select([view_of(n, key) for n in range(VIEWS)], "benchmark"), mode)
        joined = join(lake, DeltaRows(str(root / "spine"), 0), joins, resources, engine)
        print(joined.explain(), file=sys.stderr, flush=True)
        joined.write_files(str(out))

    measure(runs, work)
    session.stop()


if __name__ == "__main__":
    main()
