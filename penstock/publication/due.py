"""Which partitions should be published now: committed by an attempt newer than the one online."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from penstock.offline.logs import AttemptEntry, newest, passed
from penstock.online.ledger import Publication, latest
from penstock.registry.marks import Mark


@dataclass(frozen=True)
class Due:
    """What a view has to publish, and what it holds back.

    Args:
        ready: days to publish, ascending, each with the attempt to publish; where something is to be done about an
            invalidation mark, the newest day online is among them.
        runs: by which runs that was committed.
        held: days whose newest attempt was refused, or is held back by a mark, or that Dagster has no partition of → why; what is
            online of them stays.
    """

    ready: dict[date, int]
    held: dict[date, str]
    runs: frozenset[str] = frozenset()


def due(attempts: Iterable[AttemptEntry], published: Iterable[Publication], *, since: date = date.min, marks: Iterable[Mark] = ()) -> Due:
    """What of a view version is due, from its attempts, its ledger rows of one generation and its invalidation marks; days before
    `since` are held back."""
    entries, marked = list(attempts), list(marks)
    online = latest(published)
    may = publishable(entries, marked)
    committed = newest(may, passed)
    ready = {day: entry.attempt for day, entry in committed.items() if day not in online or entry.attempt > online[day].attempt}
    held = {day: "; ".join(entry.reasons) or "refused" for day, entry in newest(entries).items() if entry.state == "quarantined"}
    held |= {
        day: f"mark {mark.id} holds back what the code it was made about computes"
        for day, entry in newest(entries, passed).items()
        for mark in marked
        if mark.holds(entry.code)
    }
    if online and any(mark.due for mark in marked):
        ready = dict(sorted({max(online): online[max(online)].attempt, **ready}.items()))
    early = {day: f"it is before dagster.first_day, {since}" for day in ready if day < since}
    ready = {day: attempt for day, attempt in ready.items() if day not in early}
    return Due(ready, {**held, **early}, frozenset(committed[day].run_id for day in ready if day in committed))


def publishable(attempts: Iterable[AttemptEntry], marks: Iterable[Mark]) -> list[AttemptEntry]:
    """Those of some attempts that no mark holds back."""
    marked = list(marks)
    return [entry for entry in attempts if not any(mark.holds(entry.code) for mark in marked)]


def contiguous(days: Iterable[date]) -> list[tuple[date, date]]:
    """Ranges (first, last) of consecutive days, ascending."""
    ranges: list[tuple[date, date]] = []
    for day in sorted(days):
        if ranges and day == ranges[-1][1] + timedelta(days=1):
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def named(days: Iterable[date]) -> str:
    """Days as people write them: ranges of consecutive ones, ascending."""
    return ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in contiguous(days))
