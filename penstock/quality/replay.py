"""Replay: what an answer's token names, computed again from the lake, and whether it is what was served.

The checksum of every stored value stands in the token. Here the rule of time gives the row that should have been online
at that time; encoded as a publication encodes it, its checksum must be the one served.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import TableNotFoundError

from penstock.as_of import Attempt, History, Readable, Row, as_of, readable_at
from penstock.clock import from_micros, to_micros
from penstock.errors import InvalidEntity, PenstockError, RegistryError, ReplayError
from penstock.offline.arrow import arrow_type
from penstock.offline.lake import Lake
from penstock.offline.logs import attempts, copied_marks, passed, publications
from penstock.offline.registry_log import find_snapshot, snapshots
from penstock.online.codec import decode_key, possible_checksums
from penstock.point_in_time.history import mark_of
from penstock.registry.marks import of_view
from penstock.registry.snapshot import Snapshot, ViewEntry
from penstock.serving.judgement import Outcome
from penstock.serving.replay_token import Token, TokenView, held_rows, read_token

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
    """A value was found, and of the lake's rows readable then none counts."""
    VALUE = "value"
    """No row of the key has these bytes: the stored value, or the lake's row, is not what it was."""
    FAILED = "failed"
    """The store did not answer, or held what could not be read: nothing of it was served."""


SAME = (Finding.EQUAL, Finding.EARLY, Finding.CACHED)


