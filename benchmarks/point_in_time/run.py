"""Point-in-time joins side by side: the same files, one after the other on one machine, results compared row for row.

    python -m benchmarks.point_in_time.run [--sets main,flights,skew,keys,observed,scale] [--folder var/bench] [--runs 2]

Peers are installed into an environment of their own the first time. CPU seconds are those of the whole process tree,
memory is the peak of its proportional set size, sampled four times a second. The first run of an engine is its cold one.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.point_in_time.data import Size, flights, generate
from benchmarks.point_in_time.views import FLIGHTS

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
_COMPARED = 2_000_000  # results of more rows are not compared
screen = Console(stderr=True)


@dataclass(frozen=True)
class Engine:
    """How one engine is run: its module, what it is told, and whether it is a peer."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    is_peer: bool = False


COLUMNAR = Engine("penstock columnar", "penstock_engine", ("columnar", "event"))
FRAME = Engine("penstock columnar, DataFrame spine", "penstock_engine", ("columnar", "event", "frame"))
OBSERVED = Engine("penstock columnar, observed", "penstock_engine", ("columnar", "observed"))
SQL = Engine("penstock sql", "penstock_engine", ("sql", "event"))
SPARK = Engine("spark union + window", "spark_engine")
DUCKDB = Engine("duckdb asof", "duckdb_engine", is_peer=True)
POLARS = Engine("polars join_asof", "polars_engine", is_peer=True)
FEAST_SPARK = Engine("feast 0.67 spark", "feast_engine", ("spark",), is_peer=True)
FEAST_DUCKDB = Engine("feast 0.67 duckdb", "feast_engine", ("duckdb",), is_peer=True)

ALL = [COLUMNAR, FRAME, SQL, SPARK, DUCKDB, POLARS, FEAST_DUCKDB, FEAST_SPARK]

# Data, None for the flights project's; cores; engines.
SETS: dict[str, list[tuple[Size | None, int, list[Engine]]]] = {
    "main": [(Size(), 2, ALL)],
    "flights": [(None, 2, ALL)],
    "keys": [(Size(key="string"), 2, [COLUMNAR, DUCKDB, POLARS])],
    "skew": [(Size(hot=0.2), 2, [COLUMNAR, DUCKDB, POLARS])],
    "observed": [(Size(retractions=0.01), 2, [COLUMNAR, OBSERVED])],
    "scale": [
        (Size(), 1, [COLUMNAR]),
        (Size(scale=4), 2, [COLUMNAR, DUCKDB, POLARS]),
        (Size(scale=16), 2, [COLUMNAR]),
    ],
}


@dataclass(frozen=True)
class Measured:
    """What one engine took: seconds, and megabytes at most. `warm` is the last run, `cold` the first."""

    data: str
    cores: int
    engine: str
    cold_wall: float
    cold_cpu: float
    warm_wall: float
    warm_cpu: float
    peak_mb: float
    rows: int
    differs: str


def main(
    sets: Annotated[str, typer.Option(help=f"which, of {', '.join(SETS)}")] = ",".join(SETS),
    folder: Annotated[Path, typer.Option(help="where data and results are kept")] = ROOT / "var" / "bench",
    runs: Annotated[int, typer.Option(min=2, help="runs of each engine in one process; the last is the warm one")] = 2,
) -> None:
    """Measure, print a table and write results.json."""
    wanted = [one for name in sets.split(",") for one in SETS[name]]
    peers = _peers(folder)
    measured = []
    for size, cores, engines in wanted:
        name = FLIGHTS if size is None else size.name
        with screen.status(f"generating {name}"):
            data = flights(folder) if size is None else generate(folder, size)
        reference: pa.Table | None = None
        for engine in engines:
            with screen.status(f"{name}, {cores} cores: {engine.name}"):
                out = folder / "out" / engine.name.replace(" ", "-").replace(",", "")
                one, rows = _measure(engine, data, out, runs, cores, peers)
            if rows is not None and reference is None:
                reference = rows
            measured.append(Measured(**{**one, "differs": _differs(reference, rows)}))
            screen.print(_line(measured[-1]))
            shutil.rmtree(out, ignore_errors=True)
    screen.print(_table(measured))
    (folder / "results.json").write_text(json.dumps([asdict(one) for one in measured], indent=2) + "\n")


