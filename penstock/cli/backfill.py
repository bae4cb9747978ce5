"""`penstock backfill`: compute past days in the running instance; what passes is published by its sensor."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated

import typer

import penstock
from penstock.cli.days import names_and_days
from penstock.cli.following import compute_days, of_view, running_instance
from penstock.cli.screen import out, warn
from penstock.contract import FeatureView
from penstock.offline.watermark import days_between
from penstock.publication.repair import RepairPlan
from penstock.store import Store


def run(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VIEW]... [FROM [TO]]", help="views, as `name` or `name@version`, default: all; then the first and last day, UTC"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="days too that are as they would be computed now")] = False,
) -> None:
    """Compute days of some views, as one backfill of the instance that `penstock dev` runs, and follow it.

    Days are left alone that are computed already, by today's code and from the newest source rows. So a backfill that ended
    half-way goes on when it is asked for again. FROM is by default dagster.first_day, TO today.
    """
    store = penstock.open()
    names, first, last = names_and_days(what or [], store, "penstock backfill VIEW")
    views = store.project.views_named(names)
    days = days_between(first, last)
    repairs = store.repair_plan()
    problems = repairs.problems(views)
    warn(problems)
    wanted = dict.fromkeys(views, days) if force else {view: _not_up_to_date(store, repairs, view, days) for view in views}
    if not any(wanted.values()):
        of = ", of those sources that can be looked at" if problems else ""
        out.print(f"all of {_named(views)} from {first} to {last} is computed by today's code and from the newest source rows{of}")
        return
    with running_instance(store) as control:
        compute_days(store, control, {of_view(view): days for view, days in wanted.items()}, "penstock backfill")
    _tell(store, wanted, first, last)


def _not_up_to_date(store: Store, repairs: RepairPlan, view: FeatureView, days: Sequence[date]) -> list[date]:
    """Of some days of a view, those that computing now may bring further or make others."""
    return sorted({*store.outdated(view, days), *set(days).intersection(repairs.days(view))})


def _named(views: Sequence[FeatureView]) -> str:
    return ", ".join(view.ref for view in views)


def _tell(store: Store, wanted: Mapping[FeatureView, Sequence[date]], first: date, last: date) -> None:
    for view, days in wanted.items():
        found = store.due(view)
        held = "".join(f"\n  held back {day}: {why}" for day, why in found.held.items() if first <= day <= last)
        due = len([day for day in found.ready if first <= day <= last])
        out.print(f"{view.ref}: {len(days)} day(s) computed, {due} due for publication{held}", markup=False)
