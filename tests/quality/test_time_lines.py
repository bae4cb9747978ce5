"""A view over time: its age is what freshness said at each time, and only features with nulls are drawn."""

from datetime import date, timedelta

import pytest

from penstock.clock import from_micros, to_micros
from penstock.offline.statistics import ColumnStatistics
from penstock.online.ledger import Publication
from penstock.quality import time_lines
from penstock.quality.freshness import freshness
from penstock.quality.time_lines import freshness_line, null_map
from tests.world import MONDAY, view_of_orders

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
VIEW = view_of_orders()


def row(day: int, attempt: int, complete: timedelta, readable: timedelta) -> Publication:
    return Publication(
        view=VIEW.name,
        version=1,
        generation=1,
        partition=MONDAY.date() + day * DAY,
        attempt=attempt,
        complete_until_us=to_micros(MONDAY + complete),
        readable_at_us=to_micros(MONDAY + readable),
        run_id="",
        keys=1,
    )


ROWS = [
    row(0, 1, 6 * HOUR, 7 * HOUR),
    row(0, 2, 24 * HOUR, 25 * HOUR),  # closes the day that was published first, later than the next was begun
    row(1, 3, 30 * HOUR, 24.5 * HOUR),
    row(1, 5, 40 * HOUR, 41 * HOUR),
    row(1, 4, 35 * HOUR, 42 * HOUR),  # an older attempt, recorded later
    row(3, 6, 80 * HOUR, 60 * HOUR),  # a day is missing before it
]


def test_the_line_is_what_freshness_says_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}
    monkeypatch.setattr(time_lines, "lines", lambda series, **_: drawn.update(series) or "<svg/>")
    (picture,) = freshness_line(VIEW, ROWS[::-1], MONDAY, MONDAY + 70 * HOUR)
    assert picture.svg == "<svg/>"
    at, minutes = drawn["age"]
    assert (at[0], at[-1], len(at)) == (7, 70, 63 * 4 + 1)
    for hours, age in zip(at, minutes, strict=True):
        when = MONDAY + hours * HOUR
        known = [one for one in ROWS if from_micros(one.readable_at_us) <= when]
        assert freshness(VIEW, known, when).age == age * timedelta(minutes=1)
    assert drawn["SLA"] == ([7, 70], [30, 30])


def test_of_a_view_that_was_not_online_there_is_no_line() -> None:
    assert freshness_line(VIEW, ROWS, MONDAY, MONDAY + 6 * HOUR) == []
    assert freshness_line(VIEW, [], MONDAY, MONDAY + DAY) == []


def test_features_that_have_nulls_are_drawn_by_day(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(time_lines, "heat", lambda *given: drawn.append(given) or "<svg/>")
    days = {
        date(2026, 3, 3): {"a": ColumnStatistics(rows=10, nulls=1), "b": ColumnStatistics(rows=10)},
        date(2026, 3, 2): {"a": ColumnStatistics(rows=4, nulls=2), "b": ColumnStatistics(rows=4), "c": ColumnStatistics(rows=4, nulls=4)},
    }
    assert len(null_map(days, ["c", "b", "a"])) == 1
    assert drawn == [(["c", "a"], ["03-02", "03-03"], [[1.0, None], [0.5, 0.1]])]
    assert null_map({date(2026, 3, 2): days[date(2026, 3, 2)]}, ["a"]) == []
    assert null_map(days, ["b"]) == []
