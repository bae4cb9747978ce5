"""The ledger: which attempt of which partition became readable online, and when."""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta

import msgspec

from penstock.clock import EPOCH, MICROSECOND
from penstock.errors import PublicationError
from penstock.registry.marks import Mark, Step

FIRST_GENERATION = 1
DAY_US = timedelta(days=1) // MICROSECOND


class Publication(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One ledger row.

    Args:
        view, version, generation: what was published into.
        partition: the day, UTC.
        attempt: the attempt whose rows, with those before it, became readable.
        complete_until_us: up to which event time the attempt had all its inputs.
        readable_at_us: when the row was written: from then on readers see the attempt. One value for all rows of
            a publication, later than those of all publications of the view before it.
        run_id: the run that published.
        keys: how many keys the publication wrote or deleted, over all its partitions.
    """

    view: str
    version: int
    generation: int
    partition: date
    attempt: int
    complete_until_us: int
    readable_at_us: int
    run_id: str
    keys: int


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What a publication is about to write: the newest one of a fill of a view version is kept.

    Args:
        view, version, generation: what is published into.
        attempts: day → the attempt whose rows, with those before it, are to become readable.
        mark: it is about an invalidation mark instead: its id, and what is to be done about it.
    """

    view: str
    version: int
    generation: int
    attempts: dict[date, int]
    mark: tuple[str, Step] | None = None


def unfinished(intent: Intent | None, publications: Iterable[Publication]) -> dict[date, int]:
    """The attempts that a publication was about to make readable when it ended; empty: it was recorded, or there is none."""
    if intent is None:
        return {}
    recorded = {(row.partition, row.attempt) for row in publications if row.generation == intent.generation}
    return {} if recorded.issuperset(intent.attempts.items()) else intent.attempts


def unfinished_step(intent: Intent | None, marks: Iterable[Mark]) -> tuple[Mark, Step] | None:
    """What a publication was doing about an invalidation mark when it ended; None: it was done, or there is none."""
    if intent is None or intent.mark is None:
        return None
    named, step = intent.mark
    mark = next((mark for mark in marks if mark.id == named), None)
    if mark is None or (mark.excluded_at_us if step == "exclude" else mark.restored_at_us) is not None:
        return None
    return mark, step


def view_version_of(publications: Iterable[Publication]) -> tuple[str, int]:
    """The one view version these rows are of: only rows of one can become visible at once.

    Raises:
        PublicationError: they are of several, or there are none.
    """
    versions = sorted({(row.view, row.version) for row in publications})
    if len(versions) != 1:
        named = ", ".join(f"{view}@{version}" for view, version in versions) or "none"
        raise PublicationError(f"ledger rows of {len(versions)} view versions ({named}); record those of one at a time")
    return versions[0]


def partition_end_us(partition: date) -> int:
    """The first microsecond after the day `partition`."""
    return ((partition - EPOCH.date()).days + 1) * DAY_US


def latest(publications: Iterable[Publication]) -> dict[date, Publication]:
    """Per partition, in order of day, the publication of the greatest attempt."""
    newest: dict[date, Publication] = {}
    for row in publications:
        if row.partition not in newest or row.attempt > newest[row.partition].attempt:
            newest[row.partition] = row
    return dict(sorted(newest.items()))


def complete_until_us(publications: Iterable[Publication]) -> int | None:
    """Up to which event time everything is online from the day on that was published first; None: nothing is.

    A day that is missing, or complete only in part, stops it: freshness is judged on this, and
    a day held back must not be hidden by the days after it. Days before the one published first are history
    filled in later, and hold nothing up.
    """
    rows = list(publications)
    begun = min(rows, key=lambda row: (row.readable_at_us, row.partition), default=None)
    return None if begun is None else reached_us({day: row.complete_until_us for day, row in latest(rows).items()}, begun.partition)


def reached_us(until_us: Mapping[date, int], begun: date) -> int | None:
    """Up to which event time there is no gap from the day `begun` on.

    Args:
        until_us: day → up to which event time it is complete.
        begun: days before it are left out.
    """
    reached: int | None = None
    for day, until in sorted(until_us.items()):
        if day < begun:
            continue
        if reached is not None and reached < partition_end_us(day) - DAY_US:
            return reached
        reached = until
    return reached


def live_since_us(publications: Iterable[Publication], freshness_total_us: int) -> int | None:
    """When a view version went live: `readable_at` of its first publication that was within its SLA; None: not yet."""
    live = [row.readable_at_us for row in publications if row.readable_at_us - row.complete_until_us <= freshness_total_us]
    return min(live, default=None)
