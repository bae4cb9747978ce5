"""Bulk publication into one Cassandra node, beside Feast's `materialize` into the same node.

    python -m benchmarks.publish.run [--entities 20000] [--folder var/bench/publish] [--without-feast]

A row is the ten values of one view of one entity. Paths:

    python      one process: Arrow batches to bytes, tokens, statements, acknowledgements
    spark       the same from the tasks of a local session of two cores, from a Parquet file of evaluated rows
    publish     a whole publication of each view from its Delta table: evaluation, intent, writes, read-back, ledger, its copy
    rebuild     a store that was lost filled again from the lake: evaluation, writes, a thousand keys compared, ledger
    feast       `materialize` of Feast's local engine, from a Parquet file

Tables are emptied before each run. Client CPU is that of this process and all below it (JVM and Python workers), node CPU
is read two seconds after the last acknowledgement. The node is for load (G1, 1.2 GB) and has compiled its code: it has
taken a few hundred thousand rows before. Warm runs are the median of those after the first.

Everything is measured on a node that syncs its commit log before it acknowledges (`batch`, as embedded nodes are started,
ADR 0008) and on one that syncs every ten seconds (`periodic`, Cassandra's default, as clusters with replicas have it).
"""

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.publish.data import NOW, USER, VIEWS, WIDTH, evaluated, events, make_lake, view
from benchmarks.serving.run import ROOT, cpu_seconds, peers, project
from penstock.clock import FixedClock
from penstock.config import Settings
from penstock.offline.lake import Lake
from penstock.online.cassandra import CassandraStore
from penstock.online.cassandra.schema import entity_table
from penstock.online.store import OnlineStore
from penstock.publication.encode import Target, writes_of
from penstock.publication.held_store import with_store
from penstock.publication.paced import Patience, paced
from penstock.publication.publish import publish
from penstock.publication.rebuild import rebuild
from penstock.publication.write_values import ENCODE_AT_ONCE, write_values
from penstock.runtime import node_launch
from penstock.runtime.node_status import cassandra_endpoint, node_status
from penstock.runtime.nodes import node_down, node_up
from penstock.runtime.spark import spark_session, stop_session

_SETTLE_S = 2.0
_WARM_ROWS = 300_000
_LABELS = ("first", "warm")
screen = Console(stderr=True)


@dataclass(frozen=True)
class Cell:
    """What one run did; CPU in microseconds per row."""

    path: str
    run: str
    commit_log: str
    views: int
    rows: int
    seconds: float
    client_cpu: float
    node_cpu: float

    @property
    def per_s(self) -> float:
        return self.rows / self.seconds


class Bench:
    """A node for load, the store on it, and what was measured."""

    def __init__(self, settings: Settings, entities: int, commit_log: str) -> None:
        self.entities, self.commit_log, self.cells = entities, commit_log, list[Cell]()
        self.connect = partial(CassandraStore.connect, *cassandra_endpoint(settings), settings)
        status = node_status(settings)
        assert status.pid is not None
        self.port, self.node, self._settings = status.port, status.pid, settings

    def run(self, path: str, run: str, views: int, do: Callable[[], None]) -> None:
        """Measure `do`, which writes that many views of all entities."""
        with_store(self.connect, self._empty)
        node, cpu, begun = cpu_seconds(self.node), _tree_cpu(), time.monotonic()
        do()
        seconds, cpu = time.monotonic() - begun, _tree_cpu() - cpu
        time.sleep(_SETTLE_S)
        node, rows = cpu_seconds(self.node) - node, views * self.entities
        self.add(Cell(path, run, self.commit_log, views, rows, seconds, cpu / rows * 1e6, node / rows * 1e6))

    def add(self, cell: Cell) -> None:
        """Keep and show what was measured."""
        self.cells.append(cell)
        screen.print(_line(cell))

    async def _empty(self, store: OnlineStore) -> None:
        assert isinstance(store, CassandraStore)
        await store.prepare([USER.name])
        for table in (entity_table(USER.name), "ledger", "intents"):
            name = f"{self._settings.cassandra.keyspace}.{table}"
            await store._session.query(f"TRUNCATE {name}")


