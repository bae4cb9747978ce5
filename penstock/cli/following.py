"""Backfills of the running instance, followed on the screen."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from penstock.cli.screen import err
from penstock.contract import FeatureView
from penstock.contract.source import Source
from penstock.errors import DagsterError
from penstock.offline.lake import feature_table, raw_table
from penstock.offline.logs import AttemptEntry, attempts, last_attempts, newest
from penstock.orchestration.assets import feature_key, source_key
from penstock.orchestration.control import Backfill, Control
from penstock.store import Store

_AT_MOST = timedelta(days=7)


@contextmanager
def running_instance(store: Store) -> Iterator[Control]:
    """The instance of the project.

    Raises:
        DagsterError: it does not answer, or its definitions do not load.
    """
    control = Control(store.settings.dagster.url)
    try:
        if not control.ready():
            raise DagsterError(
                f"no Dagster answers at {control.url}", hint="start it: `penstock dev`; or set dagster.host and dagster.port"
            )
        yield control
    finally:
        control.close()


@dataclass(frozen=True)
class Target:
    """What days can be brought about of: a view or an ingested source, as Dagster's asset and as the lake's table."""

    key: tuple[str, ...]
    table: str


def of_view(view: FeatureView) -> Target:
    """A view's offline rows."""
    return Target(tuple(feature_key(view).path), feature_table(view))


def of_source(source: Source) -> Target:
    """An ingested source's rows."""
    return Target(tuple(source_key(source).path), raw_table(source))


def compute_days(
    store: Store, control: Control, wanted: Mapping[Target, Sequence[date]], title: str, doing: str = "computing"
) -> dict[Target, list[AttemptEntry]]:
    """Bring about these days of these targets and follow it on the screen; targets that want the same days share runs.

    A backfill under way that is about all of it is followed instead of starting another.

    Returns:
        What was logged of these days since.

    Raises:
        DagsterError: a run failed.
    """
    groups: dict[tuple[date, ...], list[Target]] = {}
    for target, days in wanted.items():
        if days:
            groups.setdefault(tuple(sorted(days)), []).append(target)
    before = {target: max((entry.attempt for entry in last_attempts(store.lake, target.table)), default=0) for target in wanted}
    total = sum(len(days) * len(targets) for days, targets in groups.items())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("partitions"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task(doing, total=total)
        for days, targets in groups.items():
            backfill_id, is_new = _backfill(control, days, targets, title)
            where = f"{control.url}/runs/b/{backfill_id}"
            progress.console.print(f"{'started' if is_new else 'under way already, followed'}: {where}", soft_wrap=True)
            had = {target: _newest_attempts(store, target, days) for target in targets}
            control.wait_for_backfill(backfill_id, at_most=_AT_MOST, on_look=partial(_show, progress, bar, store, had, days, doing))
    return {
        target: [e for e in attempts(store.lake, target.table) if e.attempt > before[target] and e.partition in days]
        for target, days in wanted.items()
    }


def _show(
    progress: Progress,
    bar: TaskID,
    store: Store,
    had: dict[Target, dict[date, int]],
    days: Sequence[date],
    doing: str,
    backfill: Backfill,
) -> None:
    """Move the bar on by the partitions that have a newer attempt than they had."""
    for target, known in had.items():
        now = _newest_attempts(store, target, days)
        progress.advance(bar, sum(attempt > known.get(day, 0) for day, attempt in now.items()))
        known.update(now)
    at_work = any(run.status == "STARTED" for run in backfill.runs)
    progress.update(bar, description=doing if at_work else "waiting for its turn")


def _backfill(control: Control, days: Sequence[date], targets: Sequence[Target], title: str) -> tuple[str, bool]:
    keys = {target.key for target in targets}
    names = {day.isoformat() for day in days}
    for one in control.backfills_under_way():
        if one.assets >= keys and one.partitions >= names:
            return one.id, False
    return control.launch_backfill(sorted(keys), days, title), True


def _newest_attempts(store: Store, target: Target, days: Sequence[date]) -> dict[date, int]:
    wanted = set(days)
    return {day: entry.attempt for day, entry in newest(last_attempts(store.lake, target.table)).items() if day in wanted}
