"""What is due: committed, passed, newer than online."""

from datetime import date, timedelta

from penstock.offline.logs import AttemptEntry
from penstock.online.ledger import Publication
from penstock.publication.due import contiguous, due
from tests.world import attempt_entry

DAY = date(2026, 3, 2)


def attempt(number: int, state: str = "passed", day: date = DAY) -> AttemptEntry:
    reasons = [] if state == "passed" else ["amount_at_least_0: 1 row(s), expected none"]
    return attempt_entry(day, attempt=number, state=state, reasons=reasons)


def online(number: int, day: date = DAY) -> Publication:
    return Publication(
        view="v", version=1, generation=1, partition=day, attempt=number, complete_until_us=0, readable_at_us=0, run_id="", keys=1
    )


def test_a_committed_day_is_due_until_that_attempt_is_online() -> None:
    assert due([attempt(1)], []).ready == {DAY: 1}
    assert due([attempt(1)], [online(1)]).ready == {}
    assert due([attempt(1), attempt(2)], [online(1)]).ready == {DAY: 2}


def test_a_refused_attempt_holds_its_day_back_and_says_why() -> None:
    found = due([attempt(1), attempt(2, "quarantined")], [online(1)])
    assert found.ready == {}
    assert found.held == {DAY: "amount_at_least_0: 1 row(s), expected none"}


def test_an_earlier_attempt_that_passed_is_still_published_when_a_later_one_is_refused() -> None:
    found = due([attempt(1), attempt(2, "quarantined")], [])
    assert found.ready == {DAY: 1}
    assert set(found.held) == {DAY}


def test_a_mended_day_is_due_and_no_longer_held() -> None:
    found = due([attempt(1), attempt(2, "quarantined"), attempt(3)], [online(1)])
    assert (found.ready, found.held) == ({DAY: 3}, {})


def test_a_day_before_the_projects_first_is_held_back_and_named() -> None:
    found = due([attempt(5), attempt(5, day=DAY + timedelta(days=1))], [], since=DAY + timedelta(days=1))
    assert found.ready == {DAY + timedelta(days=1): 5}
    assert found.held == {DAY: "it is before dagster.first_day, 2026-03-03"}


def test_days_in_a_row_make_one_range() -> None:
    days = [DAY + timedelta(days=n) for n in (4, 0, 1, 2, 6)]
    assert contiguous(days) == [(days[1], days[3]), (days[0], days[0]), (days[4], days[4])]
    assert contiguous([]) == []