def _peers(folder: Path) -> Path:
    """The Python of the peers' environment."""
    home = folder / "peers"
    python = home / "bin" / "python"
    if not python.exists():
        with screen.status("installing the peers"):
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), "-r", str(HERE / "peers.txt")]
            subprocess.run(uv, check=True)
    return python


def _measure(engine: Engine, data: Path, out: Path, runs: int, cores: int, peers: Path) -> tuple[dict[str, object], pa.Table | None]:
    python = str(peers) if engine.is_peer else sys.executable
    command = [
        python,
        "-m",
        f"benchmarks.point_in_time.engines.{engine.module}",
        str(data),
        str(out),
        str(runs),
        str(cores),
        *engine.arguments,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": str(cores), "OMP_NUM_THREADS": str(cores)}
    log = out.parent / f"{out.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as err, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, env=environment, cwd=ROOT) as process:
        memory = _Memory(process.pid)
        memory.start()
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout.read().splitlines() if line.startswith(b"{")]
        process.wait()
        memory.stop()
    if process.returncode or len(lines) != runs:
        raise SystemExit(f"{engine.name} ended with {process.returncode}; see {log}")
    counted = ds.dataset(out, format="parquet").count_rows()
    cold, warm = lines[0], lines[-1]
    return {
        "data": data.name,
        "cores": cores,
        "engine": engine.name,
        "cold_wall": cold["wall"],
        "cold_cpu": cold["cpu"],
        "warm_wall": warm["wall"],
        "warm_cpu": warm["cpu"],
        "peak_mb": memory.peak / 1e6,
        "rows": counted,
    }, (_rows(out) if counted <= _COMPARED else None)


class _Memory(threading.Thread):
    """The greatest proportional set size of a process and those below it."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._process = psutil.Process(pid)
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.25):
            self.peak = max(self.peak, self._now())

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _now(self) -> int:
        total = 0
        try:
            for process in [self._process, *self._process.children(recursive=True)]:
                total += process.memory_full_info().pss
        except psutil.Error:
            pass  # one ended while it was looked at: the next look counts
        return total


def _rows(out: Path) -> pa.Table:
    """The result in order of spine_id: that and the features, plain types."""
    rows = ds.dataset(out, format="parquet").to_table()
    names = [name for name in rows.schema.names if "__" in name]
    rows = rows.select(["spine_id", *sorted(names)])
    kinds = [pa.string() if pa.types.is_large_string(field.type) else field.type for field in rows.schema]
    return rows.cast(pa.schema(list(zip(rows.schema.names, kinds, strict=True)))).sort_by("spine_id")


def _differs(reference: pa.Table | None, rows: pa.Table | None) -> str:
    """How many rows differ from the first engine's, in words."""
    if reference is None or rows is None:
        return "not compared"
    if reference is rows:
        return "reference"
    if rows.num_rows != reference.num_rows:
        return f"{rows.num_rows:,} rows for {reference.num_rows:,}"
    differ = pc.not_equal(rows["spine_id"], reference["spine_id"])
    for name in reference.schema.names[1:]:
        mine, theirs = reference[name], rows[name].cast(reference.schema.field(name).type)
        both = pc.fill_null(pc.not_equal(mine, theirs), False)
        differ = pc.or_(differ, pc.or_(both, pc.not_equal(pc.is_null(mine), pc.is_null(theirs))))
    count = pc.sum(differ.cast(pa.int64())).as_py()
    return "equal" if count == 0 else f"{count:,} rows differ"


def _line(one: Measured) -> str:
    return f"{one.data:20} {one.engine:30} warm {one.warm_cpu:7.1f} CPU-s {one.warm_wall:7.1f} s  {one.peak_mb:7.0f} MB  {one.differs}"


def _table(measured: list[Measured]) -> Table:
    table = Table("data", "cores", "engine", "CPU-s warm", "wall warm", "CPU-s cold", "wall cold", "peak MB", "against the first", box=None)
    for one in measured:
        numbers = (one.warm_cpu, one.warm_wall, one.cold_cpu, one.cold_wall)
        table.add_row(one.data, str(one.cores), one.engine, *[f"{n:.1f}" for n in numbers], f"{one.peak_mb:,.0f}", one.differs)
    return table


if __name__ == "__main__":
    typer.run(main)
