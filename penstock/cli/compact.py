"""`penstock compact`: fold the small files of closed days, so that joins read few."""

from datetime import UTC
from typing import Annotated

import typer

import penstock
from penstock.cli.screen import err, out
from penstock.offline.maintenance import compact


def run(
    views: Annotated[list[str] | None, typer.Argument(help="feature views, as `name` or `name@version`; default: all")] = None,
) -> None:
    """Fold each closed day of a view's table into one sorted file; every version stays readable, and no row changes."""
    store = penstock.open()
    today = store.clock.now().astimezone(UTC).date()
    for view in store.project.views_named(views):
        if store.lake.version(f"features/{view.name}/v{view.version}") is None:
            continue
        with err.status(f"folding {view.ref}"):
            done = compact(store.lake, view, before=today)
        what = f"{done.files} files of {len(done.days)} day(s) folded into {len(done.days)}" if done.days else "nothing to fold"
        out.print(f"{view.ref}: {what}", markup=False)
