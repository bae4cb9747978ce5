"""Up to which event time a view's partition has all its inputs."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta

from penstock.contract.source import Source
from penstock.contract.view import FeatureView
from penstock.offline.logs import AttemptEntry, newest, passed

DAY = timedelta(days=1)


def start_of(day: date) -> datetime:
    """The first instant of a day, UTC."""
    return datetime.combine(day, time(), UTC)


def days_between(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def complete_until(view: FeatureView, partition: date, ingested: Mapping[str, Iterable[AttemptEntry]], now: datetime) -> datetime:
    """Up to which event time the rows of `partition` can be computed now, at most its end.

    A row at event time `e` reads source days back to `e - reach`, each as known at `e + delay`. A source day
    that is closed (all its rows are known) sets no limit; an open one limits `e` to what had been ingested;
    a day that is missing between ingested ones limits it to that day's start.

    Args:
        view: the view.
        partition: the day, UTC.
        ingested: source name → the attempt log's entries of its table.
        now: the Clock's now.

    Returns:
        An instant from the partition's start (nothing can be computed) to its end.
    """
    start, end = start_of(partition), start_of(partition) + DAY
    limit = min(end, now)
    for source in view.sources:
        limit = min(limit, _limit_of(source, start - view.reach, end, newest(ingested[source.name], passed)) - view.delay)
    return max(start, limit)


def _limit_of(source: Source, first: datetime, end: datetime, days: Mapping[date, AttemptEntry]) -> datetime:
    if not days:
        return first
    limit = end + DAY
    begin = max(first.date(), min(days))
    for day in days_between(begin, (end - timedelta(microseconds=1)).date()):
        entry = days.get(day)
        if entry is None:
            return min(limit, start_of(day))
        if entry.complete_until < start_of(day) + DAY + source.availability.at_most:
            limit = min(limit, entry.complete_until)
    return limit
