"""`penstock keys`: who may ask the gateway for what."""

from typing import Annotated

import typer

from penstock.cli.screen import out
from penstock.config import load_settings
from penstock.serving.access import mint_key

cli = typer.Typer(no_args_is_help=True, help="API keys of the gateway: kept as hashes, shown once.")


@cli.command()
def mint(
    principal: Annotated[str, typer.Argument(help="who the key is for")],
    service: Annotated[list[str] | None, typer.Option(help="a feature service it may read; repeat it for more; default: all")] = None,
) -> None:
    """Make an API key and show it, this once; a running gateway accepts it within a second."""
    out.print(mint_key(load_settings(), principal, service or ["*"]), soft_wrap=True)
