"""Join keys as ordinals: equal exactly where all their columns are. Nothing is concatenated, nothing is cast."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]

NONE = -1
"""The ordinal of no key."""


class KeyIndex:
    """The keys a spine asks for, each with an ordinal from 0; without join keys there is one key, 0.

    Args:
        asked: the spine's join key columns, n values each.
        n: the number of rows.

    Attributes:
        ordinals: of the n keys; NONE for one with a null.
    """

    def __init__(self, asked: Sequence[pa.ChunkedArray], n: int) -> None:
        self._values = [pc.unique(column).drop_null() for column in asked]
        self._pairs: list[Ints] = []
        self.ordinals = _places(asked[0], self._values[0]) if asked else np.zeros(n, np.int64)
        for column, values in zip(asked[1:], self._values[1:], strict=True):
            pair = _paired(self.ordinals, _places(column, values), len(values))
            # Counted anew after each column, or the numbers of many columns would not fit.
            self._pairs.append(np.unique(pair[pair != NONE]))
            self.ordinals = _among(self._pairs[-1], pair)

    @property
    def size(self) -> int:
        """How many values of one join key are asked for, at most."""
        return max((len(values) for values in self._values), default=1)

    @property
    def bounds(self) -> tuple[Any, Any]:
        """The least and the greatest value asked for of the first join key; None: there is none."""
        if not self._values:
            return None, None
        ends = pc.min_max(self._values[0])
        return ends["min"].as_py(), ends["max"].as_py()

    def find(self, held: Sequence[pa.ChunkedArray], n: int) -> Ints:
        """The ordinals of n other keys, of the same types; NONE for one that the spine does not ask for."""
        if not held:
            return np.zeros(n, np.int64)
        found = _places(held[0], self._values[0])
        for column, values, pairs in zip(held[1:], self._values[1:], self._pairs, strict=True):
            found = _among(pairs, _paired(found, _places(column, values), len(values)))
        return found


def _places(column: pa.ChunkedArray, values: pa.Array) -> Ints:
    found: Any = pc.fill_null(pc.index_in(column, values, skip_nulls=True), NONE)
    return np.asarray(found.to_numpy(), np.int64)


def _paired(left: Ints, right: Ints, many: int) -> Ints:
    return np.where((left != NONE) & (right != NONE), left * many + right, NONE)


def _among(pairs: Ints, wanted: Ints) -> Ints:
    if not len(pairs):
        return np.full(len(wanted), NONE, np.int64)
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    return np.where(pairs[place] == wanted, place, NONE)
