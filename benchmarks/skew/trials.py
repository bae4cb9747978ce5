"""Faults injected into what is served, one at a time, and whether an alert reached a sink: the flights on a real node.

    python -m benchmarks.skew.trials [--trials 300] [--days 3] [--folder var/bench/skew]

A trial injects one fault into a share of the keys of one view, asks the gateway's code for every key, brings the feature log to the lake,
judges the window, follows the alerts and looks whether a webhook was told of a critical one; then it mends the fault, and a clean window
must end the alert. Shares are half, once, twice and ten times what is critical (one row in a hundred). Everything but the HTTP of the
gateway is as in production; windows are of two seconds, so that all trials are within the views' freshness.
"""

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.compute as pc
import typer
from deltalake import DeltaTable
from rich.console import Console

from benchmarks.skew.faults import FAULTS, Fault
from jobs.ingest import FETCH
from penstock.clock import FixedClock, to_micros
from penstock.config import AlertSettings, FeatureLogSettings, GatewaySettings, Settings, load_settings
from penstock.contract import FeatureService, FeatureView
from penstock.contract.fingerprint import schema_id
from penstock.offline.lake import feature_table
from penstock.offline.logs import copied_marks, publications
from penstock.offline.watermark import DAY, days_between
from penstock.online.codec import decode_value, encode_key, encode_value, write_token
from penstock.online.store import OnlineStore, Slot, Write
from penstock.publication.held_store import with_store
from penstock.quality.alert_sinks import tell
from penstock.quality.alerts import AlertEvent, follow, open_alerts, skew_conditions
from penstock.quality.findings import SAME, Finding, rows_of
from penstock.quality.served_log import SERVED
from penstock.quality.skew import Level
from penstock.quality.skew_log import SkewEntry
from penstock.registry.project import Project, load_project
from penstock.registry.snapshot import view_entry
from penstock.runtime.nodes import node_down, node_up
from penstock.runtime.spark import stop_session
from penstock.serving.cache import NearCache
from penstock.serving.feature_log import FeatureLog
from penstock.serving.lookup import look_up
from penstock.serving.plan import Planner
from penstock.serving.state import StateKeeper
from penstock.store import Store

ROOT = Path(__file__).parent.parent.parent
NOW = datetime(2026, 3, 10, 15, 7, tzinfo=UTC)
WINDOW = timedelta(seconds=2)
VIEWS = ("aircraft_history", "aircraft_turnaround", "aircraft_profile")  # of a thousand keys and more
TIMES = (0.5, 1.0, 2.0, 10.0)
CRITICAL = 0.01
BATCH = 500
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
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def close(self) -> None:
        self._server.shutdown()


