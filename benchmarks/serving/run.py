"""The gateway beside Feast's feature server: the same requests, one node, everything on the same cores, one server at a time.

    python -m benchmarks.serving.run [--entities 1000000] [--folder var/bench/serving] [--without-feast]

Keys are drawn by Zipf's law. A closed loop finds the best of some numbers of connections; latency is then measured in an open
loop at a quarter of the server's own best rate, from the moment a request was due. CPU is that of the server's processes and of
the node, per answered request; the node's is also told at one rate for all, less what it takes when nobody asks. Feast's tables
hold fewer entities than ours, which is in its favour.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate
from pathlib import Path
from time import sleep
from typing import Annotated, Any

import psutil
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.serving.definitions import WIDTHS, entity, service
from benchmarks.serving.fill import fill, point
from benchmarks.serving.processes import await_ready
from benchmarks.serving.processes import gateway as gateway_process
from penstock.config import Settings, load_settings
from penstock.online.cassandra import CassandraStore
from penstock.online.codec import encode_key
from penstock.online.ledger import FIRST_GENERATION
from penstock.online.store import Slot
from penstock.runtime.node_status import NodeStatus, cassandra_endpoint, node_status
from penstock.runtime.nodes import node_down, node_up
from penstock.serving.access import local_key

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SIZES = (1, 10, 100)
_BODIES = 2_000
_ZIPF = 1.1
_WARM_S = 20.0
_PORT, _FEAST_PORT = 8191, 6566
_FEAST_ENTITIES = 20_000

# Side by side; a gateway turns away what would be more entities at once than it can answer in time.
_CONNECTIONS = {1: (8, 16, 24), 10: (4, 8, 10), 100: (1, 2)}
_CONNECTIONS_OF_FEAST = {1: (1, 8, 16), 10: (1, 8, 16), 100: (1, 2, 8)}
screen = Console(stderr=True)


@dataclass(frozen=True)
class Cell:
    """What one server did with requests of one size; times in milliseconds."""

    server: str
    entities: int
    features: int
    connections: int
    per_s: float
    p50: float
    p95: float
    p99: float
    server_cpu: float
    node_cpu: float
    bytes: int
    rate: float | None = None


def project(folder: Path) -> Settings:
    """A project's folder with an embedded node for load."""
    (folder / "conf").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "conf" / "base.yaml", folder / "conf" / "base.yaml")
    (folder / "conf" / "local.yaml").write_text(
        f"cassandra: {{heap: 1200M, small: false, keyspace: bench}}\ngateway: {{port: {_PORT}}}\n", encoding="utf-8"
    )
    return load_settings(folder)


async def fill_node(settings: Settings, entities: int) -> None:
    """Write what is served, if it is not there: `entities` of 50 features, a tenth as many of 300."""
    store = await CassandraStore.connect(*cassandra_endpoint(settings), settings)
    now = datetime.now(UTC)
    try:
        for features in WIDTHS:
            mine = entities if features == min(WIDTHS) else entities // 10
            await store.prepare([entity(features).name])
            slot = Slot(f"view_{features}_0", 1, FIRST_GENERATION)
            last = await store.read(entity(features).name, [encode_key([("user_id", "int64")], [mine - 1])], [slot])
            if last[0][0] is None:
                with screen.status(f"writing {mine:,} entities of {features} features"):
                    seconds, cpu = await fill(store, features, mine, now)
                rows = mine * 5
                screen.print(f"{rows:,} rows of {features // 5}: {rows / seconds:,.0f}/s, {cpu / rows * 1e6:.0f} µs of client CPU each")
            await point(store, features, now)
    finally:
        await store.close()


