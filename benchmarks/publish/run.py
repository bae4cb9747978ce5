"""Bulk publication into one Cassandra node, beside Feast's `materialize` into the same node.

    python -m benchmarks.publish.run [--entities 20000] [--folder var/bench/publish] [--without-feast]

A row is the ten values of one view of one entity. Paths:

    python      one process: Arrow batches to bytes, tokens, statements, acknowledgements
    spark       the same from the tasks of a local session of two cores, from a Parquet file of evaluated rows
    publish     a whole publication of each view from its Delta table: evaluation, intent, writes, read-back, ledger, its copy
    feast       `materialize` of Feast's local engine, from a Parquet file

Tables are emptied before each run. Client CPU is that of this process and all below it (JVM and Python workers), node CPU
is read two seconds after the last acknowledgement. The node is for load (G1, 1.2 GB) and syncs its commit log in batches
before it acknowledges (ADR 0008); warm runs are the median of those after the first.
"""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import acsylla
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
from penstock.publication.publish import ENCODE_AT_ONCE, publish, write_values
from penstock.runtime.node_status import cassandra_endpoint, node_status
from penstock.runtime.nodes import node_down, node_up
from penstock.runtime.spark import spark_session, stop_session

_SETTLE_S = 2.0
screen = Console(stderr=True)


@dataclass(frozen=True)
class Cell:
    """What one run did; CPU in microseconds per row."""

    path: str
    run: str
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

    def __init__(self, settings: Settings, entities: int) -> None:
        self.entities, self.cells = entities, list[Cell]()
        self.connect = partial(CassandraStore.connect, *cassandra_endpoint(settings), settings)
        status = node_status(settings)
        assert status.pid is not None
        self.port, self._node, self._settings = status.port, status.pid, settings

    def run(self, path: str, run: str, views: int, do: Callable[[], None], client: Callable[[], float] | None = None) -> None:
        """Measure `do`, which writes that many views of all entities; `client`: CPU-seconds, where not this process's tree."""
        with_store(self.connect, self._empty)
        rows, of_client = views * self.entities, client or _tree_cpu
        node, cpu, begun = cpu_seconds(self._node), of_client(), time.monotonic()
        do()
        seconds, cpu = time.monotonic() - begun, of_client() - cpu
        time.sleep(_SETTLE_S)
        cell = Cell(path, run, views, rows, seconds, cpu / rows * 1e6, (cpu_seconds(self._node) - node) / rows * 1e6)
        self.cells.append(cell)
        screen.print(_line(cell))

    async def _empty(self, store: OnlineStore) -> None:
        assert isinstance(store, CassandraStore)
        await store.prepare([USER.name])
        for table in (entity_table(USER.name), "ledger", "intents"):
            name = f"{self._settings.cassandra.keyspace}.{table}"
            await store._session.execute(acsylla.create_statement(f"TRUNCATE {name}", timeout=60.0))


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
            label = "cold" if run == 0 else "warm"
            measured = partial(bench.run, "python", label, views, lambda: asyncio.run_coroutine_threadsafe(write(), loop).result())
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
        bench.run("spark", "cold" if run == 0 else "warm", views, write)


def publish_runs(bench: Bench, settings: Settings, folder: Path, views: int, repeats: int) -> None:
    """Whole publications, each into an empty store as a first one is: what is online is another fill each time."""
    shutil.rmtree(folder / "lake", ignore_errors=True)
    lake, spark = Lake(str(folder / "lake")), spark_session(settings, "bench")
    with screen.status("computing the lake"):
        make_lake(spark, lake, bench.entities, views)
    clock = FixedClock(NOW + timedelta(hours=1))

    def whole(generation: int) -> None:
        for n in range(views):
            done = publish(spark, lake, view(n), [NOW.date()], connect=bench.connect, clock=clock, run_id="bench", generation=generation)
            assert (done.written, len(done.rows)) == (bench.entities, 1)

    for run in range(repeats):
        bench.run("publish", "cold" if run == 0 else "warm", views, partial(whole, run + 1))


