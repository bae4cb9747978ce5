"""`penstock registry`: the definitions as they are compiled."""

import typer
from rich.table import Column, Table

import penstock
from penstock.cli.screen import out
from penstock.registry.snapshot import compile_snapshot

cli = typer.Typer(no_args_is_help=True, help="The project's definitions as they are compiled.")


@cli.command("list")
def list_() -> None:
    """Views and services, with versions, owners and fingerprints."""
    snapshot = compile_snapshot(penstock.open().project)
    views = _table("feature view", "entity", "features", "owner", "status", "fingerprint")
    for view in snapshot.views:
        views.add_row(view.ref, view.entity, str(len(view.features)), view.owner, view.status, view.fingerprint)
    services = _table("feature service", "views", "owner", "contract")
    for service in snapshot.services:
        services.add_row(service.name, ", ".join(f"{s.view}@{s.version}" for s in service.selection), service.owner, service.contract)
    for part in (views, "", services, "", f"snapshot {snapshot.fingerprint}"):
        out.print(part)


@cli.command()
def show() -> None:
    """The whole snapshot as JSON."""
    out.print_json(compile_snapshot(penstock.open().project).to_json().decode())


def _table(*columns: str) -> Table:
    return Table(*[Column(name, overflow="fold") for name in columns], box=None)
