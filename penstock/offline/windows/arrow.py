"""Columns of Arrow as the kernels take them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.offline.windows.plan import HASHED, Flags, Ints

UTC = pa.timestamp("us", tz="UTC")


def micros(column: pa.ChunkedArray) -> Ints:
    """Times in microseconds since 1970."""
    return np.asarray(pc.cast(column.cast(UTC), pa.int64()).to_numpy())


def input_of(name: str, column: pa.ChunkedArray) -> tuple[npt.NDArray[Any], Flags]:
    """The values of an input, float64 or, of a hash, uint64, and which of them are there."""
    values = np.asarray(pc.fill_null(column, 0).to_numpy())
    return (values.view(np.uint64) if name.startswith(HASHED) else values), np.asarray(pc.is_valid(column).to_numpy())