@dataclass(frozen=True)
class Replayed:
    """One view of one row.

    Args:
        row: its place in the answer.
        name, view: the view's name in the service, and which version it is.
        key: join key → value; None: nobody's.
        outcome: what came of reading it.
        finding: what the lake says of it.
        served: event time and attempt of what was served; None: nothing was found.
        expected: event time and attempt of what the rule gives; None: nothing.
        values: what the rule gives, feature → value; None where there is none, or it is past its ttl.
    """

    row: int
    name: str
    view: str
    key: Mapping[str, Any] | None
    outcome: Outcome
    finding: Finding
    served: tuple[datetime, int] | None
    expected: tuple[datetime, int] | None
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Replay:
    """What the lake says of an answer.

    Args:
        service, snapshot: of the answer.
        now: the time its values were judged at.
        parts: per row and view.
        on_demand: the service's on-demand views, of which nothing is computed again: a token names what was read, and not what
            the caller gave. What they took from the views is in `parts`, and what was given in the feature log.
    """

    service: str
    snapshot: str
    now: datetime
    parts: tuple[Replayed, ...]
    on_demand: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether what was served is what the lake gives."""
        return all(part.finding in SAME for part in self.parts)

    def rows(self) -> list[dict[str, Any]]:
        """Per row of the answer, the values the lake gives: `<view>__<feature>` → value."""
        rows: dict[int, dict[str, Any]] = {}
        for part in self.parts:
            rows.setdefault(part.row, {}).update({f"{part.name}__{feature}": value for feature, value in part.values.items()})
        return [rows[n] for n in sorted(rows)]


def replay(lake: Lake, text: str) -> Replay:
    """The values an answer's token names, computed again.

    Args:
        lake: where its rows and the definitions of then are.
        text: the token.

    Raises:
        ReplayError: no token, or of definitions or a view that the lake does not know.
    """
    token = read_token(text)
    try:
        snapshot = find_snapshot(snapshots(lake), token.snapshot)
    except RegistryError as error:
        raise ReplayError(
            f"the token was made under snapshot '{token.snapshot}': {error.message}", hint="replay it in the project it was served by"
        ) from None
    parts = [part for view in token.views for part in _replay_view(lake, snapshot, token, view)]
    on_demand = (f"{name}@{version}" for one in snapshot.services if one.name == token.service for name, version in one.on_demand)
    in_order = sorted(parts, key=lambda part: part.row)
    return Replay(token.service, token.snapshot, from_micros(token.now_us), tuple(in_order), tuple(on_demand))


def _replay_view(lake: Lake, snapshot: Snapshot, token: Token, view: TokenView) -> list[Replayed]:
    try:
        entry = snapshot.view(view.view, view.version)
        join_keys = snapshot.entity(token.reads[view.read].entity).join_keys
        keys = [None if key is None else decode_key(join_keys, key) for key in token.reads[view.read].keys.rows()]
    except (StopIteration, InvalidEntity):
        raise ReplayError(
            f"the token names {view.view}@{view.version} of entity '{token.reads[view.read].entity}', its snapshot has no such view"
        ) from None
    asked = {key for key in keys if key is not None}
    rows = _rows(lake, entry, join_keys, asked)
    judge = _Judge(lake, entry, view.generation, from_micros(token.now_us))
    found = []
    for n, (key, letter, held) in enumerate(zip(keys, view.outcomes, held_rows(view), strict=True)):
        outcome = Outcome(letter)
        expected = judge.expected(rows.get(key, ())) if key is not None else None
        usable = expected if expected is not None and judge.within_ttl(expected) else None
        found.append(
            Replayed(
                row=n,
                name=view.name,
                view=entry.ref,
                key=None if key is None else {name: value for (name, _), value in zip(join_keys, key, strict=True)},
                outcome=outcome,
                finding=judge.finding(rows.get(key, ()) if key is not None else (), outcome, held, expected),
                served=None if held is None else (from_micros(held[0]), held[1]),
                expected=None if expected is None else (expected.event_time, expected.attempt),
                values={
                    feature.name: None if usable is None else value
                    for feature, value in zip(entry.features, usable.values if usable else [None] * len(entry.features), strict=True)
                },
            )
        )
    return found


def _rows(lake: Lake, entry: ViewEntry, join_keys: Sequence[tuple[str, str]], keys: set[tuple[Any, ...]]) -> dict[Any, list[Row]]:
    """All rows of some keys, newest event time first."""
    names = [name for name, _ in join_keys]
    wanted = None
    for place, (name, dtype) in enumerate(join_keys):
        one = pc.field(name).isin(pa.array(sorted({key[place] for key in keys}), arrow_type(dtype)))
        wanted = one if wanted is None else wanted & one
    columns = [*names, "event_time", "available_time", "created_time", "attempt", "event_date", "row_digest", "retracted"]
    features = [feature.name for feature in entry.features]
    try:
        held = lake.dataset(f"features/{entry.name}/v{entry.version}").to_table(columns=[*columns, *features], filter=wanted)
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


class _Judge:
    """The rule of time for one fill of one view version, by what its ledger says was readable."""

    def __init__(self, lake: Lake, entry: ViewEntry, generation: int, now: datetime) -> None:
        self._entry, self._now = entry, now
        self._ttl = None if entry.ttl_us is None else timedelta(microseconds=entry.ttl_us)
        ledger = [row for row in publications(lake, entry.name, entry.version) if row.generation == generation]
        table = f"features/{entry.name}/v{entry.version}"
        self._history = History(
            attempts=tuple(Attempt(e.partition, e.attempt, e.complete_until) for e in attempts(lake, table) if passed(e)),
            ledger=tuple(Readable(row.partition, row.attempt, from_micros(row.readable_at_us)) for row in ledger),
            marks=tuple(mark_of(mark) for mark in of_view(copied_marks(lake), entry.name, entry.version)),
        )
        # What a publication writes is readable before its ledger row is; the last one may not have written it yet.
        obeyed = {at for mark in self._history.marks for at in (mark.excluded_at, mark.restored_at) if at is not None}
        published = obeyed.union(row.readable_at for row in self._history.ledger)
        self._later = [*sorted(at for at in published if at > now), _COMMITTED]
        oldest = now - timedelta(microseconds=entry.freshness.read_us)
        between = sorted(at for at in published if oldest < at <= now)
        self._earlier = [oldest, *between] if entry.freshness.read_us else []
        self._readable: dict[tuple[Any, int], datetime | None] = {}

    def expected(self, rows: Sequence[Row], at: datetime | None = None) -> Row | None:
        """The row the store should have held, `ttl` aside, of a key's rows in falling order of event time."""
        known = [row for row in rows if row.event_time <= self._now and self._is_readable(row, at or self._now)]
        taken = 0
        while taken < len(known):
            last = known[min(2 * taken + _AT_ONCE, len(known)) - 1].event_time
            taken = sum(row.event_time >= last for row in known)
            some = known[:taken]
            attempts_of = {(row.partition, row.attempt) for row in some}
            history = History(tuple(a for a in self._history.attempts if (a.partition, a.attempt) in attempts_of))
            found = as_of(some, self._now, ttl=None, mode="event", history=history)
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
                return Finding.EARLY if any(self.expected(rows, at) is None for at in self._later) else Finding.MISSING
            return Finding.FAILED
        if expected is not None and held[2] in self._checksums(expected):
            within = self.within_ttl(expected)
            return Finding.EQUAL if within == (outcome is not Outcome.EXPIRED) else Finding.VALUE
        if not any(held[2] in self._checksums(row) for row in rows if (to_micros(row.event_time), row.attempt) == held[:2]):
            return Finding.VALUE
        for times, finding in ((self._earlier, Finding.CACHED), (self._later, Finding.EARLY)):
            for at in times:
                other = self.expected(rows, at)
                if other is not None and held[2] in self._checksums(other):
                    return finding
        return Finding.STALE if expected is not None else Finding.EXTRA

    def _is_readable(self, row: Row, at: datetime) -> bool:
        address = (row.partition, row.attempt)
        if address not in self._readable:
            self._readable[address] = readable_at(row, self._history)
        readable = self._readable[address]
        if any(mark.excludes(at) and mark.covers(row) for mark in self._history.marks):
            return False
        return at == _COMMITTED or (readable is not None and readable <= at)

    def _invalid_since(self, row: Row | None) -> datetime | None:
        """When the first mark was made of those that are in force and cover a row; None: there is none."""
        marks = () if row is None else (mark for mark in self._history.marks if mark.in_force(self._now) and mark.covers(row))
        return min((mark.marked_at for mark in marks), default=None)

    def _checksums(self, row: Row) -> set[int]:
        try:
            return possible_checksums(self._entry.schema_id, to_micros(row.event_time), row.attempt, row.values)
        except PenstockError:
            return set()
