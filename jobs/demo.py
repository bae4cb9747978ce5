"""The whole path on one machine: flights in, features checked and published, served, and joined into a training set.

    python -m jobs.demo [--now 2026-11-23T12:00:00+00:00] [--days 30]

Everything runs for real: a Cassandra node, Dagster with its daemon (whose sensor publishes), Spark, the gateway.
All of it ends with the demo. A summary is written to var/demo/summary.json.
"""

import json
import os
import platform
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status
from rich.table import Column, Table

import penstock
from jobs.flights_data import schedule
from jobs.model import scores
from penstock.as_of import Mode
from penstock.cli.screen import fail
from penstock.clock import parse_instant
from penstock.contract import FeatureService, FeatureView
from penstock.errors import PenstockError
from penstock.offline.logs import publications
from penstock.orchestration.assets import feature_key, source_key
from penstock.orchestration.control import Control, Run, until
from penstock.orchestration.stack import Stack
from penstock.runtime.spark import stop_session
from penstock.sdk import FeatureClient, FeatureResult
from penstock.store import Store
from penstock.training_set.leakage_report import leakage_page

ROOT = Path(__file__).parent.parent
SERVICE = "arrival_delay"
SPINE = """SELECT flight_id, carrier, origin, dest, tailnum, sched_dep_time AS event_time, arr_delay_min > 15 AS late
FROM {{arrivals}} WHERE sched_dep_time >= TIMESTAMP '{since}'"""
MODES: tuple[Mode, Mode] = ("event", "observed")
RUN_AT_MOST = timedelta(minutes=10)

screen = Console(highlight=False)


