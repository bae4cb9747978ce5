"""From what is wrong to who is told: opened once, worse and better told, ended once; and nothing of a secret in what is said."""

import json
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer
from typing import Any

import pytest

from penstock.config import AlertSettings
from penstock.offline.lake import Lake
from penstock.quality.alert_sinks import sentence, sinks, tell
from penstock.quality.alerts import Alert, AlertEvent, Condition, alert_events, follow, log_alerts, next_time, open_alerts, skew_conditions
from penstock.quality.skew import Level
from penstock.quality.skew_log import DAY, HOUR, SkewEntry
from tests.quality.skew_entries import judged
from tests.world import MONDAY

MINUTE = timedelta(minutes=1)
KEY = "skew:last_order@1:values"


def wrong(level: Level = Level.WARNING, key: str = "freshness:orders@1") -> Condition:
    return Condition(key, level, f"{key} is wrong")


def after(*looks: Sequence[Condition], every: timedelta = MINUTE) -> tuple[list[str], dict[str, Alert]]:
    """What happened while conditions were there one after the other, and what is open at the end."""
    events: list[AlertEvent] = []
    for n, conditions in enumerate(looks):
        events += follow(open_alerts(events), conditions, MONDAY + n * every)
    return [f"{event.what} {event.level}" for event in events], open_alerts(events)


def test_an_alert_is_opened_once_and_resolved_once() -> None:
    said, there = after([], [wrong()], [wrong()], [wrong()], [], [])
    assert said == ["opened warning", "resolved warning"]
    assert there == {}
    said, there = after([wrong()], [], [wrong()])
    assert said == ["opened warning", "resolved warning", "opened warning"]
    assert there["freshness:orders@1"].since == MONDAY + 2 * MINUTE


def test_what_gets_worse_or_better_is_told() -> None:
    said, there = after([wrong()], [wrong(Level.CRITICAL)], [wrong()])
    assert said == ["opened warning", "worse critical", "better warning"]
    assert there["freshness:orders@1"].since == MONDAY


def test_what_is_critical_and_nobody_has_is_told_again_each_hour() -> None:
    critical = [[wrong(Level.CRITICAL)]] * 5
    assert after(*critical, every=30 * MINUTE)[0] == ["opened critical", "reminded critical", "reminded critical"]
    assert after(*[[wrong()]] * 5, every=HOUR)[0] == ["opened warning"]


def test_what_somebody_has_is_not_told_again_unless_it_gets_worse() -> None:
    events = follow({}, [wrong(Level.CRITICAL)], MONDAY)
    ack = AlertEvent(at=MONDAY + MINUTE, key=events[0].key, what="acknowledged", level=Level.CRITICAL, said="", by="ann")
    there = open_alerts([*events, ack])
    assert there[ack.key].acknowledged_by == "ann"
    assert follow(there, [wrong(Level.CRITICAL)], MONDAY + DAY) == []
    warned = follow({}, [wrong()], MONDAY)
    taken = open_alerts([*warned, ack])
    (worse,) = follow(taken, [wrong(Level.CRITICAL)], MONDAY + DAY)
    assert open_alerts([*warned, ack, worse])[ack.key].acknowledged_by == ""


def test_two_alerts_do_not_know_of_each_other() -> None:
    one, other = wrong(key="a:1"), wrong(key="b:1")
    said, there = after([one, other], [other])
    assert said == ["opened warning", "opened warning", "resolved warning"]
    assert list(there) == ["b:1"]


def of(*hours: int | None) -> list[SkewEntry]:
    """Windows, each with so many of 10,000 values that differ; None: too few rows to tell."""
    return [
        judged(MONDAY + n * HOUR, {"amount": bad or 0}, **({"rows": 9, "changes": 9} if bad is None else {}))
        for n, bad in enumerate(hours, start=1)
    ]


@pytest.mark.parametrize(
    ("hours", "level"),
    [
        ([0, 0, 0], None),
        ([60], None),  # one bad hour
        ([60, 60], Level.WARNING),
        ([60, 0, 60], Level.WARNING),
        ([60, 0, 0, 60], None),
        ([60, 60, 0, 0], None),
        ([60, 60, 0], Level.WARNING),
        ([60, None, None, 60], Level.WARNING),  # of nothing, nothing is known
        ([100], Level.CRITICAL),
        ([100, 60], Level.WARNING),
        ([100, 0], None),
        ([100, None, None, None], Level.CRITICAL),
        ([0, 60, 100], Level.CRITICAL),
    ],
)
def test_a_warning_takes_two_of_three_windows_and_what_is_critical_one(hours: list[int | None], level: Level | None) -> None:
    found = {condition.key: condition.level for condition in skew_conditions(of(*hours))}
    assert found == ({} if level is None else {KEY: level})


def test_the_worse_of_hours_and_days_counts() -> None:
    day = judged(MONDAY + DAY, {"amount": 100}, length=DAY)
    (condition,) = skew_conditions([*of(60, 60), day])
    assert condition.level == Level.CRITICAL
    assert condition.said.endswith("(1.00%; critical from 1.00%); 2026-03-02 00:00 to 00:00 UTC")