class Flights:
    """The flights, computed and published, and asked for by the gateway's code."""

    def __init__(self, settings: Settings, clock: FixedClock) -> None:
        project = load_project("feature_assets")
        views = tuple(project.view(name) for name in VIEWS)
        services = tuple(FeatureService(view.name, views=[view], owner="bench") for view in views)
        self.clock, self.settings = clock, settings
        self.store = Store(settings, Project("flights", views, services), clock)
        self.planner = Planner()
        self.keys: dict[FeatureView, list[tuple[Any, ...]]] = {}
        self.written: Counter[tuple[str, tuple[Any, ...]]] = Counter()
        self.asked = 0

    def fill(self, days: int) -> None:
        """Everything of these days computed and online."""
        last = NOW.date()
        first = last - (days - 1) * DAY
        reach = max(view.reach for view in self.store.project.views) // DAY + 1
        for source in self.store.project.sources:
            self.store.ingest(source, days_between(first - reach * DAY, last), fetch=FETCH[source.name])
        for view in self.store.project.views:
            self.store.compute(view, days_between(first, last))
            self.store.publish(view, days_between(first, last))
            table = self.store.lake.dataset(feature_table(view)).to_table(columns=list(view.entity.join_keys))
            self.keys[view] = sorted(tuple(row.values()) for row in table.group_by(table.column_names).aggregate([]).to_pylist())
        self.store.publish_services()

    def ask(self, view: FeatureView, unknown: Sequence[tuple[Any, ...]]) -> None:
        """Ask for every key of a view, and some that nobody has, and log all of it."""
        names, keys = list(view.entity.join_keys), [*self.keys[view], *unknown]
        log = FeatureLog(self.settings.path(self.settings.feature_log.folder), self.settings.feature_log, self.clock)

        async def run(store: OnlineStore) -> None:
            keeper = StateKeeper(store)
            assert await keeper.refresh()
            assert keeper.state is not None
            plan = self.planner.plan(keeper.state, view.name)
            for begin in range(0, len(keys), BATCH):
                entities = [dict(zip(names, key, strict=True)) for key in keys[begin : begin + BATCH]]
                self.asked += 1
                answer = await look_up(plan, NearCache(store, 0), to_micros(self.clock.now()), entities, GatewaySettings())
                log.take(answer, f"request {self.asked}", "bench")
            await log.close()

        with_store(self.store.connect(), run)

    def judge(self, view: FeatureView) -> SkewEntry:
        """The window that begins now, which ends with it."""
        since = self.clock.now()
        self.clock.advance(WINDOW)
        (entry,) = self.store.judge_skew(since, since + WINDOW, [view], keep=False)
        return entry

    def put(self, view: FeatureView, values: dict[tuple[Any, ...], bytes | None], event_us: dict[tuple[Any, ...], int]) -> None:
        """Write past every publication: a token above the one that is there, below that of the next event."""
        join_keys, slot, writes = list(view.entity.join_keys.items()), Slot(view.name, view.version, 1), []
        for key, blob in values.items():
            self.written[view.entity.name, key] += 1
            token = write_token(event_us[key], 300 + self.written[view.entity.name, key])
            writes.append(Write(encode_key(join_keys, key), slot, token, blob))

        async def run(store: OnlineStore) -> None:
            await store.prepare([view.entity.name])
            await store.write(view.entity.name, writes)

        with_store(self.store.connect(), run)

    def held(self, view: FeatureView, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], bytes]:
        """What some keys hold, as stored; those that hold nothing are left out."""
        join_keys, slot = list(view.entity.join_keys.items()), Slot(view.name, view.version, 1)

        async def run(store: OnlineStore) -> list[Any]:
            await store.prepare([view.entity.name])
            return [await store.read(view.entity.name, [encode_key(join_keys, key)], [slot]) for key in keys]

        found = with_store(self.store.connect(), run)
        return {key: blobs[0][0] for key, blobs in zip(keys, found, strict=True) if blobs[0][0] is not None}


@contextmanager
def injected(
    flights: Flights, view: FeatureView, fault: Fault, share: float, chance: np.random.Generator
) -> Iterator[tuple[list[Any], str]]:
    """The fault is there within the block; gives unknown keys to ask for, and which feature was altered."""
    everyone = flights.keys[view]
    many = max(1, ceil(share * len(everyone)))
    picked = [everyone[n] for n in chance.permutation(len(everyone))]
    features = [n for n, feature in enumerate(view.features) if not fault.dtypes or feature.dtype in fault.dtypes]
    place = int(chance.choice(features))
    unknown = [tuple(f"X{n}" for _ in view.entity.join_keys) for n in range(50)]
    before = flights.held(view, picked[: 4 * many + 20])
    event_us = {key: decode_value(blob).event_time_us for key, blob in before.items()}
    altered: dict[tuple[Any, ...], bytes | None] = {}
    if fault.where == "late":
        flights.clock.advance(view.freshness.total + timedelta(minutes=1))
    elif fault.where == "extra":
        now_us = to_micros(flights.clock.now()) - 1_000_000
        blob = next(iter(before.values()))
        values = decode_value(blob).values
        unknown = [tuple(f"X{n}" for _ in view.entity.join_keys) for n in range(max(50, many))]
        for key in unknown[:many]:
            altered[key] = encode_value(schema_id(view), now_us, decode_value(blob).attempt, list(values))
            event_us[key] = now_us
    elif fault.where != "log":
        older = (
            rows_of(flights.store.lake, view_entry(view), list(view.entity.join_keys.items()), set(before)) if fault.where == "old" else {}
        )
        for key, blob in before.items():
            if len(altered) == many:
                break
            found = _altered(fault, view, key, blob, place, before, older, chance)
            if found is not blob:
                altered[key] = found
    if altered:
        flights.put(view, altered, event_us)
    try:
        yield unknown, view.features[place].name
    finally:
        if altered:
            flights.put(view, {key: before.get(key) for key in altered}, event_us)
        if fault.where == "late":
            flights.clock.at = flights.clock.now() - view.freshness.total - timedelta(minutes=1)


