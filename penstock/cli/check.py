"""`penstock check`: a change of definitions, tried before it is merged."""

import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import penstock
from penstock.cli.screen import err, fail, out, print_whole, write
from penstock.errors import PenstockError
from penstock.offline.registry_log import snapshots
from penstock.quality.change_check import changed_views, check_definitions, check_view
from penstock.report.checks import Checked, Outcome, junit, markdown
from penstock.runtime.spark import stop_session
from penstock.store import Store

_LOOKS = {Outcome.PASSED: "green", Outcome.WARNING: "yellow", Outcome.FAILED: "bold red", Outcome.SKIPPED: "dim"}


def run(
    views: Annotated[
        list[str] | None, typer.Argument(help="feature views; default: those that differ from what was published last")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="all views, changed or not")] = False,
    on: Annotated[
        datetime | None,
        typer.Option("--day", formats=["%Y-%m-%d"], help="which day of them is computed; default: the newest whose sources are all in"),
    ] = None,
    definitions_only: Annotated[bool, typer.Option("--definitions-only", help="compute nothing: needs no Java and no lake")] = False,
    junit_to: Annotated[Path | None, typer.Option("--junit", help="write the outcomes as JUnit's XML")] = None,
    markdown_to: Annotated[Path | None, typer.Option("--markdown", help="write them as a table in Markdown, e.g. for a summary")] = None,
) -> None:
    """Try a change: definitions beside what is published; of each changed view one day computed, held to its contract, compared with
    the rows committed, and encoded and decoded as it is served. Nothing is written to the lake. Exit code 1 if a check failed."""
    try:
        store = penstock.open()
        found = _check(store, views, every, on.date() if on else None, definitions_only)
    except PenstockError as error:
        fail(error)
        found = [Checked("definitions", "compiled", Outcome.FAILED, error.message)]
    if junit_to is not None:
        write(junit_to, junit("penstock check", found))
    if markdown_to is not None:
        write(markdown_to, markdown("penstock check", found))
    _show(found)
    if any(one.outcome is Outcome.FAILED for one in found):
        sys.exit(1)


def _check(store: Store, names: Sequence[str] | None, every: bool, wanted: date | None, definitions_only: bool) -> list[Checked]:
    known = snapshots(store.lake)
    published = known[-1].snapshot if known else None
    project = store.project
    found = [Checked("definitions", "compiled", Outcome.PASSED, f"{len(project.views)} view(s), {len(project.services)} service(s)")]
    found += check_definitions(store.snapshot, published)
    views = project.views_named(names)
    if not names and not every:
        views = changed_views(views, store.snapshot, published)
    if definitions_only or not views:
        return found
    try:
        for view in views:
            with err.status(f"computing {view.ref}"):
                found += check_view(store.spark, store.lake, view, store.clock.now(), wanted)
    finally:
        stop_session()
    return found


def _show(found: Sequence[Checked]) -> None:
    table = Table("outcome", "of", "check", "")
    for one in found:
        table.add_row(Text(one.outcome.value, _LOOKS[one.outcome]), one.of, one.name, Text(one.said))
    print_whole(table)
    counts = {outcome: sum(one.outcome is outcome for one in found) for outcome in Outcome}
    out.print(", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count))
