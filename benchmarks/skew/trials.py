"""Faults injected into what is served, one at a time, and whether an alert reached a sink: the flights on a real node.

    python -m benchmarks.skew.trials [--rounds 2] [--unseen] [--seed 1] [--days 10] [--folder var/bench/skew]

A trial injects one fault into a share of the keys of one view, asks the gateway's code for every key, brings the feature log to the lake,
judges the window, follows the alerts and looks whether a webhook was told of a critical one; then it mends the fault, and a clean window
must end the alert. Shares are half, once, twice and ten times what is critical (one row in a hundred). Everything but the HTTP of the
gateway is as in production; windows are of two seconds, so that all trials are within the views' freshness.

What compares distributions (`detectors.py`) is given the same column as it is served, beside what training is given for the same keys a
day before: first of all without any fault, once for each feature.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import track

from benchmarks.skew.detectors import alarms
from benchmarks.skew.faults import BOTH, FAULTS, UNSEEN, Fault
from benchmarks.skew.flights import NOW, Flights, Key
from benchmarks.skew.injection import drop_from_log, injected
from benchmarks.skew.results import Clean, Results, Trial, tell_of
from benchmarks.skew.views import VIEWS
from penstock.clock import FixedClock
from penstock.config import AlertSettings, FeatureLogSettings, Settings, load_settings
from penstock.contract import FeatureView
from penstock.offline.arrow import arrow_type
from penstock.offline.watermark import DAY
from penstock.online.codec import decode_value
from penstock.quality.alert_sinks import tell
from penstock.quality.alerts import AlertEvent, follow, open_alerts, skew_conditions
from penstock.quality.findings import SAME, Finding
from penstock.quality.skew import Level
from penstock.quality.skew_log import SkewEntry
from penstock.runtime.nodes import node_down, node_up
from penstock.runtime.spark import stop_session

HERE = Path(__file__).parent
TIMES, TIMES_BOTH, TIMES_UNSEEN = (0.5, 1.0, 2.0, 10.0), (10.0, 100.0), (0.2,)
CRITICAL = 0.01
NO_CODE_GENERATION = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
screen = Console(stderr=True)


class Webhook:
    """A sink that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                told.extend(one["fallback"] for one in body["attachments"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.settings = AlertSettings.model_validate({"webhook": "env:BENCH_WEBHOOK"})
        os.environ["BENCH_WEBHOOK"] = f"http://127.0.0.1:{self._server.server_port}/hook"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Watch:
    """Windows of one view, judged one after the other, and the alerts that follow."""

    def __init__(self, flights: Flights, webhook: Webhook, view: FeatureView) -> None:
        self._flights, self._webhook, self._view = flights, webhook, view
        self._alerts: list[AlertEvent] = []
        self._entries: list[SkewEntry] = []
        self._told = {"webhook": datetime.min.replace(tzinfo=UTC)}

    def look(self, unknown: Sequence[Key] = (), lose: int = 0) -> tuple[SkewEntry, list[str]]:
        """What a window came to, and what the webhook was told."""
        heard, since = len(self._webhook.told), self._flights.clock.now()
        self._flights.ask(self._view, unknown)
        self._flights.store.ship_feature_log()
        if lose:
            drop_from_log(self._flights, since, lose)
        self._entries.append(self._flights.judge(self._view))
        self._alerts += follow(open_alerts(self._alerts), skew_conditions(self._entries), self._flights.clock.now())
        self._told, failed = tell(self._webhook.settings, self._alerts, "bench", self._told)
        assert not failed, failed
        return self._entries[-1], self._webhook.told[heard:]


class Columns:
    """What is served, beside what training is given for the same keys a day before, for those that compare distributions."""

    def __init__(self, flights: Flights, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._reference = {}
        for view in VIEWS:
            at = pa.array([flights.clock.now() - DAY] * len(flights.held[view]), arrow_type("timestamp"))
            keys = {name: [key[n] for key in flights.held[view]] for n, name in enumerate(view.entity.join_keys)}
            self._reference[view] = flights.store.join(pa.table({**keys, "event_time": at}), [view], mode="event").to_arrow()

    def alarms(self, name: str, view: FeatureView, feature: str, rows: Sequence[Sequence[Any]]) -> dict[str, bool]:
        """Detector → whether it says that the feature is otherwise."""
        reference = self._reference[view][f"{view.name}__{feature}"]
        place = view.feature_names.index(feature)
        seen = [row[place] for row in rows]
        for which, column in (("reference", reference), ("seen", pa.chunked_array([seen], reference.type))):
            pq.write_table(pa.table({feature: column}), self._folder / f"{name}.{which}.parquet")
        return alarms(view.features[place].dtype, reference.to_pylist(), seen)

    def evidently(self) -> dict[str, bool]:
        """Name → whether Evidently says so, of all that was asked of the others."""
        home = self._folder.parent / "peers"
        python = home / "bin" / "python"
        if not python.exists():
            with screen.status("installing Evidently"):
                subprocess.run([sys.executable, "-m", "venv", home], check=True)
                uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), "-r", str(HERE / "peers.txt")]
                subprocess.run(uv, check=True)
        with screen.status("asking Evidently"):
            subprocess.run([python, HERE / "evidently_drift.py", self._folder], check=True)
        found: dict[str, bool] = json.loads((self._folder / "evidently.json").read_text())
        return found


class Trials:
    """Faults, one after the other, on views and features at random."""

    def __init__(self, flights: Flights, webhook: Webhook, columns: Columns, seed: int) -> None:
        self._flights, self._webhook, self._columns = flights, webhook, columns
        self._chance, self._tried = np.random.default_rng(seed), 0

    def run(self, fault: Fault, side: str, dtype: str | None, times: float) -> Trial | None:
        """A fault in the first view at random that has enough rows which it would alter; None: there is none."""
        able = [view for view in VIEWS if dtype is None or any(feature.dtype == dtype for feature in view.features)]
        for n in self._chance.permutation(len(able)):
            done = self._on(able[n], fault, side, dtype, times)
            if done is not None:
                return done
        return None

    def _on(self, view: FeatureView, fault: Fault, side: str, dtype: str | None, times: float) -> Trial | None:
        begun, watch = time.monotonic(), Watch(self._flights, self._webhook, view)
        with injected(self._flights, view, fault, side, dtype, CRITICAL * times, self._chance) as done:
            if not done.rows:
                return None
            bad, told = watch.look(done.unknown, lose=done.rows if fault.where == "log" else 0)
        _, told_after = watch.look()
        self._tried += 1
        name = f"trial-{self._tried}"
        findings = {Finding(finding): count for finding, count in bad.findings.items() if finding not in SAME}
        worst = max(findings, key=lambda one: findings[one], default=None)
        levels = {check.name: check.level for check in bad.checks}
        others = {}
        if done.values and done.feature and _comparable(view, done.feature):
            others = self._columns.alarms(name, view, done.feature, list(done.values.values()))
        return Trial(
            name=name,
            view=view.name,
            feature=done.feature,
            dtype=dtype,
            fault=fault.name,
            side=side,
            times=times,
            told=any(said.startswith(f"critical opened: skew:{view.ref}:") for said in told),
            named=levels[fault.expected] is Level.CRITICAL and worst == fault.named,
            finding=None if worst is None else str(worst),
            levels={check: str(level) for check, level in levels.items()},
            ended=any(said.startswith("critical resolved") for said in told_after),
            altered=done.rows,
            rows=bad.rows,
            others=others,
            seconds=round(time.monotonic() - begun, 2),
        )


def _comparable(view: FeatureView, feature: str) -> bool:
    dtype = view.features[view.feature_names.index(feature)].dtype
    return dtype[:4] not in ("list", "time")


def plan(*, unseen_only: bool = False) -> list[tuple[Fault, str, str | None, float]]:
    """Every fault on every side, for every type it can alter, at every magnitude."""
    return [
        (fault, side, dtype, times)
        for fault in FAULTS
        if fault.name in UNSEEN or not unseen_only
        for side in fault.sides
        for dtype in fault.dtypes or [None]
        for times in (TIMES_BOTH if side == BOTH else (*TIMES_UNSEEN, *TIMES) if unseen_only else TIMES)
    ]


def clean(flights: Flights, columns: Columns) -> list[Clean]:
    """Each feature as it is served without any fault."""
    found = []
    for view in VIEWS:
        rows = [decode_value(blob).values for blob in flights.held[view].values()]
        for feature in view.features:
            if _comparable(view, feature.name):
                name = f"clean-{view.name}-{feature.name}"
                found.append(Clean(name=name, others=columns.alarms(name, view, feature.name, rows)))
    return found


def main(
    rounds: Annotated[int, typer.Option(help="how often each fault is tried, on another view or feature each time")] = 2,
    days: Annotated[int, typer.Option(help="how many days are online")] = 10,
    unseen: Annotated[bool, typer.Option("--unseen", help="only what no distribution shows")] = False,
    seed: Annotated[int, typer.Option(help="of which keys and features")] = 1,
    folder: Annotated[Path, typer.Option(help="where lake, node and samples are")] = Path("var/bench/skew"),
    out: Annotated[Path, typer.Option(help="where the results go")] = Path("var/bench/skew/results.json"),
) -> None:
    """Inject faults and count what was told."""
    folder = folder.resolve()
    for name in ("lake", "cassandra", "log", "columns"):  # tokens and windows are those of a first run
        shutil.rmtree(folder / name, ignore_errors=True)
    settings, clock, webhook = settings_in(folder, "skew"), FixedClock(NOW), Webhook()
    node_up(settings)
    try:
        flights = Flights(settings, clock, VIEWS)
        with screen.status("computing and publishing the flights"):
            flights.fill(NOW.date() - (days - 1) * DAY, NOW.date())
            flights.look_back()
            clock.at = flights.after_all_is_readable()
            columns = Columns(flights, folder / "columns")
            stop_session()
        results = Results(seed=seed, days=days, clean=clean(flights, columns))
        trials = Trials(flights, webhook, columns, seed)
        for fault, side, dtype, times in track(plan(unseen_only=unseen) * rounds, "faults", console=screen):
            done = trials.run(fault, side, dtype, times)
            if done is None:
                results.left_out += 1
            else:
                results.trials.append(done)
            results.keep(out)
        results.keep(out, columns.evidently())
        print(tell_of(results))
    finally:
        webhook.close()
        node_down(settings)


def settings_in(folder: Path, keyspace: str, port: int = 19542) -> Settings:
    """The project's own settings, with everything below a folder."""
    base = load_settings(HERE.parent.parent)
    return base.model_copy(
        update={
            "lake": base.lake.model_copy(update={"path": str(folder / "lake")}),
            "cassandra": base.cassandra.model_copy(update={"data": str(folder / "cassandra"), "port": port, "keyspace": keyspace}),
            "dagster": base.dagster.model_copy(update={"first_day": date(2025, 1, 1)}),
            # A session lives for hours, over plans of hundreds of columns: code compiled for each plan costs more than it saves.
            "spark": base.spark.model_copy(update={"short_jobs": False, "conf": {**base.spark.conf, **NO_CODE_GENERATION}}),
            "feature_log": FeatureLogSettings(sample=1.0, folder=str(folder / "log")),
        }
    )


if __name__ == "__main__":
    typer.run(main)
