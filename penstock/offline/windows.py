"""Windowed aggregations of one key on the time grid, in numpy.

A window ending at grid time `e` covers `[e - length, e)` in event time and holds the rows known by then:
`event_time < e` and `available_time <= e + delay`. A row of the view stands at `e` where a value differs
from the step before, where the entity became active or left all its windows, and, while it is active,
every ttl/2 (so that a value that stays is not mistaken for one that expired).

All times are int64 microseconds since 1970; the grid is counted from there. What is computed for `e`
depends on `e` alone, never on the range that is asked for: re-runs give the same rows to the bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from penstock.clock import MICROSECOND
from penstock.contract.view import FeatureView

Ints = npt.NDArray[np.int64]

# Pairs (window, row) held at once; above it the grid is walked in pieces. 4 M pairs take about 100 MB.
_PAIRS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Column:
    """A source column over the rows of one key: its values and which of them are there."""

    values: npt.NDArray[np.float64]
    present: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class WindowPlan:
    """What to compute: one entry per feature, all times in microseconds."""

    step: int
    delay: int
    heartbeat: int | None
    dense: bool
    features: tuple[tuple[str, str | None, int], ...]

    @property
    def longest(self) -> int:
        return max(length for _, _, length in self.features)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column for _, column, _ in self.features if column is not None))


def plan_of(view: FeatureView) -> WindowPlan:
    """The plan of a view with aggregations."""
    assert view.every is not None
    step = view.every // MICROSECOND
    return WindowPlan(
        step=step,
        delay=view.delay // MICROSECOND,
        heartbeat=None if view.ttl is None else max(1, (view.ttl // MICROSECOND) // 2 // step) * step,
        dense=view.dense,
        features=tuple((a.function, a.column, length // MICROSECOND) for a in view.aggregations for length in a.over),
    )


def evaluate(
    plan: WindowPlan, event: Ints, available: Ints, columns: dict[str, Column], start: int, end: int
) -> tuple[Ints, list[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]]]:
    """The rows of one key with `start <= event_time < end`.

    Args:
        plan: what to compute.
        event, available: times of the key's n source rows, in any order; those from
            `start - longest window - step` on suffice.
        columns: name → values, for every column of the plan.
        start, end: the range of grid times.

    Returns:
        m grid times, ascending, and per feature m values with m flags: False is null.
    """
    # A canonical order makes sums of floats independent of the order rows arrive in.
    order = np.lexsort([*(columns[name].values for name in reversed(plan.columns)), available, event])
    event, available = event[order], available[order]
    columns = {name: Column(c.values[order], c.present[order]) for name, c in columns.items()}
    times = _times_to_look_at(plan, event, available, start, end)
    results = [(np.empty(len(times), np.float64), np.empty(len(times), np.bool_)) for _ in plan.features]
    rows_in_reach = np.searchsorted(event, times, "left") - np.searchsorted(event, times - plan.longest, "left")
    for piece in _pieces(rows_in_reach):
        for (function, column, length), (values, flags) in zip(plan.features, results, strict=True):
            data = None if column is None else columns[column]
            values[piece], flags[piece] = _aggregate(function, data, event, available, times[piece], length, plan.delay)
    active = _is_active(event, available, times, plan.longest, plan.delay)
    keep = _worth_a_row(plan, times, results, active)
    keep[0] = False  # the step before `start`: only to compare with
    return times[keep], [(values[keep], flags[keep]) for values, flags in results]


def _ceil_to(step: int, times: Ints) -> Ints:
    return -(-times // step) * step


def _times_to_look_at(plan: WindowPlan, event: Ints, available: Ints, start: int, end: int) -> Ints:
    enters = _ceil_to(plan.step, np.maximum(available - plan.delay, event + 1))
    exits = [_ceil_to(plan.step, event + length + 1) for length in sorted({length for _, _, length in plan.features})]
    moments = np.concatenate([enters, *exits])
    first = int(_ceil_to(plan.step, np.array([start]))[0])
    beat = plan.step if plan.dense else plan.heartbeat
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


def _is_active(event: Ints, available: Ints, times: Ints, length: int, delay: int) -> npt.NDArray[np.bool_]:
    """Whether a window of this length, ending at each time, holds any row."""
    enters = np.searchsorted(times, np.maximum(event + 1, available - delay), "left")
    leaves = np.maximum(np.searchsorted(times, event + length, "right"), enters)
    steps = np.bincount(enters, minlength=len(times) + 1) - np.bincount(leaves, minlength=len(times) + 1)
    held: npt.NDArray[np.bool_] = np.cumsum(steps[:-1]) > 0
    return held


def _aggregate(
    function: str, data: Column | None, event: Ints, available: Ints, times: Ints, length: int, delay: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    window, row = _members(event, available, times, length, delay)
    if data is not None:
        there = data.present[row]
        window, row = window[there], row[there]
    counts = np.bincount(window, minlength=len(times))
    if function == "count":
        return counts.astype(np.float64), np.ones(len(times), np.bool_)
    assert data is not None
    result = np.zeros(len(times), np.float64)
    some = counts > 0
    if some.any():
        ends = np.cumsum(counts)
        starts = (ends - counts)[some]
        if function == "last":
            result[some] = data.values[row[ends[some] - 1]]
            return result, some
        reduce = {"sum": np.add, "mean": np.add, "min": np.minimum, "max": np.maximum}[function]
        result[some] = reduce.reduceat(data.values[row], starts)
        if function == "mean":
            result[some] /= counts[some]
    return result, some


def _worth_a_row(
    plan: WindowPlan,
    times: Ints,
    results: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]],
    active: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    changed = np.zeros(len(times), np.bool_)
    changed[1:] = active[1:] != active[:-1]
    for values, flags in results:
        shown = np.where(flags, values, 0.0)  # what stands under a null is no difference
        changed[1:] |= (shown[1:] != shown[:-1]) | (flags[1:] != flags[:-1])
    beat = plan.step if plan.dense else plan.heartbeat
    if beat is not None:
        changed |= active & (times % beat == 0)
    return changed
