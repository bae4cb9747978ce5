"""`penstock ingest`: bring past days of sources into the lake, by the running instance."""

from collections.abc import Sequence
from typing import Annotated

import typer

import penstock
from penstock.cli.days import names_and_days
from penstock.cli.following import compute_days, of_source, running_instance
from penstock.cli.screen import out
from penstock.contract.source import Source
from penstock.errors import SourceError
from penstock.offline.lake import raw_table
from penstock.offline.logs import last_attempts
from penstock.offline.refresh import not_all_in
from penstock.offline.watermark import days_between
from penstock.orchestration.control import Control
from penstock.store import Store


def run(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]... [FROM [TO]]", help="sources, default: all that are ingested; then the first and last day, UTC"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="days too that were all in when they were last ingested")] = False,
) -> None:
    """Fetch days of some sources again, as one backfill of the instance that `penstock dev` runs, and follow it.

    A day is left alone that was ingested when all its rows were available; `--force` fetches it too, and what was corrected in it is
    then repaired. FROM is by default dagster.first_day, TO today.
    """
    store = penstock.open()
    names, first, last = names_and_days(what or [], store, "penstock ingest SOURCE")
    asked = [store.project.source(name) for name in names]
    with running_instance(store) as control:
        sources = _ingested(store, control, asked)
        days = days_between(first, last)
        wanted = {source: days if force else not_all_in(source, last_attempts(store.lake, raw_table(source)), days) for source in sources}
        if not any(wanted.values()):
            out.print(f"all of {', '.join(source.name for source in sources)} from {first} to {last} is in", markup=False)
            return
        done = compute_days(store, control, {of_source(source): of for source, of in wanted.items()}, "penstock ingest", "ingesting")
    for source, of in wanted.items():
        changed = [entry for entry in done[of_source(source)] if entry.changed]
        rows = sum(entry.rows for entry in changed)
        out.print(f"{source.name}: {len(of)} day(s) ingested, {len(changed)} of them new or changed, with {rows:,} row(s)", markup=False)


def _ingested(store: Store, control: Control, asked: Sequence[Source]) -> Sequence[Source]:
    """Those sources, or all, that the instance can ingest.

    Raises:
        SourceError: one that was asked for is only read.
    """
    can = control.materializable()
    for source in asked:
        if of_source(source).key not in can:
            why = "the project names no function that fetches it" if source.table is None else "its table is somebody else's"
            raise SourceError(
                f"source '{source.name}' is not ingested: {why}",
                hint="name sources that are, or none for all of them; see `ingest=` in jobs/",
            )
    found = asked or [source for source in store.project.sources if of_source(source).key in can]
    if not found:
        raise SourceError("no source of this project is ingested: all are tables of somebody else's")
    return found
