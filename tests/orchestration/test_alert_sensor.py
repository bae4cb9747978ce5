"""The sensor `alerts`: what cannot be looked at is told and ends nothing, and what a sink was told is not forgotten."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from penstock.clock import FixedClock, to_micros
from penstock.config import AlertSettings, FeatureLogSettings, LakeSettings, Settings
from penstock.contract import FeatureService
from penstock.offline.logs import PUBLICATIONS, append_rows, copy_publications, read_rows
from penstock.online.ledger import Publication
from penstock.orchestration.alerts import alert_sensor
from penstock.quality.alerts import AlertEvent, Condition, alert_events, follow, log_alerts, open_alerts
from penstock.quality.canary import Canary
from penstock.quality.skew import Level
from penstock.quality.skew_log import DAY, HOUR, SKEW, log_skew
from penstock.registry.project import Project
from penstock.store import Store
from tests.quality.skew_entries import judged
from tests.world import MONDAY, view_of_orders

VIEW = view_of_orders()
MINUTE = timedelta(minutes=1)
VALUES, FRESHNESS, ON_TIME = "skew:last_order@1:values", "freshness:last_order@1", "skew:judged_on_time"


def store_of(folder: Path, **alerts: Any) -> Store:
    settings = Settings(
        root=folder,
        lake=LakeSettings(path=str(folder / "lake")),
        feature_log=FeatureLogSettings(folder=str(folder / "log")),
        alerts=AlertSettings.model_validate(alerts),
    )
    services = (FeatureService("basket", views=[VIEW], owner="ml"), FeatureService("till", views=[VIEW], owner="ml"))
    return Store(settings, Project("shop", (VIEW,), services), FixedClock(MONDAY + 12 * HOUR + 6 * MINUTE))


def publish(store: Store) -> None:
    """As if Monday's first hour were online."""
    at = to_micros(MONDAY + HOUR)
    which = {"view": VIEW.name, "version": 1, "generation": 1, "partition": MONDAY.date(), "attempt": 1}
    copy_publications(store.lake, [Publication(**which, complete_until_us=at, readable_at_us=at, run_id="", keys=1)])


def advance(store: Store, by: timedelta) -> None:
    clock: FixedClock = store.clock  # type: ignore[assignment]
    clock.advance(by)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as one:
        yield one


def look(store: Store, instance: dg.DagsterInstance, cursor: str | None = None) -> str:
    """The cursor after a tick."""
    tick = alert_sensor(store, ("publish_online",)).evaluate_tick(dg.build_sensor_context(instance=instance, cursor=cursor))
    assert tick.cursor is not None
    return tick.cursor


def opened(store: Store, *keys: str) -> list[AlertEvent]:
    """As if these were alerts since Monday morning."""
    events = follow({}, [Condition(key, Level.CRITICAL, f"{key} is wrong") for key in keys], MONDAY)
    log_alerts(store.lake, events)
    return events


def there(store: Store) -> dict[str, str]:
    """Key → level of the alerts that are open."""
    return {key: str(alert.level) for key, alert in open_alerts(alert_events(store.lake)).items()}


