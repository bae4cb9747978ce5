"""How fresh the open day is: from a commit of new source rows until readers see them, by stage.

    python -m benchmarks.refresh.run [--commits 20] [--folder var/bench/refresh]

A copy of the flights project runs as shipped, on the machine's clock: Cassandra, Dagster, its daemon and sensors; only the schedule
`refresh` is put off, so that nothing but the sensor `repair` notices a commit. What has become known since the last time is ingested here,
beside it. A view's rows have arrived with the first publication of an attempt that read the Delta version committed, of every source
that got rows; its sample counts from the first of those commits, by Delta's own time, to the ledger's `readable_at`.

The stages between are cut by what Dagster recorded of the two runs that brought the rows. Where two overlap (a publication is asked for
before the view is recorded as materialized) the later one begins where the earlier has ended: a sample's stages sum to its whole.
"""

import json
import random
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import penstock
from jobs.ingest import FETCH
from penstock.contract import FeatureView
from penstock.errors import DagsterError
from penstock.offline.lake import feature_table, raw_table
from penstock.offline.logs import PUBLICATIONS, attempts, publications
from penstock.offline.watermark import days_between
from penstock.online.ledger import Publication
from penstock.orchestration.assets import feature_key
from penstock.orchestration.control import Control, until
from penstock.orchestration.stack import Stack
from penstock.store import Store

ROOT = Path(__file__).parent.parent.parent
STAGES = ("sensor wait", "run start", "compute", "publish wait", "publish start", "publish")
LIMIT_S = 300.0
DAYS_BEFORE = 9  # more than the longest window, 7 days
AT_MOST = timedelta(minutes=10)
PAUSE_S = 15.0  # the sensors' step: commits come at any phase of it
BETWEEN_TRIES_S = 5.0
screen = Console(highlight=False)


@dataclass(frozen=True)
class Sample:
    """What one commit's rows took to be readable in one view.

    Args:
        commit: which commit, from 1.
        view: the view.
        committed_at, readable_at: epoch seconds.
        stages: stage → seconds; they sum to `readable_at - committed_at`.
        repair_run, publish_run: the runs that computed and published.
    """

    commit: int
    view: str
    committed_at: float
    readable_at: float
    stages: dict[str, float]
    repair_run: str
    publish_run: str


@dataclass(frozen=True)
class Commits:
    """What one ingest committed: raw table → Delta version, and when (epoch seconds)."""

    versions: dict[str, int]
    at: dict[str, float]

    def of(self, view: FeatureView) -> list[str]:
        """The tables that got rows, of those the view reads."""
        return [table for source in view.sources if (table := raw_table(source)) in self.versions]


def main(
    commits: Annotated[int, typer.Option(min=1, help="commits of new source rows, one after the other")] = 20,
    folder: Annotated[Path, typer.Option(help="where the project's copy, its lake and its node are made anew")] = Path("var/bench/refresh"),
) -> None:
    """Run the project, commit to its sources, and measure until each commit is readable."""
    # Ended gently, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = folder.resolve()
    _copy_project(folder)
    store = penstock.open(folder)
    samples: list[Sample] = []
    try:
        with Stack(store.settings, screen.print) as stack, ExitStack() as opened:
            stack.cassandra()
            control = stack.dagster()
            instance = opened.enter_context(dg.DagsterInstance.from_config(str(store.settings.path(store.settings.dagster.home))))
            _fill(store, control)
            for number in range(1, commits + 1):
                time.sleep(random.uniform(0, PAUSE_S))
                found = list(_measure(store, control, instance, number))
                samples += found
                (folder / "samples.json").write_text(json.dumps([asdict(sample) for sample in samples], indent=2) + "\n")
                slowest = max(sample.readable_at - sample.committed_at for sample in found)
                screen.print(f"commit {number}: {len(found)} view(s), the last readable after {slowest:.1f} s")
    except DagsterError as error:
        screen.print(f"[red]{error}[/]")
        sys.exit(1)
    finally:
        if samples:
            _show(samples, folder)


