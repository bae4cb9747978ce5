"""The features of one tile of a spine: its rows are here, the feature rows are read from files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.as_of import Mode
from penstock.offline.feature_files import Asked, FeatureFile, FeatureReader, Part
from penstock.offline.join_keys import NONE, Ints, KeyIndex
from penstock.offline.memory import give_back
from penstock.point_in_time.kernel import Rows, may_still_be_used, rows_as_of
from penstock.point_in_time.known import NEVER, Committed, Covered, Ruling, known_from

_UTC = pa.timestamp("us", tz="UTC")
_EARLIEST = np.iinfo(np.int64).min

ROW_BYTES = 80  # what a task holds of each feature row of its keys, while it ranks them


@dataclass(frozen=True)
class Attached:
    """What one join adds.

    Args:
        mode: what counts as known.
        features: the wanted ones, in order.
        columns: what they become: names and types; with times two more, of the row that was used: its event time, and
            from when it was known.
        with_times: whether those are wanted.
    """

    mode: Mode
    features: tuple[str, ...]
    columns: pa.Schema
    with_times: bool


@dataclass(frozen=True)
class ViewFiles:
    """A view's table as a task needs it, and all that is attached of it: plain values only, for they cross to workers.

    Args:
        location, files: what to read.
        keys: join key → the spine's column that holds it.
        ttl: microseconds, or None.
        committed: what is recorded of it.
        attached: what is added; the files are read once for all.
        task_bytes: how much memory ranking its rows may take.
    """

    location: str
    files: tuple[FeatureFile, ...]
    keys: dict[str, str]
    ttl: int | None
    committed: Committed
    attached: tuple[Attached, ...]
    task_bytes: int

    @property
    def first_key(self) -> str | None:
        """The join key its files are sorted by; None: it has none."""
        return next(iter(self.keys), None)

    @property
    def columns(self) -> list[pa.Field]:
        """All that is added."""
        return [field for one in self.attached for field in one.columns]


def attach(views: Sequence[ViewFiles], spine: pa.Table, order: Sequence[str]) -> pa.Table:
    """The rows of a tile, in their order, with the features of some views: these columns, in this order."""
    for view in views:
        for field, values in zip(view.columns, features_of(view, spine), strict=True):
            spine = spine.append_column(field, values.cast(field.type) if values.type != field.type else values)
        give_back()  # what the files took, before the next view's
    return spine.select(list(order))


def features_of(view: ViewFiles, spine: pa.Table) -> list[pa.ChunkedArray]:
    """A column for each that is added, n values each, for the n rows of a tile.

    Where the rows of the tile's keys would take more memory than a task may, keys take turns.
    """
    reader = FeatureReader(view.location, view.files)
    try:
        return _features_at_once(view, reader, spine)
    except _TooManyRowsError as error:
        order = pc.sort_indices(spine, sort_keys=[(column, "ascending") for column in (*view.keys.values(), "event_time")]).to_numpy()
        turns = [features_of(view, spine.take(rows)) for rows in np.array_split(order, min(error.turns, len(order)))]
        back = pa.array(np.argsort(order))
        return [pa.chunked_array([chunk for part in column for chunk in part.chunks]).take(back) for column in zip(*turns, strict=True)]


class _TooManyRowsError(Exception):
    """The rows of a tile's keys do not fit; with so many turns they probably would."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        super().__init__(turns)


def _features_at_once(view: ViewFiles, reader: FeatureReader, spine: pa.Table) -> list[pa.ChunkedArray]:
    used = _used_rows(view, reader, spine)  # what it held to find them is let go of before the features are read
    return [column for one, rows in zip(view.attached, used, strict=True) for column in _taken(one, reader, rows)]


def _used_rows(view: ViewFiles, reader: FeatureReader, spine: pa.Table) -> "list[_Used]":
    """For each of what is attached, the feature rows that the rows of a tile use."""
    index = KeyIndex([spine[column] for column in view.keys.values()], spine.num_rows)
    at = _micros(spine["event_time"])
    asked = np.flatnonzero((index.ordinals != NONE) & np.asarray(pc.is_valid(spine["event_time"])))
    used = [_Used.none(spine.num_rows) for _ in view.attached]
    if not len(asked):
        return used
    questions = [_by_ruling(view.committed.rulings[one.mode], at, asked) for one in view.attached]
    histories = list(dict.fromkeys(_History(ruling.mode, ruling.without) for of_one in questions for ruling, _ in of_one))
    times, keys = at[asked], index.ordinals[asked]
    divisible = bool((times != times[0]).any() or (keys != keys[0]).any())
    held = _held(view, reader, index, _bounds(view, index, times), histories, int(times.min()), divisible=divisible)
    give_back()  # the parts it was put together from
    for of_one, rows in zip(questions, used, strict=True):
        for ruling, mine in of_one:
            _answer(view, reader, held, ruling, index.ordinals[mine], at[mine], rows, mine)
    return used


