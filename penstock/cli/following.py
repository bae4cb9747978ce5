"""Backfills of the running instance, followed on the screen."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from functools import partial

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from penstock.cli.screen import err
from penstock.contract import FeatureView
from penstock.errors import DagsterError
from penstock.offline.lake import feature_table
from penstock.offline.logs import attempts, newest
from penstock.orchestration.assets import feature_key
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


def compute_days(store: Store, control: Control, wanted: Mapping[FeatureView, Sequence[date]], title: str) -> None:
    """Compute these days of these views and follow it on the screen; views that want the same days share runs.

    A backfill under way that is about all of it is followed instead of starting another.

    Raises:
        DagsterError: a run failed.
    """
    groups: dict[tuple[date, ...], list[FeatureView]] = {}
    for view, days in wanted.items():
        if days:
            groups.setdefault(tuple(sorted(days)), []).append(view)
    total = sum(len(days) * len(views) for days, views in groups.items())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("partitions"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task("computing", total=total)
        for days, views in groups.items():
            backfill_id, is_new = _backfill(control, days, views, title)
            where = f"{control.url}/runs/b/{backfill_id}"
            progress.console.print(f"{'started' if is_new else 'under way already, followed'}: {where}", soft_wrap=True)
            show = partial(_show, progress, bar, store, {view: _newest_attempts(store, view, days) for view in views}, days)
            control.wait_for_backfill(backfill_id, at_most=_AT_MOST, on_look=show)


def _show(
    progress: Progress, bar: TaskID, store: Store, had: dict[FeatureView, dict[date, int]], days: Sequence[date], backfill: Backfill
) -> None:
    """Move the bar on by the partitions that have a newer attempt than they had."""
    for view, known in had.items():
        now = _newest_attempts(store, view, days)
        progress.advance(bar, sum(attempt > known.get(day, 0) for day, attempt in now.items()))
        known.update(now)
    at_work = any(run.status == "STARTED" for run in backfill.runs)
    progress.update(bar, description="computing" if at_work else "waiting for its turn")


def _backfill(control: Control, days: Sequence[date], views: Sequence[FeatureView], title: str) -> tuple[str, bool]:
    keys = {tuple(feature_key(view).path) for view in views}
    names = {day.isoformat() for day in days}
    for one in control.backfills_under_way():
        if one.assets >= keys and one.partitions >= names:
            return one.id, False
    return control.launch_backfill(sorted(keys), days, title), True


def _newest_attempts(store: Store, view: FeatureView, days: Sequence[date]) -> dict[date, int]:
    wanted = set(days)
    return {day: entry.attempt for day, entry in newest(attempts(store.lake, feature_table(view))).items() if day in wanted}
