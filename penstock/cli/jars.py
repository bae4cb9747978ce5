"""`penstock jars`: the jars of Delta and the embedded Cassandra."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.rehearsal import keep_classes
from penstock.cli.screen import err, out
from penstock.config import load_settings
from penstock.runtime.jars import cassandra_jars, delta_jars, import_jars, write_lock

cli = typer.Typer(no_args_is_help=True, help="The jars of Delta and the embedded Cassandra, checked against a lock.")


@cli.command()
def prepare() -> None:
    """Get the jars, and keep Spark's classes as Java wants them: each start of Spark then takes about half the CPU. Once per machine."""
    settings = load_settings()
    with err.status("getting jars"):
        delta_jars(settings)
        if settings.cassandra.mode == "embedded":
            cassandra_jars(settings)
    keep_classes(settings)


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
