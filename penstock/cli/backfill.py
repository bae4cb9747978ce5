"""`penstock backfill`: compute past days in the running instance; what passes is published by its sensor."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer

import penstock
from penstock.cli.screen import err, out
from penstock.errors import DagsterError
from penstock.orchestration.assets import feature_key
from penstock.orchestration.control import Control

_AT_MOST = timedelta(days=1)


def run(
    views: Annotated[list[str] | None, typer.Argument(help="feature views, as `name` or `name@version`; default: all")] = None,
    first: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="first day, UTC; default: dagster.first_day")] = None,
    last: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="last day, UTC; default: today")] = None,
) -> None:
    """Compute days of some views as one range run of the instance that `penstock dev` runs, and wait for it."""
    store = penstock.open()
    dagster = store.settings.dagster
    start = dagster.first_day if first is None else first.date()
    end = store.clock.now().astimezone(UTC).date() if last is None else last.date()
    if end < start:
        raise DagsterError(f"--last {end} is before --first {start}", hint="give a range of days, both included")
    wanted = [store.project.view(name) for name in views] if views else list(store.project.views)
    control = Control(f"http://{dagster.host}:{dagster.port}")
    try:
        _require_ready(control)
        run_id = control.launch([tuple(feature_key(view).path) for view in wanted], start, end)
        with err.status(f"computing {_named(len(wanted), start, end)}: {control.url}/runs/{run_id}"):
            control.wait(run_id, at_most=_AT_MOST)
    finally:
        control.close()
    for view in wanted:
        found = store.due(view)
        held = "".join(f"\n  held back {day}: {why}" for day, why in found.held.items() if start <= day <= end)
        out.print(f"{view.ref}: {len(found.ready)} day(s) due for publication{held}", markup=False)


def _named(views: int, first: date, last: date) -> str:
    return f"{views} view(s) from {first} to {last}"


def _require_ready(control: Control) -> None:
    if not control.ready():
        raise DagsterError(f"no Dagster answers at {control.url}", hint="start it: `penstock dev`; or set dagster.host and dagster.port")
