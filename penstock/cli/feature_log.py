"""`penstock feature-log`: what gateways wrote down of their answers."""

import typer

import penstock
from penstock.cli.screen import err, out

cli = typer.Typer(no_args_is_help=True, help="The feature log: what gateways wrote down of their answers.")


@cli.callback()
def feature_log() -> None:
    """The feature log: what gateways wrote down of their answers."""


@cli.command()
def ship() -> None:
    """Bring the gateways' segments to the lake, each once, and remove them; a schedule does so every quarter of an hour."""
    store = penstock.open()
    with err.status("bringing segments to the lake"):
        done = store.ship_feature_log()
    dropped = f", {done.dropped} rows had been dropped by gateways" if done.dropped else ""
    out.print(
        f"{done.segments} segment(s), {done.rows} rows brought to {store.lake.location('log/served')}{dropped}",
        markup=False,
        soft_wrap=True,
    )
