"""What the lake says of what was served: the rule of time by what the ledger says was readable, and a name for what differs."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import TableNotFoundError

from penstock.as_of import Attempt, History, Readable, Row, as_of
from penstock.clock import from_micros, to_micros
from penstock.errors import PenstockError, ReplayError
from penstock.offline.arrow import arrow_type
from penstock.offline.lake import Lake, rows_where
from penstock.offline.logs import attempts, copied_marks, passed, publications
from penstock.online.codec import possible_checksums
from penstock.point_in_time.history import mark_of
from penstock.registry.marks import of_view
from penstock.registry.snapshot import ViewEntry
from penstock.serving.judgement import Outcome

_ALWAYS = datetime.min.replace(tzinfo=UTC)
_COMMITTED = datetime.max.replace(tzinfo=UTC)
"""When everything committed counts as readable, recorded or not."""

_SEEN_WITHIN = timedelta(seconds=2)
"""How long after an invalidation mark was made a gateway may not have read it."""

_AT_ONCE = 8  # event times looked at, newest first, before more are


class Finding(StrEnum):
    """What the lake says of one view of one row that was served."""

    EQUAL = "equal"
    """The same bytes, or nothing on both sides."""
    EARLY = "early"
    """The value, or the delete, of a publication that was not yet recorded: right, and ahead of the ledger."""
    CACHED = "cached"
    """What was readable no longer ago than the view lets a gateway's cache add to its age."""
    STALE = "stale"
    """The key had a newer value, readable before: a replica lagged behind, or the store did not answer a gateway that knew this one."""
    MISSING = "missing"
    """Nothing was found for the key, and the lake has a value that was readable before."""
    EXTRA = "extra"
    """A value was found, and of the lake's rows readable then none counts, or the key has no row at all."""
    VALUE = "value"
    """The key has rows, and none with these bytes: the stored value, or the lake's row, is not what it was."""
    TYPE = "type"
    """What is stored is of other features, or of another type, than the view's."""
    FAILED = "failed"
    """The store did not answer, or held what could not be read: nothing of it was served."""


SAME = (Finding.EQUAL, Finding.EARLY, Finding.CACHED)


@dataclass(frozen=True)
class Records:
    """What the lake's logs say of one fill of a view version.

    Args:
        entry: the view version.
        history: its attempts, ledger and marks; what was served is told by the ledger from its first row on.
        published: when what is online changed, in rising order.
    """

    entry: ViewEntry
    history: History
    published: Sequence[datetime]
    _attempts: dict[tuple[date, int], Attempt] = field(init=False, compare=False, repr=False)
    _readable: dict[date, tuple[list[int], list[datetime]]] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_attempts", {(one.partition, one.attempt): one for one in self.history.attempts})
        object.__setattr__(self, "_readable", _earliest_of_later(self.history.ledger))

    @classmethod
    def of(cls, lake: Lake, entry: ViewEntry, generation: int) -> Self:
        """As the logs are now."""
        ledger = [row for row in publications(lake, entry.name, entry.version) if row.generation == generation]
        table = f"features/{entry.name}/v{entry.version}"
        history = History(
            attempts=tuple(Attempt(e.partition, e.attempt, e.complete_until) for e in attempts(lake, table) if passed(e)),
            ledger=tuple(Readable(row.partition, row.attempt, from_micros(row.readable_at_us)) for row in ledger),
            live_since=_ALWAYS,
            marks=tuple(mark_of(mark) for mark in of_view(copied_marks(lake), entry.name, entry.version)),
        )
        obeyed = {at for mark in history.marks for at in (mark.excluded_at, mark.restored_at) if at is not None}
        return cls(entry, history, sorted(obeyed.union(row.readable_at for row in history.ledger)))

    def readable_at(self, row: Row) -> datetime | None:
        """When a row became readable; None: it has not. As `penstock.as_of.readable_at` says it, for many rows."""
        published, earliest = self._readable.get(row.partition, ([], []))
        place = bisect_left(published, row.attempt)
        return earliest[place] if place < len(earliest) else None

    def committed(self, rows: Iterable[Row]) -> History:
        """The attempts of some rows, of those that were committed."""
        found = {(row.partition, row.attempt) for row in rows}
        return History(tuple(self._attempts[one] for one in found if one in self._attempts))

    def moments(self) -> list[datetime]:
        """When what is to be thought of a value that is served on and on may change: at a publication, once a cache may no longer hold
        what was before it, and once every gateway has read a mark."""
        caches = timedelta(microseconds=self.entry.freshness.read_us)
        read = [mark.marked_at + _SEEN_WITHIN for mark in self.history.marks]
        return sorted({*self.published, *(at + caches for at in self.published), *read})


def _earliest_of_later(ledger: Iterable[Readable]) -> dict[date, tuple[list[int], list[datetime]]]:
    """Partition → its attempts in the ledger, in order, and of each when it or a later one became readable first."""
    of_partition: dict[date, list[Readable]] = {}
    for row in ledger:
        of_partition.setdefault(row.partition, []).append(row)
    found = {}
    for partition, rows in of_partition.items():
        rows.sort(key=lambda row: row.attempt, reverse=True)
        earliest = list(accumulate((row.readable_at for row in rows), min))
        found[partition] = [row.attempt for row in reversed(rows)], earliest[::-1]
    return found