class _History(NamedTuple):
    """What a row's being known depends on: several rulings may share it."""

    mode: Mode
    without: tuple[Covered, ...]


@dataclass(frozen=True)
class _Used:
    """For each row of a tile: where the feature row it uses stands, its event time, and from when it was known."""

    place: Ints
    event: Ints
    known: Ints

    @classmethod
    def none(cls, n: int) -> "_Used":
        return cls(np.full(n, NONE, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64))


def _by_ruling(rulings: Sequence[Ruling], at: Ints, asked: Ints) -> list[tuple[Ruling, Ints]]:
    """The questions, each with the ruling of its time."""
    nth = np.searchsorted([ruling.begin for ruling in rulings], at[asked], "right") - 1
    return [(rulings[n], asked[nth == n]) for n in np.unique(nth).tolist()]


def _bounds(view: ViewFiles, index: KeyIndex, at: Ints) -> Asked:
    first = _EARLIEST if view.ttl is None else int(at.min()) - view.ttl
    low, high = index.bounds
    return Asked(first, int(at.max()), low, high)


@dataclass(frozen=True)
class _Held:
    """The rows of the keys a tile asks for; `place` says where each stands among all that were read."""

    place: Ints
    key: Ints
    event: Ints
    created: Ints
    retracted: npt.NDArray[np.bool_]
    known: dict[_History, Ints]


