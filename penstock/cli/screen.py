"""What commands show people."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from penstock.errors import ConfigError, PenstockError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_whole(table: Table) -> None:
    """Show a table as wide as it is: a terminal wraps it, a file has it whole."""
    width = Measurement.get(out, out.options.update(max_width=10_000), table).maximum
    Console(highlight=False, width=max(width, out.width)).print(table)


def warn(problems: Iterable[str]) -> None:
    """Show what does not stop a command and should be known, a line each."""
    for problem in problems:
        err.print(problem, style="yellow", markup=False, soft_wrap=True)


def fail(error: PenstockError) -> None:
    """Show an error of ours: its message, then what to do."""
    err.print("error:", style="bold red", end=" ")
    err.print(error.message, markup=False, soft_wrap=True)
    if error.hint:
        err.print(f"hint:  {error.hint}", markup=False, style="yellow", soft_wrap=True)


def write(path: Path, text: str) -> None:
    """Write a file that a command was asked for, with the folders above it.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", hint="name a file in a folder that you may write to") from None
