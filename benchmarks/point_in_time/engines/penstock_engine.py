"""Penstock: `columnar` or `sql`, in a mode; the spine a Delta table or a DataFrame, the result Parquet files."""

import shutil
import sys
from typing import Any

import penstock.runtime.spark
from benchmarks.point_in_time.engines.common import arguments, measure
from benchmarks.point_in_time.views import service_of
from penstock.config import Settings, SparkSettings
from penstock.offline.lake import Lake
from penstock.point_in_time.joined import Resources, join
from penstock.point_in_time.spine import DeltaRows, FrameRows, Spine
from penstock.point_in_time.view_join import view_joins


def main() -> None:
    root, out, runs, cores = arguments()
    engine: Any = sys.argv[5]
    mode: Any = sys.argv[6]
    settings = Settings(spark=SparkSettings(master=f"local[{cores}]", driver_memory="6g" if engine == "sql" else "1g", short_jobs=False))
    session = penstock.runtime.spark.spark_session(settings)
    lake = Lake(str(root / "lake"))
    is_frame = sys.argv[7:] == ["frame"]
    resources = Resources(lambda: session, cores, settings.join.task_memory_mb * 1_000_000)

    def work() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        spine: Spine = DeltaRows(str(root / "spine"), 0)
        if is_frame:
            spine = FrameRows(session.read.parquet(str(root / "spine_parquet")))
        joined = join(lake, spine, view_joins(lake, service_of(root.name), mode), resources, engine)
        print(joined.explain(), file=sys.stderr, flush=True)
        joined.write_files(str(out))

    measure(runs, work)
    session.stop()


if __name__ == "__main__":
    main()