def test_what_happened_is_kept(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    assert alert_events(lake) == []
    events = follow({}, [wrong(), wrong(Level.CRITICAL, "a:1")], MONDAY)
    log_alerts(lake, events)
    ack = AlertEvent(at=next_time(events, MONDAY), key="a:1", what="acknowledged", level=Level.CRITICAL, said="", by="ann")
    log_alerts(lake, [ack])
    assert alert_events(lake) == [*sorted(events, key=lambda event: event.key), ack]
    assert ack.at > MONDAY


class Sink(BaseHTTPRequestHandler):
    taken: list[tuple[str, Any]]
    status = 200

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).taken.append((self.path, body))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def sink() -> Iterator[tuple[type[Sink], str]]:
    class Mine(Sink):
        taken = []

    with HTTPServer(("127.0.0.1", 0), Mine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Mine, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def events_of(*conditions: Condition, at: datetime = MONDAY) -> list[AlertEvent]:
    return follow({}, conditions, at)


def test_a_webhook_is_told_as_slack_takes_it(sink: tuple[type[Sink], str], monkeypatch: pytest.MonkeyPatch) -> None:
    handler, url = sink
    monkeypatch.setenv("HOOK", f"{url}/services/T0/B0/secret")
    settings = AlertSettings.model_validate({"webhook": "env:HOOK"})
    told = dict.fromkeys(sinks(settings), MONDAY - MINUTE)
    events = events_of(wrong(Level.CRITICAL), wrong(key="b:2"))
    now, failed = tell(settings, events, "shop", told)
    assert (now, failed) == ({"log": MONDAY, "webhook": MONDAY}, [])
    ((path, body),) = handler.taken
    assert path == "/services/T0/B0/secret"
    assert body["text"] == "shop: 2 alert(s)"
    assert [one["fallback"] for one in body["attachments"]] == [sentence(event) for event in events]
    assert [one["color"] for one in body["attachments"]] == ["#a30200", "#daa038"]
    assert tell(settings, events, "shop", now) == (now, [])
    assert len(handler.taken) == 1


def test_a_sink_that_fails_is_told_again_and_the_others_are_not(
    sink: tuple[type[Sink], str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handler, url = sink
    caplog.set_level("INFO")
    monkeypatch.setenv("HOOK", f"{url}/secret")
    settings = AlertSettings.model_validate({"webhook": "env:HOOK"})
    told = dict.fromkeys(sinks(settings), MONDAY - MINUTE)
    handler.status = 500
    events = events_of(wrong())
    now, (why,) = tell(settings, events, "shop", told)
    assert now == {"log": MONDAY, "webhook": MONDAY - MINUTE}
    assert why.startswith("webhook: Server error '500 Internal Server Error' for url 'its URL'")
    assert "secret" not in why
    handler.status = 200
    later = [*events, *follow(open_alerts(events), [], MONDAY + MINUTE)]
    now, failed = tell(settings, later, "shop", now)
    assert (now, failed) == ({"log": MONDAY + MINUTE, "webhook": MONDAY + MINUTE}, [])
    assert [len(body["attachments"]) for _, body in handler.taken] == [1, 2]
    assert [record.getMessage().partition(":")[0] for record in caplog.records if record.name.endswith("alert_sinks")] == [
        "warning opened",
        "warning resolved",
    ]


def test_nobody_listens_and_it_is_said_without_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "http://127.0.0.1:9/secret")
    settings = AlertSettings.model_validate({"webhook": "env:HOOK"})
    _, (why,) = tell(settings, events_of(wrong()), "shop", {"webhook": MONDAY - MINUTE})
    assert why.startswith("webhook: ")
    assert "secret" not in why


def test_alertmanager_is_told_what_begins_and_what_ends(sink: tuple[type[Sink], str]) -> None:
    handler, url = sink
    settings = AlertSettings(alertmanager=f"{url}/")
    told = dict.fromkeys(sinks(settings), MONDAY - MINUTE)
    events = events_of(wrong(Level.CRITICAL, KEY))
    now, _ = tell(settings, events, "shop", told)
    tell(settings, [*events, *follow(open_alerts(events), [], MONDAY + MINUTE)], "shop", now)
    labels = {"alertname": "penstock_skew", "project": "shop", "about": "last_order@1:values", "severity": "critical"}
    assert handler.taken == [
        ("/api/v2/alerts", [{"labels": labels, "annotations": {"summary": f"{KEY} is wrong"}, "startsAt": MONDAY.isoformat()}]),
        ("/api/v2/alerts", [{"labels": labels, "annotations": {"summary": f"{KEY} is wrong"}, "endsAt": (MONDAY + MINUTE).isoformat()}]),
    ]


class Mailbox(StreamRequestHandler):
    taken: list[bytes]

    def handle(self) -> None:
        self.wfile.write(b"220 mail\r\n")
        for line in iter(self.rfile.readline, b""):
            if line.upper().startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                type(self).taken.append(b"".join(iter(self.rfile.readline, b".\r\n")))
            if line.upper().startswith(b"QUIT"):
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


def test_an_e_mail_names_the_worst_first() -> None:
    class Mine(Mailbox):
        taken = []

    with TCPServer(("127.0.0.1", 0), Mine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings = AlertSettings(email_to=["ann@shop", "bob@shop"], smtp_port=server.server_address[1])
        _, failed = tell(settings, events_of(wrong(), wrong(Level.CRITICAL, "b:2")), "shop", {"e-mail": MONDAY - MINUTE})
        server.shutdown()
        thread.join()
    assert failed == []
    (message,) = (message_from_bytes(one) for one in Mine.taken)
    assert message["Subject"] == "[shop] critical opened: b:2 and 1 more"
    assert message["To"] == "ann@shop, bob@shop"
    assert "warning opened: freshness:orders@1" in message.get_payload()


def test_a_sink_that_is_new_is_told_what_happens_from_now_on() -> None:
    now, failed = tell(AlertSettings(), events_of(wrong()), "shop", {})
    assert (now, failed) == ({"log": MONDAY}, [])
