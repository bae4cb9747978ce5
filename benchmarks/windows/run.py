"""A month of a view with windows of 7, 30 and 90 days, from tiles: Penstock beside a Spark RANGE window over the same tiles.

    python -m benchmarks.windows.run [--events 25000000] [--folder var/bench] [--runs 3]

Events of 50,000 entities over 125 days are written to a raw table, tiles of a day are made of them, and the last 30 days are
computed: count, sum and maximum over three windows, nine features. Neither result is written (Spark's noop sink), so that what
is measured is the computation and handing its rows to Spark. CPU seconds are those of the whole process tree, JVM and Python
workers; each engine runs in a process of its own, and its last run is the warm one. Results are compared row by row.
"""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from deltalake import write_deltalake
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from rich.console import Console

import penstock.runtime.spark
from benchmarks.point_in_time.engines.common import measure
from penstock.config import Settings, SparkSettings
from penstock.contract import Entity, FeatureView, FreshnessSla, Source, count, days, hours, largest, total
from penstock.offline.compute import compute_rows
from penstock.offline.lake import RETENTION, Lake, raw_table, tile_table
from penstock.offline.sources import versions
from penstock.offline.tile_table import refresh_tiles

ROOT = Path(__file__).parent.parent.parent
START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS, BACKFILLED = 125, 30
ENTITIES = 50_000
LENGTHS = (7, 30, 90)
screen = Console(stderr=True)

events = Source("events", schema={"user_id": "int64", "amount": "float64", "event_time": "timestamp"}, owner="benchmarks")
VIEW = FeatureView(
    name="user_activity",
    version=1,
    entity=Entity("user", {"user_id": "int64"}),
    source=events,
    owner="benchmarks",
    aggregations=[
        count(over=[days(n) for n in LENGTHS]),
        total("amount", over=[days(n) for n in LENGTHS]),
        largest("amount", over=[days(n) for n in LENGTHS]),
    ],
    every=days(1),
    tiles=days(1),
    dense=True,
    ttl=days(2),
    freshness=FreshnessSla(total=hours(24)),
)


def main(
    events: Annotated[int, typer.Option(help="how many")] = 25_000_000,
    folder: Annotated[Path, typer.Option(help="where the data is kept")] = ROOT / "var" / "bench",
    runs: Annotated[int, typer.Option(min=2, help="runs of each engine in one process; the last is the warm one")] = 3,
    engine: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure both, compare them and print what they took."""
    root = folder / f"windows-{events}"
    if engine:
        _run(root, engine, runs)
        return
    if not (root / "done").exists():
        with screen.status("writing events"):
            _generate(Lake(str(root / "lake")), events)
        (root / "done").touch()
    took = {}
    for name in ("tiles", "penstock", "range", "compare"):
        with screen.status(name):
            command = [sys.executable, "-m", "benchmarks.windows.run", "--engine", name]
            command += ["--events", str(events), "--folder", str(folder), "--runs", str(runs)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT)
        took[name] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    for name, label in (("tiles", "tiles made of events"), ("penstock", "penstock from tiles"), ("range", "Spark RANGE over tiles")):
        cold, warm = took[name][0], took[name][-1]
        print(f"{label:24} {warm['cpu']:6.1f} CPU-s {warm['wall']:6.1f} s   (first run {cold['cpu']:.1f} CPU-s, {cold['wall']:.1f} s)")
    print(f"ratio of CPU: 1/{took['range'][-1]['cpu'] / took['penstock'][-1]['cpu']:.1f}; {took['compare'][0]}")


def _generate(lake: Lake, many: int) -> None:
    random = np.random.default_rng(20260101)
    for day in range(DAYS):
        n = many * (day + 1) // DAYS - many * day // DAYS
        first = int((START + timedelta(days=day)).timestamp()) * 1_000_000
        rows = {
            "user_id": pa.array(random.integers(0, ENTITIES, n)),
            "amount": pa.array(np.round(random.lognormal(3, 1, n), 2)),
            "event_time": pa.array(first + random.integers(0, 86_400_000_000 - 1, n), pa.timestamp("us", tz="UTC")),
            "event_date": pa.array(np.full(n, np.datetime64((START + timedelta(days=day)).date()))),
        }
        write_deltalake(
            lake.prepare(raw_table(events)), pa.table(rows), mode="append", partition_by=["event_date"], configuration=RETENTION
        )


def _run(root: Path, engine: str, runs: int) -> None:
    session = penstock.runtime.spark.spark_session(Settings(spark=SparkSettings(master="local[2]", driver_memory="4g", short_jobs=False)))
    lake = Lake(str(root / "lake"))
    inputs = versions(lake, VIEW)
    first, last = START + timedelta(days=DAYS - BACKFILLED + 1), START + timedelta(days=DAYS)

    def tiles() -> None:
        shutil.rmtree(root / "lake" / "tiles", ignore_errors=True)
        refresh_tiles(session, lake, VIEW, inputs, first, last)

    def of_penstock() -> DataFrame:
        return compute_rows(session, lake, VIEW, inputs, first, last)

    def of_range() -> DataFrame:
        return _range_window(session, lake, first)

    if engine == "tiles":
        measure(2, tiles)
    elif engine == "compare":
        print(json.dumps(_compared(of_penstock(), of_range())))
    else:
        measure(runs, lambda: _to_nowhere(of_penstock() if engine == "penstock" else of_range()))
    session.stop()


def _to_nowhere(rows: DataFrame) -> None:
    rows.write.format("noop").mode("overwrite").save()


def _range_window(session: SparkSession, lake: Lake, first: datetime) -> DataFrame:
    """The same features at the days that have a tile: rows elsewhere would cost it a grid besides."""
    tiles = session.read.format("delta").load(lake.location(tile_table(VIEW))).where("__rows > 0")
    day = F.datediff("event_time", F.lit("1970-01-01"))
    columns: list[Any] = []
    for n in LENGTHS:
        window = Window.partitionBy("user_id").orderBy("_day").rangeBetween(-(n - 1), 0)
        columns += [F.sum("__rows").over(window).alias(f"count_{n}d")]
        columns += [
            F.sum("amount__sum").over(window).alias(f"amount_sum_{n}d"),
            F.max("amount__max").over(window).alias(f"amount_max_{n}d"),
        ]
    end = F.expr("event_time + INTERVAL 1 DAY")
    rows = tiles.select("user_id", "event_time", "__rows", "amount__sum", "amount__max", day.alias("_day"))
    return rows.select("user_id", end.alias("event_time"), *columns).where(F.col("event_time") >= F.lit(first))


def _compared(ours: DataFrame, theirs: DataFrame) -> dict[str, int]:
    names = [f.name for f in VIEW.features]
    both = theirs.alias("t").join(ours.alias("o"), ["user_id", "event_time"], "left")
    same = F.lit(True)
    for name in names:
        one, other = F.col(f"t.{name}"), F.col(f"o.{name}")
        same = same & F.coalesce(F.abs(one - other) <= F.lit(1e-9) * F.abs(one), F.lit(False))
    counted = both.agg(F.count("*").alias("rows"), F.sum((~same).cast("int")).alias("differ")).collect()[0]
    return {"rows compared": counted["rows"], "differ": counted["differ"], "rows of penstock": ours.count()}


if __name__ == "__main__":
    typer.run(main)