def _held(
    view: ViewFiles, reader: FeatureReader, index: KeyIndex, asked: Asked, histories: Sequence[_History], since: int, *, divisible: bool
) -> _Held:
    """The rows of the asked keys that can be answers at `since` or later."""
    needs_available = any(mode in ("assumed", "restated") for mode, _ in histories)
    columns = [*view.keys, "event_time", "attempt", "retracted", *(["available_time"] if needs_available else [])]
    held: list[_Part] = []
    parts = reader.select(asked, view.first_key)
    for number, (part, rows, key) in enumerate(_with_keys(view, reader, index, parts, columns)):
        event = _micros(rows["event_time"])
        kept = np.flatnonzero((key != NONE) & (event >= asked.first) & (event <= asked.last))
        event = event[kept]
        available = _micros(rows["available_time"])[kept] if needs_available else event
        attempts = rows["attempt"].combine_chunks().dictionary_encode()
        there, nth = attempts.dictionary.to_pylist(), np.asarray(attempts.indices.to_numpy())[kept]
        created = np.array(there, np.int64)[nth]  # an attempt is its created time (ADR 0007)
        known = {}
        for mode, without in histories:
            times = known_from(view.committed, mode, part.file.day, event, available, there, nth)
            for covered in without:
                times = np.where(covered.rows(event, created), NEVER, times)
            known[_History(mode, without)] = times
        retracted = np.asarray(rows["retracted"].to_numpy())[kept]
        fixed = {"place": kept + part.begin, "key": key[kept], "event": event, "created": created, "retracted": retracted}
        held.append(_Part(fixed, known))
        is_last_of_day = number + 1 == len(parts) or parts[number + 1].file.day != part.file.day
        if is_last_of_day and _bytes(held) > view.task_bytes:
            # All rows of an event time are in its day's files: what is hidden now stays hidden.
            held = [_without_hidden(reader, _together(held, histories), since)]
            if divisible and _bytes(held) > view.task_bytes:
                seen, total = part.begin + part.rows, parts[-1].begin + parts[-1].rows
                raise _TooManyRowsError(1 + -(-total * _bytes(held) // (seen * view.task_bytes)))
    return _together(held, histories)


def _with_keys(
    view: ViewFiles, reader: FeatureReader, index: KeyIndex, parts: Sequence[Part], columns: Sequence[str]
) -> Iterator[tuple[Part, pa.Table, Ints]]:
    """Each part with its rows and their keys; looked up for several parts at once, since each look-up builds a table of all keys."""
    waiting: list[tuple[Part, pa.Table]] = []
    for number, part in enumerate(parts):
        waiting.append((part, reader.read(part, columns)))
        size = sum(one.rows for one, _ in waiting)
        if size < 4 * index.size and number + 1 < len(parts):
            continue
        together = pa.concat_tables([rows for _, rows in waiting], promote_options="permissive")
        keys, begin = index.find([together[name] for name in view.keys], size), 0
        for one, rows in waiting:
            yield one, rows, keys[begin : begin + one.rows]
            begin += one.rows
        waiting = []


@dataclass(frozen=True)
class _Part:
    """Some held rows: other fields of `_Held` by name, and for each history from when they were known."""

    fixed: dict[str, npt.NDArray[Any]]
    known: dict[_History, Ints]


def _bytes(held: Sequence[_Part]) -> int:
    return ROW_BYTES * sum(len(one.fixed["place"]) for one in held)


def _together(parts: list[_Part], histories: Sequence[_History]) -> _Held:
    """All parts as one; they are taken apart, column by column, so that what is held twice is one column."""

    def whole(name: str, dtype: type = np.int64) -> npt.NDArray[Any]:
        return np.concatenate([np.empty(0, dtype), *(part.fixed.pop(name) for part in parts)])

    retracted = whole("retracted", np.bool_)
    known = {history: np.concatenate([np.empty(0, np.int64), *(part.known.pop(history) for part in parts)]) for history in histories}
    return _Held(whole("place"), whole("key"), whole("event"), whole("created"), retracted, known)


def _without_hidden(reader: FeatureReader, held: _Held, since: int) -> _Part:
    wanted = np.zeros(len(held.place), np.bool_)
    for history in held.known:
        kept, rows = _known(reader, held, history)
        wanted[kept] |= may_still_be_used(rows, since)
    columns = {"place": held.place, "key": held.key, "event": held.event, "created": held.created, "retracted": held.retracted}
    return _Part(
        {name: values[wanted] for name, values in columns.items()}, {history: times[wanted] for history, times in held.known.items()}
    )


def _known(reader: FeatureReader, held: _Held, history: _History) -> tuple[Ints, Rows]:
    """Which of the held rows are ever known under a history, and these as the kernel takes them."""
    known = held.known[history]
    is_known = known != NEVER
    kept = np.arange(len(known)) if is_known.all() else np.flatnonzero(is_known)

    def by_digest(tied: Ints) -> Ints:
        places, position = np.unique(held.place[kept[tied]], return_inverse=True)
        digests = reader.take(places, ["row_digest"])["row_digest"]
        return np.asarray(pc.rank(digests, tiebreaker="dense").to_numpy(), np.int64)[position]

    if len(kept) == len(known):
        return kept, Rows(held.key, held.event, held.created, known, held.retracted, by_digest)
    return kept, Rows(held.key[kept], held.event[kept], held.created[kept], known[kept], held.retracted[kept], by_digest)


def _answer(view: ViewFiles, reader: FeatureReader, held: _Held, ruling: Ruling, key: Ints, at: Ints, used: _Used, mine: Ints) -> None:
    """Put down which row each of the questions uses."""
    history = _History(ruling.mode, ruling.without)
    kept, rows = _known(reader, held, history)
    if not len(kept):
        return
    found = rows_as_of(rows, key, at, view.ttl)
    for covered in ruling.blind:
        found[(found != NONE) & covered.rows(rows.event[found], rows.created[found])] = NONE
    there = found != NONE
    row = kept[found[there]]
    used.place[mine[there]] = held.place[row]
    used.event[mine[there]] = held.event[row]
    used.known[mine[there]] = held.known[history][row]


def _taken(one: Attached, reader: FeatureReader, used: _Used) -> list[pa.ChunkedArray]:
    found = used.place != NONE
    if not found.any():
        return [pa.chunked_array([pa.nulls(len(found), field.type)]) for field in one.columns]
    is_wanted = np.zeros(int(used.place.max()) + 1, np.bool_)
    is_wanted[used.place[found]] = True
    rows = reader.take(np.flatnonzero(is_wanted), list(one.features))
    position = pa.array((np.cumsum(is_wanted) - 1)[used.place], mask=~found)
    wanted = {feature: rows[feature] for feature in one.features}
    del rows
    columns = [wanted.pop(feature).take(position) for feature in one.features]  # what is taken from goes, column by column
    if one.with_times:
        columns += [pa.chunked_array([pa.array(times, pa.int64(), mask=~found).cast(_UTC)]) for times in (used.event, used.known)]
    return columns


def _micros(column: pa.ChunkedArray) -> Ints:
    times = column if column.type == _UTC else column.cast(_UTC)
    numbers = times.cast(pa.int64())
    return np.asarray((pc.fill_null(numbers, 0) if numbers.null_count else numbers).to_numpy())
