"""`penstock training-set`: a spine joined point-in-time, kept as a Delta table with a manifest."""

import sys
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.table import Column, Table

import penstock
from penstock.as_of import Mode
from penstock.cli.screen import err, out
from penstock.errors import SpineError
from penstock.training_set.build import manifests

cli = typer.Typer(no_args_is_help=True, help="Training sets: a spine joined with a service's features, point-in-time.")
_QUERY = "SQL of the rows to enrich, or @FILE or - to read it; {source} stands for a source's table"


@cli.command()
def build(
    name: Annotated[str, typer.Argument(help="the training set's name; each build has an id of its own below it")],
    service: Annotated[str, typer.Option(help="the feature service whose features are joined")],
    query: Annotated[str, typer.Option(help=_QUERY)] = "",
    table: Annotated[str, typer.Option(help="instead of a query: a Delta table, by its name in the lake or its location")] = "",
    mode: Annotated[str, typer.Option(help=f"what counts as known: {', '.join(get_args(Mode))}")] = "observed",
    split: Annotated[str, typer.Option(help="time:<ISO 8601> or hash:<share>:<columns>: adds a column `split`, train or test")] = "",
) -> None:
    """Join the rows of a query or a table with a service's features and keep the result."""
    store = penstock.open()
    store.project.service(service)
    text = _text(query)
    with err.status("joining"):
        made = store.training_set(
            name,
            store.spine(query=text, table=table),
            service,
            mode=mode,  # type: ignore[arg-type]  # refused there if it is none
            split=split,
            spine_text=text or table,
        )
    out.print(f"table     {store.lake.location(made.table)}", soft_wrap=True)
    features = sum(len(part.features) for part in store.project.service(service).selection)
    out.print(f"rows      {made.rows:,}\nfeatures  {features}\ncontent   {made.content}")
    for one in made.inputs:
        counted = ", ".join(f"{rows:,} by {rule}" for rule, rows in one.rows_by_rule.items())
        out.print(f"  {one.view}@{one.version} at version {one.delta_version}: {counted}", highlight=False)


@cli.command("list")
def list_(name: Annotated[str, typer.Argument(help="the training set's name")]) -> None:
    """The builds of a training set, oldest first."""
    found = manifests(penstock.open().lake, name)
    if not found:
        raise SpineError(f"no training set '{name}' in the lake", hint="build it: penstock training-set build --help")
    table = Table(
        *[Column(title, overflow="fold") for title in ("id", "mode", "rows", "service", "contract", "split", "content")], box=None
    )
    for one in found:
        table.add_row(one["id"], one["mode"], f"{one['rows']:,}", one["service"], one["contract"], one["split"] or "-", one["content"])
    out.print(table)


def _text(query: str) -> str:
    if query == "-":
        return sys.stdin.read()
    if query.startswith("@"):
        try:
            return Path(query[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise SpineError(f"{query[1:]} cannot be read: {error.strerror}") from None
    return query
