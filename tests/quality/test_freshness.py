"""Freshness is judged on how far what is online is complete without a gap; code by what computed each day."""

from datetime import date, timedelta
from typing import Any

import msgspec

from penstock.clock import to_micros
from penstock.contract.fingerprint import transformation_fingerprint
from penstock.offline.logs import AttemptEntry
from penstock.online.ledger import Publication
from penstock.quality.freshness import computed_by_other_code, freshness
from tests.offline.test_watermark import ingested
from tests.world import MONDAY, view_of_orders

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TODAY = MONDAY.date()
NOON = MONDAY + 12 * HOUR
VIEW = view_of_orders()  # 30 minutes


def online(**complete: Any) -> list[Publication]:
    return [
        Publication(
            view="last_order",
            version=1,
            generation=1,
            partition=TODAY - DAY if name == "yesterday" else TODAY,
            attempt=1,
            complete_until_us=to_micros(until),
            readable_at_us=to_micros(NOON),
            run_id="",
            keys=0,
        )
        for name, until in complete.items()
    ]


def test_a_view_complete_exactly_its_sla_ago_is_fresh_and_a_microsecond_more_is_late() -> None:
    exactly = freshness(VIEW, online(today=NOON - 30 * MINUTE), NOON)
    assert (exactly.kept, exactly.age) == (True, 30 * MINUTE)
    assert not freshness(VIEW, online(today=NOON - 30 * MINUTE), NOON + timedelta(microseconds=1)).kept


def test_a_day_held_back_is_not_hidden_by_the_day_after_it() -> None:
    gap = freshness(VIEW, online(yesterday=MONDAY - 2 * HOUR, today=NOON), NOON)
    assert (gap.kept, gap.complete_until) == (False, MONDAY - 2 * HOUR)
    assert freshness(VIEW, online(yesterday=MONDAY, today=NOON), NOON).kept


def test_history_filled_in_later_holds_nothing_up() -> None:
    (today,) = online(today=NOON)
    long_ago = msgspec.structs.replace(today, partition=TODAY - 90 * DAY, complete_until_us=to_micros(MONDAY - 89 * DAY))
    later = msgspec.structs.replace(long_ago, readable_at_us=today.readable_at_us + 1)
    assert freshness(VIEW, [today, later], NOON).complete_until == NOON
    # Published first, it is where the view begins: what lacks after it is a gap.
    first = msgspec.structs.replace(long_ago, readable_at_us=today.readable_at_us - 1)
    assert freshness(VIEW, [today, first], NOON).complete_until == MONDAY - 89 * DAY


def test_a_view_of_which_nothing_is_online_is_not_fresh() -> None:
    assert freshness(VIEW, [], NOON).age is None
    assert not freshness(VIEW, [], NOON).kept


def test_days_computed_by_other_code_are_named() -> None:
    def entry(day: date, code: str) -> AttemptEntry:
        (one,) = ingested({day: NOON})["orders"]
        return msgspec.structs.replace(one, code=code)

    same = transformation_fingerprint(VIEW)
    assert computed_by_other_code(VIEW, [entry(TODAY - DAY, "older"), entry(TODAY, same)]) == [TODAY - DAY]
    assert computed_by_other_code(VIEW, [entry(TODAY, same)]) == []
