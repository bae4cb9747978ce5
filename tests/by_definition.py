"""What a publication writes, as plainly as it can be said: `evaluate.values_to_write` is held to it, and stands for it without Spark."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from penstock.clock import to_micros
from penstock.publication.readable import THIS, Obeyed


class Row(NamedTuple):
    """A row of the table of `tests.world.view_of_orders`; an attempt is its created time (ADR 0007)."""

    customer: str
    event_time: Any
    created_time: Any
    attempt: int
    retracted: bool
    row_digest: bytes
    amount: float | None
    event_date: date


class Written(NamedTuple):
    """What is written of a customer: event time, attempt and amount of the value, None where it is deleted; and its token's parts."""

    event_time_us: int | None
    attempt: int | None
    amount: float | None
    e_us: int
    revision: int


def values_by_definition(rows: Sequence[Row], readable: Mapping[tuple[date, int], int], obeyed: Obeyed) -> dict[str, Written]:
    """Customer → what is written of them; those that the publication does not touch are left out."""
    of_customer: dict[str, list[Row]] = {}
    for row in rows:
        if (row.event_date, row.attempt) in readable:
            of_customer.setdefault(row.customer, []).append(row)
    touched = {customer: _written(known, readable, obeyed) for customer, known in of_customer.items()}
    return {customer: written for customer, written in touched.items() if written is not None}


def _written(known: Sequence[Row], readable: Mapping[tuple[date, int], int], obeyed: Obeyed) -> Written | None:
    def covered_by(mark: Any, row: Row) -> bool:
        return bool(mark.covers(to_micros(row.event_time), row.attempt))

    # The publications that touched the customer: they made a row readable, took one back or restored one.
    touching = {readable[row.event_date, row.attempt] for row in known}
    touching |= {at for mark, at in obeyed.moments if any(covered_by(mark, row) for row in known)}
    if THIS not in touching:
        return None
    counting: dict[Any, Row] = {}
    for row in sorted(known, key=lambda row: (row.created_time, row.row_digest)):
        if not any(covered_by(mark, row) for mark in obeyed.excluded):
            counting[row.event_time] = row
    best = max((row for row in counting.values() if not row.retracted), key=lambda row: row.event_time, default=None)
    newest = max(row.event_time for row in known)
    brought = min(readable[row.event_date, row.attempt] for row in known if row.event_time == newest)
    revision = sum(at > brought for at in touching)
    value = (None, None, None) if best is None else (to_micros(best.event_time), best.attempt, best.amount)
    return Written(*value, to_micros(newest), revision)
