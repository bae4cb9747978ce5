"""Windowed aggregations of many entities at once from tiles: mergeable states of an entity's rows of an hour or a day.

A window `[e - length, e)` of whole tiles is covered by aligned blocks of 1, 2, 4, … tiles, at most two of each size; a block
is the state of the two halves before it, and blocks are merged in order of time. Which blocks those are depends on the window
alone, so a value is the same to the bit whatever range, partition or backfill it is computed in.

A tile has more than one state where some rows became known after its end: one for the rows that count from its end on, one
for those that count from one step of tiles later, and so on. States that count 0, 1, 2 and 3 tiles late stand in windows that
end so much earlier, and are made of blocks of their own; later ones are merged one by one, in order of tile and of that time.
What is distinct, and quantiles, do not depend on an order: what the tiles of a window keep is taken together.

Times of tiles are counted in tiles since 1970.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.offline.join_keys import KeyIndex
from penstock.offline.windows.arrow import UTC, input_of, micros
from penstock.offline.windows.plan import Flags, Floats, Ints, Wanted, WindowPlan, ceil_to, changes
from penstock.offline.windows.sketches import count_distinct, quantile, smallest_of_groups, summary_of_groups
from penstock.offline.windows.states import STATES, STATES_FOR, Grouped, Parts, State, value_of

FROM_LISTS = frozenset({"approx_distinct", "approx_quantile"})
"""Functions for which a tile keeps lists, not numbers."""

ROWS = "__rows"
"""The column that counts the rows of a tile; a day that has been looked at and has none is a row with 0."""

_IN_BLOCKS = 4  # states up to so many tiles late
# Tiles times entities of one state that are held at once; each takes 8 to 24 bytes, twice.
_CELLS_AT_ONCE = 2_000_000


def columns_of(plan: WindowPlan) -> dict[str, pa.DataType]:
    """The columns of tiles that hold states, and their types."""
    found: dict[str, pa.DataType] = {ROWS: pa.int64()}
    for wanted in plan.features:
        match wanted.function:
            case "approx_distinct":
                found[f"{wanted.input}__smallest"] = pa.list_(pa.int64())
            case "approx_quantile":
                found |= {f"{wanted.input}__values": pa.list_(pa.float64()), f"{wanted.input}__weights": pa.list_(pa.int64())}
            case _:
                for state in STATES_FOR[wanted.function]:
                    for name, empty in zip(_parts(wanted.input, state), STATES[state].empty.values(), strict=True):
                        found[name] = pa.from_numpy_dtype(empty.dtype)
    return found


def _parts(input_: str | None, state: str) -> list[str]:
    if input_ is None:
        return [ROWS]
    return [f"{input_}__{state}_{part}" if part else f"{input_}__{state}" for part in STATES[state].empty]


def tiles_of(plan: WindowPlan, tile: int, rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The tiles of some rows of a source.

    Args:
        plan: what windows are made of them.
        tile: its length in microseconds.
        rows: join keys, `event_time`, `available_time` and the plan's inputs; all rows of a tile are there.
        keys: names of the join keys; none of them is null.

    Returns:
        Join keys, `event_time` (the start of a tile), `available_time` (the end from which its rows count) and states.
    """
    entity = KeyIndex([rows[key] for key in keys], rows.num_rows).ordinals
    event, available = micros(rows["event_time"]), micros(rows["available_time"])
    number = event // tile
    known = np.maximum(number + 1, -(-(available - plan.delay) // tile))
    inputs = {name: input_of(name, rows[name]) for name in plan.inputs}
    # One order, whatever the order rows arrive in: sums of floats depend on it.
    order = np.lexsort([*(values for values, _ in reversed(inputs.values())), available, event, known, number, entity])
    new = np.zeros(len(order), np.bool_)
    new[:1] = True
    for column in (entity, number, known):
        new[1:] |= column[order[1:]] != column[order[:-1]]
    starts = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    first = order[starts]
    taken = rows.take(pa.array(first))
    columns: dict[str, Any] = {key: taken[key] for key in keys}
    columns["event_time"] = pa.array(number[first] * tile, UTC)
    columns["available_time"] = pa.array(known[first] * tile, UTC)
    columns[ROWS] = pa.array(np.diff([*starts, len(order)]))
    for name, (values, there) in inputs.items():
        held = there[order]
        present = order[held]
        groups = _Groups(group[held], len(starts))
        sorted_rows = Grouped(values[present], event[present], available[present], groups.starts, groups.ends)
        for function in dict.fromkeys(wanted.function for wanted in plan.features if wanted.input == name):
            columns |= _states_of(function, name, sorted_rows, groups)
    return pa.table(columns).select([*keys, "event_time", "available_time", *columns_of(plan)])


@dataclass(frozen=True)
class _Groups:
    """Which group each of n rows, sorted, belongs to; some of `many` groups may have none."""

    of: Ints
    many: int

    @property
    def starts(self) -> Ints:
        return np.flatnonzero(np.diff(self.of, prepend=-1))

    @property
    def ends(self) -> Ints:
        return np.append(self.starts[1:], len(self.of)) if len(self.of) else self.starts

    def lists(self, group: Ints, values: Any) -> pa.Array:
        """A list of each group's values; values are sorted by group."""
        offsets = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=self.many))]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def _states_of(function: str, name: str, rows: Grouped, groups: _Groups) -> dict[str, pa.Array]:
    if function == "approx_distinct":
        group, smallest = smallest_of_groups(groups.of, rows.values)
        return {f"{name}__smallest": groups.lists(group, smallest.view(np.int64))}
    if function == "approx_quantile":
        group, values, weights = summary_of_groups(groups.of, rows.values)
        return {f"{name}__values": groups.lists(group, values), f"{name}__weights": groups.lists(group, weights)}
    found: dict[str, pa.Array] = {}
    for kind in STATES_FOR[function]:
        parts = STATES[kind].nothing(groups.many)
        if len(rows.values):
            for part, values in zip(parts, STATES[kind].of_rows(rows), strict=True):
                part[groups.of[groups.starts]] = values
        found |= dict(zip(_parts(name, kind), map(pa.array, parts), strict=True))
    return found


