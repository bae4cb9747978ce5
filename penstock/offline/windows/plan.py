"""What a view with aggregations computes, in plain values, and at which times a row of it stands."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.clock import MICROSECOND
from penstock.contract.aggregation import OF_ANY_TYPE
from penstock.contract.view import FeatureView

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

HASHED = "hash_of__"
"""What the name of an input that is a hash begins with."""


class Wanted(NamedTuple):
    """One feature: a function of an input over the window of this length before each grid time, microseconds.

    An input is a source column as float64, or, where only equality counts, the 64-bit hash of one; None: the rows.
    """

    function: str
    input: str | None
    length: int
    rank: float | None = None


@dataclass(frozen=True)
class WindowPlan:
    """What to compute; all times in microseconds.

    Args:
        step: of the time grid, counted from 1970.
        delay: a row of a source counts at grid time `e` if it was available at `e + delay`.
        heartbeat: how often a value that stays is repeated; None: never.
        dense: a row at every step while the entity is active.
        features: in order.
    """

    step: int
    delay: int
    heartbeat: int | None
    dense: bool
    features: tuple[Wanted, ...]

    @property
    def longest(self) -> int:
        return max(wanted.length for wanted in self.features)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(wanted.input for wanted in self.features if wanted.input is not None))

    @property
    def beat(self) -> int | None:
        """Each multiple of this has a row while the entity is active."""
        return self.step if self.dense else self.heartbeat


def plan_of(view: FeatureView) -> WindowPlan:
    """The plan of a view with aggregations."""
    assert view.every is not None
    step = view.every // MICROSECOND
    return WindowPlan(
        step=step,
        delay=view.delay // MICROSECOND,
        heartbeat=None if view.ttl is None else max(1, (view.ttl // MICROSECOND) // 2 // step) * step,
        dense=view.dense,
        features=tuple(
            Wanted(a.function, f"{HASHED}{a.column}" if a.function in OF_ANY_TYPE else a.column, length // MICROSECOND, a.rank)
            for a in view.aggregations
            for length in a.over
        ),
    )


def ceil_to(step: int, times: Ints) -> Ints:
    """The first grid time at or after each."""
    return -(-times // step) * step


def changes(values: Floats, there: Flags) -> Flags:
    """Whether each value along the first axis differs from the one before it, a NaN being equal to a NaN; the first does not."""
    shown = np.where(there, values, 0.0)  # what stands under a null is no difference
    now, before = shown[1:], shown[:-1]
    changed = np.zeros(shown.shape, np.bool_)
    changed[1:] = ((now != before) & ~(np.isnan(now) & np.isnan(before))) | (there[1:] != there[:-1])
    return changed