@cache
def bodies(kind: str, size: int, features: int, entities: int) -> list[str]:
    """Requests for `size` distinct entities each, drawn by Zipf's law from all."""
    numbers = random.Random(size)
    ranks = list(accumulate(1 / rank**_ZIPF for rank in range(1, entities + 1)))
    order = list(range(entities))
    numbers.shuffle(order)
    found = []
    for _ in range(max(200, _BODIES // size)):
        users: dict[int, None] = {}
        while len(users) < size:
            users.update(dict.fromkeys(numbers.choices(order, cum_weights=ranks, k=size - len(users))))
        if kind == "columns":
            asked: dict[str, Any] = {"service": service(features), "entities": [{"user_id": user} for user in users], "layout": "columns"}
        else:
            asked = {"feature_service": service(features), "entities": {"user_id": list(users)}, "full_feature_names": True}
        found.append(json.dumps(asked))
    return found


class Server:
    """A server under load, with its processes and the node's."""

    def __init__(self, name: str, port: int, pid: int, node: int, headers: dict[str, str]) -> None:
        self.name, self._port, self._pid, self._node = name, port, pid, node
        self._headers = {"content-type": "application/json", **headers}

    def measure(self, kind: str, size: int, features: int, entities: int, connections: Sequence[int], seconds: float) -> list[Cell]:
        """The best closed-loop cell, and the open loop at a quarter of its rate."""
        closed = [self.cell(kind, size, features, entities, n, None, seconds) for n in connections]
        best = max(closed, key=lambda cell: cell.per_s)
        return [best, self.cell(kind, size, features, entities, 64, best.per_s / 4, seconds)]

    def cell(self, kind: str, size: int, features: int, entities: int, n: int, rate: float | None, seconds: float) -> Cell:
        """Load of one kind; `rate`: requests a second, None: the next when the last is answered."""
        path = "/v1/features" if kind == "columns" else "/get-online-features"
        return self._cell(kind, path, bodies(kind, size, features, entities), size, features, n, rate, seconds)

    def _cell(self, kind: str, path: str, asked: list[str], size: int, features: int, n: int, rate: float | None, seconds: float) -> Cell:
        plan = {
            "host": "127.0.0.1",
            "port": self._port,
            "path": path,
            "headers": self._headers,
            "bodies": asked,
            "connections": n,
            "warm_s": seconds / 2,
            "measure_s": seconds,
            "rate": rate,
        }
        before = (cpu_seconds(self._pid), cpu_seconds(self._node))
        line = [sys.executable, "-m", "benchmarks.serving.load"]
        done = subprocess.run(line, cwd=ROOT, input=json.dumps(plan), capture_output=True, text=True, check=True)
        after = (cpu_seconds(self._pid), cpu_seconds(self._node))
        said = json.loads(done.stdout)
        away = said["statuses"].get("503", 0)  # of a gateway that was asked for more than it does side by side: not counted as answered
        if set(said["statuses"]) - {"200", "503"} or (rate is not None and away):
            raise SystemExit(f"{self.name}: {said['statuses']}")
        per_request = [(late - early) / said["all"] * 1000 for early, late in zip(before, after, strict=True)]
        times = [said[name] for name in ("p50_ms", "p95_ms", "p99_ms")]
        name = f"{self.name}, {kind}" + ("" if rate is None else f", open loop at {rate:.1f}/s")
        cell = Cell(name, size, features, n, said["ok_per_s"], *times, *per_request, said["bytes"], rate)
        screen.print(
            f"{name}: {size} x {features}, {n} connections: {cell.per_s:,.1f}/s, p50 {cell.p50} p95 {cell.p95} p99 {cell.p99} ms, "
            f"server {cell.server_cpu:.2f} ms, node {cell.node_cpu:.2f} ms" + (f"; {away:,} turned away" if away else "")
        )
        return cell


def cpu_seconds(pid: int) -> float:
    """CPU-seconds of a process and its children, so far."""
    total = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        times = process.cpu_times()
        total += times.user + times.system
    return total


def idle(pid: int, seconds: float) -> float:
    """CPU-seconds a second of a process that nobody asks."""
    before = cpu_seconds(pid)
    sleep(seconds)
    return (cpu_seconds(pid) - before) / seconds


@contextmanager
def gateway(settings: Settings, node: int, cache_mb: int, workers: int = 1, **variables: str) -> Iterator[Server]:
    """Our gateway as it is shipped, but for its cache, number of workers and whatever else is given as `processes.gateway` takes it."""
    with gateway_process(settings, GATEWAY__CACHE_MB=str(cache_mb), GATEWAY__WORKERS=str(workers), **variables) as process:
        name = f"penstock, {workers} worker(s)" + (", cache warm" if cache_mb else "")
        yield Server(name, settings.gateway.port, process.pid, node, {"authorization": f"Bearer {local_key(settings)}"})


@contextmanager
def feast(python: Path, repo: Path, node: int, workers: int) -> Iterator[Server]:
    """Feast's feature server, tuned: no access log, a cached registry, workers that are not recycled."""
    line = [str(python.with_name("feast")), "serve", "--port", str(_FEAST_PORT), "--workers", str(workers), "--no-access-log"]
    line += ["--max-requests", "100000000", "--registry_ttl_sec", "300"]
    with (repo / "serve.log").open("w") as log, subprocess.Popen(line, cwd=repo, stdout=log, stderr=log) as process:
        try:
            await_ready(f"http://127.0.0.1:{_FEAST_PORT}/health", process)
            yield Server(f"feast, {workers} worker(s)", _FEAST_PORT, process.pid, node, {})
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def peers(folder: Path) -> Path:
    python = folder / "peers" / "bin" / "python"
    if not python.exists():
        with screen.status("installing Feast"):
            subprocess.run([sys.executable, "-m", "venv", str(folder / "peers")], check=True)
            uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), "-r", str(HERE / "peers.txt")]
            subprocess.run(uv, check=True)
    return python