def rows_of(
    lake: Lake, entry: ViewEntry, join_keys: Sequence[tuple[str, str]], keys: set[tuple[Any, ...]], since: datetime | None = None
) -> dict[Any, list[Row]]:
    """All rows of some keys, newest event time first; with `since`, those with event times from it on."""
    if not keys:
        return {}
    names, wanted = [name for name, _ in join_keys], pc.scalar(True)
    for place, (name, dtype) in enumerate(join_keys):
        wanted &= pc.field(name).isin(pa.array(sorted({key[place] for key in keys}), arrow_type(dtype)))
    if since is not None:  # by the day too, which leaves files unopened
        wanted &= (pc.field("event_date") >= since.astimezone(UTC).date()) & (pc.field("event_time") >= pa.scalar(since))
    columns = [*names, "event_time", "available_time", "created_time", "attempt", "event_date", "row_digest", "retracted"]
    features = [feature.name for feature in entry.features]
    try:
        held = rows_where(lake.dataset(f"features/{entry.name}/v{entry.version}"), wanted, [*columns, *features])
    except (TableNotFoundError, KeyError, pa.ArrowInvalid) as error:
        raise ReplayError(f"{entry.ref}: its rows are not in the lake as its snapshot has them: {error}") from None
    found: dict[Any, list[Row]] = {}
    for row in held.sort_by([("event_time", "descending")]).to_pylist():
        key = tuple(row[name] for name in names)
        if key in keys:
            found.setdefault(key, []).append(
                Row(
                    event_time=row["event_time"],
                    available_time=row["available_time"],
                    created_time=row["created_time"],
                    attempt=row["attempt"],
                    partition=row["event_date"],
                    digest=row["row_digest"].hex(),
                    retracted=row["retracted"],
                    values=tuple(row[name] for name in features),
                )
            )
    return found


class Judge:
    """The rule of time at one moment for one fill of a view version, with the ttl it was served by then: no new version is needed to
    give it another."""

    def __init__(self, records: Records, now: datetime, ttl_us: int | None) -> None:
        self._records, self._now = records, now
        entry, published = records.entry, records.published
        self._ttl = None if ttl_us is None else timedelta(microseconds=ttl_us)
        oldest = now - timedelta(microseconds=entry.freshness.read_us)
        recent = published[bisect_right(published, oldest) : bisect_right(published, now)]
        self._earlier = [oldest, *recent] if entry.freshness.read_us else []

    def expected(self, rows: Sequence[Row], at: datetime | None = None) -> Row | None:
        """The row the store should have held, `ttl` aside, of a key's rows in falling order of event time."""
        known = [row for row in rows if row.event_time <= self._now and self._is_readable(row, at or self._now)]
        taken = 0
        while taken < len(known):
            last = known[min(2 * taken + _AT_ONCE, len(known)) - 1].event_time
            taken = sum(row.event_time >= last for row in known)
            some = known[:taken]
            found = as_of(some, self._now, ttl=None, mode="event", history=self._records.committed(some))
            if found is not None:
                return found
        return None

    def within_ttl(self, row: Row) -> bool:
        return self._ttl is None or self._now - row.event_time <= self._ttl

    def finding(self, rows: Sequence[Row], outcome: Outcome, held: tuple[int, int, int] | None, expected: Row | None) -> Finding:
        """What the lake says of what was served."""
        invalid_since = self._invalid_since(expected)
        if outcome is Outcome.INVALIDATED:
            return Finding.FAILED if invalid_since is None else Finding.EQUAL
        if held is not None and invalid_since is not None and self._now - invalid_since > _SEEN_WITHIN:
            return Finding.EXTRA
        if held is None:
            if outcome is Outcome.ABSENT:
                if expected is None:
                    return Finding.EQUAL
                if any(self.expected(rows, at) is None for at in self._earlier):
                    return Finding.CACHED
                return Finding.EARLY if any(self.expected(rows, at) is None for at in self._later(rows)) else Finding.MISSING
            return Finding.FAILED
        if expected is not None and held[2] in self._checksums(expected):
            within = self.within_ttl(expected)
            return Finding.EQUAL if within == (outcome is not Outcome.EXPIRED) else Finding.VALUE
        if not any(held[2] in self._checksums(row) for row in rows if (to_micros(row.event_time), row.attempt) == held[:2]):
            return Finding.VALUE if rows else Finding.EXTRA
        for times, finding in ((self._earlier, Finding.CACHED), (self._later(rows), Finding.EARLY)):
            for at in times:
                other = self.expected(rows, at)
                if other is not None and held[2] in self._checksums(other):
                    return finding
        return Finding.STALE if expected is not None else Finding.EXTRA

    def _later(self, rows: Iterable[Row]) -> list[datetime]:
        """When what is online of a key changed after now. What a publication writes is readable before its ledger row is, and the last
        one may not have written its row yet."""
        times = [self._records.readable_at(row) for row in rows]
        times += [at for mark in self._records.history.marks for at in (mark.excluded_at, mark.restored_at)]
        return [*sorted({at for at in times if at is not None and at > self._now}), _COMMITTED]

    def _is_readable(self, row: Row, at: datetime) -> bool:
        if any(mark.excludes(at) and mark.covers(row) for mark in self._records.history.marks):
            return False
        readable = self._records.readable_at(row)
        return at == _COMMITTED or (readable is not None and readable <= at)

    def _invalid_since(self, row: Row | None) -> datetime | None:
        """When the first mark was made of those that are in force and cover a row; None: there is none."""
        marks = () if row is None else (mark for mark in self._records.history.marks if mark.in_force(self._now) and mark.covers(row))
        return min((mark.marked_at for mark in marks), default=None)

    def _checksums(self, row: Row) -> set[int]:
        try:
            return possible_checksums(self._records.entry.schema_id, to_micros(row.event_time), row.attempt, row.values)
        except PenstockError:
            return set()
