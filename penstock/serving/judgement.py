"""What a stored value is worth at a given time: the online form of the rule of time.

All times are whole microseconds; both comparisons are inclusive: a value is used while
`event_time <= now` and `now - event_time <= ttl`.
"""

import math
from enum import StrEnum
from typing import Any, NamedTuple

from penstock.errors import CorruptValue, Unavailable
from penstock.online.codec import Stored, decode_value
from penstock.serving.messages import Status
from penstock.serving.plan import ViewPlan


class Problem(StrEnum):
    """Why a stored value was not served; counted, because each is somebody's to look at."""

    CORRUPT = "corrupt"
    UNKNOWN_SCHEMA = "unknown_schema"
    NOT_FINITE = "not_finite"
    FUTURE = "future"
    EXPIRED = "expired"
    STORE_FAILED = "store_failed"


class Served(NamedTuple):
    """A view's part of one row.

    Args:
        values, statuses: per feature of the plan.
        event_time_us, attempt: of the value found; None: none was, or it is of the future or damaged.
        problem: why values were not served; None: they were, or there are none.
    """

    values: list[Any]
    statuses: list[Status]
    event_time_us: int | None = None
    attempt: int | None = None
    problem: Problem | None = None


def judge(view: ViewPlan, blob: bytes | None, now_us: int) -> Served:
    """What to serve of a view's stored bytes at `now_us`; None: the store holds none.

    A value past its ttl is absent (null), as it is for training. A late view is said to be late
    with every value, null included: the missing hours might have changed it.
    """
    if blob is None:
        return _nothing(view, Status.NOT_FOUND)
    try:
        stored = decode_value(blob)
    except CorruptValue:
        return _nothing(view, Status.ERROR, Problem.CORRUPT)
    if stored.schema_id != view.view.schema_id or len(stored.values) != len(view.view.features):
        return _nothing(view, Status.ERROR, Problem.UNKNOWN_SCHEMA)
    age_us = now_us - stored.event_time_us
    if age_us < 0:
        return _nothing(view, Status.NOT_FOUND, Problem.FUTURE)
    ttl_us = view.view.ttl_us
    if ttl_us is not None and age_us > ttl_us:
        absent = _nothing(view, Status.NOT_FOUND, Problem.EXPIRED)
        return absent._replace(event_time_us=stored.event_time_us, attempt=stored.attempt)
    return _label(view, stored, late=_is_late(view, now_us))


def degrade(view: ViewPlan) -> Served:
    """What to serve when the store could not answer, as the view's contract says.

    Raises:
        Unavailable: the contract allows no substitute.
    """
    match view.view.if_unavailable.then:
        case "default":
            values = [plan.feature.default for plan in view.features]
            return Served(values, [Status.DEFAULT] * len(values), problem=Problem.STORE_FAILED)
        case "drop":
            return _nothing(view, Status.ERROR, Problem.STORE_FAILED)
    raise Unavailable(
        f"the online store cannot answer, and feature view '{view.view.ref}' allows no substitute",
        hint="try again; for a substitute, see the view's if_unavailable",
    )


def _is_late(view: ViewPlan, now_us: int) -> bool:
    return view.complete_until_us is None or now_us - view.complete_until_us > view.view.freshness.total_us


def _label(view: ViewPlan, stored: Stored, *, late: bool) -> Served:
    values: list[Any] = []
    statuses: list[Status] = []
    problem: Problem | None = None
    for plan in view.features:
        value = stored.values[plan.stored_at]
        if not _is_finite(value):
            # JSON has no NaN; null would pass for "no value", so it is an error.
            values.append(None)
            statuses.append(Status.ERROR)
            problem = Problem.NOT_FINITE
            continue
        values.append(value)
        statuses.append(Status.STALE if late else Status.NULL if value is None else Status.PRESENT)
    return Served(values, statuses, stored.event_time_us, stored.attempt, problem)


def _is_finite(value: object) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    return all(map(_is_finite, value)) if type(value) is list else True


def _nothing(view: ViewPlan, status: Status, problem: Problem | None = None) -> Served:
    return Served([None] * len(view.features), [status] * len(view.features), problem=problem)
