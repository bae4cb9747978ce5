"""`penstock features`: what a gateway serves, for people."""

from datetime import timedelta
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from penstock.cli.screen import out, print_whole
from penstock.config import load_settings
from penstock.errors import InvalidEntity
from penstock.sdk import FeatureClient, FeatureValue
from penstock.serving.access import local_key

cli = typer.Typer(no_args_is_help=True, help="What a gateway serves.")
_COLOURS = {"PRESENT": "green", "NULL": "green", "STALE": "yellow", "DEFAULT": "yellow", "NOT_FOUND": "dim", "ERROR": "red"}


@cli.callback()
def features() -> None:
    """What a gateway serves."""


@cli.command()
def get(
    service: Annotated[str, typer.Argument(help="the feature service")],
    keys: Annotated[list[str], typer.Argument(help="join keys of one entity, as name=value; text that looks like a number: name='\"7\"'")],
    feature: Annotated[list[str] | None, typer.Option(help="<view>__<feature>; may be repeated; default: all of the service")] = None,
    url: Annotated[str, typer.Option(help="of the gateway; default: the one of the settings")] = "",
    token: Annotated[bool, typer.Option("--token", help="print only the replay token, for `penstock replay`")] = False,
) -> None:
    """The features of one entity as they are served now, with status and age."""
    settings = load_settings()
    where = url or f"http://{settings.gateway.host}:{settings.gateway.port}"
    with FeatureClient(where, api_key=local_key(settings), timeout_s=10) as client:
        result = client.features(service, [dict(map(_pair, keys))], features=feature)
    if token:
        out.print(result.token, markup=False, soft_wrap=True)
        return
    table = Table("feature", "value", "status", "age")
    for name, value in result.rows[0].items():
        table.add_row(name, escape(_shown(value)), f"[{_COLOURS.get(value.status, 'red')}]{value.status}[/]", _age(value.age))
    print_whole(table)
    out.print(f"at {result.now:%Y-%m-%d %H:%M:%S} UTC, under contract {result.contract}", markup=False, soft_wrap=True)
    out.print("how it came about: penstock replay $(the same with --token)", markup=False, soft_wrap=True)


def _pair(given: str) -> tuple[str, object]:
    """A join key from the command line: JSON where it is some, else text."""
    name, equals, text = given.partition("=")
    if not equals or not name:
        raise InvalidEntity(f"join key {given!r}: expected name=value", hint="e.g. carrier=UA flight=1545")
    try:
        value: object = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = text
    return name, value if isinstance(value, bool | int | float | str) or value is None else text


def _shown(value: FeatureValue) -> str:
    return "" if value.value is None else str(value.value)


def _age(age: timedelta | None) -> str:
    return "" if age is None else str(timedelta(seconds=round(age.total_seconds())))
