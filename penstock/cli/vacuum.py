"""`penstock vacuum`: remove files that no version anybody may ask for has."""

from typing import Annotated

import typer

import penstock
from penstock.cli.screen import err, out
from penstock.offline.changes import CHANGES
from penstock.offline.lake import feature_table, raw_table, tile_table
from penstock.offline.logs import ATTEMPTS, MARKS, PUBLICATIONS
from penstock.offline.maintenance import vacuum
from penstock.offline.profiles import PROFILES
from penstock.quality.alerts import ALERTS
from penstock.quality.served_log import COUNTS, SERVED
from penstock.quality.skew_log import SKEW
from penstock.training_set.pins import pinned

LOGS = (ATTEMPTS, PUBLICATIONS, MARKS, CHANGES, PROFILES, SKEW, ALERTS, SERVED, COUNTS)


def run(
    delete: Annotated[bool, typer.Option("--delete", help="remove them; without it they are only counted")] = False,
) -> None:
    """Count, or remove, the files of all tables that are past their retention and that no training set's manifest pins."""
    store = penstock.open()
    pins = pinned(store.lake)
    sources = [raw_table(source) for source in store.project.sources if source.table is None]
    tiles = [tile_table(view) for view in store.project.views if view.tiles is not None]
    for table in [*map(feature_table, store.project.views), *tiles, *sources, *LOGS]:
        if store.lake.version(table) is None:
            continue
        with err.status(f"looking at {table}"):
            files = vacuum(store.lake, table, pinned=pins.get(table, ()), dry_run=not delete)
        what = "removed" if delete else "would be removed"
        out.print(f"{table}: {len(files)} file(s) {what}; {len(pins.get(table, ()))} pinned version(s)", markup=False)