def _tree_cpu() -> float:
    """CPU-seconds of this process and all below it, ended ones included."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += sum(process.cpu_times()[:4])  # user, system, and those of children that were waited for
        except psutil.NoSuchProcess:
            continue
    return total


def python_runs(bench: Bench, views: int, repeats: int) -> None:
    """One process, one session, one event loop."""
    batches = {n: evaluated(bench.entities, n).combine_chunks().to_batches() for n in range(views)}

    async def all_runs() -> None:
        store = await bench.connect()
        await store.prepare([USER.name])

        async def write() -> None:
            for n, of_view in batches.items():
                target = Target.of(view(n), 1)
                async with paced(store, USER.name, Patience(60)) as writer:
                    for batch in of_view:
                        for start in range(0, batch.num_rows, ENCODE_AT_ONCE):
                            await writer.put(writes_of(target, batch.slice(start, ENCODE_AT_ONCE)))

        loop = asyncio.get_running_loop()
        for run in range(repeats):
            # In a thread, which gives its coroutine back to this loop: the session belongs to it.
            measured = partial(
                bench.run, "python", _LABELS[run > 0], views, lambda: asyncio.run_coroutine_threadsafe(write(), loop).result()
            )
            await asyncio.to_thread(measured)
        await store.close()

    asyncio.run(all_runs())


def spark_runs(bench: Bench, settings: Settings, folder: Path, views: int, repeats: int) -> None:
    """The tasks' part of a publication; the first run starts the session."""
    files = {n: folder / f"evaluated_{n}" for n in range(views)}
    for n, of_view in files.items():
        shutil.rmtree(of_view, ignore_errors=True)
        of_view.mkdir(parents=True)
        half = bench.entities // 2
        for part, rows in enumerate((evaluated(bench.entities, n)[:half], evaluated(bench.entities, n)[half:])):
            pq.write_table(rows, of_view / f"{part}.parquet")

    def write() -> None:
        spark = spark_session(settings, "bench")
        for n, of_view in files.items():
            # A task per file, as a shuffle of that size would have.
            rows = spark.read.parquet(str(of_view)).repartition(2)
            written, _, _ = write_values(rows, view(n), bench.connect, 1, 60.0)
            assert written == bench.entities

    for run in range(repeats):
        bench.run("spark", _LABELS[run > 0], views, write)


def publish_runs(bench: Bench, settings: Settings, folder: Path, views: int, repeats: int) -> None:
    """Whole publications, each into an empty store as a first one is: what is online is another fill each time. Then rebuilds of it."""
    shutil.rmtree(folder / "lake", ignore_errors=True)
    lake, spark = Lake(str(folder / "lake")), spark_session(settings, "bench")
    with screen.status("computing the lake"):
        make_lake(spark, lake, bench.entities, views)
    clock = FixedClock(NOW + timedelta(hours=1))

    def whole(generation: int) -> None:
        for n in range(views):
            done = publish(spark, lake, view(n), [NOW.date()], connect=bench.connect, clock=clock, run_id="bench", generation=generation)
            assert (done.written, len(done.rows)) == (bench.entities, 1)

    def again() -> None:
        for n in range(views):
            done = rebuild(spark, lake, view(n), connect=bench.connect)
            assert done is not None
            assert (done.written, len(done.rows)) == (bench.entities, 1)

    for run in range(repeats):
        bench.run("publish", _LABELS[run > 0], views, partial(whole, run + 1))
    for run in range(repeats):
        bench.run("rebuild", _LABELS[run > 0], views, again)


def feast_run(bench: Bench, folder: Path, peers_folder: Path, views: int) -> None:
    """Feast on the same node, which is warm by now; its start, imports and registry are not counted."""
    source = folder / "events.parquet"
    columns = {("event_timestamp" if name == "event_time" else name): column for name, column in _columns(events(bench.entities))}
    pq.write_table(pa.table(columns), source, coerce_timestamps="us")
    python = peers(peers_folder)
    arguments = [folder / "feast", bench.port, views, source, bench.node]
    line = [str(python), "-m", "benchmarks.publish.feast_materialize", *map(str, arguments)]
    with screen.status("Feast materializes"):
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    said, rows = json.loads(done.stdout.splitlines()[-1]), views * bench.entities
    cpu = [said[name] / rows * 1e6 for name in ("cpu", "node_cpu")]
    bench.add(Cell("feast", "node warm", bench.commit_log, views, rows, said["seconds"], *cpu))


def _columns(table: pa.Table) -> list[tuple[str, pa.ChunkedArray]]:
    return [(name, table[name].cast(pa.float64()) if name.startswith("f") else table[name]) for name in table.column_names]


def _line(cell: Cell) -> str:
    return (
        f"{cell.path}, {cell.commit_log}, {cell.run}: {cell.views} x {cell.rows // cell.views:,} rows in {cell.seconds:.1f} s,"
        f" {cell.per_s:,.0f} rows/s, client {cell.client_cpu:.0f} µs, node {cell.node_cpu:.0f} µs"
    )


