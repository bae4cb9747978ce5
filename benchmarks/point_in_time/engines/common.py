"""What every engine's process does: run some times, tell wall and CPU seconds of its process tree each time.

Imports nothing of Penstock: peers run in an environment of their own.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class View:
    """One view of a data set, as `views.json` tells it.

    Args:
        name: what its features' names begin with.
        folder: of its Parquet files.
        keys: join keys; the spine calls them the same. Name → `int64` or `string`.
        ttl_s: greatest age in seconds.
        features: name → dtype.
    """

    name: str
    folder: str
    keys: dict[str, str]
    ttl_s: int
    features: dict[str, str]

    @property
    def files(self) -> str:
        """Its Parquet files, as a pattern."""
        return f"{self.folder}/*/*.parquet"


def views_of(root: Path) -> list[View]:
    """The views of a data set."""
    listed = json.loads((root / "views.json").read_text())
    return [View(**{**one, "folder": str(root / "lake" / one["folder"])}) for one in listed]


def arguments() -> tuple[Path, Path, int, int]:
    """Folder of the data, folder of the result, runs, cores."""
    root, out, runs, cores = sys.argv[1:5]
    return Path(root), Path(out), int(runs), int(cores)


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
