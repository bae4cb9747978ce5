"""What the statistics of every day add to the computation whose rows they describe.

    python -m benchmarks.backfill.statistics_of_days [--days 120] [--rounds 4] [--folder var/bench/statistics]

In each round the same days of all flight views are computed, checked and committed twice, in a process and an empty lake each: without
statistics and with them. Dagster has no part in it: its own CPU varies by more than is measured here. The order changes from round to
round; CPU seconds are those of each process's whole tree, JVM and Python workers, from when Spark has started.
"""

import shutil
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.backfill.run import DAY, NOW, said

LIMIT = 0.15
screen = Console(stderr=True)


def main(
    days: Annotated[int, typer.Option(help="partitions of each view")] = 120,
    rounds: Annotated[int, typer.Option(min=1, help="how often both are measured")] = 4,
    folder: Annotated[Path, typer.Option(help="where the lakes are made anew")] = Path("var/bench/statistics"),
) -> None:
    """Measure both in turns, and compare."""
    folder = folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    sources, of_round = folder / "sources", folder / "round"
    last = NOW.date() - DAY
    first = last - (days - 1) * DAY
    with screen.status("ingesting the sources"):
        said("ingest", sources, first, last)
    spent: dict[str, list[float]] = {"undescribed": [], "described": []}
    for number in range(1, rounds + 1):
        for what in sorted(spent, reverse=number % 2 == 1):
            shutil.rmtree(of_round, ignore_errors=True)
            shutil.copytree(sources, of_round)
            with screen.status(f"round {number} of {rounds}: {what}"):
                found = said(what, of_round, first, last)
            spent[what].append(found["cpu"])
            print(f"{what:12} {found['cpu']:7.1f} CPU-s {found['wall']:7.1f} s  {found['rows']:,} rows", flush=True)
    added = [(after - before) / before for before, after in zip(*spent.values(), strict=True)]
    print(
        f"statistics of every day: {median(added):.1%} more CPU (median of {', '.join(f'{one:.1%}' for one in added)}; limit {LIMIT:.0%})"
    )


if __name__ == "__main__":
    typer.run(main)