def feast_run(bench: Bench, folder: Path, peers_folder: Path, views: int) -> None:
    """Feast on the same node, which is warm by now; its start, imports and registry are not counted."""
    source, said = folder / "events.parquet", dict[str, float]()
    columns = {("event_timestamp" if name == "event_time" else name): column for name, column in _columns(events(bench.entities))}
    pq.write_table(pa.table(columns), source, coerce_timestamps="us")
    python = peers(peers_folder)
    line = [str(python), "-m", "benchmarks.publish.feast_materialize", str(folder / "feast"), str(bench.port), str(views), str(source)]

    def materialize() -> None:
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
        said.update(json.loads(done.stdout.splitlines()[-1]))

    bench.run("feast", "warm node", views, materialize, client=lambda: said.get("cpu", 0.0))
    cell = bench.cells.pop()
    bench.cells.append(Cell(cell.path, cell.run, views, cell.rows, said["seconds"], cell.client_cpu, cell.node_cpu))


def _columns(table: pa.Table) -> list[tuple[str, pa.ChunkedArray]]:
    return [(name, table[name].cast(pa.float64()) if name.startswith("f") else table[name]) for name in table.column_names]


def _line(cell: Cell) -> str:
    return (
        f"{cell.path}, {cell.run}: {cell.views} x {cell.rows // cell.views:,} rows in {cell.seconds:.1f} s, {cell.per_s:,.0f} rows/s,"
        f" client {cell.client_cpu:.0f} µs, node {cell.node_cpu:.0f} µs"
    )


def summary(cells: list[Cell]) -> list[Cell]:
    """Of each path and number of views: the first run, and the median of the later ones."""
    found = []
    for path, views, run in dict.fromkeys((cell.path, cell.views, cell.run) for cell in cells):
        mine = [cell for cell in cells if (cell.path, cell.views, cell.run) == (path, views, run)]
        middle = [median(getattr(cell, name) for cell in mine) for name in ("seconds", "client_cpu", "node_cpu")]
        found.append(Cell(path, run if len(mine) == 1 else f"{run}, median of {len(mine)}", views, mine[0].rows, *middle))
    return found


def main(
    entities: Annotated[int, typer.Option(help="rows of each view")] = 20_000,
    folder: Annotated[Path, typer.Option(help="where node, lake and results are kept")] = Path("var/bench/publish"),
    peers_folder: Annotated[Path, typer.Option(help="where Feast is installed, or has been")] = Path("var/bench/serving"),
    repeats: Annotated[int, typer.Option(help="runs of each path")] = 4,
    with_feast: Annotated[bool, typer.Option(help="measure Feast too")] = True,
) -> None:
    """Measure, and write the table and `results.json`."""
    folder = folder.resolve()
    settings = project(folder)
    node_up(settings)
    try:
        bench = Bench(settings, entities)
        for views in (2, VIEWS):
            python_runs(bench, views, repeats)
        spark_runs(bench, settings, folder, 2, repeats)
        publish_runs(bench, settings, folder, 2, repeats)
        stop_session()
        if with_feast:
            feast_run(bench, folder, peers_folder.resolve(), 2)
    finally:
        stop_session()
        node_down(settings)
    shown = summary(bench.cells)
    runs = [{**asdict(cell), "features_per_s": cell.per_s * WIDTH} for cell in bench.cells]
    (folder / "results.json").write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    table = Table("path", "run", "views", "rows", "s", "rows/s", "features/s", "client µs/row", "node µs/row", title="commit log: batch")
    for cell in shown:
        numbers = [f"{cell.per_s:,.0f}", f"{cell.per_s * WIDTH:,.0f}", f"{cell.client_cpu:,.0f}", f"{cell.node_cpu:,.0f}"]
        table.add_row(cell.path, cell.run, str(cell.views), f"{cell.rows:,}", f"{cell.seconds:.1f}", *numbers)
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
