"""`penstock online`: what is kept in Cassandra."""

import sys
from textwrap import dedent

import typer

from penstock.config import load_settings
from penstock.online.cassandra.schema import ddl as statements
from penstock.registry.project import load_project

cli = typer.Typer(no_args_is_help=True, help="The online store.")


@cli.callback()
def online() -> None:
    """The online store."""


@cli.command()
def ddl() -> None:
    """All CQL that makes what this project keeps online, for cqlsh: where the roles of the settings may not create tables."""
    settings = load_settings()
    if str(settings.root) not in sys.path:
        sys.path.insert(0, str(settings.root))
    entities = sorted({view.entity.name for view in load_project("feature_assets").views})
    typer.echo("\n\n".join(f"{dedent(statement).strip()};" for statement in statements(settings.cassandra, entities)))
