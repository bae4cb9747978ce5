"""What a stored value is worth at a given time: the online form of the rule of time.

All times are whole microseconds; both comparisons are inclusive: a value is used while
`event_time <= now` and `now - event_time <= ttl`.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeAlias

from penstock.errors import CorruptValue, Unavailable
from penstock.online.codec import Stored, decode_value, is_plain
from penstock.serving.messages import Status
from penstock.serving.plan import ViewPlan


class Outcome(StrEnum):
    """What came of reading one view of one entity; the letter stands for it in replay tokens, the name in metrics."""

    FRESH = "F"
    """Served, of a view within its freshness SLA."""
    LATE = "L"
    """Served, of a view later than its freshness SLA."""
    ABSENT = "N"
    """The store holds nothing."""
    EXPIRED = "X"
    """Held, and past its ttl: null, as for training."""
    FUTURE = "A"
    """Held, of an event time after now: this machine's clock or the publisher's is wrong."""
    CORRUPT = "C"
    """Held, and damaged or of an unknown format."""
    UNKNOWN_SCHEMA = "U"
    """Held, and of other features than the view's."""
    CACHED = "S"
    """The store could not answer: the value read last, within what the contract allows."""
    DEFAULTED = "D"
    """The store could not answer: the declared defaults."""
    DROPPED = "R"
    """The store could not answer: the view is left out, as its contract allows."""
    INVALIDATED = "M"
    """Held, and covered by an invalidation mark: the declared defaults, else null."""
    COMPUTED = "O"
    """Of an on-demand view: computed at the request."""
    LACKING = "I"
    """Of an on-demand view: an input could not be read."""
    FAILED = "E"
    """Of an on-demand view: its function raised, or gave something else than it declares."""


SERVED = (Outcome.FRESH, Outcome.LATE)
"""Outcomes with values of the store as it is."""

HELD = (*SERVED, Outcome.EXPIRED, Outcome.CACHED)
"""Outcomes that tell event time, attempt and checksum of what the store holds."""


class Served(NamedTuple):
    """A view's part of one row.

    Args:
        values, statuses: per feature of the plan; statuses that are all the same are one of `ViewPlan.all`.
        outcome: what came of reading it.
        event_time_us, attempt, checksum: of the value found; None: none was, or it is of the future or damaged.
    """

    values: Sequence[Any]
    statuses: tuple[Status, ...]
    outcome: Outcome
    event_time_us: int | None = None
    attempt: int | None = None
    checksum: int | None = None


Decoded: TypeAlias = Stored | Literal[Outcome.CORRUPT] | None
"""What a key holds of a view: a value, something that cannot be read, or nothing."""


def decode(blob: bytes | None) -> Decoded:
    """What stored bytes say."""
    if blob is None:
        return None
    try:
        return decode_value(blob)
    except CorruptValue:
        return Outcome.CORRUPT


def judge_at(view: ViewPlan, now_us: int) -> Callable[[Decoded], Served]:
    """What to serve at `now_us` of what a key holds of a view.

    A value past its ttl is absent (null), as it is for training. A late view is said to be late
    with every value, null included: the missing hours might have changed it.
    """
    schema, width, pick, oldest_us, marks = view.schema_id, view.width, view.pick, now_us - view.ttl_us, view.marks
    late = now_us > view.late_after_us
    alike, outcome = (view.all[Status.STALE], Outcome.LATE) if late else (view.all[Status.PRESENT], Outcome.FRESH)

    def judge(held: Decoded) -> Served:
        if held is None:
            return _nothing(view, Status.NOT_FOUND, Outcome.ABSENT)
        if held is Outcome.CORRUPT:
            return _nothing(view, Status.ERROR, Outcome.CORRUPT)
        schema_id, event_time_us, attempt, values, plain, checksum = held
        if schema_id != schema or len(values) != width:
            return _nothing(view, Status.ERROR, Outcome.UNKNOWN_SCHEMA)
        if event_time_us > now_us:
            return _nothing(view, Status.NOT_FOUND, Outcome.FUTURE)
        if marks and any(mark.covers(event_time_us, attempt) for mark in marks):
            return _invalidated(view)
        if event_time_us < oldest_us:
            return Served(view.nulls, view.all[Status.NOT_FOUND], Outcome.EXPIRED, event_time_us, attempt, checksum)
        if not plain:
            return _label(view, held, late=late)
        return Served(values if pick is None else pick(values), alike, outcome, event_time_us, attempt, checksum)

    return judge


def judge_stale(view: ViewPlan, held: Decoded, now_us: int) -> Served:
    """What to serve at `now_us` of what a key held when the store was read last, now that it could not be read.

    Raises:
        Unavailable: neither that nor a substitute is allowed by the contract.
    """
    up_to_us = view.view.if_unavailable.stale_up_to_us
    if up_to_us is None or held is None or held is Outcome.CORRUPT or now_us - held.event_time_us > up_to_us:
        return degrade(view)
    served = judge_at(view, now_us)(held)
    if served.outcome is Outcome.INVALIDATED:
        return served
    if served.outcome not in SERVED:
        return degrade(view)
    statuses = tuple(status if status is Status.ERROR else Status.STALE for status in served.statuses)
    return served._replace(statuses=view.all[Status.STALE] if Status.ERROR not in statuses else statuses, outcome=Outcome.CACHED)


def degrade(view: ViewPlan) -> Served:
    """What to serve when the store could not answer, as the view's contract says.

    Raises:
        Unavailable: the contract allows no substitute.
    """
    match view.view.if_unavailable.then:
        case "default":
            return _defaults(view, Outcome.DEFAULTED)
        case "drop":
            return _nothing(view, Status.ERROR, Outcome.DROPPED)
    raise Unavailable(
        f"the online store cannot answer, and feature view '{view.view.ref}' allows no substitute",
        hint="try again; for a substitute, see the view's if_unavailable",
    )


def _invalidated(view: ViewPlan) -> Served:
    """An answer all the same: that values are bad must not take down those who could do without them."""
    if view.view.if_unavailable.then == "default":
        return _defaults(view, Outcome.INVALIDATED)
    return _nothing(view, Status.ERROR, Outcome.INVALIDATED)


def _defaults(view: ViewPlan, outcome: Outcome) -> Served:
    return Served([plan.feature.default for plan in view.features], view.all[Status.DEFAULT], outcome)


def _label(view: ViewPlan, stored: Stored, *, late: bool) -> Served:
    """Of values that are not all there and finite, each with its own status; JSON has no NaN, and null would pass for "no value"."""
    values: list[Any] = []
    statuses: list[Status] = []
    for plan in view.features:
        value = stored.values[plan.stored_at]
        sayable = value is None or is_plain(value)
        values.append(value if sayable else None)
        statuses.append(Status.ERROR if not sayable else Status.STALE if late else Status.NULL if value is None else Status.PRESENT)
    outcome = Outcome.LATE if late else Outcome.FRESH
    return Served(values, tuple(statuses), outcome, stored.event_time_us, stored.attempt, stored.checksum)


def _nothing(view: ViewPlan, status: Status, outcome: Outcome) -> Served:
    return Served(view.nulls, view.all[status], outcome)
