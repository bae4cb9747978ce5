"""What callers of the gateway see while nodes of a ring hang and die, in an open loop and with a publication running.

    python -m benchmarks.serving.ring [--seconds 5] [--rate 50]

    quiet ─► node 2 hangs ─► thawed ─► node 3 is killed ─► started again ─► all hang ─► thawed

Each answer is held against what was acknowledged before it was asked: LOCAL_QUORUM reads must not be older.
"""

import asyncio
import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.serving.items import DEFAULTED, Writer, connected, point
from benchmarks.serving.load import Heard, Load, Plan
from benchmarks.serving.processes import ROOT, gateway
from penstock.config import CassandraSettings, Settings, load_settings
from penstock.runtime.node_status import node_status
from penstock.runtime.nodes import node_down, node_up
from penstock.serving.access import local_key

NODES = 3
KEYS = 2_000
PER_REQUEST = 10
DEADLINE_MS = 200
screen = Console(stderr=True)


@dataclass
class Phase:
    """What was heard while it lasted; `begun` is a moment of `perf_counter`."""

    name: str
    begun: float
    heard: list[Heard] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    old: int = 0
    unlabelled: int = 0

    def at(self, share: float) -> float:
        """Latency in milliseconds that this share of the requests did not exceed."""
        ordered = sorted(one.ms for one in self.heard)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def settings_of(folder: Path, port: int, cql: int) -> Settings:
    """A project's folder with an embedded ring; the gateway's port, and that of CQL."""
    (folder / "conf").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "conf" / "base.yaml", folder / "conf" / "base.yaml")
    (folder / "conf" / "local.yaml").write_text(
        f"cassandra: {{keyspace: ring, replication_factor: {NODES}, port: {cql}}}\ngateway: {{port: {port}}}\n", encoding="utf-8"
    )
    return load_settings(folder)


def pid_of(settings: Settings, index: int) -> int:
    """The process of a node."""
    pid = node_status(settings, index=index, of=NODES).pid
    assert pid is not None, f"node {index} is not running"
    return pid


@contextmanager
def ring(settings: Settings) -> Iterator[Settings]:
    """The nodes, up; yields the settings of those who use them."""
    try:
        for index in range(1, NODES + 1):
            node_up(settings, index=index, of=NODES)
        port = node_status(settings, of=NODES).port
        contacts = tuple(f"127.0.0.{index}" for index in range(1, NODES + 1))
        cassandra = {**settings.cassandra.model_dump(), "mode": "external", "contact_points": contacts, "port": port}
        yield settings.model_copy(update={"cassandra": CassandraSettings(**cassandra)})
    finally:
        for index in range(NODES, 0, -1):
            node_down(settings, index=index, of=NODES)