def _altered(
    fault: Fault, view: FeatureView, key: Any, blob: bytes, place: int, others: dict[Any, bytes], older: Any, chance: np.random.Generator
) -> bytes | None:
    """What the store holds instead; the same object: nothing would be altered."""
    stored, schema = decode_value(blob), schema_id(view)
    event, attempt, values = stored.event_time_us, stored.attempt, list(stored.values)
    if fault.where == "gone":
        return None
    if fault.where == "schema":
        return encode_value(schema ^ 1, event, attempt, values)
    if fault.where == "time":
        return encode_value(schema, event - 3 * 3_600_000_000, attempt, values)
    if fault.where == "bytes":
        return bytes([*blob[:-1], blob[-1] ^ 1])
    if fault.where == "other_key":
        other = next((decode_value(o).values for k, o in others.items() if k != key and list(decode_value(o).values) != values), None)
        return blob if other is None else encode_value(schema, event, attempt, list(other))
    if fault.where == "old":
        row = next(
            (r for r in older.get(key, ()) if to_micros(r.event_time) < event and not r.retracted and list(r.values) != values), None
        )
        return blob if row is None else encode_value(schema, to_micros(row.event_time), row.attempt, list(row.values))
    assert fault.alter is not None
    changed = fault.alter(values, place, chance)
    return blob if changed == values else encode_value(schema, event, attempt, changed)


def drop_from_log(flights: Flights, since: datetime, share: float) -> None:
    """Rows of the log that are lost after gateways counted them."""
    flights.store.ship_feature_log()
    table = flights.store.lake.dataset(SERVED).to_table(columns=["request_id", "row"], filter=pc.field("at") == since)
    every = max(1, round(1 / share))
    rows = [row for n, row in enumerate(table.to_pylist()) if n % every == 0]
    for request in {row["request_id"] for row in rows}:
        mine = ", ".join(str(row["row"]) for row in rows if row["request_id"] == request)
        DeltaTable(flights.store.lake.location(SERVED)).delete(f"request_id = '{request}' AND \"row\" IN ({mine})")


def trial(flights: Flights, webhook: Webhook, view: FeatureView, fault: Fault, times: float, chance: np.random.Generator) -> dict[str, Any]:
    """One fault, and a clean window after it."""
    alerts, settings = list[AlertEvent](), AlertSettings.model_validate({"webhook": "env:BENCH_WEBHOOK"})
    entries, told = list[SkewEntry](), {"webhook": datetime.min.replace(tzinfo=UTC)}
    share, begun = CRITICAL * times, time.monotonic()

    def look(unknown: Sequence[Any], lose: float = 0.0) -> SkewEntry:
        nonlocal told
        since = flights.clock.now()
        flights.ask(view, unknown)
        flights.store.ship_feature_log()
        if lose:
            drop_from_log(flights, since, lose)
        entries.append(flights.judge(view))
        news = follow(open_alerts(alerts), skew_conditions(entries), flights.clock.now())
        alerts.extend(news)
        told, failed = tell(settings, alerts, "bench", told)
        assert not failed, failed
        return entries[-1]

    heard = len(webhook.told)
    with injected(flights, view, fault, share, chance) as (unknown, feature):
        bad = look(unknown, share if fault.where == "log" else 0.0)
    told_of = webhook.told[heard:]
    heard = len(webhook.told)
    look([])
    findings = {Finding(name): count for name, count in bad.findings.items() if name not in SAME}
    worst = max(findings, key=lambda one: findings[one], default=None)
    levels = {check.name: check.level for check in bad.checks}
    return {
        "view": view.name,
        "feature": feature,
        "fault": fault.name,
        "times": times,
        "critical": any(said.startswith(f"critical opened: skew:{view.ref}:") for said in told_of),
        "told": bool(told_of),
        "named": levels[fault.expected] is Level.CRITICAL and worst == fault.named,
        "finding": None if worst is None else str(worst),
        "levels": {name: str(level) for name, level in levels.items()},
        "ended": any(said.startswith("critical resolved") for said in webhook.told[heard:]),
        "rows": bad.rows,
        "seconds": round(time.monotonic() - begun, 2),
    }