def main(
    entities: Annotated[int, typer.Option(help="entities of 50 features; a tenth as many of 300")] = 1_000_000,
    folder: Annotated[Path, typer.Option(help="where node, projects and peers are kept")] = Path("var/bench/serving"),
    seconds: Annotated[float, typer.Option(help="of each measurement, after half as long to warm up")] = 6.0,
    sizes: Annotated[str, typer.Option(help="entities per request")] = "1,10,100",
    with_feast: Annotated[bool, typer.Option("--with-feast/--without-feast", help="measure Feast too")] = True,
) -> None:
    """Measure, and write the tables and `results.json`."""
    folder = folder.resolve()
    settings = project(folder)
    wanted = [int(size) for size in sizes.split(",")]
    node_up(settings)
    try:
        uvloop.run(fill_node(settings, entities))
        status = node_status(settings)
        assert status.pid is not None
        with screen.status("warming the node up"), gateway(settings, status.pid, cache_mb=0) as server:
            server.cell("columns", 1, 50, entities, 16, None, _WARM_S)  # its JVM is slow for a while, and worst for who comes first
        theirs = _feast(folder, status, wanted, seconds) if with_feast else []
        rates = {size: max(cell.per_s for cell in theirs if cell.entities == size) / 2 for size in wanted} if theirs else {}
        ours = _ours(settings, status.pid, entities, wanted, seconds, rates)
        nobody = idle(status.pid, seconds)
    finally:
        node_down(settings)
    cells = [*theirs, *ours]
    (folder / "results.json").write_text(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n", encoding="utf-8")
    _tell(cells)
    if theirs:
        _compare(theirs, ours, wanted, rates, nobody)


def _feast(folder: Path, node: NodeStatus, sizes: Sequence[int], seconds: float) -> list[Cell]:
    assert node.pid is not None
    python, repo, cells = peers(folder), folder / "feast", []
    if not (repo / "filled").exists():
        with screen.status(f"writing {_FEAST_ENTITIES:,} entities into Feast's tables"):
            line = [str(python), str(HERE / "feast_fill.py"), str(repo), str(node.port), str(_FEAST_ENTITIES)]
            subprocess.run(line, check=True)
        (repo / "filled").touch()
    for workers in (1, 2):
        with feast(python, repo, node.pid, workers) as server:
            for size in sizes:
                cells += server.measure("feast", size, 50, _FEAST_ENTITIES, _CONNECTIONS_OF_FEAST[size], 2 * seconds)
    with feast(python, repo, node.pid, 2) as server:
        for size in sizes:
            half = max(cell.per_s for cell in cells if cell.entities == size) / 2
            cells.append(server.cell("feast", size, 50, _FEAST_ENTITIES, 64, half, 2 * seconds))
    return cells


def _ours(settings: Settings, node: int, entities: int, sizes: Sequence[int], seconds: float, rates: dict[int, float]) -> list[Cell]:
    cells = []
    for workers in (1, 2):
        with gateway(settings, node, cache_mb=0, workers=workers) as server:
            for size in sizes:
                cells += server.measure("feast", size, 50, entities, _CONNECTIONS[size], seconds)
                if workers == 1:
                    cells += server.measure("columns", size, 50, entities, _CONNECTIONS[size][-1:], seconds)
                    wide = min(size, settings.gateway.max_cells // 300)
                    cells += server.measure("columns", wide, 300, entities // 10, _CONNECTIONS[size][-1:], seconds)
                    cells += [server.cell("feast", size, 50, entities, 64, rates[size], 2 * seconds)] if rates else []
    with gateway(settings, node, cache_mb=512) as server:
        for size in sizes:
            cells += server.measure("feast", size, 50, entities, _CONNECTIONS[size][-1:], seconds)
    return cells


def _tell(cells: Sequence[Cell]) -> None:
    table = Table("server", "entities", "features", "conn.", "req/s", "p50", "p95", "p99", "server ms", "node ms", "bytes")
    for cell in cells:
        numbers = [f"{value:,.2f}" for value in (cell.per_s, cell.p50, cell.p95, cell.p99, cell.server_cpu, cell.node_cpu)]
        table.add_row(cell.server, str(cell.entities), str(cell.features), str(cell.connections), *numbers, f"{cell.bytes:,}")
    Console(width=160).print(table)


def _compare(theirs: Sequence[Cell], ours: Sequence[Cell], sizes: Sequence[int], rates: dict[int, float], nobody: float) -> None:
    """Feast over Penstock, in the same JSON, with our cache off."""

    def best(cells: Sequence[Cell], size: int, workers: int | None = None) -> Cell:
        mine = [c for c in cells if (c.entities, c.rate) == (size, None) and c.server.endswith("feast") and "cache" not in c.server]
        return max((c for c in mine if workers is None or f"{workers} worker" in c.server), key=lambda cell: cell.per_s)

    def node_ms(cells: Sequence[Cell], size: int) -> float:
        return next(cell.node_cpu for cell in cells if (cell.entities, cell.rate) == (size, rates[size]))

    table = Table("entities", "req/s, best of each", "one worker each", "CPU of server and node", "node's CPU at one rate", "less idle")
    for size in sizes:
        mine, feasts = best(ours, size), best(theirs, size)
        cpu = (feasts.server_cpu + feasts.node_cpu) / (mine.server_cpu + mine.node_cpu)
        per_s = mine.per_s / feasts.per_s, best(ours, size, 1).per_s / best(theirs, size, 1).per_s
        idle_ms = nobody / rates[size] * 1000
        node, net = [(node_ms(theirs, size) - less) / (node_ms(ours, size) - less) for less in (0.0, idle_ms)]
        table.add_row(str(size), *[f"{ratio:.1f}x" for ratio in (*per_s, cpu, node, net)])
    Console(width=160).print(table)


if __name__ == "__main__":
    typer.run(main)
