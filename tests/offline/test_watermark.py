"""How far a partition's inputs are complete."""

from datetime import date, datetime, timedelta
from typing import Any

import pytest

from penstock.clock import MICROSECOND
from penstock.contract import FeatureView, count, days, hours, minutes
from penstock.contract.aggregation import Aggregation
from penstock.errors import CommitError
from penstock.offline.logs import AttemptEntry
from penstock.offline.watermark import complete_until, require_time_goes_on, spans, start_of
from tests.world import MONDAY, attempt_entry, view_of_orders

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = MONDAY.date()
NOON = MONDAY + 12 * HOUR


def view(**changes: Any) -> FeatureView:
    aggregations: list[Aggregation] = [count(over=[days(1)])]
    return view_of_orders(compute=None, features=(), aggregations=aggregations, every=minutes(15), **changes)


def ingested(until: dict[date, datetime]) -> dict[str, list[AttemptEntry]]:
    entries = [attempt_entry(day, attempt=n, complete_until=known_by) for n, (day, known_by) in enumerate(until.items())]
    return {"orders": entries}


# Not even the first instant of the day.
BEFORE = MONDAY - timedelta(microseconds=1)
# The source's rows become known at most 1 h after their event time: a day is closed from 01:00 of the next.
CLOSED = MONDAY + HOUR


def test_the_open_day_is_complete_as_far_as_it_was_ingested() -> None:
    known = ingested({TODAY - DAY: CLOSED, TODAY: NOON - HOUR})
    assert complete_until(view(), TODAY, known, NOON) == MONDAY + 11 * HOUR
    assert complete_until(view(delay=hours(2)), TODAY, known, NOON) == MONDAY + 9 * HOUR


def test_a_closed_day_is_complete_to_its_end() -> None:
    known = ingested({TODAY - DAY: CLOSED, TODAY: CLOSED + DAY})
    assert complete_until(view(), TODAY, known, MONDAY + 30 * HOUR) == MONDAY + DAY


def test_a_day_whose_reports_may_still_come_limits_the_days_whose_windows_reach_it() -> None:
    still_open = CLOSED - timedelta(microseconds=1)
    known = ingested({TODAY - DAY: still_open, TODAY: NOON})
    assert complete_until(view(), TODAY, known, NOON) == still_open
    assert complete_until(view(), TODAY - DAY, known, NOON) == MONDAY  # its own rows were all in by its end


def test_a_missing_day_stops_it_and_days_before_the_first_do_not() -> None:
    known = ingested({TODAY - 2 * DAY: MONDAY, TODAY: NOON})
    assert complete_until(view(), TODAY, known, NOON) == BEFORE
    assert complete_until(view(), TODAY, ingested({TODAY: NOON}), NOON) == NOON


def test_nothing_ingested_means_not_even_a_row_of_midnight_is_complete() -> None:
    assert complete_until(view(), TODAY, ingested({}), NOON) == BEFORE


def test_a_row_of_midnight_waits_for_the_reports_of_the_day_before() -> None:
    # Ingested at 00:05 with all of yesterday that is known by then; a row at 00:00 with a delay of 10 minutes stands on more.
    known = ingested({TODAY - DAY: MONDAY + timedelta(minutes=5), TODAY: MONDAY + timedelta(minutes=5)})
    assert complete_until(view(delay=minutes(10)), TODAY, known, NOON) == BEFORE
    assert complete_until(view(delay=minutes(5)), TODAY, known, NOON) == MONDAY


def test_a_row_that_is_not_available_yet_is_not_complete_yet() -> None:
    known = ingested({TODAY - DAY: CLOSED, TODAY: CLOSED + DAY})
    # All sources are in, but a row at event time e is available only at e + 2 h.
    assert complete_until(view(delay=hours(2)), TODAY, known, MONDAY + DAY + HOUR) == MONDAY + 23 * HOUR
    assert complete_until(view(delay=days(3)), TODAY, known, MONDAY + 3 * DAY + HOUR) == MONDAY + HOUR
    assert complete_until(view(delay=days(3)), TODAY, known, MONDAY + 5 * DAY) == MONDAY + DAY


def test_a_clock_that_goes_back_is_refused() -> None:
    entries = ingested({TODAY - DAY: CLOSED, TODAY: NOON})["orders"]
    require_time_goes_on("raw/orders", entries, NOON)
    with pytest.raises(CommitError, match=r"the Clock says 2026-03-02T11:00:00\+00:00, but 2026-03-02 is in up to 2026-03-02T12:00:00"):
        require_time_goes_on("raw/orders", entries, NOON - HOUR)


def test_days_that_touch_are_one_span_and_one_that_is_not_complete_ends_it() -> None:
    monday, end = date(2026, 3, 2), timedelta(days=1)
    limits = {
        monday: start_of(monday) + end,
        monday + end: start_of(monday) + 2 * end,
        monday + 2 * end: start_of(monday) + 2 * end + timedelta(hours=3),  # its rows up to 03:00 are in, that of 03:00 too
        monday + 3 * end: start_of(monday) + 3 * end - MICROSECOND,  # none is
        monday + 5 * end: start_of(monday) + 6 * end,
    }
    first, last = start_of(monday), start_of(monday) + 2 * end + timedelta(hours=3) + MICROSECOND
    assert spans(limits) == [(first, last), (start_of(monday) + 5 * end, start_of(monday) + 6 * end)]
    assert spans({}) == []
