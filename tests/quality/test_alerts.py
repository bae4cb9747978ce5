"""From what is wrong to who is told: opened once, worse and better told, ended once; and nothing of a secret in what is said."""

import dataclasses
import json
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer
from typing import Any

import msgspec
import pytest

from penstock.clock import FixedClock
from penstock.config import AlertSettings
from penstock.offline.lake import Lake
from penstock.quality.alert_sinks import AT_ONCE, ENDS_AFTER, Told, sentence, sinks, tell
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


def test_an_alert_of_what_cannot_be_looked_at_stays_as_it_is() -> None:
    broken = dataclasses.replace(wrong(key="alerts:canaries"), hides="canary:*")
    said, there = after([wrong(key="canary:basket"), wrong()], [broken], [broken, wrong(Level.CRITICAL, "canary:basket")], [])
    assert said == [
        "opened warning",
        "opened warning",
        "opened warning",  # that it cannot be looked at
        "resolved warning",  # of what is no canary
        "worse critical",  # what was seen nevertheless counts
        "resolved critical",
        "resolved warning",
    ]
    assert there == {}


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
    (condition,) = skew_conditions([*of(60, 60), day()])
    assert condition.level == Level.CRITICAL
    assert condition.said.endswith("(1.00%; critical from 1.00%); 2026-03-02 00:00 to 00:00 UTC")


def day(n: int = 0, bad: int = 100) -> SkewEntry:
    """The n-th day from Monday on, with so many of 10,000 values that differ."""
    return judged(MONDAY + (n + 1) * DAY, {"amount": bad}, length=DAY)


def happened(entries: Sequence[SkewEntry]) -> list[str]:
    """What is told as windows are judged, one after the other, but reminders."""
    events: list[AlertEvent] = []
    windows = sorted(entries, key=lambda entry: (entry.until, entry.since))
    for n, entry in enumerate(windows, start=1):
        events += follow(open_alerts(events), skew_conditions(windows[:n]), entry.until + 6 * MINUTE)
    return [f"{event.what} {event.level} {event.at:%d %H:%M}" for event in events if event.what != "reminded"]


def test_a_fault_that_was_mended_by_day_is_not_opened_again_at_night() -> None:
    hours = of(*[0] * 5, 1_000, 1_000, *[0] * 41)  # wrong from 05:00 to 07:00; at 08:00 two of three are still bad
    told = ["opened critical 02 06:06", "better warning 02 08:06", "resolved warning 02 09:06"]
    assert happened(hours) == told
    assert happened([*hours, day(), day(1, 0)]) == told


def test_a_fault_over_midnight_is_told_once() -> None:
    hours = of(*[0] * 22, 1_000, 1_000, 1_000, 60, *[0] * 22)  # from 22:00 to 02:00, its last hour a warning
    assert happened([*hours, day(), day(1)]) == ["opened critical 02 23:06", "better warning 03 02:06", "resolved warning 03 04:06"]


def test_a_trend_that_was_over_by_day_is_none_of_days() -> None:
    hours = of(*([60, 60] + [0] * 22) * 3)
    assert {condition.key for condition in skew_conditions([*hours, *(day(n, 60) for n in range(3))])} == set()


@pytest.mark.parametrize(
    ("hours", "days", "level"),
    [
        ([0] * 24, [100], Level.CRITICAL),  # what is too rare for an hour
        ([None] * 24, [100], Level.CRITICAL),  # hours with too few rows say nothing
        ([60, 60] + [0] * 22, [100], Level.CRITICAL),  # worse than what was told
        ([100] + [0] * 47, [0, 100], Level.CRITICAL),  # told of another day
        ([100] + [0] * 23, [100], None),
        (([60] + [0] * 23) * 3, [60, 60, 60], Level.WARNING),  # one bad hour is no trend, so of each day nothing was told yet
    ],
)
def test_a_day_counts_unless_an_hour_of_it_told_as_much(hours: list[int | None], days: list[int], level: Level | None) -> None:
    found = skew_conditions([*of(*hours), *(day(n, bad) for n, bad in enumerate(days))])
    assert [condition.level for condition in found] == ([] if level is None else [level])


