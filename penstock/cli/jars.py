"""`penstock jars`: the jars of Delta and the embedded Cassandra."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.screen import err, out
from penstock.config import load_settings
from penstock.runtime.jars import import_jars, write_lock

cli = typer.Typer(no_args_is_help=True, help="The jars of Delta and the embedded Cassandra, checked against a lock.")


@cli.command("import")
def import_(folder: Annotated[Path, typer.Argument(help="a folder that holds the locked jars")]) -> None:
    """Fill the cache from a folder: for machines that cannot download."""
    out.print(f"{import_jars(load_settings(), folder)} jars imported")


@cli.command()
def lock() -> None:
    """Resolve the jars the settings name and write their lock: for who raises a version."""
    with err.status("resolving jars"):
        path = write_lock(load_settings())
    out.print(f"written: {path}", soft_wrap=True)
