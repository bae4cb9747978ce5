"""Three times what a gateway can do: what those see that are let in, what those that are turned away, and what it takes.

python -m benchmarks.serving.overload [--seconds 60] [--entities 10]
"""

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
import uvloop
from rich.console import Console

from benchmarks.serving.definitions import service
from benchmarks.serving.processes import ROOT, gateway
from benchmarks.serving.run import bodies, fill_node, project
from penstock.config import Settings
from penstock.runtime.nodes import node_down, node_up
from penstock.serving.access import local_key

screen = Console(stderr=True)
_FEATURES, _ENTITIES = 50, 100_000


def load(settings: Settings, asked: list[str], *, rate: float | None, connections: int, seconds: float) -> dict[str, Any]:
    """Load from a process of its own; see `load.Load.run` for what it tells."""
    plan = {
        "host": "127.0.0.1",
        "port": settings.gateway.port,
        "path": "/v1/features",
        "headers": {"content-type": "application/json", "authorization": f"Bearer {local_key(settings)}"},
        "bodies": asked,
        "connections": connections,
        "warm_s": 2.0,
        "measure_s": seconds,
        "rate": rate,
    }
    line = [sys.executable, "-m", "benchmarks.serving.load"]
    done = subprocess.run(line, cwd=ROOT, input=json.dumps(plan), capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


class Memory(threading.Thread):
    """The greatest resident memory of a process, in MB, looked at twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process, self._done = psutil.Process(pid), threading.Event()
        self.seen: list[float] = []

    def run(self) -> None:
        with suppress(psutil.Error):
            while not self._done.wait(0.5):
                self.seen.append(self._process.memory_info().rss / 1e6)

    def stop(self) -> None:
        self._done.set()


def main(
    folder: Annotated[Path, typer.Option(help="where the node is kept")] = Path("var/bench/serving"),
    seconds: Annotated[float, typer.Option(help="of overload")] = 60.0,
    entities: Annotated[str, typer.Option(help="of a request")] = "1,10,100",
    times: Annotated[float, typer.Option(help="how many times what it can do")] = 3.0,
) -> None:
    """Overload a gateway with its shipped settings, its cache off, and print what was seen."""
    settings = project(folder.resolve())
    node_up(settings)
    try:
        uvloop.run(fill_node(settings, _ENTITIES))
        with gateway(settings, GATEWAY__CACHE_MB="0") as process:
            for size in [int(one) for one in entities.split(",")]:
                asked = bodies("columns", size, _FEATURES, _ENTITIES)
                load(settings, asked, rate=None, connections=16, seconds=15)  # the node's JVM takes so long to be warm
                most = load(settings, asked, rate=None, connections=16, seconds=5)
                before = load(settings, asked, rate=most["ok_per_s"] / 4, connections=64, seconds=5)
                memory = Memory(process.pid)
                memory.start()
                over = load(settings, asked, rate=times * most["ok_per_s"], connections=256, seconds=seconds)
                memory.stop()
                after = load(settings, asked, rate=before["ok_per_s"], connections=64, seconds=5)
                screen.print(f"{size} entities of {service(_FEATURES)}: at most {most['ok_per_s']:,.0f}/s (16 connections){_away(most)}")
                for name, told in (("a quarter of it", before), (f"{times:g} times it, {seconds:g} s", over), ("a quarter again", after)):
                    screen.print(f"  {name}: {_say(told)}")
                third = len(memory.seen) // 3 or 1
                screen.print(f"  memory: {max(memory.seen[:third]):.0f} MB in the first third, {max(memory.seen[-third:]):.0f} in the last")
    finally:
        node_down(settings)


def _say(told: dict[str, Any]) -> str:
    said = f"{told['ok_per_s']:,.0f}/s answered, p50 {told['p50_ms']} p95 {told['p95_ms']} p99 {told['p99_ms']} ms{_away(told)}"
    if told["away_p50_ms"] is None:
        return said
    return f"{said}, p50 {told['away_p50_ms']} p95 {told['away_p95_ms']} p99 {told['away_p99_ms']} ms"


def _away(told: dict[str, Any]) -> str:
    away = {status: n for status, n in told["statuses"].items() if status != "200"}
    return f"; turned away {away}" if away else ""


if __name__ == "__main__":
    typer.run(main)
