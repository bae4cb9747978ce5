"""`penstock features`: what a gateway serves, for people."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from penstock.cli.reach import KEY_HELP, URL_HELP, gateway
from penstock.cli.screen import out, print_whole
from penstock.errors import InvalidEntity
from penstock.sdk import FeatureResult, FeatureValue

cli = typer.Typer(no_args_is_help=True, help="What a gateway serves.")
_COLOURS = {"PRESENT": "green", "NULL": "green", "STALE": "yellow", "DEFAULT": "yellow", "NOT_FOUND": "dim", "ERROR": "red"}
_KEYS_HELP = (
    "join keys as name=value; text that looks like a number: name='\"7\"'; a name given again begins another entity, "
    "which has its other keys of the one before"
)


@cli.callback()
def features() -> None:
    """What a gateway serves."""


@cli.command()
def get(
    service: Annotated[str, typer.Argument(help="the feature service")],
    keys: Annotated[list[str] | None, typer.Argument(help=_KEYS_HELP)] = None,
    feature: Annotated[list[str] | None, typer.Option(help="<view>__<feature>; may be repeated; default: all of the service")] = None,
    url: Annotated[str, typer.Option(help=URL_HELP)] = "",
    api_key: Annotated[str, typer.Option(help=KEY_HELP)] = "",
    token: Annotated[bool, typer.Option("--token", help="print only the replay token, for `penstock replay`")] = False,
) -> None:
    """The features of an entity, or several, as they are served now, with status and age."""
    entities = _entities(keys or [])
    with gateway(url, api_key) as client:
        result = client.features(service, entities, features=feature)
    if token:
        out.print(result.token, markup=False, soft_wrap=True)
        return
    print_whole(_of_one(result) if len(result) == 1 else _of_several(result, entities))
    out.print(f"at {result.now:%Y-%m-%d %H:%M:%S} UTC, under contract {result.contract}", markup=False, soft_wrap=True)
    out.print("how it came about: penstock replay $(the same with --token)", markup=False, soft_wrap=True)


def _of_one(result: FeatureResult) -> Table:
    """A line per feature, with status and age."""
    table = Table("feature", "value", "status", "age")
    for name, value in result[0].items():
        table.add_row(name, escape(_shown(value)), _status(value), _age(value.age))
    return table


def _of_several(result: FeatureResult, entities: Sequence[dict[str, object]]) -> Table:
    """A line per feature, a column per entity, named by the keys in which they differ; a status where it is not PRESENT."""
    differing = [name for name in entities[0] if len({str(entity[name]) for entity in entities}) > 1]
    titles = [escape(" ".join(f"{name}={entity[name]}" for name in differing)) for entity in entities]
    table = Table("feature", *[Column(title) for title in titles])
    for name in result.features:
        values = [row[name] for row in result]
        cells = [escape(_shown(value)) if value.status == "PRESENT" else f"{escape(_shown(value))} {_status(value)}" for value in values]
        table.add_row(name, *[cell.strip() for cell in cells])
    return table


def _entities(given: Sequence[str]) -> list[dict[str, object]]:
    entities: list[dict[str, object]] = [{}]
    now: set[str] = set()  # what was given for the last entity itself
    for name, value in map(_pair, given):
        if name in now:
            entities.append(dict(entities[-1]))
            now.clear()
        entities[-1][name] = value
        now.add(name)
    return entities


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


def _status(value: FeatureValue) -> str:
    return f"[{_COLOURS.get(value.status, 'red')}]{value.status}[/]"


def _shown(value: FeatureValue) -> str:
    return "" if value.value is None else str(value.value)


def _age(age: timedelta | None) -> str:
    return "" if age is None else str(timedelta(seconds=round(age.total_seconds())))
