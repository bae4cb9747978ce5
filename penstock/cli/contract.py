"""`penstock contract`: what a view's days are held to before they are committed."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import penstock
from penstock.cli.screen import out, print_whole, write
from penstock.contract.row_rules import RowRule, shown
from penstock.quality.contract_suite import suite

cli = typer.Typer(help="What a view's days are held to before they are committed.", no_args_is_help=True)

_SHOWN = 10

Views = Annotated[list[str] | None, typer.Argument(help="feature views, as `name` or `name@version`; default: all")]


@cli.command()
def show(views: Views = None) -> None:
    """The rules of each view, and what breaking one does."""
    table = Table("feature view", "rule", "of", "asks for", "days", "otherwise")
    for view in penstock.open().project.views_named(views):
        for rule in view.row_rules:
            otherwise = Text("warns", "yellow") if rule.warns else Text("refused", "red")
            days = "closed" if rule.closed_days_only else "all"
            table.add_row(view.ref, rule.name, rule.feature or "-", Text(_asks(rule)), days, otherwise)
    print_whole(table)


@cli.command()
def export(
    views: Views = None,
    to: Annotated[Path, typer.Option(help="folder that gets a file per view, NAME.vVERSION.json")] = Path("contracts"),
) -> None:
    """Write each view's rules as a suite of Great Expectations: `ExpectationSuite(**json.load(file))`."""
    for view in penstock.open().project.views_named(views):
        path = to / f"{view.name}.v{view.version}.json"
        written = suite(view)
        write(path, json.dumps(written, indent=2) + "\n")
        out.print(f"{path}: {len(written['expectations'])} expectations", markup=False, soft_wrap=True)


def _asks(rule: RowRule) -> str:
    what = rule.kind.value.replace("_", " ")
    if rule.allowed:
        more = f" and {len(rule.allowed) - _SHOWN} more" if len(rule.allowed) > _SHOWN else ""
        return f"{what}: {', '.join(map(repr, rule.allowed[:_SHOWN]))}{more}"
    return what if rule.bound is None else f"{what} {shown(rule.bound)}"
