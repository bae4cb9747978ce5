"""`penstock status`: how far each partition has come, and what stands in the way."""

from collections.abc import Iterable, Sequence
from typing import Annotated

import httpx
import msgspec
import typer
from rich.table import Table
from rich.text import Text

import penstock
from penstock.cli.screen import out, print_whole, warn
from penstock.contract import FeatureView
from penstock.errors import PenstockError
from penstock.orchestration.control import Control
from penstock.publication.held_store import with_store
from penstock.publication.partition_state import PartitionState, Word
from penstock.quality.freshness import freshness
from penstock.store import Store

# Letters say it where there is no colour.
_LOOKS: dict[Word, tuple[str, str]] = {
    "published": ("■", "green"),
    "due": ("+", "yellow"),
    "stale by code": ("c", "magenta"),
    "stale by data": ("d", "blue"),
    "refused": ("x", "red"),
    "missing": ("·", "dim"),
}


def run(
    views: Annotated[list[str] | None, typer.Argument(help="feature views, as `name` or `name@version`; default: all")] = None,
    days: Annotated[int, typer.Option(min=1, help="days that the strips show")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="every partition, as JSON")] = False,
) -> None:
    """Say of each view how many of its partitions are computed, checked, published, and of older code or data; and what is wrong."""
    store = penstock.open()
    wanted = store.project.views_named(views)
    repairs = store.repair_plan()
    states = {view: store.partitions(view, repairs) for view in wanted}
    problems = [*repairs.problems(wanted), *_invalidated(store, wanted), *_not_answering(store)]
    if as_json:
        partitions = [msgspec.to_builtins(state) | {"state": state.word} for of_view in states.values() for state in of_view]
        out.print_json(msgspec.json.encode({"partitions": partitions, "problems": problems}).decode())
        return
    print_whole(_table(store, states))
    for view, of_view in states.items():
        if of_view:
            out.print(_strip(view, of_view[-days:], max(len(view.ref) for view in wanted)), soft_wrap=True)
    if any(states.values()):
        out.print(Text("  ").join(Text(f"{mark} {word}", style) for word, (mark, style) in _LOOKS.items()), soft_wrap=True)
    for state in (state for of_view in states.values() for state in of_view if state.word == "refused"):
        out.print(
            f"refused: {state.view}@{state.version} {state.partition}: {'; '.join(state.reasons)}",
            style="red",
            markup=False,
            soft_wrap=True,
        )
    for state in (state for of_view in states.values() for state in of_view[-days:] if state.warnings):
        said = f"warning: {state.view}@{state.version} {state.partition}: {'; '.join(state.warnings)}"
        out.print(said, style="yellow", markup=False, soft_wrap=True)
    warn(problems)


def _table(store: Store, states: dict[FeatureView, list[PartitionState]]) -> Table:
    table = Table(
        "feature view", "days", "computed", "refused", "published", "due", "stale by code", "stale by data", "online up to (UTC)", "fresh"
    )
    now = store.clock.now()
    for view, of_view in states.items():
        counts = [
            len(of_view),
            sum(state.computed for state in of_view),
            sum(state.check == "refused" for state in of_view),
            sum(state.published for state in of_view),
            sum(state.due for state in of_view),
            sum(state.stale_by_code for state in of_view),
            sum(bool(state.stale_by_data) for state in of_view),
        ]
        found = freshness(view, store.ledger(view), now)
        until = "nothing" if found.complete_until is None else f"{found.complete_until:%Y-%m-%d %H:%M:%S}"
        fresh = Text("-") if found.age is None else Text("yes", "green") if found.kept else Text(f"late: {found.age} of {found.sla}", "red")
        table.add_row(view.ref, *map(str, counts), until, fresh)
    return table


def _strip(view: FeatureView, states: Sequence[PartitionState], width: int) -> Text:
    line = Text(f"{view.ref:<{width}} {states[0].partition} ")
    for state in states:
        mark, style = _LOOKS[state.word]
        line.append(mark, style)
    return line.append(f" {states[-1].partition}")


def _invalidated(store: Store, views: Iterable[FeatureView]) -> list[str]:
    """The marks in force, a sentence each: of what they cover nothing is served, however right its partition is."""
    return [
        f"mark {mark.id} is in force: what it covers of {view.ref} is not served ({mark.reason}); "
        f"`penstock invalidate --lift {mark.id}` ends it"
        for view in views
        for mark in store.marks(view)
        if mark.lifted_at_us is None
    ]


def _not_answering(store: Store) -> list[str]:
    """What would bring partitions further and gives no sign of life, a sentence each."""
    found = []
    try:
        with_store(store.connect(), lambda online: online.pointers())
    except PenstockError as error:
        found.append(f"the online store does not answer: {error.message}")
    return found + _dagster(store)


def _dagster(store: Store) -> list[str]:
    control = Control(store.settings.dagster.url)
    try:
        if not control.ready():
            return [f"no Dagster answers at {control.url}: nothing is computed or published until it does"]
        return [f"Dagster's {daemon} daemon gives no sign of life" for daemon in control.unhealthy_daemons()]
    except (PenstockError, httpx.HTTPError) as error:
        return [f"Dagster at {control.url}: {error}"]
    finally:
        control.close()
