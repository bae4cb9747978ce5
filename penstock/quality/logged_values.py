"""Values as the feature log has them, JSON, as columns that can be compared with the lake's."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.dtypes import accepts, element, is_list
from penstock.offline.arrow import arrow_type

Mask = npt.NDArray[np.bool_]


def typed(values: Sequence[Any], dtype: str) -> tuple[pa.Array, Mask]:
    """Values out of JSON as a column of `dtype`, and which of them are of another type."""
    read = _from_json(dtype)
    found: list[Any] = []
    wrong = np.zeros(len(values), np.bool_)
    for place, value in enumerate(values):
        try:
            one = None if value is None else read(value)
        except (ValueError, TypeError):
            one, wrong[place] = None, True
        if one is not None and not accepts(dtype, one):
            one, wrong[place] = None, True
        found.append(one)
    return pa.array(found, arrow_type(dtype)), wrong


def _from_json(dtype: str) -> Callable[[Any], Any]:
    if is_list(dtype):
        item = _from_json(element(dtype))
        return lambda value: [None if one is None else item(one) for one in value]
    return datetime.fromisoformat if dtype == "timestamp" else lambda value: value


def differ(one: Any, other: Any) -> Mask:
    """Where two columns of one type differ. Two nulls are equal; NaN, which JSON has as null, is equal to both."""
    one, other = (column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in (one, other))
    if pa.types.is_list(one.type):
        return np.array([a != b for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True)], np.bool_)
    if pa.types.is_floating(one.type):
        one, other = (pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column) for column in (one, other))
    same = pc.or_(pc.fill_null(pc.equal(one, other), False), pc.and_(one.is_null(), other.is_null()))
    return ~np.asarray(same.to_numpy(zero_copy_only=False), np.bool_)
