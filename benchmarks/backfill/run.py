"""A year of the flight views as one backfill run: what it costs beside the bare computation and beside an empty run.

    python -m benchmarks.backfill.run [--days 365] [--folder var/bench/backfill]

Three processes do, over the same days and views: the computation alone, in Spark, its rows handed to Spark's noop sink; the run that a
backfill starts, with checks, statistics, commits, attempt log and Dagster's events; and that run with empty bodies, so that what remains
is Dagster. The sources are ingested before. CPU seconds are those of each process's whole tree, JVM and Python workers.
"""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

ROOT = Path(__file__).parent.parent.parent
NOW = datetime(2026, 3, 10, 15, 7, tzinfo=UTC)
DAY = timedelta(days=1)
LIMIT = 3.0
screen = Console(stderr=True)


def main(
    days: Annotated[int, typer.Option(help="partitions of each view")] = 365,
    folder: Annotated[Path, typer.Option(help="where the lake and Dagster's storage are made anew")] = Path("var/bench/backfill"),
) -> None:
    """Measure all three, one after the other, and compare."""
    folder = folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    last = NOW.date() - DAY
    first = last - (days - 1) * DAY
    with screen.status("ingesting the sources"):
        found = said("ingest", folder, first, last)
    cells = {}
    for what in ("bare", "run", "empty"):
        with screen.status(f"{what}: {days} days of {found['views']} views"):
            cells[what] = said(what, folder, first, last)
        print(f"{what:10} {cells[what]['cpu']:7.1f} CPU-s {cells[what]['wall']:7.1f} s  {cells[what]['rows']:,} rows", flush=True)
    bare, run, empty = (cells[what]["cpu"] for what in ("bare", "run", "empty"))
    if cells["bare"]["rows"] != cells["run"]["rows"]:
        raise SystemExit(f"the run committed {cells['run']['rows']:,} rows, the bare computation gave {cells['bare']['rows']:,}")
    print(f"run without Dagster / bare: {(run - empty) / bare:.2f} (limit {LIMIT:g}: run <= {LIMIT:g} x {bare:.1f} + {empty:.1f} CPU-s)")


def said(what: str, folder: Path, first: date, last: date) -> dict[str, float]:
    """What a part of `once` said of itself."""
    command = [sys.executable, "-m", "benchmarks.backfill.once", what, str(first), str(last)]
    env = {
        **os.environ,
        "PENSTOCK_CLOCK__NOW": NOW.isoformat(),
        "PENSTOCK_LAKE__PATH": str(folder / "lake"),
        "PENSTOCK_DAGSTER__FIRST_DAY": str(first),
        "DAGSTER_HOME": str(folder / "dagster"),
    }
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    typer.run(main)
