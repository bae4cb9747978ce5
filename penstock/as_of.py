"""The rule of time, as plainly as it can be said. Every engine is tested against this file.

For a spine row at time `t`, look at the rows of its key with `event_time <= t` that were *known* at `t`.
Of each event time the row with the greatest `(created_time, digest)` counts; if it is a retraction, that
event time does not count. Of those that count the greatest event time wins; it is used if
`t - event_time <= ttl`. Comparisons are inclusive, in UTC microseconds. No row: None.

An invalidation mark says that readers must not get some rows. In mode `observed` it acts as it did on readers, in two steps:
while it is in force an answer that it covers is None, and from the publication on that took those rows back, until one that
restored them, they are not known: what was true before them is the answer.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["event", "assumed", "observed", "restated"]
"""When a row counts as known at t.

event      always: a what-if that leaks
assumed    from its available time; a correction also not before it was created
observed   from when the ledger says readers could see it, marks obeyed; before the view went live as in `assumed`
restated   from its available time, corrections too: trains on values fixed afterwards
"""


@dataclass(frozen=True)
class Row:
    """One row of a feature table, of one key."""

    event_time: datetime
    available_time: datetime
    created_time: datetime
    attempt: int
    partition: date
    digest: str = ""
    retracted: bool = False
    values: tuple[object, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """An attempt that passed its checks on one partition, with the event time it had all inputs up to."""

    partition: date
    attempt: int
    complete_until: datetime


@dataclass(frozen=True)
class Readable:
    """A ledger row: from `readable_at` on, readers saw this attempt of this partition."""

    partition: date
    attempt: int
    readable_at: datetime


@dataclass(frozen=True)
class Mark:
    """An invalidation mark: it covers rows created up to `marked_at`, so nothing that is computed after it.

    Args:
        marked_at, lifted_at: from when until when it is in force; `lifted_at` None: it is.
        attempt: whose rows it covers; None: those of all.
        since, until: it covers rows with `since <= event_time < until`; None: no such bound.
        excluded_at, restored_at: `readable_at` of the publication that took the rows back, and of the one that, once it was
            lifted, restored them; None: there was none.
    """

    marked_at: datetime
    lifted_at: datetime | None = None
    attempt: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    excluded_at: datetime | None = None
    restored_at: datetime | None = None

    def covers(self, row: Row) -> bool:
        """Whether it is about this row."""
        return (
            row.created_time <= self.marked_at
            and (self.attempt is None or row.attempt == self.attempt)
            and (self.since is None or row.event_time >= self.since)
            and (self.until is None or row.event_time < self.until)
        )

    def in_force(self, t: datetime) -> bool:
        """Whether readers got nothing at `t` where it covers the answer."""
        return self.marked_at <= t and (self.lifted_at is None or t < self.lifted_at)

    def excludes(self, t: datetime) -> bool:
        """Whether what was online at `t` was without the rows it covers."""
        return self.excluded_at is not None and self.excluded_at <= t and (self.restored_at is None or t < self.restored_at)


@dataclass(frozen=True)
class History:
    """What is recorded of one view version; a row whose attempt is not in `attempts` was never committed."""

    attempts: tuple[Attempt, ...] = field(default=())
    ledger: tuple[Readable, ...] = field(default=())
    live_since: datetime | None = None
    marks: tuple[Mark, ...] = field(default=())


def as_of(rows: Iterable[Row], t: datetime, *, ttl: timedelta | None, mode: Mode, history: History) -> Row | None:
    """The row of one key to use at `t`, or None."""
    winner_of: dict[datetime, Row] = {}
    for row in rows:
        if row.event_time <= t and known(row, t, mode, history):
            other = winner_of.get(row.event_time)
            if other is None or (row.created_time, row.digest) > (other.created_time, other.digest):
                winner_of[row.event_time] = row
    counting = [row for row in winner_of.values() if not row.retracted]
    if not counting:
        return None
    newest = max(counting, key=lambda row: row.event_time)
    if is_live(t, mode, history) and any(mark.in_force(t) and mark.covers(newest) for mark in history.marks):
        return None
    return newest if ttl is None or t - newest.event_time <= ttl else None


def known(row: Row, t: datetime, mode: Mode, history: History) -> bool:
    """Whether the row was known at `t`."""
    if not any((a.partition, a.attempt) == (row.partition, row.attempt) for a in history.attempts):
        return False
    if mode == "event":
        return True
    if mode == "restated":
        return row.available_time <= t
    if is_live(t, mode, history):
        readable = readable_at(row, history)
        return readable is not None and readable <= t and not any(mark.excludes(t) and mark.covers(row) for mark in history.marks)
    return row.available_time <= t and (row.created_time <= t or not is_correction(row, history))


def is_live(t: datetime, mode: Mode, history: History) -> bool:
    """Whether what is known at `t` is what the ledger says."""
    return mode == "observed" and history.live_since is not None and t >= history.live_since


def is_correction(row: Row, history: History) -> bool:
    """Created at or after `live_since`, in a partition that an earlier attempt had completed up to its event time."""
    if history.live_since is None or row.created_time < history.live_since:
        return False
    return any(a.partition == row.partition and a.attempt < row.attempt and a.complete_until >= row.event_time for a in history.attempts)


def readable_at(row: Row, history: History) -> datetime | None:
    """When readers could first see the row: with its attempt's publication or a later one of its partition."""
    times = [entry.readable_at for entry in history.ledger if entry.partition == row.partition and entry.attempt >= row.attempt]
    return min(times, default=None)
