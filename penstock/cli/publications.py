"""`penstock publications`: what became readable when, and whether the store holds it."""

import random
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

import penstock
from penstock.cli.screen import err, out, print_whole
from penstock.clock import from_micros
from penstock.contract.view import FeatureView
from penstock.offline.logs import publications
from penstock.online.codec import Stored
from penstock.online.ledger import Publication
from penstock.publication.due import named
from penstock.publication.verify import SAMPLE, Difference

cli = typer.Typer(help="What became readable when, and whether the store holds it.")
VIEWS = Annotated[list[str] | None, typer.Argument(help="feature views, as `name` or `name@version`; default: all")]
SIZE = Annotated[int, typer.Option("--sample", min=1, help="keys of each view, at random")]
SEED = Annotated[int | None, typer.Option("--seed", help="take the sample again that a seed took before")]
_SHOWN = 20  # keys that differ, of a view


@cli.callback(invoke_without_command=True)
def list_(
    context: typer.Context,
    view: Annotated[str | None, typer.Option("--view", help="only those of a feature view, `name` or `name@version`")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="how many, the newest first")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """List the publications, newest first, as the ledger's copy in the lake has them; the store need not be up.

    `verify` compares values online with what the rule gives; `copy` completes the ledger and its copy, each from the other.
    """
    if context.invoked_subcommand is not None:
        return
    found = _newest_first(publications(penstock.open().lake), view)[:limit]
    if as_json:
        out.print_json(msgspec.json.encode([_document(one) for one in found]).decode())
    elif not found:
        err.print("nothing was published yet" if view is None else f"nothing of {escape(view)} was published yet")
    else:
        table = Table("readable at (UTC)", "feature view", "days", "attempts", "keys written", "run")
        for one in found:
            row = one[0]
            attempts = str(len({row.attempt for row in one}))
            at = f"{from_micros(row.readable_at_us):%Y-%m-%d %H:%M:%S}"
            table.add_row(
                at, f"{row.view}@{row.version}", named({row.partition for row in one}), attempts, f"{row.keys:,}", escape(row.run_id)
            )
        print_whole(table)


@cli.command()
def verify(views: VIEWS = None, sample: SIZE = SAMPLE, seed: SEED = None) -> None:
    """Compare keys at random: what the store holds, and what the rule gives over the attempts that are readable; 1 if any differs."""
    store, seed, differs = penstock.open(), _seed(seed), False
    for view in store.project.views_named(views):
        with err.status(f"comparing {view.ref}"):
            found = store.verify_online(view, seed=seed, sample=sample)
        if not found.differing:
            out.print(f"{view.ref}: [green]equal[/], {found.keys:,} of {found.keys:,} keys")
            continue
        differs = True
        out.print(f"{view.ref}: [red]{len(found.differing):,} of {found.keys:,} keys differ[/]")
        _show(view, found.differing)
    out.print(f"seed {seed}")
    if differs:
        sys.exit(1)


@cli.command()
def copy(views: VIEWS = None, sample: SIZE = SAMPLE, seed: SEED = None) -> None:
    """Complete the ledger in the store and its copy in the lake, each from the other.

    The store is given rows only where a sample of keys holds the values these rows speak of.
    """
    store, seed = penstock.open(), _seed(seed)
    for view in store.project.views_named(views):
        with err.status(f"copying the ledger of {view.ref}"):
            copied, recorded = store.copy_ledger(view, seed=seed, sample=sample)
        what = f"{copied} row(s) copied to the lake, {recorded} recorded in the store" if copied or recorded else "both are complete"
        out.print(f"{view.ref}: {what}", markup=False)


def _seed(asked: int | None) -> int:
    return random.SystemRandom().randrange(2**31) if asked is None else asked


def _newest_first(rows: Iterable[Publication], view: str | None) -> list[list[Publication]]:
    """The rows of each publication, by day."""
    found: dict[tuple[Any, ...], list[Publication]] = {}
    for row in rows:
        if view in (None, row.view, f"{row.view}@{row.version}"):
            found.setdefault((row.readable_at_us, row.view, row.version, row.generation), []).append(row)
    return [sorted(found[one]) for one in sorted(found, reverse=True)]


def _document(one: Sequence[Publication]) -> dict[str, Any]:
    row = one[0]
    return {
        "view": row.view,
        "version": row.version,
        "generation": row.generation,
        "readable_at": from_micros(row.readable_at_us),
        "run_id": row.run_id,
        "keys": row.keys,
        "attempts": {str(row.partition): row.attempt for row in one},
    }


def _show(view: FeatureView, differing: Sequence[Difference]) -> None:
    table = Table("key", "expected: event time, attempt, values", "found")
    for one in differing[:_SHOWN]:
        key = ", ".join(f"{name}={value}" for name, value in one.key.items()) or "(all)"
        table.add_row(escape(key), escape(_told(view, one.expected)), escape(_told(view, one.found)))
    print_whole(table)
    if len(differing) > _SHOWN:
        out.print(f"and {len(differing) - _SHOWN:,} more")


def _told(view: FeatureView, value: Stored | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "nothing"
    at = f"{from_micros(value.event_time_us):%Y-%m-%d %H:%M:%S}, {value.attempt}"
    if len(value.values) != len(view.feature_names):
        return f"{at}, {value.values}"
    return ", ".join([at, *(f"{name}={held}" for name, held in zip(view.feature_names, value.values, strict=True))])