def main(
    trials: Annotated[int, typer.Option(help="how many, over all faults, views and magnitudes")] = 300,
    days: Annotated[int, typer.Option(help="how many days are online")] = 3,
    seed: Annotated[int, typer.Option(help="of which keys and features")] = 1,
    folder: Annotated[Path, typer.Option(help="where lake, node and results are")] = Path("var/bench/skew"),
) -> None:
    """Inject faults and count what was told."""
    import os  # noqa: PLC0415

    folder = folder.resolve()
    base = load_settings(ROOT)
    settings = base.model_copy(
        update={
            "lake": base.lake.model_copy(update={"path": str(folder / "lake")}),
            "cassandra": base.cassandra.model_copy(update={"data": str(folder / "cassandra"), "port": 19542, "keyspace": "skew"}),
            "feature_log": FeatureLogSettings(sample=1.0, folder=str(folder / "log")),
        }
    )
    webhook = Webhook()
    os.environ["BENCH_WEBHOOK"] = webhook.url
    clock = FixedClock(NOW)
    node_up(settings)
    try:
        flights = Flights(settings, clock)
        with screen.status("computing and publishing the flights"):
            flights.fill(days)
            stop_session()
        clock.at = max(NOW, *(datetime.fromtimestamp(row.readable_at_us / 1e6, UTC) for row in publications(flights.store.lake))) + WINDOW
        assert not copied_marks(flights.store.lake)
        chance = np.random.default_rng(seed)
        plan = [(view, fault, times) for times in TIMES for fault in FAULTS for view in flights.keys if _fits(view, fault)]
        results = []
        for n in range(trials):
            view, fault, times = plan[n % len(plan)]
            results.append(trial(flights, webhook, view, fault, times, chance))
            if n % 20 == 0:
                screen.print(f"{n} of {trials}: {results[-1]}")
        _tell(results, folder)
    finally:
        webhook.close()
        node_down(settings)


def _fits(view: FeatureView, fault: Fault) -> bool:
    return not fault.dtypes or any(feature.dtype in fault.dtypes for feature in view.features)


def _tell(results: list[dict[str, Any]], folder: Path) -> None:
    (folder / "results.json").write_text(json.dumps(results, indent=1))
    by: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for one in results:
        by[one["fault"], one["times"]].append(one)
    for (fault, times), of in sorted(by.items(), key=lambda one: (one[0][1], one[0][0])):
        counts = [sum(one[what] for one in of) for what in ("critical", "named", "ended")]
        print(f"{times:4g}x {fault:28} {len(of):3} trials: {counts[0]:3} critical told, {counts[1]:3} named right, {counts[2]:3} ended")
    wanted = [one for one in results if one["times"] >= 1]
    told, named = (sum(one[what] for one in wanted) for what in ("critical", "named"))
    print(f"at the threshold and above: {told} of {len(wanted)} told, {named} named right")


if __name__ == "__main__":
    typer.run(main)
