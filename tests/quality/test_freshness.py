"""Freshness is judged on how far what is online is complete without a gap; code by what computed each day."""

from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from penstock.clock import to_micros
from penstock.contract import FreshnessSla
from penstock.contract.fingerprint import transformation_fingerprint
from penstock.offline.logs import AttemptEntry
from penstock.online.ledger import Publication
from penstock.quality.freshness import Stage, computed_by_other_code, freshness, over_budget, stages
from tests.offline.test_watermark import ingested
from tests.world import MONDAY, attempt_entry, view_of_orders

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


BUDGETED = view_of_orders(
    delay=10 * MINUTE, freshness=FreshnessSla(total=2 * HOUR, ingest=20 * MINUTE, compute=30 * MINUTE, publish=10 * MINUTE)
)


def spent(read_until: datetime | None, now: datetime = NOON) -> list[Stage]:
    """Sources are in up to 11:45, computed up to 10:55, online up to 10:50."""
    inputs = ingested({TODAY - DAY: MONDAY + HOUR, TODAY: MONDAY + timedelta(hours=11, minutes=45)})
    entries = [attempt_entry(TODAY, attempt=1, complete_until=MONDAY + timedelta(hours=10, minutes=55))]
    return stages(BUDGETED, inputs, entries, online(today=MONDAY + timedelta(hours=10, minutes=50)), read_until, now)


def test_the_age_is_what_the_stages_and_the_delay_add_up_to() -> None:
    read_until = MONDAY + timedelta(hours=10, minutes=48)
    found = spent(read_until)
    assert {stage.name: stage.lag for stage in found} == {
        "ingest": 15 * MINUTE, "compute": 40 * MINUTE, "publish": 5 * MINUTE, "read": 2 * MINUTE,
    }  # fmt: skip
    assert sum((stage.lag for stage in found if stage.lag is not None), BUDGETED.delay) == NOON - read_until


def test_a_stage_over_its_budget_is_named_and_one_without_a_budget_never() -> None:
    assert over_budget(spent(MONDAY)) == ["compute 0:40:00 of 0:30:00"]
    assert over_budget(spent(None, NOON + HOUR)) == ["ingest 1:15:00 of 0:20:00", "compute 0:40:00 of 0:30:00"]


def test_what_cannot_be_told_is_no_lag_and_what_is_ahead_is_none() -> None:
    assert [stage.lag for stage in spent(None)][3] is None
    assert spent(NOON)[3].lag == timedelta(0)
    nothing = stages(BUDGETED, ingested({TODAY: NOON}), [], [], None, NOON)
    assert [stage.lag for stage in nothing[1:]] == [None, None, None]


def test_a_day_that_was_refused_is_a_gap_in_what_is_computed() -> None:
    entries = [
        attempt_entry(TODAY - 2 * DAY, attempt=1, complete_until=MONDAY - DAY),
        attempt_entry(TODAY - DAY, attempt=1, state="quarantined", complete_until=MONDAY),
        attempt_entry(TODAY, attempt=1, complete_until=NOON),
    ]
    inputs = ingested({TODAY - DAY: MONDAY + HOUR, TODAY: NOON})
    assert stages(BUDGETED, inputs, entries, [], None, NOON)[1].lag == NOON - 10 * MINUTE - (MONDAY - DAY)