def test_windows_that_cannot_be_read_are_an_alert_and_end_none(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    store = store_of(tmp_path)
    log_skew(store.lake, [judged(MONDAY + 12 * HOUR, {"amount": 100})])
    opened(store, VALUES, "skew:basket/last_order@1:age", ON_TIME)
    shutil.copytree(tmp_path / "lake" / SKEW, tmp_path / "before")
    (row,) = read_rows(store.lake, SKEW, None)
    append_rows(store.lake, SKEW, pa.Table.from_pylist([{**row, "checks": "{"}], schema=store.lake.dataset(SKEW).schema))
    publish(store)
    look(store, instance)
    assert there(store) == {
        VALUES: "critical",
        "skew:basket/last_order@1:age": "critical",
        FRESHNESS: "warning",  # the others are looked at
        "alerts:skew": "warning",
    }
    said = open_alerts(alert_events(store.lake))["alerts:skew"].said
    assert said == "skew cannot be looked at: ValidationError: Expected `array`, got `object`"
    shutil.rmtree(tmp_path / "lake" / SKEW)
    shutil.move(tmp_path / "before", tmp_path / "lake" / SKEW)
    look(store, instance)
    assert there(store) == {VALUES: "critical", FRESHNESS: "warning"}


def test_a_ledger_that_cannot_be_read_keeps_no_skew_from_being_told(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    store = store_of(tmp_path, canary_url="http://127.0.0.1:9")
    log_skew(store.lake, [judged(MONDAY + 12 * HOUR, {"amount": 100})])
    publish(store)
    opened(store, FRESHNESS, "held_back:last_order@1", "canary:basket", "freshness:gone@1", "run:publish_online")
    for file in (tmp_path / "lake" / PUBLICATIONS).rglob("*.parquet"):
        file.unlink()
    look(store, instance)
    failed = ("alerts:freshness:last_order@1", "alerts:held_back:last_order@1", "alerts:canaries")
    kept = dict.fromkeys((FRESHNESS, "held_back:last_order@1", "canary:basket"), "critical")
    assert there(store) == {**kept, **dict.fromkeys(failed, "warning"), VALUES: "critical"}


def test_a_canary_without_its_key_is_an_alert_and_ends_none(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CANARY", raising=False)
    store = store_of(tmp_path, canary_url="http://127.0.0.1:9", canary_key="env:CANARY")
    opened(store, "canary:basket", VALUES)
    look(store, instance)
    assert there(store) == {"canary:basket": "critical", "alerts:canaries": "warning"}
    said = open_alerts(alert_events(store.lake))["alerts:canaries"].said
    assert said == "canaries cannot be looked at: ConfigError: secret 'env:CANARY': the environment variable CANARY is not set"


def test_a_read_that_breaks_keeps_no_other_service_from_being_read(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_lake: object, service: FeatureService, *_: object) -> Canary:
        if service.name == "basket":
            raise OSError("the disk is gone")
        return Canary(service.name, {VIEW.ref: MONDAY}, ["till: last_order@1 of customer=ann is value"])

    monkeypatch.setattr("penstock.orchestration.alerts.read_canary", read)
    store = store_of(tmp_path, canary_url="http://127.0.0.1:9")
    publish(store)
    opened(store, "canary:basket")
    look(store, instance)
    assert there(store) == {"canary:basket": "critical", "canary:till": "critical", "alerts:canary:basket": "warning", FRESHNESS: "warning"}


def test_runs_that_cannot_be_looked_up_are_an_alert_and_end_none(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    opened(store, "run:publish_online", VALUES)
    with dg.DagsterInstance.ephemeral() as instance:
        look(store, instance)
        assert there(store) == {}
        log_alerts(store.lake, follow({}, [Condition("run:publish_online", Level.WARNING, "failed")], MONDAY + DAY))
        tick = dg.build_sensor_context(instance=instance)
        instance.run_storage.get_run_records = None  # type: ignore[method-assign,assignment]
        alert_sensor(store, ("publish_online",)).evaluate_tick(tick)
    assert there(store) == {"run:publish_online": "warning", "alerts:runs": "warning"}


def log_said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().partition(": ")[0] for record in caplog.records if record.name.endswith("alert_sinks")]


def test_a_sink_without_its_secret_costs_no_other_what_it_is_told(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    store = store_of(tmp_path, webhook="env:HOOK")
    log_skew(store.lake, [judged(MONDAY + 12 * HOUR, {"amount": 100})])
    cursor = look(store, instance)
    for _ in range(3):
        advance(store, MINUTE)
        cursor = look(store, instance, cursor)
    assert log_said(caplog) == ["critical opened"]
    with hook(monkeypatch) as handler:
        cursor = look(store, instance, cursor)
        look(store, instance, cursor)
    assert [len(message) for message in handler.told] == [1]  # what was wrong at the first look is told, too


class Hook(BaseHTTPRequestHandler):
    told: list[list[str]]
    refuses: int | None = None  # which message alone

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.told.append([one["fallback"] for one in body["attachments"]])
        self.send_response(400 if len(self.told) == self.refuses else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hook]]:
    """A webhook, and what it was told."""

    class Mine(Hook):
        told = []

    with HTTPServer(("127.0.0.1", 0), Mine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{server.server_port}")
        try:
            yield Mine
        finally:
            server.shutdown()
            thread.join()


def test_a_cursor_stands_within_a_look_and_one_of_before_is_read(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path, webhook="env:HOOK")
    keys = [f"freshness:gone_{n:02}@1" for n in range(25)]
    opened(store, *keys)
    before = json.dumps(dict.fromkeys(("log", "webhook"), MONDAY.isoformat()))  # as cursors were: up to there both know all
    with hook(monkeypatch) as handler:
        handler.refuses = 2
        cursor = look(store, instance, before)
        at = store.clock.now().isoformat()
        assert json.loads(cursor) == {"log": at, "webhook": f"{at} {keys[19]}"}
        advance(store, MINUTE)
        assert json.loads(look(store, instance, cursor)) == {"log": at, "webhook": at}
    assert [len(message) for message in handler.told] == [20, 5, 5]
    ended = [f"critical resolved: {key}: {key} is wrong" for key in keys]
    assert [*handler.told[0], *handler.told[2]] == ended


def test_a_day_is_forgotten_no_later_than_its_hours(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    store = store_of(tmp_path)
    hours = [judged(MONDAY + n * HOUR, {"amount": 1_000 if n == 1 else 0}) for n in range(1, 25)]
    log_skew(store.lake, [*hours, judged(MONDAY + DAY, {"amount": 100}, length=DAY)])
    advance(store, 8 * DAY)  # the hour that told it began more than eight days ago; the day ended less than eight days ago
    look(store, instance)
    assert [key for key in there(store) if key != ON_TIME] == []
