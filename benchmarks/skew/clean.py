"""Clean windows: the flights as they were, published and asked for every few hours, and what was said although nothing was wrong.

    python -m benchmarks.skew.clean [--months 2,5,8,11] [--days 9] [--every 6] [--folder var/bench/skew_clean]

Each block of days begins with an empty lake, is ingested, computed and published step by step as it would have been, late reports and
all, and at each step every aircraft is asked for and the window judged. Counted are windows with a verdict: of each feature, and of each
check of each view. They overlap and aircraft repeat, so the different (key, row) pairs that were served are counted beside them.
What came of a block so far is in `month-<n>.json` of the folder, after each step. A block keeps about one core busy: two commands with
other months may run side by side.

What compares distributions is given each feature as it is served, beside what was served at the same hour a week before, or, in a block's
first week, a day before.
"""

import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import track

from benchmarks.skew.detectors import alarms
from benchmarks.skew.flights import Flights
from benchmarks.skew.results import write_json
from benchmarks.skew.trials import settings_in
from benchmarks.skew.views import CLEAN_VIEWS
from penstock.clock import FixedClock
from penstock.contract import FeatureView
from penstock.online.codec import decode_value
from penstock.quality.skew import ENOUGH, Level
from penstock.runtime.nodes import node_down, node_up
from penstock.runtime.spark import stop_session

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
YEAR = 2025
_PORT = 19550  # and the month: blocks may run side by side
screen = Console(stderr=True)


def step(flights: Flights, every: timedelta) -> list[tuple[FeatureView, Any]]:
    """Bring what is known by now online, ask for all of it, and judge the window that begins now."""
    flights.refresh()
    since = flights.clock.now()
    flights.clock.advance(timedelta(minutes=2))
    for view in flights.views:
        flights.ask(view)
    flights.store.ship_feature_log()
    flights.clock.at = since + every
    return list(zip(flights.views, flights.store.judge_skew(since, since + every, keep=False), strict=True))


class Block(msgspec.Struct, kw_only=True):
    """Some days of one month.

    Args:
        month, every_hours: which, and how far apart its steps are.
        steps: so many so far.
        feature_windows: windows of features with a verdict.
        levels: check and what it came to → how often, over views and steps.
        said: what was said although nothing was wrong.
        served, distinct: rows that were served, and different (view, key, event time) among them.
        detectors: of those that compare distributions, how often each spoke; `compared`: of how many columns.
    """

    month: int
    every_hours: int
    steps: int = 0
    feature_windows: int = 0
    levels: dict[str, int] = {}
    said: list[str] = []
    served: int = 0
    distinct: int = 0
    detectors: dict[str, int] = {}


def block(month: int, days: int, every: timedelta, folder: Path, out: Path) -> None:
    """One block, kept after each step."""
    begin = datetime(YEAR, month, 10, tzinfo=UTC)
    settings, clock = settings_in(folder, f"clean_{month}", port=_PORT + month), FixedClock(begin)
    found, levels, detected = Block(month=month, every_hours=every // HOUR), Counter[str](), Counter[str]()
    different: set[tuple[str, str, int]] = set()
    shutil.rmtree(folder, ignore_errors=True)
    node_up(settings)
    try:
        flights = Flights(settings, clock, CLEAN_VIEWS)
        columns: list[dict[FeatureView, list[list[Any]]]] = []
        flights.fill(begin.date() - DAY, begin.date() - DAY)
        for n in track(range(days * (DAY // every)), f"month {month}", console=screen):
            clock.at = begin + n * every
            for view, entry in step(flights, every):
                levels.update(f"{check.name} {check.level}" for check in entry.checks)
                if entry.changes >= ENOUGH:
                    found.feature_windows += sum(rows > 0 for rows in entry.compared.values())
                for check in entry.checks:
                    if check.level in (Level.WARNING, Level.CRITICAL):
                        found.said.append(f"{entry.since:%Y-%m-%d %H:%M} {view.ref}: {check.level} {check.name}: {check.said}")
            columns.append({view: [decode_value(blob).values for blob in flights.held[view].values()] for view in flights.views})
            _compare(columns, DAY // every, detected)
            for view in flights.views:
                different |= {(view.name, repr(key), decode_value(blob).event_time_us) for key, blob in flights.held[view].items()}
                found.served += len(flights.held[view])
            found.steps, found.distinct = n + 1, len(different)
            found.levels, found.detectors = dict(sorted(levels.items())), dict(detected)
            write_json(out, found)
        stop_session()
    finally:
        node_down(settings)
    shutil.rmtree(folder, ignore_errors=True)


def _compare(columns: list[dict[FeatureView, list[list[Any]]]], a_day: int, detected: Counter[str]) -> None:
    """What those that compare distributions say of the last step beside that of a week, else a day, before."""
    back = 7 * a_day if len(columns) > 7 * a_day else a_day
    if len(columns) <= back:
        return
    for view, rows in columns[-1].items():
        before = columns[-1 - back][view]
        for place, feature in enumerate(view.features):
            said = alarms(feature.dtype, [row[place] for row in before], [row[place] for row in rows])
            detected.update(name for name, is_alarm in said.items() if is_alarm)
            detected["compared"] += bool(said)


def main(
    months: Annotated[str, typer.Option(help="in which months a block of days begins")] = "2,5,8,11",
    days: Annotated[int, typer.Option(help="days of each block")] = 9,
    every: Annotated[int, typer.Option(help="hours from step to step")] = 6,
    folder: Annotated[Path, typer.Option(help="where lakes and the node are")] = Path("var/bench/skew_clean"),
) -> None:
    """Judge windows in which nothing is wrong."""
    for month in map(int, months.split(",")):
        out = folder.resolve() / f"month-{month}.json"
        block(month, days, every * HOUR, folder.resolve() / str(month), out)
        print(out.read_text())


if __name__ == "__main__":
    typer.run(main)
