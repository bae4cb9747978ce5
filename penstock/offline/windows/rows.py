"""Windowed aggregations of one key on the time grid, from the rows of its source, in numpy.

A window ending at grid time `e` covers `[e - length, e)` in event time and holds the rows known by then:
`event_time < e` and `available_time <= e + delay`. A row of the view stands at `e` where a value differs
from the step before, where the entity became active or left all its windows, and, while it is active,
every ttl/2 (so that a value that stays is not mistaken for one that expired).

All times are int64 microseconds since 1970; the grid is counted from there. What is computed for `e`
depends on `e` alone, never on the range that is asked for: re-runs give the same rows to the bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.offline.windows.plan import Flags, Floats, Ints, Wanted, WindowPlan, ceil_to, changes
from penstock.offline.windows.sketches import count_distinct, quantile

# Pairs (window, row) held at once; above it the grid is walked in pieces. 4 M pairs take about 100 MB.
_PAIRS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Column:
    """An input over the rows of one key: its values, float64 or uint64 hashes, and which of them are there."""

    values: npt.NDArray[Any]
    present: Flags


def evaluate(
    plan: WindowPlan, event: Ints, available: Ints, columns: dict[str, Column], start: int, end: int
) -> tuple[Ints, list[tuple[Floats, Flags]]]:
    """The rows of one key with `start <= event_time < end`.

    Args:
        plan: what to compute.
        event, available: times of the key's n source rows, in any order; those from
            `start - longest window - step` on suffice.
        columns: name → values, for every input of the plan.
        start, end: the range of grid times.

    Returns:
        m grid times, ascending, and per feature m values with m flags: False is null.
    """
    # A canonical order makes sums of floats independent of the order rows arrive in.
    order = np.lexsort([*(columns[name].values for name in reversed(plan.inputs)), available, event])
    event, available = event[order], available[order]
    columns = {name: Column(c.values[order], c.present[order]) for name, c in columns.items()}
    times = _times_to_look_at(plan, event, available, start, end)
    values, flags = np.empty((len(plan.features), len(times)), np.float64), np.empty((len(plan.features), len(times)), np.bool_)
    rows_in_reach = np.searchsorted(event, times, "left") - np.searchsorted(event, times - plan.longest, "left")
    for piece in _pieces(rows_in_reach):
        for place, found in _aggregates(plan, columns, event, available, times[piece]):
            values[place, piece], flags[place, piece] = found
    active = _is_active(event, available, times, plan.longest, plan.delay)
    keep = _worth_a_row(plan, times, values, flags, active)
    keep[0] = False  # the step before `start`: only to compare with
    return times[keep], list(zip(values[:, keep], flags[:, keep], strict=True))


def _times_to_look_at(plan: WindowPlan, event: Ints, available: Ints, start: int, end: int) -> Ints:
    enters = ceil_to(plan.step, np.maximum(available - plan.delay, event + 1))
    exits = [ceil_to(plan.step, event + length + 1) for length in sorted({wanted.length for wanted in plan.features})]
    moments = np.concatenate([enters, *exits])
    first = int(ceil_to(plan.step, np.array([start]))[0])
    beat = plan.beat
    beats = np.empty(0, np.int64) if beat is None else np.arange(-(-first // beat) * beat, end, beat, dtype=np.int64)
    moments = np.concatenate([moments[(moments >= first) & (moments < end)], beats])
    return np.concatenate([np.array([first - plan.step]), np.unique(moments)])


def _pieces(rows: Ints) -> Sequence[slice]:
    bounds = [0]
    total = 0
    for i, n in enumerate(rows.tolist()):
        if total and total + n > _PAIRS_AT_ONCE:
            bounds.append(i)
            total = 0
        total += n
    bounds.append(len(rows))
    return [slice(a, b) for a, b in pairwise(bounds)]


def _members(event: Ints, available: Ints, times: Ints, length: int, delay: int) -> tuple[Ints, Ints]:
    """Pairs (index of time, index of row) of the rows each window holds, by time, then in canonical order."""
    low = np.searchsorted(event, times - length, "left")
    counts = np.searchsorted(event, times, "left") - low
    window = np.repeat(np.arange(len(times)), counts)
    offset = np.arange(len(window)) - np.repeat(np.cumsum(counts) - counts, counts)
    row = np.repeat(low, counts) + offset
    held = available[row] <= times[window] + delay
    return window[held], row[held]


def _is_active(event: Ints, available: Ints, times: Ints, length: int, delay: int) -> Flags:
    """Whether a window of this length, ending at each time, holds any row."""
    enters = np.searchsorted(times, np.maximum(event + 1, available - delay), "left")
    leaves = np.maximum(np.searchsorted(times, event + length, "right"), enters)
    steps = np.bincount(enters, minlength=len(times) + 1) - np.bincount(leaves, minlength=len(times) + 1)
    held: Flags = np.cumsum(steps[:-1]) > 0
    return held


@dataclass(frozen=True)
class _Held:
    """What so many windows hold of an input, or of the rows: the index of the window of each pair, ascending, and its value."""

    windows: int
    window: Ints
    values: npt.NDArray[Any]

    @cached_property
    def counts(self) -> Ints:
        return np.bincount(self.window, minlength=self.windows)

    @cached_property
    def some(self) -> Flags:
        """Whether each window has any."""
        return self.counts > 0

    @cached_property
    def bounds(self) -> tuple[Ints, Ints]:
        """Of each window that has any: its first pair, and the one after its last."""
        ends = np.cumsum(self.counts)[self.some]
        return ends - self.counts[self.some], ends

    @cached_property
    def by_value(self) -> tuple[Ints, npt.NDArray[Any]]:
        """Window and value, sorted by both."""
        order = np.lexsort((self.values, self.window))
        return self.window[order], self.values[order]


def _aggregates(
    plan: WindowPlan, columns: dict[str, Column], event: Ints, available: Ints, times: Ints
) -> Iterator[tuple[int, tuple[Floats, Flags]]]:
    """Place and values of each feature at these times; what windows hold is looked up once for all features of a length and an input."""
    for length in {wanted.length: None for wanted in plan.features}:
        window, row = _members(event, available, times, length, plan.delay)
        of_input: dict[str | None, _Held] = {}
        for place, wanted in enumerate(plan.features):
            if wanted.length != length:
                continue
            if wanted.input not in of_input:
                of_input[wanted.input] = _held(None if wanted.input is None else columns[wanted.input], len(times), window, row)
            yield place, _aggregate(wanted, of_input[wanted.input])


def _held(column: Column | None, windows: int, window: Ints, row: Ints) -> _Held:
    if column is None:
        return _Held(windows, window, row)
    there = column.present[row]
    return _Held(windows, window[there], column.values[row[there]])


def _aggregate(wanted: Wanted, held: _Held) -> tuple[Floats, Flags]:
    n = held.windows
    if wanted.function == "count":
        return held.counts.astype(np.float64), np.ones(n, np.bool_)
    if wanted.function == "approx_distinct":
        return count_distinct(*held.by_value, n), np.ones(n, np.bool_)
    if wanted.function == "approx_quantile":
        assert wanted.rank is not None
        window, values = held.by_value
        return quantile(window, values, np.ones(len(window), np.int64), wanted.rank, n)
    result = np.zeros(n, np.float64)
    if len(held.window):
        result[held.some] = _reduced(wanted.function, held.values, *held.bounds)
    return result, (held.counts > 1 if wanted.function == "std" else held.some)


def _reduced(function: str, values: Floats, starts: Ints, ends: Ints) -> Floats:
    """One value for each group of consecutive values, none of them empty."""
    sizes = ends - starts
    match function:
        case "first":
            found = values[starts]
        case "last":
            found = values[ends - 1]
        case "mean":
            found = np.add.reduceat(values, starts) / sizes
        case "std":
            mean = np.add.reduceat(values, starts) / sizes
            squares = np.add.reduceat((values - np.repeat(mean, sizes)) ** 2, starts)
            found = np.sqrt(squares / np.maximum(sizes - 1, 1))
        case _:
            found = {"sum": np.add, "min": np.minimum, "max": np.maximum}[function].reduceat(values, starts)
    return np.asarray(found)


def _worth_a_row(plan: WindowPlan, times: Ints, values: Floats, flags: Flags, active: Flags) -> Flags:
    changed = changes(active.astype(np.float64), np.ones(len(times), np.bool_))
    at_once = max(1, _PAIRS_AT_ONCE // len(times))
    for first in range(0, len(values), at_once):
        some = slice(first, first + at_once)
        changed |= changes(values[some].T, flags[some].T).any(axis=1)
    if plan.beat is not None:
        changed |= active & (times % plan.beat == 0)
    return changed