def summary(cells: list[Cell]) -> list[Cell]:
    """Of each path, commit log and number of views: the first run, and the median of the later ones."""
    groups: dict[tuple[str, str, int, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.commit_log, cell.path, cell.views, cell.run), []).append(cell)
    found = []
    for mine in groups.values():
        middle = {name: median(getattr(cell, name) for cell in mine) for name in ("seconds", "client_cpu", "node_cpu")}
        found.append(replace(mine[0], run=mine[0].run if len(mine) == 1 else f"{mine[0].run}, median of {len(mine)}", **middle))
    return found


@contextmanager
def node(folder: Path, commit_log: str) -> Iterator[Settings]:
    """A node for load that syncs its commit log this way; down afterwards."""
    settings = project(folder)
    shipped = node_launch._TEMPLATES
    if commit_log == "periodic":
        # No setting of Penstock's, on purpose: without replicas it loses what it has acknowledged.
        shutil.copytree(shipped, folder / "node", dirs_exist_ok=True)
        written = (shipped / "cassandra.yaml").read_text(encoding="utf-8")
        periodic = re.sub(r"(?m)^commitlog_sync: batch$", "commitlog_sync: periodic\ncommitlog_sync_period: 10s", written)
        (folder / "node" / "cassandra.yaml").write_text(periodic, encoding="utf-8")
        node_launch._TEMPLATES = folder / "node"
    try:
        node_up(settings)
        yield settings
    finally:
        stop_session()
        node_down(settings)
        node_launch._TEMPLATES = shipped


def main(
    entities: Annotated[int, typer.Option(help="rows of each view")] = 20_000,
    folder: Annotated[Path, typer.Option(help="where node, lake and results are kept")] = Path("var/bench/publish"),
    peers_folder: Annotated[Path, typer.Option(help="where Feast is installed, or has been")] = Path("var/bench/serving"),
    repeats: Annotated[int, typer.Option(help="runs of each path")] = 4,
    commit_logs: Annotated[str, typer.Option(help="how the node syncs")] = "batch,periodic",
    with_feast: Annotated[bool, typer.Option(help="measure Feast too")] = True,
    paths: Annotated[str, typer.Option(help="python, spark and publish, which rebuild belongs to")] = "python,spark,publish",
) -> None:
    """Measure, and write the table and `results.json`."""
    folder, cells = folder.resolve(), list[Cell]()
    for commit_log in commit_logs.split(","):
        with node(folder / commit_log, commit_log) as settings:
            bench = Bench(settings, entities, commit_log)
            python_runs(bench, VIEWS, max(1, _WARM_ROWS // (VIEWS * entities)))  # warms the node
            bench.cells.clear()
            if "python" in paths:
                for views in (2, VIEWS):
                    python_runs(bench, views, repeats)
            if "spark" in paths:
                spark_runs(bench, settings, folder, 2, repeats)
            if "publish" in paths:
                publish_runs(bench, settings, folder, 2, repeats)
            stop_session()  # its workers would spend CPU on heartbeats
            if with_feast:
                feast_run(bench, folder, peers_folder.resolve(), 2)
            cells += bench.cells
    runs = [{**asdict(cell), "features_per_s": cell.per_s * WIDTH} for cell in cells]
    (folder / "results.json").write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    shown = summary(cells)
    feast = {cell.commit_log: cell for cell in shown if cell.path == "feast"}
    table = Table(
        "commit log",
        "path",
        "run",
        "views",
        "s",
        "rows/s",
        "features/s",
        "client µs/row",
        "node µs/row",
        "beside Feast: rows/s, client, node",
    )
    for cell in shown:
        numbers = [f"{cell.per_s:,.0f}", f"{cell.per_s * WIDTH:,.0f}", f"{cell.client_cpu:,.0f}", f"{cell.node_cpu:,.0f}"]
        table.add_row(cell.commit_log, cell.path, cell.run, str(cell.views), f"{cell.seconds:.1f}", *numbers, _beside(cell, feast))
    Console(width=170).print(table)


def _beside(cell: Cell, feast: dict[str, Cell]) -> str:
    other = feast.get(cell.commit_log)
    if other is None or other is cell:
        return ""
    return f"{cell.per_s / other.per_s:.0f}x, 1/{other.client_cpu / cell.client_cpu:.0f}, 1/{other.node_cpu / cell.node_cpu:.0f}"


if __name__ == "__main__":
    typer.run(main)
