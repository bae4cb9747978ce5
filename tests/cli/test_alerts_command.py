"""`penstock alerts` and `penstock skew status`, as a user types them."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from penstock.clock import SystemClock
from penstock.offline.lake import Lake
from penstock.quality.alerts import Condition, follow, log_alerts
from penstock.quality.skew import Level
from penstock.quality.skew_log import HOUR, log_skew
from tests.cli.test_commands import Shop
from tests.quality.skew_entries import judged

KEY = "skew:spending@1:values"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def lake(shop: Shop) -> Lake:
    return Lake(str(shop.folder / "var" / "lake"))


def test_alerts_are_listed_and_taken_by_somebody(shop: Shop, lake: Lake) -> None:
    assert shop.say("alerts", "list") == (0, "no alert is open\n")
    now = SystemClock().now() - timedelta(minutes=5)
    log_alerts(lake, follow({}, [Condition(KEY, Level.CRITICAL, "spending@1.total: 100 of 100 [values]")], now))
    code, said = shop.say("alerts", "list", "--last", "5")
    assert code == 0
    for part in (KEY, "critical", "nobody", "100 of 100 [values]", f"opened: critical {KEY}"):
        assert part in said
    assert shop.say("alerts", "ack", KEY, "--by", "ann") == (0, f"{KEY}: acknowledged by ann\n")
    known = json.loads(shop.say("alerts", "list", "--json")[1])
    assert [one["acknowledged_by"] for one in known["open"]] == ["ann"]
    assert [one["what"] for one in known["events"]] == ["opened", "acknowledged"]


def test_a_test_reaches_each_sink_that_is_set(shop: Shop) -> None:
    assert shop.say("alerts", "test") == (0, "log: taken\n")
    settings = shop.folder / "conf" / "local.yaml"
    before = settings.read_text()
    settings.write_text(before + "alerts: {alertmanager: 'http://127.0.0.1:9'}\n")
    code, said = shop.say("alerts", "test")
    settings.write_text(before)
    assert code == 1
    assert "error: not taken: alertmanager: " in said


def test_status_of_skew_fails_where_something_is_critical(shop: Shop, lake: Lake) -> None:
    code, said = shop.say("skew", "status")
    assert (code, said) == (0, "nothing was judged in the last 24 hour(s): the job `skew` does so each hour\n")
    now = SystemClock().now()
    hour = now - (now - now.replace(minute=0, second=0, microsecond=0))
    log_skew(lake, [judged(hour, {"total": 60}, view="spending")])
    code, said = shop.say("skew", "status")
    assert code == 0
    assert "warning (60)" in said
    log_skew(lake, [judged(hour + HOUR, {"total": 600}, view="spending")])
    assert shop.say("skew", "status")[0] == 1
    page = Path(shop.folder / "skew.html")
    assert shop.say("skew", "report", "--out", str(page))[0] == 0
    assert "critical (600)" in page.read_text()
