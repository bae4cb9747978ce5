"""What is due: committed, passed, newer than online."""

from datetime import date, timedelta

from msgspec.structs import replace

from penstock.offline.logs import AttemptEntry
from penstock.online.ledger import Publication
from penstock.publication.due import contiguous, due
from penstock.registry.marks import Mark
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


def test_what_the_code_computes_that_a_mark_was_made_about_is_held_back_while_the_mark_is_in_force() -> None:
    marked = Mark(view="v", version=1, marked_at_us=5, id="m", attempt=None, since_us=None, until_us=None, reason="bad", holds_code="c1")
    other = replace(attempt(7, day=DAY - timedelta(days=1)), code="c2")
    entries = [attempt(1), replace(attempt(6), code="c1"), other]

    def found(mark: Mark) -> tuple[dict[date, int], dict[date, str]]:
        seen = due(entries, [online(1)], marks=[mark])
        return seen.ready, seen.held

    excluded = replace(marked, excluded_at_us=6)
    assert found(excluded) == ({other.partition: 7}, {DAY: "mark m holds back what the code it was made about computes"})
    assert found(replace(excluded, lifted_at_us=8, restored_at_us=9)) == ({other.partition: 7, DAY: 6}, {})
    assert found(replace(excluded, holds_code=None)) == ({other.partition: 7, DAY: 6}, {})


def test_while_something_is_to_be_done_about_a_mark_the_newest_day_online_is_due() -> None:
    published = [online(1), online(3, DAY - timedelta(days=1))]
    marked = Mark(view="v", version=1, marked_at_us=5, id="m", attempt=1, since_us=None, until_us=None, reason="bad")

    def ready(mark: Mark) -> dict[date, int]:
        return due([attempt(1), attempt(3, day=DAY - timedelta(days=1))], published, marks=[mark]).ready

    assert ready(marked) == {DAY: 1}
    assert ready(replace(marked, lifted_at_us=6)) == {}  # nothing was taken back
    assert ready(replace(marked, excluded_at_us=6)) == {}
    assert ready(replace(marked, excluded_at_us=6, lifted_at_us=7)) == {DAY: 1}
    assert ready(replace(marked, excluded_at_us=6, lifted_at_us=7, restored_at_us=8)) == {}
    assert due([attempt(1)], [], marks=[marked]).ready == {DAY: 1}  # it is published anyway, and without what is covered
