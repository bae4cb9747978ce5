"""What a publication goes by: since when each attempt's rows are readable, and which rows invalidation marks take away."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate
from typing import Self

from penstock.offline.logs import AttemptEntry
from penstock.online.ledger import Publication
from penstock.registry.marks import Mark, Step

THIS = 2**62
"""When what is being published now becomes readable: after everything that is."""


def changing(committed: Iterable[AttemptEntry]) -> list[tuple[date, int]]:
    """Partition and attempt of the attempts that have rows: one that changed nothing has none."""
    return [(entry.partition, entry.attempt) for entry in committed if entry.changed != 0]


def readable_from(
    committed: Iterable[tuple[date, int]], ledger: Iterable[Publication], publishing: Mapping[date, int]
) -> dict[tuple[date, int], int]:
    """(partition, attempt) → `readable_at_us` of the publication that made it readable, or `THIS`; not readable: left out.

    Args:
        committed: partition and attempt of every attempt that passed.
        ledger: rows of one generation of the view.
        publishing: partition → the attempt to make readable, with those before it.
    """
    of_day: dict[date, list[Publication]] = {}
    for row in ledger:
        of_day.setdefault(row.partition, []).append(row)
    # Per day, attempts and from each on the earliest `readable_at`: a publication carries those before it along.
    earliest: dict[date, tuple[list[int], list[int]]] = {}
    for day, rows in of_day.items():
        rows.sort(key=lambda row: row.attempt)
        times = list(accumulate((row.readable_at_us for row in reversed(rows)), min))
        earliest[day] = ([row.attempt for row in rows], times[::-1])
    found: dict[tuple[date, int], int] = {}
    for day, attempt in committed:
        attempts, times = earliest.get(day, ([], []))
        place = bisect_left(attempts, attempt)
        if place < len(attempts):
            found[day, attempt] = times[place]
        elif attempt <= publishing.get(day, -1):
            found[day, attempt] = THIS
    return found


@dataclass(frozen=True)
class Obeyed:
    """What a publication goes by of a view's invalidation marks.

    Args:
        excluded: whose rows are left out.
        moments: each mark with when a publication took its rows back or restored them; `THIS`: this one does.
    """

    excluded: tuple[Mark, ...] = ()
    moments: tuple[tuple[Mark, int], ...] = ()

    @classmethod
    def of(cls, marks: Sequence[Mark], step: tuple[Mark, Step] | None = None) -> Self:
        """As the marks stand, once a step is taken."""
        excluded = [mark for mark in marks if mark.is_excluded]
        moments = [(mark, at) for mark in marks for at in (mark.excluded_at_us, mark.restored_at_us) if at is not None]
        if step is not None:
            excluded = [mark for mark in excluded if mark != step[0]] + ([step[0]] if step[1] == "exclude" else [])
            moments.append((step[0], THIS))
        return cls(tuple(excluded), tuple(moments))