class Demo:
    """The phases of the demo, timed, and what they found."""

    def __init__(self, store: Store, days: int) -> None:
        self.store = store
        today = store.clock.now().date()
        self.days = [today - timedelta(days=n) for n in range(days - 1, -1, -1)]
        self._status: Status | None = None
        self.summary: dict[str, Any] = {"now": store.clock.now().isoformat(), "phases": {}}

    @contextmanager
    def phase(self, name: str, doing: str) -> Iterator[Any]:
        """Show what is being done, and how long it took once it is."""
        began = monotonic()
        with screen.status(doing) as self._status:
            yield self._status
        seconds = round(monotonic() - began, 1)
        self.summary["phases"][name] = seconds
        screen.print(f"[green]✓[/] {doing} [dim]{seconds:.1f} s[/]")

    def run(self) -> None:
        """All phases in order."""
        with Stack(self.store.settings, self._tell) as stack:
            with self.phase("start", "Starting Cassandra and Dagster with its daemon"):
                stack.cassandra()
                control = stack.dagster()
            self.ingest(control)
            self.compute(control)
            self.publish(control)
            with self.phase("gateway", "Starting the gateway"):
                url, key = stack.gateway()
            with FeatureClient(url, api_key=key, timeout_s=5.0) as client:
                self.serve(client)
            self.train()
            self.finish()

    def _tell(self, what: str) -> None:
        if self._status is not None:
            self._status.update(f"Starting: {what}")

    def ingest(self, control: Control) -> None:
        """What was known by now of every day the windows reach."""
        reach = -(-max(view.reach for view in self.store.project.views) // timedelta(days=1))
        first = self.days[0] - timedelta(days=reach)
        with self.phase("ingest", f"Ingesting flights from {first} to {self.days[-1]}") as status:
            sources = [tuple(source_key(source).path) for source in self.store.project.sources]
            _follow(control, control.launch(sources, first, self.days[-1]), status)
        tables = [f"raw/{source.name}" for source in self.store.project.sources]
        self.summary["rows"] = {table: _rows(self.store, table) for table in tables}

    def compute(self, control: Control) -> None:
        """Every view, one range run; days that would not get further are left alone."""
        with self.phase("compute", f"Computing and checking {len(self.store.project.views)} view(s) over {len(self.days)} days") as status:
            outdated = {view: self.store.outdated(view, self.days) for view in self.store.project.views}
            wanted = {view: days for view, days in outdated.items() if days}
            if wanted:
                first, last = min(min(days) for days in wanted.values()), max(max(days) for days in wanted.values())
                _follow(control, control.launch([tuple(feature_key(view).path) for view in wanted], first, last), status)
        for view in self.store.project.views:
            self.summary["rows"][f"features/{view.name}/v{view.version}"] = _rows(self.store, f"features/{view.name}/v{view.version}")

    def publish(self, control: Control) -> None:
        """Nothing to start: the sensor finds what is due."""
        views = self.store.project.views
        with self.phase("publish", "Waiting for the sensor to publish what is new") as status:

            def look() -> int:
                due = sum(len(self.store.due(view).ready) for view in views)
                status.update(f"Waiting for the sensor to publish what is new: {due} partition(s) due")
                return due

            until(look, lambda due: due == 0, at_most=RUN_AT_MOST, what="publication")
            until(
                lambda: control.runs_of("publish_online"),
                lambda runs: all(r.finished for r in runs),
                at_most=RUN_AT_MOST,
                what="publication",
            )
        runs = control.runs_of("publish_online")
        self.summary["publications"] = {
            "runs": {run.id: run.status for run in runs},
            "partitions": {view.ref: len(_published(self.store, view)) for view in views},
        }

    def serve(self, client: FeatureClient) -> None:
        """The features of flights that leave next, as a model would ask for them."""
        now = self.store.clock.now()
        with self.phase("serve", "Asking the gateway for the flights that leave next"):
            flights = [f for day in (0, 1) for f in schedule(now.date() + timedelta(days=day)).to_pylist() if f["sched_dep_time"] >= now][
                :8
            ]
            keys = self.store.project.service(SERVICE).join_keys
            result = client.features(SERVICE, [{key: flight[key] for key in keys} for flight in flights])
        _show_flights(self.store.project.service(SERVICE), flights, result)
        with self.phase("replay", "Computing what was served again, from the lake"):
            replayed = self.store.replay(result.token)
        findings = Counter(str(part.finding) for part in replayed.parts)
        screen.print(f"served and computed again: {'equal' if replayed.equal else 'NOT EQUAL'}, {sum(findings.values())} values of views")
        self.summary["replay"] = {"equal": replayed.equal, "findings": findings}
        self.summary["online_sample"] = [
            {
                "flight": flight["flight_id"],
                "features": {
                    name: {"value": v.value, "status": v.status, "age_s": None if v.age is None else v.age.total_seconds()}
                    for name, v in row.items()
                },
            }
            for flight, row in zip(flights, result.rows, strict=True)
        ]

    def train(self) -> None:
        """The same spine in two modes, what the careless one leaks, and what that costs a model."""
        since = datetime(self.days[0].year, self.days[0].month, self.days[0].day, tzinfo=UTC)
        query = SPINE.format(since=since.isoformat())
        self.summary["training_set"] = {}
        sets = self.store.training_set
        with self.phase("train", "Building the training set in two modes"):
            spine = self.store.query(query)
            made = [sets.build(SERVICE, spine, SERVICE, mode=mode, spine_text=query) for mode in MODES]
            found = sets.leakage(SERVICE, made[1].id, against=MODES[0])
        for manifest in made:
            self.summary["training_set"][manifest.mode] = {
                "rows": manifest.rows,
                "table": manifest.table,
                "content": manifest.content,
                "rows_by_rule": {one.name: one.rows_by_rule for one in manifest.inputs},
            }
        table = Table("feature", "rows", "differ", "share", title="Leakage delta: what mode 'event' knows too early", box=None)
        for delta in found.features:
            table.add_row(delta.feature, f"{delta.rows:,}", f"{delta.differ:,}", f"{delta.share:.1%}")
        screen.print(table)
        self.summary["leakage_delta"] = {
            delta.feature: {"rows": delta.rows, "differ": delta.differ, "share": delta.share} for delta in found.features
        }
        with self.phase("model", "Training a model on either"):
            loaded = [sets.load(SERVICE, manifest.id) for manifest in made]
            costs = scores(loaded[0].to_arrow(), loaded[1].to_arrow(), loaded[1].features, MODES)
            path = self.store.settings.path("var/demo/leakage.html")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(leakage_page(found, f"Leakage of {SERVICE}", f"build {made[1].id}"), encoding="utf-8")
        table = Table("trained on mode", "AUC offline", "AUC as served", "gap", title="What it costs a model", box=None)
        for score in costs:
            table.add_row(score.mode, f"{score.offline:.3f}", f"{score.served:.3f}", f"{score.served - score.offline:+.3f}")
        screen.print(table)
        screen.print(f"the leakage report: {path}", soft_wrap=True)
        self.summary["auc"] = {score.mode: {"offline": score.offline, "served": score.served} for score in costs}

    def finish(self) -> None:
        """The summary, on the screen and in a file."""
        packages = ("dagster", "pyspark", "delta-spark", "deltalake", "acsylla", "great-expectations", "penstock")
        self.summary["versions"] = {"python": platform.python_version(), **{name: version(name) for name in packages}}
        path = self.store.settings.path("var/demo/summary.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.summary, indent=2, default=str) + "\n", encoding="utf-8")
        table = Table("what", "rows", box=None, title="Built")
        for name, rows in self.summary["rows"].items():
            table.add_row(name, f"{rows:,}")
        table.add_row(f"training/{SERVICE}", f"{self.summary['training_set']['observed']['rows']:,}")
        screen.print(table)
        seconds = sum(self.summary["phases"].values())
        screen.print(f"{seconds:.0f} s in all. Tables: {self.store.lake.uri}; summary: {path}", soft_wrap=True)
        screen.print("`make dev` leaves it running: the Dagster UI, the gateway, and an hour of flights every hour.", soft_wrap=True)


def _follow(control: Control, run_id: str, status: Any) -> None:
    doing = str(status.status)

    def show(run: Run) -> None:
        done = sum(state in ("SUCCESS", "SKIPPED") for state in run.steps.values())
        status.update(f"{doing} [dim]{run.status.lower()}, {done} of {len(run.steps)} steps[/]")

    control.wait(run_id, at_most=RUN_AT_MOST, on_look=show)


def _rows(store: Store, table: str) -> int:
    return int(store.lake.dataset(table).count_rows())


def _published(store: Store, view: FeatureView) -> set[date]:
    return {row.partition for row in publications(store.lake, view.name, view.version)}


def _show_flights(service: FeatureService, flights: list[dict[str, Any]], result: FeatureResult) -> None:
    """One feature of each view; the summary has them all."""
    shown = {f"{part.name}__{part.features[0]}": part.features[0] for part in service.selection}
    values = [Column(name, overflow="fold", min_width=7) for name in shown.values()]
    columns = [Column("flight", overflow="fold"), *values, Column("present"), Column("oldest")]
    table = Table(*columns, title="Features of the flights that leave next, one of each view", box=None)
    for flight, row in zip(flights, result.rows, strict=True):
        cells = [_cell(row[name].value, row[name].status) for name in shown]
        present = f"{sum(value.status == 'PRESENT' for value in row.values())}/{len(row)}"
        oldest = max((value.age for value in row.values() if value.age is not None), default=None)
        age = "-" if oldest is None else f"{oldest / timedelta(hours=1):.1f} h"
        table.add_row(f"{flight['carrier']}{flight['flight']} {flight['origin']}→{flight['dest']}", *cells, present, age)
    screen.print(table)


def _cell(value: object, status: str) -> str:
    if value is None:
        return f"[yellow]{status.replace('_', ' ')}[/]"
    shown = f"{value:.1f}" if isinstance(value, float) else str(value)
    return shown if status == "PRESENT" else f"{shown} [yellow]{status}[/]"


def main(
    now: Annotated[str, typer.Option(help="ISO 8601 with offset: the time the demo takes place; default: now")] = "",
    days: Annotated[int, typer.Option(min=1, max=300, help="days of features to compute")] = 30,
) -> None:
    """Run the whole path once and end everything."""
    # Ended gently, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["PENSTOCK_CLOCK__NOW"] = (parse_instant(now) if now else datetime.now(UTC).replace(microsecond=0)).isoformat()
    try:
        Demo(penstock.open(ROOT), days).run()
    except PenstockError as error:
        fail(error)
        sys.exit(1)
    finally:
        stop_session()


if __name__ == "__main__":
    typer.run(main)
