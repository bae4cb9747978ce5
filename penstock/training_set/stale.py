"""What became, since a training set was built, of the rows it read: corrected, retracted or invalidated. It itself is never altered."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, reduce
from operator import or_
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from penstock.clock import from_micros
from penstock.offline.lake import Lake, dataset_of
from penstock.offline.logs import AttemptEntry, attempts, copied_marks, passed
from penstock.registry.marks import Mark, of_view
from penstock.training_set.manifest import Input, Manifest

Days: TypeAlias = tuple[date, date]
_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Stale:
    """Rows of one view that a training set would not read today as it read them.

    Args:
        what: `corrected`: an attempt that the build did not know wrote rows, retractions included, at event times that
            an earlier one, known to it, had completed; `invalidated`: a mark that the build did not know covers them.
        view, version: whose.
        days: of which days, ascending; a training set reads whole days, so its own rows need not be among them.
        rows, attempts: how many rows, and how many attempts wrote them.
        since: when the first of the corrections, or of the marks, was made.
        by: the runs of those attempts, or the marks, oldest first.
    """

    what: Literal["corrected", "invalidated"]
    view: str
    version: int
    days: list[date]
    rows: int
    attempts: int
    since: datetime
    by: list[str]

    def __str__(self) -> str:
        days = "1 day" if len(self.days) == 1 else f"{len(self.days)} days"
        return f"{days} of {self.view} {self.what} since {self.since:%Y-%m-%d %H:%M}"


class Since:
    """Tells of one training set after the other what is stale in it, by the logs of a lake as they are at the first question.

    Args:
        lake: where.
    """

    def __init__(self, lake: Lake) -> None:
        self._attempts = cache(lambda version: _by_table(attempts(lake, at=version)))
        self._marks = cache(lambda version: copied_marks(lake, at=version))
        # A table that is gone has no version 0 either, and is told as gone.
        self._rows = cache(lambda table: dataset_of(lake.open_version(table, lake.version(table) or 0)))

    def stale(self, manifest: Manifest) -> list[Stale]:
        """What is stale, by view; nothing, if it would be built as it was.

        An open day that went on is no correction: what came has event times that nothing known to the build had completed.

        Raises:
            SourceError: a version of a log that the manifest names is gone, or the table of a view.
        """
        found = []
        for table, (one, days) in _read(manifest.inputs).items():
            if manifest.logs.attempts is None or days is None:
                continue  # it read nothing
            known = self._attempts(manifest.logs.attempts).get(table, ())
            found += self._corrected(one, days, known)
            old = set() if manifest.logs.marks is None else {mark.id for mark in self._marks(manifest.logs.marks)}
            news = [mark for mark in self._marks(None) if mark.id not in old and mark.lifted_at_us is None]
            found += self._invalidated(one, days, known, of_view(news, one.view, one.version))
        return found

    def _corrected(self, one: Input, days: Days, known: Sequence[AttemptEntry]) -> list[Stale]:
        done = {(entry.partition, entry.attempt) for entry in known}
        complete: dict[date, datetime] = {}
        for entry in known:
            complete[entry.partition] = max(entry.complete_until, complete.get(entry.partition, entry.complete_until))
        news = [
            entry
            for entry in self._attempts(None).get(one.table, ())
            if days[0] <= entry.partition <= days[1]
            and entry.partition in complete
            and (entry.partition, entry.attempt) not in done
            and entry.changed != 0
        ]
        if not news:
            return []
        its_days = [entry.partition for entry in news]
        rows = self._count(one.table, (min(its_days), max(its_days)), _of_attempts(news), complete)
        runs = {entry.attempt: entry.run_id for entry in news}
        by = sorted({attempt for _, attempt in rows})
        return [_stale("corrected", one, rows, by[0], [runs[attempt] for attempt in by])] if rows else []

    def _invalidated(self, one: Input, days: Days, known: Sequence[AttemptEntry], marks: Sequence[Mark]) -> list[Stale]:
        if not marks:
            return []
        read = _of_attempts(known) & ~pc.field("retracted")
        acting = [mark for mark in marks if self._count(one.table, days, read & _covered(mark))]
        if not acting:
            return []
        rows = self._count(one.table, days, read & reduce(or_, map(_covered, acting)))  # what two marks cover counts once
        return [_stale("invalidated", one, rows, acting[0].marked_at_us, [mark.id for mark in acting])]

    def _count(self, table: str, days: Days, where: Any, until: Mapping[date, datetime] | None = None) -> Counter[tuple[date, int]]:
        """(day, attempt) → how many rows meet a condition, of each day up to an event time; only counts are kept."""
        found = Counter[tuple[date, int]]()
        where &= (pc.field("event_date") >= pa.scalar(days[0])) & (pc.field("event_date") <= pa.scalar(days[1]))
        for batch in self._rows(table).to_batches(columns=["event_date", "attempt", "event_time"], filter=where):
            if not batch.num_rows:
                continue
            day = batch.column("event_date")[0].as_py()  # a file is of one day, and a batch of one file
            if until is not None:
                batch = batch.filter(pc.less_equal(batch.column("event_time"), pa.scalar(until[day], _TIME)))  # noqa: PLW2901
            for one in pc.value_counts(batch.column("attempt")).to_pylist():
                found[day, one["values"]] += one["counts"]
        return found


def _by_table(entries: Iterable[AttemptEntry]) -> Mapping[str, list[AttemptEntry]]:
    found: dict[str, list[AttemptEntry]] = {}
    for entry in filter(passed, entries):
        found.setdefault(entry.table, []).append(entry)
    return found


def _read(inputs: Sequence[Input]) -> Mapping[str, tuple[Input, Days | None]]:
    """Table → a view of it, and the first and the last day that was read of it under any name; a day between may have had no rows."""
    found: dict[str, tuple[Input, Days | None]] = {}
    for one in inputs:
        days = [date.fromisoformat(day) for same in inputs if same.table == one.table for day in same.partitions]
        found.setdefault(one.table, (one, (min(days), max(days)) if days else None))
    return found


def _of_attempts(entries: Iterable[AttemptEntry]) -> Any:
    numbers = sorted({entry.attempt for entry in entries})
    # The bounds leave out files and row groups by their statistics.
    attempt = pc.field("attempt")
    return attempt.isin(pa.array(numbers, pa.int64())) & (attempt >= numbers[0]) & (attempt <= numbers[-1])


def _covered(mark: Mark) -> Any:
    """The rows that a mark covers, as `Mark.covers` says it."""
    where = pc.field("attempt") <= mark.marked_at_us
    if mark.attempt is not None:
        where &= pc.field("attempt") == mark.attempt
    if mark.since_us is not None:
        where &= pc.field("event_time") >= pa.scalar(mark.since_us, _TIME)
    if mark.until_us is not None:
        where &= pc.field("event_time") < pa.scalar(mark.until_us, _TIME)
    return where


def _stale(
    what: Literal["corrected", "invalidated"], one: Input, rows: Counter[tuple[date, int]], since_us: int, by: Sequence[str]
) -> Stale:
    return Stale(
        what=what,
        view=one.view,
        version=one.version,
        days=sorted({day for day, _ in rows}),
        rows=rows.total(),
        attempts=len({attempt for _, attempt in rows}),
        since=from_micros(since_us),
        by=list(dict.fromkeys(by)),
    )
