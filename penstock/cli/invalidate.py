"""`penstock invalidate`: stop serving values that are bad, at once, and undo it."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

import penstock
from penstock.cli.days import instant
from penstock.cli.screen import out, print_whole
from penstock.clock import from_micros
from penstock.errors import InvalidationError
from penstock.registry.marks import Mark
from penstock.store import Store


def run(
    view: Annotated[str | None, typer.Argument(help="the feature view, as `name` or `name@version`")] = None,
    attempt: Annotated[int | None, typer.Option(help="values of this attempt")] = None,
    since: Annotated[str | None, typer.Option(help="values with an event time from then on, e.g. 2013-06-30T00:00Z")] = None,
    until: Annotated[str | None, typer.Option(help="and before then")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="all there are of the view")] = False,
    hold: Annotated[
        bool, typer.Option("--hold", help="and publish nothing that the same code computes, until it is mended or the mark is lifted")
    ] = False,
    reason: Annotated[str, typer.Option(help="what is wrong with them, for those who come after you")] = "",
    lift: Annotated[str | None, typer.Option(metavar="MARK", help="undo an invalidation: what it covers is served again")] = None,
) -> None:
    """Stop serving bad values of a view: answers are without them within two seconds; without arguments, list the marks.

    Nothing is deleted. Until the next publication has put the values before them online, readers get the view's declared
    defaults, or null with status ERROR. What is computed from now on is not covered; where the code is at fault, `--hold` keeps what it
    computes from being published. `--lift MARK` undoes it.
    """
    store = penstock.open()
    if lift is not None:
        _require(view is None and not hold, "--lift undoes a mark, which knows its view", "penstock invalidate --lift MARK")
        mark = store.lift(lift)
        after = "restored by the next publication" if mark.due == "restore" else "served again"
        out.print(f"{mark.id} is lifted: what it covers of {mark.view}@{mark.version} is {after}", soft_wrap=True)
    elif view is None:
        _list(store.marks())
    else:
        scoped = attempt is not None or since is not None or until is not None
        _require(scoped != everything, "say which values: --attempt, --since, --until, or --everything", "penstock invalidate --help")
        times = [None if text is None else instant(text, InvalidationError) for text in (since, until)]
        mark = store.invalidate(_view(store, view), reason=reason, attempt=attempt, since=times[0], until=times[1], hold=hold)
        out.print(f"{mark.id}: {_scope(mark)} of {mark.view}@{mark.version} are not served any more", soft_wrap=True)
        if mark.holds_code is not None:
            out.print("what the same code computes from now on is not published until it is mended", soft_wrap=True)
        out.print(f"undo it with `penstock invalidate --lift {mark.id}`", soft_wrap=True)


def _view(store: Store, asked: str) -> penstock.FeatureView:
    name, _, version = asked.partition("@")
    found = [view for view in store.project.views if view.name == name and version in ("", str(view.version))]
    if not found:
        known = ", ".join(view.ref for view in store.project.views)
        raise InvalidationError(f"the project has no feature view '{asked}'; it has {known}")
    return found[-1]


def _require(condition: bool, message: str, hint: str) -> None:
    if not condition:
        raise InvalidationError(message, hint=hint)


def _list(marks: list[Mark]) -> None:
    if not marks:
        out.print("nothing is invalidated")
        return
    table = Table("mark", "feature view", "covers", "since", "state", "reason")
    for mark in marks:
        table.add_row(mark.id, f"{mark.view}@{mark.version}", _scope(mark), _time(mark.marked_at_us), _state(mark), escape(mark.reason))
    print_whole(table)


def _scope(mark: Mark) -> str:
    parts = ["all values" if mark.attempt is None else f"values of attempt {mark.attempt}"]
    parts += [] if mark.since_us is None else [f"from {_time(mark.since_us)}"]
    parts += [] if mark.until_us is None else [f"before {_time(mark.until_us)}"]
    parts += [] if mark.holds_code is None else ["and what the same code computes"]
    return " ".join(parts)


def _state(mark: Mark) -> str:
    if mark.lifted_at_us is None:
        return "in force" if mark.excluded_at_us is None else "in force, taken back online"
    return "lifted, not restored yet" if mark.due == "restore" else "lifted"


def _time(micros: int) -> str:
    return f"{from_micros(micros):%Y-%m-%d %H:%M:%S}"
