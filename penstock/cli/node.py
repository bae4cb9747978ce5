"""`penstock node`: the embedded Cassandra node."""

import typer

from penstock.cli.screen import err, out
from penstock.config import load_settings
from penstock.runtime.node_status import NodeStatus, node_status
from penstock.runtime.nodes import node_down, node_up

cli = typer.Typer(no_args_is_help=True, help="The embedded Cassandra node: a real one, as a process of yours.")


@cli.command()
def up() -> None:
    """Start the node and wait until it answers CQL; one that runs is left as it is."""
    settings = load_settings()
    with err.status("starting Cassandra") as status:
        found = node_up(settings, on_progress=status.update)
    _show(found)


@cli.command()
def down() -> None:
    """Stop the node; its data stays."""
    _show(node_down(load_settings()))


@cli.command()
def status() -> None:
    """Whether the node runs, and where."""
    found = node_status(load_settings())
    _show(found)
    if not found.running:
        raise typer.Exit(1)


def _show(found: NodeStatus) -> None:
    state = f"running (pid {found.pid}), CQL on {found.address}:{found.port}" if found.running else "not running"
    out.print(f"cassandra: {state}\ndata: {found.data}\nlog: {found.log}", soft_wrap=True)
