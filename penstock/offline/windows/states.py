"""Mergeable states: what a tile keeps of an input, as a few numbers, so that windows are made of tiles.

Means and variances are merged after Chan, Golub and LeVeque (1979). A sum of floats depends on the order of its terms, so a
state of rows is always made in one order, and states are always merged in one order: see `penstock.offline.windows.tiles`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.offline.windows.plan import Flags, Floats, Ints

Parts = tuple[npt.NDArray[Any], ...]
"""The numbers of many states: an array for each part."""

_LEAST, _GREATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True)
class Grouped:
    """The rows of a source that have an input, sorted by group, then by event and available time.

    Args:
        values, event, available: of n rows; values are float64, or the uint64 hashes of what only equality counts of.
        starts, ends: of m groups: the first row, and the one after the last; no group is empty.
    """

    values: npt.NDArray[Any]
    event: Ints
    available: Ints
    starts: Ints
    ends: Ints


@dataclass(frozen=True)
class State:
    """One kind of state.

    Args:
        empty: name of a part → its value where there are no rows, which has its type.
        of_rows: the states of m groups.
        merge: puts other states, of later rows, into the first ones, in place.
    """

    empty: Mapping[str, np.generic]
    of_rows: Callable[[Grouped], Parts]
    merge: Callable[[Parts, Parts], None]

    def nothing(self, *shape: int) -> Parts:
        """As many states of no rows."""
        return tuple(np.full(shape, value) for value in self.empty.values())


def _elementwise(ufunc: np.ufunc) -> Callable[[Parts, Parts], None]:
    def merge(into: Parts, other: Parts) -> None:
        ufunc(into[0], other[0], out=into[0])

    return merge


def _reduced(ufunc: np.ufunc) -> Callable[[Grouped], Parts]:
    return lambda rows: (ufunc.reduceat(rows.values, rows.starts),)


def _moments_of(rows: Grouped) -> Parts:
    sizes = rows.ends - rows.starts
    mean = np.add.reduceat(rows.values, rows.starts) / sizes
    return sizes, mean, np.add.reduceat((rows.values - np.repeat(mean, sizes)) ** 2, rows.starts)


def _merge_moments(into: Parts, other: Parts) -> None:
    count, mean, squares = into
    n = count + other[0]
    share = other[0] / np.maximum(n, 1)
    between = other[1] - mean
    squares += other[2] + between**2 * count * share
    mean += between * share
    count[...] = n


def _merge_if(comes_first: Callable[[Any, Any], Flags]) -> Callable[[Parts, Parts], None]:
    def merge(into: Parts, other: Parts) -> None:
        instead = comes_first(other[0], into[0]) | ((other[0] == into[0]) & comes_first(other[1], into[1]))
        for mine, theirs in zip(into, other, strict=True):
            np.copyto(mine, theirs, where=instead)

    return merge


def _at(end: int) -> Mapping[str, np.generic]:
    return {"event": np.int64(end), "available": np.int64(end), "value": np.float64(0.0)}


STATES: Mapping[str, State] = {
    "count": State({"": np.int64(0)}, lambda rows: (rows.ends - rows.starts,), _elementwise(np.add)),
    "sum": State({"": np.float64(0.0)}, _reduced(np.add), _elementwise(np.add)),
    "min": State({"": np.float64(np.inf)}, _reduced(np.minimum), _elementwise(np.minimum)),
    "max": State({"": np.float64(-np.inf)}, _reduced(np.maximum), _elementwise(np.maximum)),
    "moments": State({"count": np.int64(0), "mean": np.float64(0.0), "m2": np.float64(0.0)}, _moments_of, _merge_moments),
    "first": State(
        _at(_GREATEST),
        lambda rows: (rows.event[rows.starts], rows.available[rows.starts], rows.values[rows.starts]),
        _merge_if(np.less),
    ),
    "last": State(
        _at(_LEAST),
        lambda rows: (rows.event[rows.ends - 1], rows.available[rows.ends - 1], rows.values[rows.ends - 1]),
        _merge_if(np.greater),
    ),
}

STATES_FOR: Mapping[str, tuple[str, ...]] = {
    "count": ("count",),
    "sum": ("count", "sum"),
    "mean": ("count", "sum"),
    "min": ("count", "min"),
    "max": ("count", "max"),
    "std": ("moments",),
    "first": ("first",),
    "last": ("last",),
}
"""Function → the states its values are taken from, in the order `value_of` gets them."""


def value_of(function: str, states: tuple[Parts, ...]) -> tuple[Floats, Flags]:
    """The values of a function in these states, and which of them are there: False is null."""
    if function == "count":
        return states[0][0].astype(np.float64), np.ones(states[0][0].shape, np.bool_)
    if function == "std":
        count, _, squares = states[0]
        return np.sqrt(squares / np.maximum(count - 1, 1)), count > 1
    if function in ("first", "last"):
        event, _, value = states[0]
        return value, event != (_GREATEST if function == "first" else _LEAST)
    (count,), (value,) = states
    return (value / np.maximum(count, 1) if function == "mean" else value), count > 0