def _copy_project(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("conf", "feature_assets", "feature_functions", "jobs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "workspace.yaml", folder / "workspace.yaml")
    first = datetime.now(UTC).date() - timedelta(days=DAYS_BEFORE)
    (folder / "conf" / "local.yaml").write_text(
        f"cassandra: {{port: {_free_port()}}}\n"
        f"gateway: {{port: {_free_port()}}}\n"
        f"dagster: {{port: {_free_port()}, first_day: {first}, refresh_cron: '0 0 29 2 *'}}\n"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _fill(store: Store, control: Control) -> None:
    """Everything up to now, ingested, computed and online."""
    first, today = store.settings.dagster.first_day, store.clock.now().date()
    days = days_between(first, today)
    screen.print(f"filling {first} to {today}")
    for source in store.project.sources:
        store.ingest(source, days, fetch=FETCH[source.name], run_id="benchmark")
    views = store.project.views
    control.wait(control.launch([tuple(feature_key(view).path) for view in views], first, today), at_most=AT_MOST)

    def is_online() -> bool:
        return not any(store.due(view).ready or store.behind(view) for view in views)

    _until_so(control, is_online, "the first fill")
    until(lambda: control.runs_of("publish_online"), lambda runs: all(run.finished for run in runs), at_most=AT_MOST, what="publication")


def _measure(store: Store, control: Control, instance: dg.DagsterInstance, number: int) -> Iterator[Sample]:
    """Commit what has become known, and wait until it is readable in every view that it brings further."""
    today = store.clock.now().date()
    while True:
        commits = _commit(store, today)
        reached = [view for view in store.project.views if commits.of(view) and today in store.behind(view)]
        if reached:
            break
        time.sleep(BETWEEN_TRIES_S)  # no flight has left or landed since the last commit
    arrived: dict[str, Publication] = {}

    seen: int | None = None

    def all_arrived() -> bool:
        nonlocal seen
        if (version := store.lake.version(PUBLICATIONS)) == seen:  # cheap: what is waited for has the machine's cores to itself
            return False
        seen = version
        for view in reached:
            if view.name not in arrived and (publication := _arrival(store, view, today, commits)) is not None:
                arrived[view.name] = publication
        return len(arrived) == len(reached)

    _until_so(control, all_arrived, f"the publication of {', '.join(view.ref for view in reached)}, after commit {number},")
    for view in reached:
        yield _sample(store, instance, number, view, commits, arrived[view.name])


def _commit(store: Store, today: date) -> Commits:
    versions: dict[str, int] = {}
    at: dict[str, float] = {}
    for source in store.project.sources:
        table = raw_table(source)
        before = store.lake.version(table)
        store.ingest(source, [today], fetch=FETCH[source.name], run_id="benchmark")
        newest = next(iter(store.lake.commits(table)))
        if newest["version"] != before:
            versions[table], at[table] = newest["version"], newest["timestamp"] / 1e3
    return Commits(versions, at)


def _arrival(store: Store, view: FeatureView, day: date, commits: Commits) -> Publication | None:
    """The first publication of the day by an attempt that read all the commits; None: there is none yet."""
    read = {
        entry.attempt
        for entry in attempts(store.lake, feature_table(view))
        if entry.partition == day and all(entry.inputs.get(table, -1) >= commits.versions[table] for table in commits.of(view))
    }
    rows = [row for row in publications(store.lake, view.name, view.version) if row.partition == day and row.attempt in read]
    return min(rows, key=lambda row: row.readable_at_us, default=None)


def _sample(
    store: Store, instance: dg.DagsterInstance, number: int, view: FeatureView, commits: Commits, publication: Publication
) -> Sample:
    repair_id = next(e.run_id for e in attempts(store.lake, feature_table(view)) if e.attempt == publication.attempt)
    repair, publish = _record(instance, repair_id), _record(instance, publication.run_id)
    computed_at = next(
        record.timestamp
        for record in instance.get_records_for_run(repair_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
        if record.asset_key == feature_key(view)
    )
    committed_at, readable_at = min(commits.at[table] for table in commits.of(view)), publication.readable_at_us / 1e6
    recorded = [
        repair.create_timestamp.timestamp(),
        repair.start_time,
        computed_at,
        publish.create_timestamp.timestamp(),
        publish.start_time,
    ]
    # From the back: what comes next bounds what comes before, and the commit bounds all.
    bounds = [readable_at]
    for at in reversed(recorded):
        assert at is not None
        bounds.insert(0, max(committed_at, min(at, bounds[0])))
    stages = {name: end - begin for name, (begin, end) in zip(STAGES, pairwise([committed_at, *bounds]), strict=True)}
    return Sample(number, view.ref, committed_at, readable_at, stages, repair_id, publication.run_id)


def _record(instance: dg.DagsterInstance, run_id: str) -> dg.RunRecord:
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        raise DagsterError(f"Dagster has no run {run_id}, which the lake's logs name")
    return record


def _until_so(control: Control, is_so: Callable[[], bool], what: str) -> None:
    try:
        until(is_so, bool, at_most=AT_MOST, what=what)
    except DagsterError as error:
        said = [f"  {sensor} {_tick(tick)}" for sensor in ("repair", "publish") for tick in control.ticks(sensor)[:5]]
        raise DagsterError("\n".join([str(error), "the sensors' last looks:", *said])) from None


def _tick(tick: dict[str, Any]) -> str:
    error = tick["error"]["message"] if tick["error"] else ""
    why = tick["skipReason"] or error or f"{len(tick['runIds'])} run(s) requested"
    return f"{datetime.fromtimestamp(tick['timestamp'], UTC):%H:%M:%S} {tick['status'].lower()}: {why}"


def _show(samples: list[Sample], folder: Path) -> None:
    commits = len({sample.commit for sample in samples})
    table = Table("stage", "p50 s", "p95 s", "max s", box=None, title=f"{commits} commit(s), {len(samples)} arrivals in views")
    for stage in STAGES:
        table.add_row(stage, *_spread([sample.stages[stage] for sample in samples]))
    whole = [sample.readable_at - sample.committed_at for sample in samples]
    table.add_row("[bold]commit to readable[/]", *_spread(whole))
    screen.print(table)
    screen.print(f"p95 {np.percentile(whole, 95):.1f} s (limit {LIMIT_S:g} s); samples: {folder / 'samples.json'}", soft_wrap=True)


def _spread(seconds: list[float]) -> list[str]:
    return [f"{value:.1f}" for value in (*np.percentile(seconds, [50, 95]), max(seconds))]


if __name__ == "__main__":
    typer.run(main)
