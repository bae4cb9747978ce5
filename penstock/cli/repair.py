"""`penstock repair`: which partitions late and corrected source rows reach, and computing these again."""

import sys
from collections.abc import Container, Mapping, Sequence
from datetime import date
from typing import Annotated

import msgspec
import typer
from rich.table import Table

import penstock
from penstock.cli.following import compute_days, of_view, running_instance
from penstock.cli.screen import out, print_whole, warn
from penstock.contract import FeatureView
from penstock.offline.logs import AttemptEntry, newest, passed
from penstock.publication.due import contiguous, named
from penstock.publication.repair import Stale
from penstock.store import Store

cli = typer.Typer(no_args_is_help=True, help="Partitions that late and corrected source rows reach.")
Views = Annotated[list[str] | None, typer.Argument(help="feature views, as `name` or `name@version`; default: all")]


@cli.command()
def plan(views: Views = None, as_json: Annotated[bool, typer.Option("--json", help="as JSON, a partition each")] = False) -> None:
    """Look at the newest commits of the sources, and say which partitions they reach. Nothing is computed."""
    store = penstock.open()
    wanted, repairs = store.project.views_named(views), store.repair_plan()
    if as_json:
        mine = {(view.name, view.version) for view in wanted}
        stale = [one for one in repairs.stale if (one.view, one.version) in mine]
        out.print_json(msgspec.json.encode(msgspec.structs.replace(repairs, stale=stale)).decode())
        return
    problems = repairs.problems(wanted)
    warn(problems)
    if not any(repairs.days(view) for view in wanted):
        out.print(_nothing_to_repair(problems))
        return
    table = Table("feature view", "days", "partitions", "because of", "repaired")
    for view in wanted:
        waiting = set(repairs.waiting(view))
        for first, last in contiguous(repairs.days(view)):
            of = [one for one in repairs.stale if (one.view, one.version) == (view.name, view.version) and first <= one.partition <= last]
            days = [one.partition for one in of]
            table.add_row(view.ref, named(days), str(len(of)), _because(of), _by_whom(days, waiting))
    print_whole(table)
    out.print("late or corrected: " + "; ".join(f"{_rows(rows)} of {source}" for source, rows in repairs.late_rows.items()))


@cli.command()
def run(views: Views = None) -> None:
    """Compute all that the plan names again, within the horizon and before it; what changed is published by the sensor.

    Exit code 1: a source cannot be looked at, so it is not known whether all was repaired; a day was refused; or source rows came
    while it was computed, and more is to be repaired.
    """
    store = penstock.open()
    wanted, repairs = store.project.views_named(views), store.repair_plan()
    problems = repairs.problems(wanted)
    warn(problems)
    days: dict[FeatureView, Sequence[date]] = {view: repairs.days(view) for view in wanted if repairs.days(view)}
    if not days:
        out.print(_nothing_to_repair(problems))
        sys.exit(1 if problems else 0)
    with running_instance(store) as control:
        done = compute_days(store, control, {of_view(view): of for view, of in days.items()}, "penstock repair")
    _tell(store, {view: (of, done[of_view(view)]) for view, of in days.items()})
    # A backfill that was under way before may have computed some of the days before their rows came.
    again = store.repair_plan()
    left = {view: of for view in days if (of := sorted(set(again.days(view)).intersection(days[view])))}
    for view, of in left.items():
        out.print(f"{view.ref}: {len(of)} partition(s) are still to be repaired, give the command again: {named(of)}", markup=False)
    refused = [view for view, of in days.items() if any(not passed(e) for e in newest(done[of_view(view)]).values() if e.partition in of)]
    if problems or left or refused:
        sys.exit(1)


def _nothing_to_repair(problems: Sequence[str]) -> str:
    return "every computed partition is of the newest source rows" + (", of those sources that can be looked at" if problems else "")


def _by_whom(days: Sequence[date], waiting: Container[date]) -> str:
    unasked = sum(day not in waiting for day in days)
    if unasked == len(days):
        return "by the sensor"
    return f"{unasked} by the sensor, the rest by `penstock repair run`" if unasked else "by `penstock repair run`"


def _because(stale: Sequence[Stale]) -> str:
    most: dict[str, int] = {}
    for one in stale:
        for source, rows in one.because.items():
            most[source] = -1 if rows < 0 or most.get(source, 0) < 0 else max(rows, most.get(source, 0))
    found = [f"{source} ({_rows(rows)})" for source, rows in most.items()]
    if any(one.rules_changed for one in stale):
        found.append("its contract, by which it was refused")
    return ", ".join(found)


def _rows(rows: int) -> str:
    return "rows unknown" if rows < 0 else f"{rows:,} row(s)"


def _tell(store: Store, done: Mapping[FeatureView, tuple[Sequence[date], Sequence[AttemptEntry]]]) -> None:
    for view, (days, entries) in done.items():
        changed, retracted = sum(max(entry.changed, 0) for entry in entries), sum(max(entry.retracted, 0) for entry in entries)
        held = "".join(f"\n  held back {day}: {why}" for day, why in store.due(view).held.items() if day in days)
        out.print(
            f"{view.ref}: {len(days)} partition(s) repaired, {changed} row(s) changed, {retracted} of them retracted{held}", markup=False
        )
