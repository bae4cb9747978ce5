"""Which days a refresh has to look at again: those still open, and those that were missed."""

from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime

from penstock.contract.source import Source
from penstock.contract.view import FeatureView
from penstock.offline.logs import AttemptEntry, newest, passed
from penstock.offline.watermark import DAY, days_between, start_of


def first_day_to_refresh(
    sources: Mapping[Source, Iterable[AttemptEntry]],
    tried: Mapping[FeatureView, Collection[date]],
    behind: Mapping[FeatureView, Iterable[date]],
    now: datetime,
    since: date,
) -> date:
    """The first day from which ingesting and computing up to now would bring something further.

    Yesterday at the latest, `since` at the earliest. Days before a table's first are not missed, they are not wanted. A day whose newest
    attempt was refused waits for its data to be mended, which no refresh does; one whose inputs go no further, for them to.

    Args:
        sources: ingested source → the attempt log's entries of its table.
        tried: view → the days it was computed for, or refused.
        behind: view → those of which more can be computed now; see `offline.attempt.behind`.
        now: the Clock's now.
        since: the project's first day; those before it were brought in by hand.
    """
    today = now.date()
    open_days = {max(today - DAY, since)}
    for source, entries in sources.items():
        known = list(entries)
        first = min(newest(known, passed), default=today)
        open_days |= set(not_all_in(source, known, days_between(max(first, since), today)))
    for view, days in tried.items():
        wanted = days_between(max(min(days, default=today), since), today)
        open_days |= set(wanted).difference(days) | set(wanted).intersection(behind.get(view, ()))
    return min(open_days)


def not_all_in(source: Source, entries: Iterable[AttemptEntry], days: Iterable[date]) -> list[date]:
    """Of some days of an ingested source, those of which rows may still come: never ingested, or last before all of them were available."""
    done = newest(entries, passed)
    return [day for day in days if day not in done or done[day].complete_until < start_of(day) + DAY + source.availability.at_most]
