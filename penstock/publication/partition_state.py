"""How far each partition of a view has come: computed, checked, published; and whether it is of older code or older data."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Literal, TypeAlias

import msgspec

from penstock.clock import from_micros
from penstock.contract.fingerprint import transformation_fingerprint
from penstock.contract.view import FeatureView
from penstock.offline.logs import AttemptEntry, newest, passed
from penstock.offline.watermark import days_between
from penstock.online.ledger import Publication, latest
from penstock.publication.repair import RepairPlan

Word: TypeAlias = Literal["missing", "refused", "due", "stale by data", "stale by code", "published"]
"""What there is to say of a partition in one word: what keeps it from being right comes first."""


class PartitionState(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of a view version.

    Args:
        view, version, partition: which.
        computed: whether an attempt at it was committed.
        complete_until: up to which event time that had all its inputs.
        check: what the checks said of the newest attempt; None: there was none.
        reasons: why it was refused.
        warnings: what of it was not as the contract has it, and refused nothing.
        published: whether an attempt is online.
        readable_at: since when the newest that is.
        due: whether a newer one is committed than the one online.
        stale_by_code: whether it was computed by another definition than the view's is now.
        stale_by_data: source → rows changed since that may reach it, -1: it cannot be told how many; empty: none.
    """

    view: str
    version: int
    partition: date
    computed: bool
    complete_until: datetime | None
    check: Literal["passed", "refused"] | None
    reasons: list[str]
    published: bool
    readable_at: datetime | None
    due: bool
    stale_by_code: bool
    stale_by_data: dict[str, int]
    warnings: list[str] = []

    @property
    def word(self) -> Word:
        """What there is to say of it first."""
        if self.check is None:
            return "missing"
        if self.check == "refused":
            return "refused"
        if self.stale_by_data:
            return "stale by data"
        if self.stale_by_code:
            return "stale by code"
        return "due" if self.due else "published"


def partition_states(
    view: FeatureView,
    entries: Iterable[AttemptEntry],
    published: Iterable[Publication],
    repairs: RepairPlan,
    now: datetime,
    since: date = date.min,
) -> list[PartitionState]:
    """The state of every day of a view, from the first that was ever attempted, but not before `since`, to today.

    Args:
        view: the view.
        entries: its attempts.
        published: its ledger rows of one generation.
        repairs: what the source commits since reach.
        now: the Clock's now.
        since: the project's first day.
    """
    entries = list(entries)
    tried, committed, online = newest(entries), newest(entries, passed), latest(published)
    if not tried:
        return []
    code = transformation_fingerprint(view)
    changed: Mapping[date, dict[str, int]] = {
        one.partition: one.because for one in repairs.stale if (one.view, one.version) == (view.name, view.version)
    }
    found = []
    for day in days_between(max(min(tried), since), max(now.astimezone(UTC).date(), *tried)):
        attempt, last, row = committed.get(day), tried.get(day), online.get(day)
        found.append(
            PartitionState(
                view=view.name,
                version=view.version,
                partition=day,
                computed=attempt is not None,
                complete_until=None if attempt is None else attempt.complete_until,
                check=None if last is None else "passed" if passed(last) else "refused",
                reasons=[] if last is None else list(last.reasons),
                published=row is not None,
                readable_at=None if row is None else from_micros(row.readable_at_us),
                due=attempt is not None and (row is None or attempt.attempt > row.attempt),
                stale_by_code=attempt is not None and attempt.code != code,
                stale_by_data=changed.get(day, {}),
                warnings=[] if last is None else list(last.warnings),
            )
        )
    return found