def test_a_day_counts_where_the_hour_was_of_another_fill() -> None:
    refilled = [msgspec.structs.replace(entry, generation=2) for entry in of(100, *[0] * 23)]
    assert [condition.level for condition in skew_conditions([*refilled, day()])] == [Level.CRITICAL]


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
    refuses: int | None = None  # which message alone

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).taken.append((self.path, body))
        self.send_response(400 if len(self.taken) == self.refuses else self.status)
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
    events = events_of(wrong(Level.CRITICAL), wrong(key="run:compute"))
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
    assert why == "webhook: answered 500 Internal Server Error"
    handler.status = 200
    later = [*events, *follow(open_alerts(events), [], MONDAY + MINUTE)]
    now, failed = tell(settings, later, "shop", now)
    assert (now, failed) == ({"log": MONDAY + MINUTE, "webhook": MONDAY + MINUTE}, [])
    assert [len(body["attachments"]) for _, body in handler.taken] == [1, 2]
    assert [record.getMessage().partition(":")[0] for record in caplog.records if record.name.endswith("alert_sinks")] == [
        "warning opened",
        "warning resolved",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "{url}/services/secret",
        "{url}/services/secret ",  # httpx says it as secret%20
        "HTTP://LOCALHOST:{port}/services/../secret?token=secret#secret",
        "http://ann:secret@127.0.0.1:{port}/secret",
        "http://127.0.0.1:9/secret",
        "http://127.0.0.1:secret/",
        "127.0.0.1/services/secret",
        "secret://127.0.0.1",
        "http://127.0.0.1/secret\n",
    ],
)
def test_what_did_not_go_well_is_said_without_the_secret(
    url: str, sink: tuple[type[Sink], str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    handler, there = sink
    handler.status = 404
    monkeypatch.setenv("HOOK", url.format(url=there, port=there.rpartition(":")[2]))
    settings = AlertSettings.model_validate({"webhook": "env:HOOK"})
    _, (why,) = tell(settings, events_of(wrong()), "shop", {"webhook": MONDAY - MINUTE})
    assert why.startswith("webhook: ")
    assert "secret" not in why
    assert "secret" not in caplog.text  # httpx says at INFO what it asked


def test_a_sink_without_its_secret_keeps_no_other_from_being_told(sink: tuple[type[Sink], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    handler, url = sink
    settings = AlertSettings.model_validate({"webhook": "env:HOOK", "alertmanager": url})
    now, failed = tell(settings, events_of(wrong()), "shop", dict.fromkeys(sinks(settings), MONDAY - MINUTE))
    assert failed == ["webhook: secret 'env:HOOK': the environment variable HOOK is not set"]
    assert now == {"log": MONDAY, "webhook": MONDAY - MINUTE, "alertmanager": MONDAY}
    assert len(handler.taken) == 1


def test_what_nobody_thought_of_keeps_no_other_sink_from_being_told() -> None:
    settings = AlertSettings(email_to=["ann@shop\nbcc: bob@shop"])  # a header of two lines is a ValueError
    now, failed = tell(settings, events_of(wrong()), "shop", dict.fromkeys(sinks(settings), MONDAY - MINUTE))
    assert (now, failed) == ({"log": MONDAY, "e-mail": MONDAY - MINUTE}, ["e-mail: ValueError"])


def many(n: int, at: datetime = MONDAY) -> list[AlertEvent]:
    return events_of(*(wrong(key=f"freshness:view_{number:03}@1") for number in range(n)), at=at)


def fallbacks(handler: type[Sink]) -> list[str]:
    return [one["fallback"] for _, body in handler.taken for one in body["attachments"]]


@pytest.fixture
def hook(sink: tuple[type[Sink], str], monkeypatch: pytest.MonkeyPatch) -> tuple[type[Sink], AlertSettings]:
    handler, url = sink
    monkeypatch.setenv("HOOK", url)
    return handler, AlertSettings.model_validate({"webhook": "env:HOOK"})


def test_after_a_long_outage_a_sink_is_told_in_parts(hook: tuple[type[Sink], AlertSettings]) -> None:
    handler, settings = hook
    looks = [event for n in range(50) for event in many(3, MONDAY + n * MINUTE)]
    now, failed = tell(settings, looks, "shop", {"webhook": MONDAY - MINUTE})
    assert (now["webhook"], failed) == (MONDAY + 49 * MINUTE, [])
    assert [len(body["attachments"]) for _, body in handler.taken] == [AT_ONCE] * 7 + [10]
    assert fallbacks(handler) == [sentence(event) for event in looks]


def test_a_part_that_was_taken_is_not_told_again_also_within_one_look(hook: tuple[type[Sink], AlertSettings]) -> None:
    handler, settings = hook
    events = [*many(45), *many(1, MONDAY + MINUTE)]
    handler.refuses = 2
    now, failed = tell(settings, events, "shop", {"webhook": MONDAY - MINUTE})
    assert failed == ["webhook: answered 400 Bad Request"]
    assert now["webhook"] == (MONDAY, "freshness:view_019@1")  # the twentieth of it was the last that it took
    handler.taken.pop()
    handler.refuses = None
    mixed = [*reversed(events[:45]), events[45]]  # as `log/alerts` gives them, or the look itself
    assert tell(settings, mixed, "shop", now) == ({"log": MONDAY + MINUTE, "webhook": MONDAY + MINUTE}, [])
    assert fallbacks(handler) == [sentence(event) for event in events]


def test_a_part_that_ends_where_a_look_does_is_told_by_its_time(hook: tuple[type[Sink], AlertSettings]) -> None:
    handler, settings = hook
    handler.refuses = 2
    now, _ = tell(settings, [*many(AT_ONCE), *many(1, MONDAY + MINUTE)], "shop", {"webhook": MONDAY - MINUTE})
    assert now["webhook"] == MONDAY


def test_of_the_reminders_that_a_sink_missed_it_is_told_the_last(hook: tuple[type[Sink], AlertSettings]) -> None:
    handler, settings = hook
    events: list[AlertEvent] = []
    for n in range(5):
        critical = [wrong(Level.CRITICAL, key) for key in ("a:1", "b:2")]
        events += follow(open_alerts(events), critical, MONDAY + n * HOUR)
    told: dict[str, Told] = {"webhook": MONDAY - MINUTE}
    tell(settings, events, "shop", told)
    ((_, body),) = handler.taken
    assert [(one["title"].split(maxsplit=1)[1], one["ts"]) for one in body["attachments"]] == [
        ("critical opened: a:1", int(MONDAY.timestamp())),
        ("critical opened: b:2", int(MONDAY.timestamp())),
        ("critical reminded: a:1", int((MONDAY + 4 * HOUR).timestamp())),
        ("critical reminded: b:2", int((MONDAY + 4 * HOUR).timestamp())),
    ]


def entry_of(key: str, level: Level = Level.WARNING, **times: datetime) -> dict[str, Any]:
    """An alert as Alertmanager is told of it."""
    kind, _, about = key.partition(":")
    labels = {"alertname": f"penstock_{kind}", "project": "shop", "about": about, "severity": str(level)}
    return {"labels": labels, "annotations": {"summary": f"{key} is wrong"}, **{name: time.isoformat() for name, time in times.items()}}


class Manager:
    """Alerts followed, and told to an Alertmanager with the clock of its machine."""

    def __init__(self, url: str, machine: datetime = MONDAY) -> None:
        self.clock, self.events = FixedClock(machine), list[AlertEvent]()
        self.settings = AlertSettings(alertmanager=f"{url}/")
        self.told: dict[str, Told] = dict.fromkeys(sinks(self.settings), MONDAY - DAY)

    def look(self, *conditions: Condition, at: datetime | None = None) -> None:
        self.events += follow(open_alerts(self.events), conditions, at or self.clock.now())

    def tell(self) -> None:
        self.told, failed = tell(self.settings, self.events, "shop", self.told, self.clock)
        assert failed == []


def test_alertmanager_is_told_each_minute_what_is_open_and_once_that_it_ended(sink: tuple[type[Sink], str]) -> None:
    handler, url = sink
    manager = Manager(url)
    for conditions in ([], [wrong(Level.CRITICAL, KEY)], [wrong(Level.CRITICAL, KEY)], [], []):
        manager.look(*conditions)
        manager.tell()
        manager.clock.advance(MINUTE)
    one, two, three = (MONDAY + n * MINUTE for n in (1, 2, 3))
    assert handler.taken == [
        ("/api/v2/alerts", [entry_of(KEY, Level.CRITICAL, startsAt=one, endsAt=one + ENDS_AFTER)]),
        ("/api/v2/alerts", [entry_of(KEY, Level.CRITICAL, startsAt=one, endsAt=two + ENDS_AFTER)]),
        ("/api/v2/alerts", [entry_of(KEY, Level.CRITICAL, endsAt=three)]),
    ]


def test_an_alertmanager_that_is_new_is_told_what_is_open(sink: tuple[type[Sink], str]) -> None:
    handler, url = sink
    manager = Manager(url)
    manager.told = {}
    manager.look(wrong(key="a:1"), at=MONDAY - DAY)
    manager.tell()
    assert handler.taken[-1][1] == [entry_of("a:1", startsAt=MONDAY - DAY, endsAt=MONDAY + ENDS_AFTER)]


def test_what_gets_worse_or_better_ends_at_alertmanager_as_what_it_was(sink: tuple[type[Sink], str]) -> None:
    """Its level is a label there: with another one it is another alert."""
    handler, url = sink
    manager = Manager(url)
    warning, critical = wrong(Level.WARNING, "a:1"), wrong(Level.CRITICAL, "a:1")
    manager.look(warning)
    manager.tell()
    manager.clock.advance(MINUTE)
    manager.look(critical)
    manager.tell()
    now = manager.clock.now()
    assert handler.taken[-1][1] == [
        entry_of("a:1", Level.CRITICAL, startsAt=MONDAY, endsAt=now + ENDS_AFTER),
        entry_of("a:1", Level.WARNING, endsAt=now),
    ]
    manager.clock.advance(MINUTE)
    manager.look(warning)
    manager.tell()
    now = manager.clock.now()
    assert handler.taken[-1][1] == [
        entry_of("a:1", Level.WARNING, startsAt=MONDAY, endsAt=now + ENDS_AFTER),
        entry_of("a:1", Level.CRITICAL, endsAt=now),
    ]


def test_what_alertmanager_missed_ends_and_what_is_open_again_does_not(sink: tuple[type[Sink], str]) -> None:
    handler, url = sink
    manager = Manager(url)
    warning, critical = wrong(Level.WARNING, "a:1"), wrong(Level.CRITICAL, "a:1")
    for conditions in ([warning], [critical], [warning], [], [warning]):  # while it did not answer
        manager.look(*conditions)
        manager.clock.advance(MINUTE)
    manager.tell()
    assert handler.taken[-1][1] == [
        entry_of("a:1", Level.WARNING, startsAt=MONDAY + 4 * MINUTE, endsAt=MONDAY + 5 * MINUTE + ENDS_AFTER),
        entry_of("a:1", Level.CRITICAL, endsAt=MONDAY + 2 * MINUTE),
    ]


@pytest.mark.parametrize("stands", [MONDAY, MONDAY + 730 * DAY], ids=["in the past", "in the future"])
def test_where_the_clock_stands_still_alertmanager_has_open_what_is_open(stands: datetime, sink: tuple[type[Sink], str]) -> None:
    handler, url = sink
    machine = MONDAY + 365 * DAY
    manager = Manager(url, machine)
    manager.look(wrong(key="a:1"), at=stands)
    manager.tell()
    ((_, (opened,)),) = handler.taken
    assert opened == entry_of("a:1", startsAt=min(stands, machine), endsAt=machine + ENDS_AFTER)
    manager.look(at=next_time(manager.events, stands))
    manager.tell()
    ended = datetime.fromisoformat(handler.taken[-1][1][0]["endsAt"])
    assert datetime.fromisoformat(opened["startsAt"]) <= ended <= machine


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


def test_a_password_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Mailbox):
        taken = []

    monkeypatch.delenv("SMTP", raising=False)
    with TCPServer(("127.0.0.1", 0), Mine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        settings = AlertSettings.model_validate(
            {"email_to": ["ann@shop"], "smtp_port": port, "smtp_user": "ann", "smtp_password": "env:SMTP"}
        )
        now, failed = tell(settings, events_of(wrong()), "shop", {"log": MONDAY, "e-mail": MONDAY - MINUTE})
        server.shutdown()
        thread.join()
    assert failed == ["e-mail: secret 'env:SMTP': the environment variable SMTP is not set"]
    assert (now, Mine.taken) == ({"log": MONDAY, "e-mail": MONDAY - MINUTE}, [])
