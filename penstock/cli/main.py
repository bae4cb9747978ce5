"""The `penstock` command."""

import sys

import typer

from penstock.cli import backfill, dev, doctor, gateway, init, jars, keys, node, registry, training_set
from penstock.cli.screen import fail
from penstock.errors import PenstockError

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="A feature store on a lakehouse.")
cli.add_typer(node.cli, name="node")
cli.add_typer(registry.cli, name="registry")
cli.add_typer(training_set.cli, name="training-set")
cli.add_typer(keys.cli, name="keys")
cli.add_typer(jars.cli, name="jars")
cli.command("init")(init.run)
cli.command("dev")(dev.run)
cli.command("backfill")(backfill.run)
cli.command("doctor")(doctor.run)
cli.command("gateway")(gateway.run)


def app() -> None:
    """Run the command; an error of ours ends it with one message and exit code 1."""
    try:
        cli()
    except PenstockError as error:
        fail(error)
        sys.exit(1)


if __name__ == "__main__":
    app()
