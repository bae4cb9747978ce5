"""`penstock replay`: what an answer's token names, computed again from the lake."""

import sys
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

import penstock
from penstock.cli.screen import err, out, print_whole
from penstock.quality.findings import SAME
from penstock.quality.replay import Replay, Replayed
from penstock.serving.judgement import Outcome

_SHOWN = 5  # rows whose values fit a terminal


def run(
    token: Annotated[str, typer.Argument(help="the `token` of an answer; -: read it from standard input")],
    as_json: Annotated[bool, typer.Option("--json", help="all of it, with the values, as JSON")] = False,
) -> None:
    """Compute what was served again, from the lake, and say whether it is equal or what differs; exit code 1 if it differs."""
    store = penstock.open()
    with err.status("reading the lake"):
        done = store.replay(sys.stdin.read() if token == "-" else token)  # noqa: S105  # no password
    if as_json:
        out.print_json(msgspec.json.encode(_document(done)).decode())
    else:
        _show(done)
    if not done.equal:
        sys.exit(1)


def _show(done: Replay) -> None:
    table = Table("entity", "feature view", "served: event time, attempt", "by the lake", "", title=None)
    for part in done.parts:
        style = "green" if part.finding in SAME else "red"
        table.add_row(
            escape(_key(part)),
            part.view,
            _told(part.served, "") + _what(part),
            _told(part.expected, "nothing"),
            f"[{style}]{part.finding}[/]",
        )
    out.print(f"{done.service} at {done.now:%Y-%m-%d %H:%M:%S.%f} UTC, under definitions {done.snapshot}", markup=False, soft_wrap=True)
    print_whole(table)
    rows = done.rows()
    if len(rows) <= _SHOWN:
        values = Table("by the lake", *(f"row {n}" for n in range(len(rows))))
        for name in rows[0] if rows else ():
            values.add_row(name, *("" if row[name] is None else escape(str(row[name])) for row in rows))
        print_whole(values)
    else:
        out.print(f"{len(rows)} rows; --json shows their values")
    if done.on_demand:
        out.print(f"not computed again, for what the caller gave is not in the token: {', '.join(done.on_demand)}", soft_wrap=True)
    differing = sum(part.finding not in SAME for part in done.parts)
    if differing:
        out.print(f"[red]{differing} of {len(done.parts)} differ[/] from what the lake gives")
    else:
        out.print(f"[green]equal[/]: {len(done.parts)} of {len(done.parts)}")


def _key(part: Replayed) -> str:
    return "null" if part.key is None else ", ".join(f"{name}={value}" for name, value in part.key.items()) or "(all)"


def _what(part: Replayed) -> str:
    """What came of reading it, where it is not simply served."""
    said = {Outcome.FRESH: "", Outcome.LATE: "", Outcome.EXPIRED: ", past its ttl", Outcome.CACHED: ", the store did not answer"}
    return said.get(part.outcome, part.outcome.name.lower().replace("_", " "))


def _told(at: tuple[datetime, int] | None, otherwise: str) -> str:
    return otherwise if at is None else f"{at[0]:%Y-%m-%d %H:%M:%S}, {at[1]}"


def _document(done: Replay) -> dict[str, Any]:
    return {
        "service": done.service,
        "snapshot": done.snapshot,
        "now": done.now,
        "equal": done.equal,
        "on_demand": done.on_demand,
        "parts": [
            {
                "row": part.row,
                "name": part.name,
                "view": part.view,
                "key": part.key,
                "outcome": part.outcome.name.lower(),
                "finding": part.finding,
                "served": part.served,
                "expected": part.expected,
                "values": part.values,
            }
            for part in done.parts
        ],
    }
