"""Invalidation marks: what readers must not get although it is online, and what became of that.

A mark acts at once where values are read, and costs no write: an answer that it covers is none. The next publication of the
view takes back what it covers: each key gets the value it would have without (`publication/take_back.py`). Lifted, a mark
no longer acts, and one more publication restores what was taken back.
"""

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

Step: TypeAlias = Literal["exclude", "restore"]
"""What a publication does about a mark: take back what it covers, or bring it online again."""


class Mark(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One mark. Each of its times is set once; set again, the earliest stands.

    Args:
        view, version: whose rows it covers: those created up to `marked_at_us`, so nothing that is computed after it.
        marked_at_us: from when it is in force.
        id: names it.
        attempt: whose rows it covers; None: those of all.
        since_us, until_us: it covers rows with `since_us <= event_time < until_us`; None: no such bound.
        reason: why, for people.
        holds_code: fingerprint of the code whose attempts are not published while it is in force; None: it holds none back.
        lifted_at_us: until when it is in force; None: it is.
        excluded_at_us, restored_at_us: from when the values online were without what it covers, and until when.
    """

    view: str
    version: int
    marked_at_us: int
    id: str
    attempt: int | None
    since_us: int | None
    until_us: int | None
    reason: str
    holds_code: str | None = None
    lifted_at_us: int | None = None
    excluded_at_us: int | None = None
    restored_at_us: int | None = None

    def covers(self, event_time_us: int, attempt: int) -> bool:
        """Whether it is about a value online; an attempt is its created time (ADR 0007)."""
        return (
            attempt <= self.marked_at_us
            and self.attempt in (None, attempt)
            and (self.since_us is None or event_time_us >= self.since_us)
            and (self.until_us is None or event_time_us < self.until_us)
        )

    def holds(self, code: str) -> bool:
        """Whether what this code computed is not to be published for now."""
        return self.lifted_at_us is None and code == self.holds_code

    @property
    def due(self) -> Step | None:
        """What a publication has to do about it."""
        if self.excluded_at_us is None:
            return "exclude" if self.lifted_at_us is None else None
        return "restore" if self.lifted_at_us is not None and self.restored_at_us is None else None

    @property
    def is_excluded(self) -> bool:
        """Whether the values online are without what it covers."""
        return self.excluded_at_us is not None and self.restored_at_us is None


MARK_TIMES = ("lifted_at_us", "excluded_at_us", "restored_at_us")
"""The times that are set later."""


def joined(one: Mark, other: Mark | None) -> Mark:
    """All that two sayings of one mark know; of each time the earliest."""
    if other is None:
        return one
    times = {name: [t for mark in (one, other) if (t := getattr(mark, name)) is not None] for name in MARK_TIMES}
    return msgspec.structs.replace(one, **{name: min(known, default=None) for name, known in times.items()})


def of_view(marks: Iterable[Mark], view: str, version: int) -> list[Mark]:
    """The marks of a view version, in the order in which they were made."""
    return sorted(mark for mark in marks if (mark.view, mark.version) == (view, version))
