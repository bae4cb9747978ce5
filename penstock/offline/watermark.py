"""Up to which event time a view's partition has all its inputs."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta

from penstock.clock import MICROSECOND
from penstock.contract.source import Source
from penstock.contract.view import FeatureView
from penstock.errors import CommitError
from penstock.offline.logs import AttemptEntry, newest, passed
from penstock.offline.sources import HowFar

DAY = timedelta(days=1)


def start_of(day: date) -> datetime:
    """The first instant of a day, UTC."""
    return datetime.combine(day, time(), UTC)


def days_between(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def closed_days(complete_until: Mapping[date, datetime]) -> frozenset[date]:
    """Those of some days that are complete to their end."""
    return frozenset(day for day, until in complete_until.items() if until >= start_of(day) + DAY)


def complete_until(view: FeatureView, partition: date, inputs: Mapping[str, HowFar], now: datetime) -> datetime:
    """Up to which event time the rows of `partition` can be computed now, at most its end.

    A row at event time `e` reads source days from `e - reach` on, each as known at `e + delay`. A source day
    that is closed (all its rows are known) sets no limit; an open one limits `e` to what had been ingested;
    a day that is missing between ingested ones limits it to that day's start. An external table limits it to the
    newest row in it.

    Args:
        view: the view.
        partition: the day, UTC.
        inputs: source name → how far it is in.
        now: the Clock's now.

    Returns:
        An instant from just before the partition's start (no row of it can be computed) to its end.
    """
    start, end = start_of(partition), start_of(partition) + DAY
    return max(start - MICROSECOND, min(end, known_by(view, partition, inputs, now) - view.delay))


def known_by(view: FeatureView, partition: date, inputs: Mapping[str, HowFar], now: datetime) -> datetime:
    """Up to which available time all inputs of `partition` are in; see `complete_until`, which is the view's delay before it."""
    start, end = start_of(partition), start_of(partition) + DAY
    # A function may use what happened after a row's event time, if it was available with the row; a window ends there.
    last = end + view.delay if view.compute is not None else end
    return min([now, *(_limit_of(source, start - view.reach, last, inputs[source.name], now) for source in view.sources)])


def spans(limits: Mapping[date, datetime]) -> list[tuple[datetime, datetime]]:
    """The event times of some days, each up to where it is complete: from the first to before the second; days that touch are one.

    Args:
        limits: day → the last instant that is complete, as `complete_until` gives it.
    """
    found: list[tuple[datetime, datetime]] = []
    for day, limit in sorted(limits.items()):
        start, end = start_of(day), min(start_of(day) + DAY, limit + MICROSECOND)
        if end <= start:
            continue
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, end))
    return found


def require_time_goes_on(table: str, entries: Iterable[AttemptEntry], now: datetime) -> None:
    """Nothing, if no partition of a table was brought further than now.

    Raises:
        CommitError: the Clock has gone back: facts and rows that are there already would be taken away.
    """
    latest = max((e for e in entries if passed(e)), key=lambda e: e.complete_until, default=None)
    if latest is not None and latest.complete_until > now:
        raise CommitError(
            f"{table}: the Clock says {now.isoformat()}, but {latest.partition} is in up to {latest.complete_until.isoformat()}",
            hint="a lake does not go back in time: set clock.now later, or lake.path to an empty folder",
        )


def _limit_of(source: Source, first: datetime, end: datetime, known: HowFar, now: datetime) -> datetime:
    if isinstance(known, datetime):
        return known
    days = newest(known, passed)
    if not days:
        return first
    limit = now
    begin = max(first.date(), min(days))
    for day in days_between(begin, (end - timedelta(microseconds=1)).date()):
        entry = days.get(day)
        if entry is None:
            return min(limit, start_of(day))
        if entry.complete_until < start_of(day) + DAY + source.availability.at_most:
            limit = min(limit, entry.complete_until)
    return limit