def rows_of_tiles(plan: WindowPlan, tile: int, tiles: pa.Table, keys: Sequence[str], start: int, end: int) -> Iterator[pa.Table]:
    """The rows of a view with `start <= event_time < end`.

    Args:
        plan: what to compute; its step and its windows are whole tiles.
        tile: their length in microseconds.
        tiles: of any number of entities, in any order, from `start - longest window - step` on.
        keys: names of the join keys.
        start, end: the range of grid times.

    Yields:
        Join keys, `event_time`, and per feature `value_<n>`, float64 or null.
    """
    there = pc.greater(tiles[ROWS], 0)
    tiles = tiles if pc.all(there).as_py() else tiles.filter(there)
    first = int(ceil_to(plan.step, np.array([start]))[0])
    ends = np.arange(first - plan.step, end, plan.step) // tile  # one step earlier, to compare with
    if len(ends) < 2 or not tiles.num_rows:
        return
    entity = KeyIndex([tiles[key] for key in keys], tiles.num_rows).ordinals
    entities = int(entity.max()) + 1
    per_chunk = max(1, _CELLS_AT_ONCE // int(ends[-1] - ends[0] + plan.longest // tile))
    if entities <= per_chunk:
        yield _rows(plan, keys, _Chunk(tiles, tile, entity, entities, ends))
        return
    order = np.argsort(entity, kind="stable")
    bounds = np.searchsorted(entity[order], np.arange(0, entities + per_chunk, per_chunk)).tolist()
    for n, (low, high) in enumerate(pairwise(bounds)):
        mine = order[low:high]
        of_chunk = entity[mine] - n * per_chunk
        yield _rows(plan, keys, _Chunk(tiles.take(pa.array(mine)), tile, of_chunk, int(of_chunk[-1]) + 1, ends))


class _Chunk:
    """All tiles of some entities, and the states of windows that end at some times.

    Args:
        table: n tiles.
        tile: their length in microseconds.
        entity: of each, from 0 to `entities` - 1.
        ends: numbers of tiles; windows hold those before.

    Attributes:
        number: of each tile.
        known: the end from which each counts, as the number of the tile that begins there.
    """

    def __init__(self, table: pa.Table, tile: int, entity: Ints, entities: int, ends: Ints) -> None:
        self.table, self.tile, self.entity, self.entities, self.ends = table, tile, entity, entities, ends
        self.number = micros(table["event_time"]) // tile
        self.known = micros(table["available_time"]) // tile

    def first_of(self, entity: Ints) -> pa.Table:
        """A tile of each of these entities."""
        first = np.empty(self.entities, np.int64)
        first[self.entity] = np.arange(len(self.entity))
        return self.table.take(pa.array(first[entity]))

    def merged(self, kind: str, input_: str | None, lengths: Sequence[int]) -> dict[int, Parts]:
        """Length in tiles → the states [ends, entities] of the windows of that length."""
        state = STATES[kind]
        held = tuple(self.table[name].to_numpy() for name in _parts(input_, kind))
        low, high = int(self.ends[0]) - max(lengths), int(self.ends[-1])
        in_reach = (self.number >= low) & (self.known <= high)
        lag = self.known - self.number - 1
        out = {length: state.nothing(len(self.ends), self.entities) for length in lengths}
        for late in range(_IN_BLOCKS):
            here = np.flatnonzero(in_reach & (lag == late))
            if not len(here):
                continue
            ground = state.nothing(high - low, self.entities)
            cell = (self.number[here] - low) * self.entities + self.entity[here]
            for part, values in zip(ground, held, strict=True):
                part.reshape(-1)[cell] = values[here]
            levels = _levels(state, ground, low, max(lengths))
            for length, into in out.items():
                for n, end in enumerate(self.ends.tolist()):
                    mine = tuple(part[n] for part in into)
                    for level, block in blocks_of(end - length, end - late):
                        begin, blocks = levels[level]
                        state.merge(mine, tuple(part[block - begin] for part in blocks))
        self._merge_late(state, held, np.flatnonzero(in_reach & (lag >= _IN_BLOCKS)), out)
        return out

    def _merge_late(self, state: State, held: Parts, late: Ints, out: dict[int, Parts]) -> None:
        """Put states that came many tiles late into the windows that hold them, one after the other."""
        late = late[np.lexsort((self.known[late], self.number[late], self.entity[late]))]
        entity, number, known = self.entity[late], self.number[late], self.known[late]
        for length, into in out.items():
            for n, end in enumerate(self.ends.tolist() if len(late) else ()):
                here = np.flatnonzero((number >= end - length) & (known <= end))
                whose = entity[here]
                turn = np.arange(len(here)) - np.searchsorted(whose, whose, "left")
                for k in range(int(turn.max(initial=-1)) + 1):
                    now = here[turn == k]
                    mine = tuple(part[n][entity[now]] for part in into)
                    state.merge(mine, tuple(part[late[now]] for part in held))
                    for part, values in zip(into, mine, strict=True):
                        part[n][entity[now]] = values

    def from_lists(self, wanted: Sequence[Wanted]) -> dict[Wanted, tuple[Floats, Flags]]:
        """The values of what tiles keep as lists: the items of a window's tiles, taken together."""
        name, is_distinct = wanted[0].input, wanted[0].function == "approx_distinct"
        column = self.table[f"{name}__smallest" if is_distinct else f"{name}__values"].combine_chunks()
        items: Any = pc.list_flatten(column).to_numpy()
        items = items.view(np.uint64) if is_distinct else items
        owner = pc.list_parent_indices(column).to_numpy()
        order = np.lexsort((items, self.entity[owner]))
        items, owner = items[order], owner[order]
        entity, number, known = self.entity[owner], self.number[owner], self.known[owner]
        weights = None if is_distinct else pc.list_flatten(self.table[f"{name}__weights"].combine_chunks()).to_numpy()[order]
        found = {}
        for one in wanted:
            values = np.zeros((len(self.ends), self.entities))
            there = np.ones(values.shape, np.bool_)
            for n, end in enumerate(self.ends.tolist()):
                here = np.flatnonzero((number >= end - one.length // self.tile) & (known <= end))
                if weights is None:
                    values[n] = count_distinct(entity[here], items[here], self.entities)
                else:
                    assert one.rank is not None
                    values[n], there[n] = quantile(entity[here], items[here], weights[here], one.rank, self.entities)
            found[one] = (values, there)
        return found


def _rows(plan: WindowPlan, keys: Sequence[str], chunk: _Chunk) -> pa.Table:
    results, active = _values(plan, chunk)
    keep = changes(active.astype(np.float64), np.ones(active.shape, np.bool_))
    for values, there in results:
        keep |= changes(values, there)
    times = chunk.ends * chunk.tile
    if plan.beat is not None:
        keep |= active & (times % plan.beat == 0)[:, np.newaxis]
    keep[0] = False  # the step before the first: only to compare with
    at, entity = np.nonzero(keep)
    columns: dict[str, Any] = dict(zip(keys, chunk.first_of(entity).select(list(keys)), strict=True))
    columns["event_time"] = pa.array(times[at], UTC)
    for n, (values, there) in enumerate(results):
        columns[f"value_{n}"] = pa.array(values[keep], mask=~there[keep])
    return pa.table(columns)


def _values(plan: WindowPlan, chunk: _Chunk) -> tuple[list[tuple[Floats, Flags]], Flags]:
    """Of each feature an array [ends, entities] of values and one of flags; and whether a window holds any row."""
    lists = [w for w in plan.features if w.function in FROM_LISTS]
    found: dict[Wanted, tuple[Floats, Flags]] = {}
    for of_list in dict.fromkeys((w.function, w.input) for w in lists):
        found |= chunk.from_lists([w for w in lists if (w.function, w.input) == of_list])
    lengths: dict[tuple[str, str | None], set[int]] = {("count", None): {plan.longest // chunk.tile}}
    for wanted in plan.features:
        for kind in STATES_FOR.get(wanted.function, ()):
            lengths.setdefault((kind, wanted.input), set()).add(wanted.length // chunk.tile)
    merged = {of: chunk.merged(*of, sorted(those)) for of, those in lengths.items()}
    for wanted in plan.features:
        if wanted not in found:
            states = tuple(merged[kind, wanted.input][wanted.length // chunk.tile] for kind in STATES_FOR[wanted.function])
            found[wanted] = value_of(wanted.function, states)
    (rows,) = merged["count", None][plan.longest // chunk.tile]
    return [found[wanted] for wanted in plan.features], rows > 0


def blocks_of(first: int, end: int) -> Iterator[tuple[int, int]]:
    """The aligned blocks that cover tiles `first` to `end` - 1, in order: (level, number of the block at that level).

    A block at level n is 2^n tiles, from a multiple of that on.
    """
    while first < end:
        level = (end - first).bit_length() - 1
        if first:
            level = min(level, (first & -first).bit_length() - 1)
        yield level, first >> level
        first += 1 << level


def _levels(state: State, ground: Parts, begin: int, longest: int) -> list[tuple[int, Parts]]:
    """Level → (number of its first block, its blocks [blocks, entities])."""
    levels = [(begin, ground)]
    while 1 << len(levels) <= longest:
        begin, blocks = levels[-1]
        half = -(-begin // 2)
        skip = 2 * half - begin
        pairs = max(0, len(blocks[0]) - skip) // 2
        merged = tuple(part[skip : skip + 2 * pairs : 2].copy() for part in blocks)
        state.merge(merged, tuple(part[skip + 1 : skip + 2 * pairs : 2] for part in blocks))
        levels.append((half, merged))
    return levels
