"""`penstock keys`: who may ask the gateway for what."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from penstock.cli.screen import err, out, print_whole
from penstock.config import load_settings
from penstock.errors import ConfigError
from penstock.serving.access import load_grants, mint_key, revoke_keys

cli = typer.Typer(no_args_is_help=True, help="API keys of the gateway: kept as hashes, shown once.")


@cli.command()
def mint(
    principal: Annotated[str, typer.Argument(help="who the key is for")],
    service: Annotated[list[str] | None, typer.Option(help="a feature service it may read; repeat it for more; default: all")] = None,
    expires: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="the day, UTC, from whose beginning it is refused; default: never")
    ] = None,
) -> None:
    """Make an API key and show it, this once; a running gateway accepts it within a second.

    To rotate: mint another for the same principal, bring it to where the old one is used, then revoke the old one. Both are accepted
    until then.
    """
    expires_at = None if expires is None else expires.replace(tzinfo=UTC)
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise ConfigError(f"--expires {expires_at:%Y-%m-%d} has begun already", hint="give a day to come, UTC")
    out.print(mint_key(load_settings(), principal, service or ["*"], expires_at), soft_wrap=True)


@cli.command(name="list")
def list_() -> None:
    """The keys there are: their ids, who they are for, what they may read and until when."""
    settings = load_settings()
    grants = load_grants(settings.path(settings.gateway.keys_file))
    if not grants:
        err.print("no API keys; `penstock keys mint` makes one")
        return
    now = datetime.now(UTC)
    table = Table(*[Column(name, overflow="fold") for name in ("id", "principal", "reads", "expires")], box=None)
    for grant in grants.values():
        until = "never" if grant.expires_at is None else f"{grant.expires_at:%Y-%m-%d}"
        over = grant.expires_at is not None and grant.expires_at <= now
        table.add_row(grant.id, escape(grant.principal), escape(", ".join(grant.services)), f"{until} (expired)" if over else until)
    print_whole(table)


@cli.command()
def revoke(ids: Annotated[list[str], typer.Argument(help="ids, as `penstock keys list` has them", metavar="ID...")]) -> None:
    """Take keys back; a running gateway refuses them within a second (gateway.refresh_s)."""
    for grant in revoke_keys(load_settings(), ids):
        out.print(f"revoked {grant.id} of {grant.principal}", markup=False)
