"""`penstock online`: what is kept in Cassandra."""

import random
import sys
from textwrap import dedent
from time import monotonic
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

import penstock
from penstock.cli.screen import err, out, print_whole
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


@cli.command()
def rebuild(
    views: Annotated[list[str] | None, typer.Argument(help="feature views, as `name` or `name@version`; default: all")] = None,
    force: Annotated[bool, typer.Option("--force", help="write the values of views, too, whose ledger is whole")] = False,
    sample: Annotated[int, typer.Option("--sample", min=1, help="keys of each view to compare afterwards, at random")] = 1000,
) -> None:
    """Fill a store that was lost from the lake: all that was published, as it was, then what services read.

    Ended at any time, it may be run again: views that are whole are left alone. It may run beside `penstock dev`.
    """
    store, seed = penstock.open(), random.SystemRandom().randrange(2**31)
    wanted = store.project.views_named(views)
    lost = {view.ref: len(store.lost_online(view)) for view in wanted}  # a store of another lake is refused before anything is written
    table, rebuilt = Table("feature view", "keys", "deleted", "rows/s", "compared", "ledger rows"), 0
    for view in wanted:
        if not lost[view.ref] and not force:
            out.print(f"{view.ref}: left alone, the store's ledger has all that the lake knows", markup=False)
            continue
        rows = store.spark.sparkContext.accumulator(0)
        progress = _Progress(view.ref, rows)
        with Live(progress, console=err, refresh_per_second=4, transient=True):
            done = store.rebuild_online(view, seed=seed, sample=sample, force=force, rows=rows)
        if done is None:
            out.print(f"{view.ref}: left alone, nothing is to be written", markup=False)
            continue
        rate = (done.written + done.deleted) / (monotonic() - progress.since)
        rebuilt += 1
        table.add_row(view.ref, f"{done.written:,}", f"{done.deleted:,}", f"{rate:,.0f}", f"{done.read_back:,} equal", str(len(done.rows)))
    if rebuilt:
        print_whole(table)
    for service, served in store.publish_services().items():
        out.print(f"{service}: {'served' if served else 'not served, a view of it has nothing online'}", markup=False)


class _Progress:
    """Shows how far a view is. Spark tells of rows when a task has ended."""

    def __init__(self, view: str, rows: Any) -> None:
        self._view, self._rows, self.since = view, rows, monotonic()
        self._spinner = Spinner("dots")

    def __rich__(self) -> Spinner:
        rows = self._rows.value
        self._spinner.update(text=f"{self._view}: {rows:,} rows written, {rows / max(monotonic() - self.since, 0.001):,.0f} rows/s")
        return self._spinner
