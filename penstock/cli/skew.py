"""`penstock skew`: what was served beside what training is given."""

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

import penstock
from penstock.cli.days import instant
from penstock.cli.screen import err, out, print_whole, write
from penstock.contract import FeatureView
from penstock.errors import SkewError
from penstock.offline.lake import feature_table
from penstock.offline.logs import last_attempts, newest, publications
from penstock.offline.profiles import profiles_of
from penstock.offline.statistics import Reference
from penstock.offline.watermark import days_between
from penstock.quality.skew import CHECKS, Level
from penstock.quality.skew_log import DAY, HOUR, SkewEntry, judged_windows, newest_windows, on_time
from penstock.quality.skew_report import Beside, skew_page
from penstock.store import Store
from penstock.training_set.reference import newest_references

cli = typer.Typer(no_args_is_help=True, help="What was served beside what training is given for the same keys and times.")
Views = Annotated[list[str] | None, typer.Argument(help="feature views, as `name` or `name@version`; default: all")]
_LOOKS = {Level.PASSED: "green", Level.WARNING: "yellow", Level.CRITICAL: "bold red", Level.INSUFFICIENT_DATA: "dim"}
_MOST = timedelta(days=31)


@cli.command()
def status(
    views: Views = None,
    hours: Annotated[int, typer.Option(min=1, help="show windows that ended within this many hours")] = 24,
    as_json: Annotated[bool, typer.Option("--json", help="all of it, examples included, as JSON")] = False,
) -> None:
    """Show what the newest window of each view came to; exit code 1 if one is critical, or windows are no longer judged."""
    store = penstock.open()
    wanted = store.project.views_named(views)
    now = store.clock.now()
    entries = _of(wanted, store.skew(since=now - timedelta(hours=hours)))
    newest, level = newest_windows(entries), on_time(judged_windows(store.lake), now)
    if as_json:
        out.print_json(msgspec.json.encode({"judged_on_time": level, "windows": entries}).decode())
    else:
        _show(newest, f"nothing was judged in the last {hours} hour(s): the job `skew` does so each hour")
        if level in (Level.WARNING, Level.CRITICAL):
            err.print("windows are not judged any more as they settle: look at the job `skew` in Dagster", style="red")
    if Level.CRITICAL in (level, *(entry.level for entry in newest)):
        sys.exit(1)


@cli.command()
def judge(
    views: Views = None,
    since: Annotated[str, typer.Option(help="ISO 8601 with offset; default: an hour before --until")] = "",
    until: Annotated[str, typer.Option(help="ISO 8601 with offset, not included; default: now")] = "",
) -> None:
    """Bring the feature log to the lake and judge a window of it now; it is shown and not kept. Exit code 1 if it is critical."""
    store = penstock.open()
    wanted = store.project.views_named(views)
    end = instant(until, SkewError) if until else store.clock.now()
    begin = instant(since, SkewError) if since else end - HOUR
    if not begin < end <= begin + _MOST:
        raise SkewError(f"the window from {begin} to {end} is none", hint=f"it ends after it begins, and within {_MOST.days} days")
    with err.status("comparing"):
        store.ship_feature_log()
        entries = store.judge_skew(begin, end, wanted, keep=False)
    _show(entries, "no views")
    for entry in entries:
        for check in entry.checks:
            if check.level in (Level.WARNING, Level.CRITICAL):
                out.print(f"{check.level} {check.name}: {check.said}", style=_LOOKS[check.level], markup=False, soft_wrap=True)
    if any(entry.level is Level.CRITICAL for entry in entries):
        sys.exit(1)


@cli.command()
def report(
    views: Views = None,
    days: Annotated[int, typer.Option(min=1, help="how many days back")] = 7,
    to: Annotated[Path, typer.Option("--out", help="the file to write")] = Path("skew.html"),
) -> None:
    """Write what was found as one HTML file: which features differed when, how late rows were, examples."""
    store = penstock.open()
    now = store.clock.now()
    wanted = store.project.views_named(views)
    entries = _of(wanted, store.skew(since=now - days * DAY))
    if not entries:
        raise SkewError(f"nothing was judged in the last {days} day(s)", hint="the job `skew` in Dagster does so each hour")
    subtitle = f"{store.settings.root.name}, {days} day(s) up to {now:%Y-%m-%d %H:%M} UTC"
    write(to, skew_page(entries, "Served and trained", subtitle, _beside(store, wanted, entries, now - days * DAY, now)))
    out.print(f"{len(entries)} window(s) of views: {to}", markup=False, soft_wrap=True)


def _beside(
    store: Store, views: Sequence[FeatureView], entries: Sequence[SkewEntry], since: datetime, now: datetime
) -> dict[FeatureView, Beside]:
    """View → what it was last trained on and the lake's rows of the newest day that was judged; and its days, and when they were
    online."""
    trained, found = newest_references(store.lake, views), {}
    for view in views:
        profiles = profiles_of(store.lake, view, days_between(since.date(), now.date()))
        days = {day: profile.statistics for day, profile in profiles.items()}
        judged = max((entry.since.date() for entry in entries if entry.served and entry.is_of(view)), default=None)
        of_lake = [Reference(f"the lake's rows of {day}", days[day]) for day in [judged] if day in days]
        references = [*([trained[view]] if view in trained else []), *of_lake]
        tried = {day: entry for day, entry in newest(last_attempts(store.lake, feature_table(view))).items() if since.date() <= day}
        found[view] = Beside(references, days, publications(store.lake, view.name, view.version), tried)
    return found


def _of(views: Sequence[FeatureView], entries: list[SkewEntry]) -> list[SkewEntry]:
    mine = {(view.name, view.version) for view in views}
    return [entry for entry in entries if (entry.view, entry.version) in mine]


def _show(entries: list[SkewEntry], none: str) -> None:
    if not entries:
        out.print(none)
        return
    table = Table("feature view", "window (UTC)", "rows", "different", *CHECKS)
    for entry in entries:
        of = {check.name: check for check in entry.checks}
        cells = [Text(of[name].verdict, _LOOKS[of[name].level]) if name in of else Text("-") for name in CHECKS]
        table.add_row(entry.ref, _window(entry.since, entry.until), f"{entry.rows:,}", f"{entry.changes:,}", *cells)
    print_whole(table)


def _window(since: datetime, until: datetime) -> str:
    same = since.date() == until.date()
    return f"{since:%Y-%m-%d %H:%M} to {until:{'' if same else '%Y-%m-%d '}%H:%M}"
