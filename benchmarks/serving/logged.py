"""What the feature log costs those who ask: two gateways on one node, one that logs and one that does not, asked in turns.

    python -m benchmarks.serving.logged [--sample 0.01] [--rounds 12]

Both run all the while, with their caches off. A round asks each for as long, in an open loop at a quarter of what one can answer, the
one that comes first changing from round to round; told are the medians over the rounds, and those of the ratio within a round.
"""

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.serving.run import Cell, Server, fill_node, gateway, project
from penstock.config import Settings
from penstock.runtime.node_status import node_status
from penstock.runtime.nodes import node_down, node_up

FEATURES = 50
screen = Console(stderr=True)


def rounds_of(off: Server, on: Server, size: int, entities: int, rounds: int, seconds: float) -> list[tuple[Cell, Cell]]:
    """Cells without and with the log, of each round."""

    def ask(server: Server, rate: float | None) -> Cell:
        return server.cell("columns", size, FEATURES, entities, 64 if rate else 8, rate, seconds)

    rate = ask(off, None).per_s / 4
    ask(on, rate)
    found = []
    for n in range(rounds):
        cells = {server: ask(server, rate) for server in ((off, on) if n % 2 else (on, off))}
        found.append((cells[off], cells[on]))
    return found


def tell(size: int, found: list[tuple[Cell, Cell]]) -> Table:
    """A row each of p50, p95, p99 and CPU."""
    table = Table(f"{size} x {FEATURES}, {found[0][0].rate:,.0f}/s", "log off", "log on", "on / off in a round", "least", "most")
    for title, name in (("p50 ms", "p50"), ("p95 ms", "p95"), ("p99 ms", "p99"), ("gateway CPU ms", "server_cpu")):
        pairs = [(getattr(off, name), getattr(on, name)) for off, on in found]
        ratios = [on / off for off, on in pairs]
        numbers = [median(off for off, _ in pairs), median(on for _, on in pairs), median(ratios), min(ratios), max(ratios)]
        table.add_row(title, *[f"{number:.3f}" for number in numbers])
    return table


def _logging(settings: Settings, node: int, number: int, sample: float) -> AbstractContextManager[Server]:
    mine = settings.gateway.model_copy(update={"port": settings.gateway.port + number})
    log = {"FEATURE_LOG__SAMPLE": str(sample), "FEATURE_LOG__FOLDER": f"var/feature_log_{number}"}
    return gateway(settings.model_copy(update={"gateway": mine}), node, cache_mb=0, **log)


def main(
    folder: Annotated[Path, typer.Option(help="where node and projects are kept")] = Path("var/bench/serving"),
    sample: Annotated[float, typer.Option(help="share of entities that is logged")] = 0.01,
    entities: Annotated[int, typer.Option(help="entities of 50 features")] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="rounds of each size")] = 12,
    seconds: Annotated[float, typer.Option(help="of each measurement, after half as long to warm up")] = 8.0,
    sizes: Annotated[str, typer.Option(help="entities per request")] = "1,10",
) -> None:
    """Measure, and print a table for each size."""
    settings = project(folder.resolve())
    node_up(settings)
    try:
        uvloop.run(fill_node(settings, entities))
        node = node_status(settings).pid
        assert node is not None
        with ExitStack() as both:
            off, on = [both.enter_context(_logging(settings, node, number, share)) for number, share in enumerate((0.0, sample))]
            off.cell("columns", 1, FEATURES, entities, 16, None, 2 * seconds)  # the node is slow for a while, and worst for who comes first
            for size in map(int, sizes.split(",")):
                Console(width=160).print(tell(size, rounds_of(off, on, size, entities, rounds, seconds)))
    finally:
        node_down(settings)


if __name__ == "__main__":
    typer.run(main)
