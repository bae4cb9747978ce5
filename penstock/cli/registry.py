"""`penstock registry`: the definitions as they are compiled."""

import typer
from rich.table import Table

import penstock
from penstock.cli.screen import out
from penstock.registry.snapshot import compile_snapshot

cli = typer.Typer(no_args_is_help=True, help="The project's definitions as they are compiled.")


@cli.command("list")
def list_() -> None:
    """Views and services, with versions, owners and fingerprints."""
    snapshot = compile_snapshot(penstock.open().project)
    views = Table("feature view", "entity", "features", "owner", "status", "fingerprint", box=None)
    for view in snapshot.views:
        views.add_row(view.ref, view.entity, str(len(view.features)), view.owner, view.status, view.fingerprint)
    services = Table("feature service", "views", "owner", "contract", box=None)
    for service in snapshot.services:
        services.add_row(service.name, ", ".join(f"{s.view}@{s.version}" for s in service.selection), service.owner, service.contract)
    out.print(views, "", services, "", f"snapshot {snapshot.fingerprint}")


@cli.command()
def show() -> None:
    """The whole snapshot as JSON."""
    out.print_json(compile_snapshot(penstock.open().project).to_json().decode())
