"""A refresh takes every day that is open or was missed, and none that would bring nothing."""

from datetime import date, datetime, timedelta

from penstock.offline.logs import AttemptEntry, newest, passed
from penstock.offline.refresh import first_day_to_refresh
from penstock.offline.watermark import start_of
from tests.world import MONDAY, attempt_entry, orders, view_of_orders

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TODAY = MONDAY.date()
NOON = MONDAY + 12 * HOUR
VIEW = view_of_orders()


def entry(day: date, complete_until: datetime, state: str = "passed") -> AttemptEntry:
    return attempt_entry(day, complete_until=complete_until, state=state)


def ingested(*days: int) -> list[AttemptEntry]:
    """So many days ago, ingested when all their rows were known: 1 h after their end."""
    return [entry(TODAY - n * DAY, MONDAY + (1 - n) * DAY + HOUR) for n in days]


def computed(*days: int, state: str = "passed") -> list[AttemptEntry]:
    return [entry(TODAY - n * DAY, MONDAY + (1 - n) * DAY, state) for n in days]


def first(source: list[AttemptEntry], view: list[AttemptEntry], since: date = TODAY - 90 * DAY) -> date:
    """Inputs of the view go as far as now."""
    days = newest(view)
    behind = [day for day, one in days.items() if passed(one) and one.complete_until < start_of(day) + DAY]
    return first_day_to_refresh({orders: source}, {VIEW: days}, {VIEW: behind}, NOON, since)


def test_all_closed_days_are_left_alone_but_yesterday() -> None:
    assert first(ingested(3, 2, 1), computed(3, 2, 1)) == TODAY - DAY


def test_a_project_without_data_starts_with_yesterday() -> None:
    assert first([], []) == TODAY - DAY


def test_days_missed_while_nothing_ran_are_taken() -> None:
    assert first(ingested(6, 5), computed(6, 5)) == TODAY - 4 * DAY


def test_a_day_whose_reports_were_still_coming_is_taken() -> None:
    still_open = entry(TODAY - 5 * DAY, MONDAY - 4 * DAY + HOUR - timedelta(microseconds=1))
    assert first([still_open, *ingested(4, 3, 2, 1)], []) == TODAY - 5 * DAY


def test_a_day_computed_in_part_is_taken() -> None:
    partly = entry(TODAY - 3 * DAY, MONDAY - 3 * DAY + HOUR)
    assert first(ingested(4, 3, 2, 1), [*computed(4, 2, 1), partly]) == TODAY - 3 * DAY


def test_a_day_whose_inputs_fell_silent_is_no_reason_to_compute_all_since() -> None:
    partly = entry(TODAY - 60 * DAY, MONDAY - 60 * DAY + HOUR)
    days = newest([partly, *computed(*range(1, 60))])
    assert first_day_to_refresh({}, {VIEW: days}, {VIEW: []}, NOON, TODAY - 90 * DAY) == TODAY - DAY


def test_a_refused_day_waits_for_its_data_to_be_mended() -> None:
    assert first(ingested(4, 3, 2, 1), [*computed(4, 2, 1), *computed(3, state="quarantined")]) == TODAY - DAY


def test_days_before_the_project_begins_are_left_to_whoever_brought_them_in() -> None:
    assert first(ingested(3, 2, 1), computed(40, 3, 2, 1), TODAY - 3 * DAY) == TODAY - DAY
    assert first(ingested(3), [], TODAY) == TODAY
