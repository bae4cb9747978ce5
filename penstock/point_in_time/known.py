"""From when each feature row was known, in numpy. The reference is `penstock.as_of.known`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple, Self, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from penstock.as_of import Attempt, History, Mark, Mode, Readable
from penstock.clock import EPOCH, to_micros
from penstock.offline.join_keys import Ints

NEVER = np.iinfo(np.int64).max
_NOT_BEFORE = np.iinfo(np.int64).min

Facts: TypeAlias = Mapping[tuple[date, int], tuple[datetime | None, datetime | None]]
"""(partition, attempt) → how far earlier attempts had completed the partition, and when it became readable."""


def attempt_facts(history: History) -> Facts:
    """What the rule of time needs to know of each committed attempt."""
    own: dict[date, list[Attempt]] = {}
    for entry in history.attempts:
        own.setdefault(entry.partition, []).append(entry)
    ledger: dict[date, list[Readable]] = {}
    for row in history.ledger:
        ledger.setdefault(row.partition, []).append(row)
    facts: dict[tuple[date, int], tuple[datetime | None, datetime | None]] = {}
    for partition, entries in own.items():
        completed: datetime | None = None
        completed_before: dict[int, datetime | None] = {}
        for entry in sorted(entries, key=lambda a: a.attempt):
            completed_before.setdefault(entry.attempt, completed)
            completed = entry.complete_until if completed is None else max(completed, entry.complete_until)
        published = sorted(ledger.get(partition, ()), key=lambda r: r.attempt)
        readable: datetime | None = None
        for attempt in sorted(completed_before, reverse=True):
            while published and published[-1].attempt >= attempt:
                at = published.pop().readable_at
                readable = at if readable is None else min(readable, at)
            facts[partition, attempt] = (completed_before[attempt], readable)
    return facts


class Covered(NamedTuple):
    """What an invalidation mark covers, in microseconds: rows of `attempt` (None: of any), created up to `created_until`, with
    event times from `since` on and before `until`."""

    attempt: int | None
    created_until: int
    since: int
    until: int

    @classmethod
    def by(cls, mark: Mark) -> Self:
        return cls(mark.attempt, to_micros(mark.marked_at), _micros(mark.since, _NOT_BEFORE), _micros(mark.until, NEVER))

    def rows(self, event: Ints, created: Ints) -> npt.NDArray[np.bool_]:
        """Which of n rows it covers; an attempt is its created time (ADR 0007)."""
        of_attempt = created <= self.created_until if self.attempt is None else (created == self.attempt) & (created <= self.created_until)
        covered: npt.NDArray[np.bool_] = of_attempt & (event >= self.since) & (event < self.until)
        return covered


class Ruling(NamedTuple):
    """How questions from `begin` on are judged, until the next ruling.

    Args:
        begin: in microseconds.
        mode: what counts as known; `observed` only where it is not `assumed`.
        without: rows that are not known.
        blind: an answer that is among these rows is none.
    """

    begin: int
    mode: Mode
    without: tuple[Covered, ...] = ()
    blind: tuple[Covered, ...] = ()


def rulings(mode: Mode, history: History) -> list[Ruling]:
    """How questions are judged, by when they are asked; the first ruling begins with time.

    `observed` is `assumed` before `live_since`; from then on each invalidation mark begins to act, and ceases to, at its times.
    """
    if mode != "observed":
        return [Ruling(_NOT_BEFORE, mode)]
    found = [Ruling(_NOT_BEFORE, "assumed")]
    if history.live_since is None:
        return found
    times = {time for mark in history.marks for time in (mark.marked_at, mark.lifted_at, mark.excluded_at, mark.restored_at)}
    for time in sorted({history.live_since, *(time for time in times if time is not None and time > history.live_since)}):
        without = tuple(Covered.by(mark) for mark in history.marks if mark.excludes(time))
        blind = tuple(Covered.by(mark) for mark in history.marks if mark.in_force(time))
        found.append(Ruling(to_micros(time), "observed", without, blind))
    return found


@dataclass(frozen=True)
class Committed:
    """The same in plain numbers, for tasks: days since 1970, microseconds.

    Args:
        facts: day → attempt → how far earlier attempts had completed the day (`_NOT_BEFORE`: there were none)
            and when the attempt became readable (NEVER: it did not).
        live_since: when the view version went live; NEVER: it did not.
        rulings: of each mode, by when they begin.
    """

    facts: Mapping[int, Mapping[int, tuple[int, int]]]
    live_since: int
    rulings: Mapping[Mode, tuple[Ruling, ...]]

    @classmethod
    def of(cls, history: History) -> Self:
        by_day: dict[int, dict[int, tuple[int, int]]] = {}
        for (partition, attempt), (completed, readable) in attempt_facts(history).items():
            entry = (_micros(completed, _NOT_BEFORE), _micros(readable, NEVER))
            by_day.setdefault((partition - EPOCH.date()).days, {})[attempt] = entry
        of_modes: tuple[Mode, ...] = get_args(Mode)
        return cls(by_day, _micros(history.live_since, NEVER), {mode: tuple(rulings(mode, history)) for mode in of_modes})


def _micros(time: datetime | None, absent: int) -> int:
    return absent if time is None else to_micros(time)


def known_from(committed: Committed, mode: Mode, day: int, event: Ints, available: Ints, attempts: Sequence[int], nth: Ints) -> Ints:
    """From when each row of one partition was known; NEVER: it was not committed, or never readable.

    Args:
        committed: what is recorded of the view version.
        mode: `observed` as it is from `live_since` on; before, ask for `assumed`.
        day: the partition.
        event, available: times of n rows; `available` may be anything under `event` and `observed`.
        attempts: the attempts there are, which are created times as well (ADR 0007).
        nth: which of them each row is of.
    """
    recorded = [committed.facts.get(day, {}).get(attempt) for attempt in attempts]

    def of_each(values: Sequence[int]) -> Ints:
        return np.array(values, np.int64)[nth if len(values) > 1 else slice(None)]  # one for all: it is broadcast

    if mode == "observed":
        return np.maximum(of_each([NEVER if one is None else one[1] for one in recorded]), event)
    known = event if mode == "event" else np.maximum(available, event)
    if mode == "assumed" and any(
        one is not None and attempt >= committed.live_since for one, attempt in zip(recorded, attempts, strict=True)
    ):
        completed_before = of_each([_NOT_BEFORE if one is None else one[0] for one in recorded])
        created = of_each(attempts)
        known = np.where((created >= committed.live_since) & (completed_before >= event), np.maximum(known, created), known)
    if None in recorded:
        known = np.where(of_each([one is not None for one in recorded]) == 1, known, NEVER)
    return known
