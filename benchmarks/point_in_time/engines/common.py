"""What every engine's process does: run some times, tell wall and CPU seconds of its process tree each time.

Imports nothing of Penstock: peers run in an environment of their own.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

FEATURES = [f"f{n}" for n in range(10)]
VIEWS = [f"view_{n}" for n in range(3)]
TTL_DAYS = 30


def arguments() -> tuple[Path, Path, int, int]:
    """Folder of the data, folder of the result, runs, cores."""
    root, out, runs, cores = sys.argv[1:5]
    return Path(root), Path(out), int(runs), int(cores)


def files_of(root: Path, view: str) -> str:
    """The Parquet files of a view, as a pattern."""
    return str(root / "lake" / "features" / view / "v1" / "*" / "*.parquet")


def measure(runs: int, work: Callable[[], None]) -> None:
    """Run `work` some times; a line of JSON on stdout for each."""
    for run in range(runs):
        cpu, wall = cpu_seconds(), time.perf_counter()
        work()
        line = {"run": run, "wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
        print(json.dumps(line), flush=True)


def cpu_seconds() -> float:
    """User and system time of this process, of those below it and of those they waited for."""
    this = psutil.Process()
    total = 0.0
    for process in [this, *this.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
