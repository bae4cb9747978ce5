"""The `penstock` command. Each of its commands is imported when it is run: a gateway needs neither Spark nor Dagster."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup
from typer.main import get_command, get_group

from penstock.cli.screen import fail
from penstock.errors import PenstockError, RuntimeSetupError

_EVERYTHING = "pip install 'penstock[all]'"
COMMANDS = (
    "init",
    "dev",
    "doctor",
    "check",
    "contract",
    "status",
    "freshness",
    "ingest",
    "backfill",
    "repair",
    "features",
    "sdk",
    "replay",
    "skew",
    "alerts",
    "invalidate",
    "publications",
    "training-set",
    "compact",
    "vacuum",
    "registry",
    "feature-log",
    "keys",
    "gateway",
    "node",
    "online",
    "jars",
)


class Commands(TyperGroup):
    """The modules of this package: several commands as `cli`, or one as `run`."""

    def list_commands(self, _: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: Any, cmd_name: str) -> Any:
        return _command(cmd_name) if cmd_name in COMMANDS else None


def _command(name: str) -> Any:
    try:
        module = importlib.import_module(f"penstock.cli.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "penstock":
            raise
        return _not_installed(name, missing)
    command: Any = get_group(module.cli) if hasattr(module, "cli") else _single(module.run)
    command.name = name
    return command


def _single(run: Callable[..., None], **settings: Any) -> Any:
    one = typer.Typer(add_completion=False)
    one.command(**settings)(run)
    return get_command(one)


def _not_installed(name: str, missing: str) -> Any:
    def run() -> None:
        raise RuntimeSetupError(f"`penstock {name}` needs the package '{missing}', which is not installed", hint=_EVERYTHING)

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return _single(run, name=name, context_settings=anything, help=f"Not installed: it needs '{missing}'; {escape(_EVERYTHING)}")


cli = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@cli.callback()
def penstock() -> None:
    """A feature store on a lakehouse."""


def app() -> None:
    """Run the command; an error of ours ends it with one message and exit code 1."""
    try:
        cli()
    except PenstockError as error:
        fail(error)
        sys.exit(1)


if __name__ == "__main__":
    app()