class Scenario:
    """The course of events; `phases` holds what was heard in each.

    Args:
        embedded: settings of those who run the ring.
        used: settings of those who use it.
        seconds: of each phase.
        rate: requests a second.
        warm_s: seconds before anything happens, for the nodes to compile.
    """

    def __init__(self, embedded: Settings, used: Settings, seconds: float, rate: float, warm_s: float) -> None:
        self._embedded, self._used, self._seconds, self._rate, self._warm_s = embedded, used, seconds, rate, warm_s
        self.phases: list[Phase] = []
        self.recovered_s = 0.0
        numbers = random.Random(1)
        self._asked = [numbers.sample(range(KEYS), PER_REQUEST) for _ in range(500)]

    async def run(self) -> None:
        """Let everything happen."""
        cassandra = self._used.cassandra
        async with connected(self._used, cassandra.contact_points, cassandra.port) as store:
            self.writer = Writer(store, KEYS)
            await self.writer.fill(0)
            await point(store)
            local_key(self._used)  # minted now: a gateway that runs would see it a second later
            with gateway(self._used):
                writing = asyncio.create_task(self.writer.forever())
                try:
                    await self._events()
                finally:
                    writing.cancel()

    async def _events(self) -> None:
        bodies = [
            json.dumps({"service": service, "entities": [{"item": key} for key in keys], "layout": "columns"})
            for n, keys in enumerate(self._asked)
            for service in ["strict" if n % 2 else "lenient"]
        ]
        plan = Plan(
            host="127.0.0.1",
            port=self._used.gateway.port,
            path="/v1/features",
            headers={
                "authorization": f"Bearer {local_key(self._used)}",
                "content-type": "application/json",
                "x-deadline-ms": str(DEADLINE_MS),
            },
            bodies=bodies,
            connections=64,
            warm_s=0,
            measure_s=3600,
            rate=self._rate,
        )
        load = Load(plan, self._hear)
        self._begin("warming up")
        loading = asyncio.create_task(load.run())
        try:
            await asyncio.sleep(self._warm_s)
            await self._during("quiet")
            os.kill(pid_of(self._embedded, 2), signal.SIGSTOP)
            await self._during("node 2 hangs")
            os.kill(pid_of(self._embedded, 2), signal.SIGCONT)
            await self._during("node 2 is back")
            os.kill(pid_of(self._embedded, 3), signal.SIGKILL)
            await self._during("node 3 is dead")
            self._begin("node 3 starts again")
            await asyncio.to_thread(node_up, self._embedded, index=3, of=NODES)
            await self._during("node 3 is back")
            pids = [pid_of(self._embedded, index) for index in range(1, NODES + 1)]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                await self._during("all hang")
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
            self._begin("all are back")
            await self._until_recovered()
            await self._during("after all")
        finally:
            load.stop = True
            await loading

    def _begin(self, name: str) -> None:
        self.phases.append(Phase(name, perf_counter()))
        screen.print(name)

    async def _during(self, name: str) -> None:
        self._begin(name)
        await asyncio.sleep(self._seconds)

    async def _until_recovered(self) -> None:
        """Until the requests of a tenth of a second all got values again."""
        begun, phase = perf_counter(), self.phases[-1]

        def seen() -> tuple[int, int]:
            return len(phase.heard), sum(phase.failed.values()) + phase.labels["STALE"] + phase.labels["DEFAULT"]

        while perf_counter() - begun < 60:
            before = seen()
            await asyncio.sleep(0.1)
            after = seen()
            if after[0] > before[0] and after[1] == before[1]:
                break
        self.recovered_s = perf_counter() - begun

    def _hear(self, heard: Heard) -> None:
        phase = self.phases[-1]
        if phase.name == "after all" and heard.sent < phase.begun:  # asked while all hung, given up within its deadline
            phase = self.phases[-2]
        phase.heard.append(heard)
        if heard.status != 200:
            code = json.loads(heard.body)["error"]["code"] if heard.body else "no answer"
            phase.failed[f"{heard.status} {code}"] += 1
            return
        answer = json.loads(heard.body)
        keys, statuses, values = self._asked[heard.number], answer["statuses"][0], answer["values"][0]
        labels = [statuses] * len(keys) if isinstance(statuses, str) else statuses
        for key, label, value in zip(keys, labels, values, strict=True):
            phase.labels[label] += 1
            if label == "PRESENT" and (value is None or value < self.writer.at_least(key, heard.sent)):
                phase.old += 1
            if label not in ("PRESENT", "STALE", "DEFAULT") or (label == "DEFAULT") != (value == DEFAULTED):
                phase.unlabelled += 1


def run(folder: Path, seconds: float, rate: float, warm_s: float, ports: tuple[int, int] = (8192, 9142)) -> Scenario:
    """Start a ring and a gateway in `folder`, let everything happen, end all."""
    embedded = settings_of(folder, *ports)
    with ring(embedded) as used:
        scenario = Scenario(embedded, used, seconds, rate, warm_s)
        uvloop.run(scenario.run())
    return scenario


def main(
    folder: Annotated[Path, typer.Option(help="where the ring is kept")] = Path("var/bench/ring"),
    seconds: Annotated[float, typer.Option(help="of each phase")] = 5.0,
    rate: Annotated[float, typer.Option(help="requests a second, of 10 entities each")] = 50.0,
    warm_s: Annotated[float, typer.Option(help="seconds before anything happens, for the nodes to compile")] = 60.0,
) -> None:
    """Let it happen, and print what callers saw."""
    scenario = run(folder.resolve(), seconds, rate, warm_s)
    table = Table("phase", "requests", "failed", "p50", "p95", "p99", "max ms", "labels", "too old", "unlabelled")
    for phase in scenario.phases:
        times = [f"{phase.at(share):.1f}" for share in (0.5, 0.95, 0.99, 1.0)]
        labels = ", ".join(f"{n} {label}" for label, n in phase.labels.items())
        failed = ", ".join(f"{n} x {code}" for code, n in phase.failed.items())
        table.add_row(phase.name, str(len(phase.heard)), failed or "0", *times, labels, str(phase.old), str(phase.unlabelled))
    Console(width=180).print(table)
    writer = scenario.writer
    print(f"recovered {scenario.recovered_s:.1f} s after all were back; {writer.written:,} values written, {writer.failed} tried again")


if __name__ == "__main__":
    typer.run(main)
