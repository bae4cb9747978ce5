"""`penstock registry`: the definitions as they are compiled, and as they were published."""

import json
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

import penstock
from penstock.cli.screen import err, out, print_whole
from penstock.offline.registry_log import find_snapshot, snapshots
from penstock.registry.plan import diff as compare
from penstock.registry.snapshot import Snapshot
from penstock.store import Store

cli = typer.Typer(no_args_is_help=True, help="The project's definitions as they are compiled, and as they were published.")
NOW = "now"
Which = Annotated[str, typer.Argument(help="a published snapshot's fingerprint, or its beginning; `now`: the definitions as they are")]


@cli.command("list")
def list_() -> None:
    """Views and services, with versions, owners and fingerprints."""
    snapshot = penstock.open().snapshot
    views = _table("feature view", "entity", "features", "owner", "status", "fingerprint")
    for view in snapshot.views:
        views.add_row(view.ref, view.entity, str(len(view.features)), view.owner, view.status, view.fingerprint)
    on_demand = _table("on-demand view", "request", "features", "owner", "function", "code")
    for one in snapshot.on_demand:
        on_demand.add_row(
            one.ref, ", ".join(name for name, _ in one.request), str(len(one.features)), one.owner, one.function, one.fingerprint
        )
    services = _table("feature service", "views", "owner", "contract")
    for service in snapshot.services:
        of = [*((s.view, s.version) for s in service.selection), *service.on_demand]
        services.add_row(service.name, ", ".join(f"{name}@{version}" for name, version in of), service.owner, service.contract)
    for part in (views, "", *((on_demand, "") if snapshot.on_demand else ()), services, "", f"snapshot {snapshot.fingerprint}"):
        out.print(part)


@cli.command()
def show(which: Which = NOW) -> None:
    """A whole snapshot as JSON."""
    out.print_json(_snapshot(which).to_json().decode())


@cli.command()
def history() -> None:
    """The snapshots that were published, newest first."""
    store = penstock.open()
    known = snapshots(store.lake)
    if not known:
        err.print(_nothing_yet(store))
        return
    table = _table("published at (UTC)", "snapshot", "views", "services")
    for one in reversed(known):
        counts = (str(len(one.snapshot.views)), str(len(one.snapshot.services)))
        table.add_row(f"{one.at:%Y-%m-%d %H:%M:%S}", one.fingerprint, *counts)
    print_whole(table)


@cli.command()
def diff(
    before: Annotated[str, typer.Argument(help="a published snapshot's fingerprint, or its beginning; default: the newest")] = "",
    after: Which = NOW,
) -> None:
    """What differs between two snapshots, and what follows from it; by default from what was published last to what is defined now."""
    store = penstock.open()
    known = snapshots(store.lake)
    if not before and not known:
        err.print(_nothing_yet(store))
        return
    first = find_snapshot(known, before) if before else known[-1].snapshot
    second = _snapshot(after)
    changes = compare(first, second)
    if not changes:
        out.print(f"no difference: {second.fingerprint}")
        return
    table = _table("what", "field", "before", "after", "means")
    for change in changes:
        values = (_shown(change.before), _shown(change.after)) if change.kind == "changed" else ("", change.kind)
        table.add_row(change.what, change.field, *values, change.means)
    print_whole(table)
    out.print(f"\n{len(changes)} change(s) from {first.fingerprint} to {second.fingerprint}")


def _snapshot(which: str) -> Snapshot:
    store = penstock.open()
    return store.snapshot if which == NOW else find_snapshot(snapshots(store.lake), which)


def _nothing_yet(store: Store) -> str:
    return (
        f"nothing was published yet of the lake {escape(str(store.lake.uri))}: the first publication of a view publishes the definitions"
        " with it. Is it another lake that you mean? PENSTOCK_LAKE__PATH names it"
    )


def _shown(value: Any) -> str:
    return escape(value if isinstance(value, str) else json.dumps(value))


def _table(*columns: str) -> Table:
    return Table(*[Column(name, overflow="fold") for name in columns], box=None)
