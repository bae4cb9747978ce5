"""Calling a request-time function: the same rows, nulls and refusals in the gateway and in a join.

null      a row with a null among the columns has null features, and the function does not see it; one that handles nulls sees
          masked arrays
unusable  a row of which a column cannot be known (damaged, not read, NaN, infinite): never shown, its features are null and bad
bad       what the function gave is NaN, infinite or no time: null offline, and ERROR online
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.clock import from_micros, to_micros
from penstock.contract.function import FunctionSource
from penstock.errors import FunctionError

Array: TypeAlias = npt.NDArray[Any]
Flags: TypeAlias = npt.NDArray[np.bool_]

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "bool": np.dtype(np.bool_),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "string": np.dtypes.StringDType(),
    "timestamp": np.dtype("datetime64[us]"),  # UTC
}
_FIRST, _LAST = np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31T23:59:59.999999", "us")


class Column(NamedTuple):
    """A value per row; where `null`, it is 0, False, the empty string or 1970."""

    values: Array
    null: Flags


class Computed(NamedTuple):
    """A feature's value per row; what is `bad` is null, too."""

    values: Array
    null: Flags
    bad: Flags


@dataclass(frozen=True)
class RequestFunction:
    """A function with what it takes and gives; plain values only, so that it crosses to workers.

    Args:
        view: name and version of its on-demand view.
        source: its code.
        takes, gives: column → dtype, in order.
        handles_nulls: whether it sees rows with nulls.
    """

    view: str
    source: FunctionSource
    takes: tuple[tuple[str, str], ...]
    gives: tuple[tuple[str, str], ...]
    handles_nulls: bool

    def __call__(self, columns: Mapping[str, Column], unusable: Flags) -> list[Computed]:
        """The features of each row, in the order of `gives`.

        Args:
            columns: one for each of `takes`, n values each.
            unusable: of each of the n rows, whether a column cannot be known.

        Raises:
            FunctionError: the function cannot be loaded, raised, or gave something else than it declares.
        """
        shown = ~unusable
        if not self.handles_nulls:
            for name, _ in self.takes:
                shown &= ~columns[name].null
        places = np.flatnonzero(shown)
        given = self._given({name: self._argument(columns[name], places) for name, _ in self.takes}, len(places)) if len(places) else {}
        found = []
        for name, dtype in self.gives:
            values, null, bad = np.zeros(len(unusable), NUMPY_TYPES[dtype]), np.ones(len(unusable), np.bool_), unusable.copy()
            if given:
                column = given[name]
                wrong = ~column.null & ~_sayable(column.values)
                values[places] = np.where(column.null | wrong, np.zeros(1, NUMPY_TYPES[dtype]), column.values)
                null[places], bad[places] = column.null | wrong, wrong
            found.append(Computed(values, null, bad))
        return found

    def _argument(self, column: Column, places: Array) -> Array:
        values = column.values[places]
        values.setflags(write=False)  # a function that writes to what it is given fails everywhere, not only where it is shared
        return np.ma.MaskedArray(values, mask=column.null[places]) if self.handles_nulls else values

    def _given(self, arguments: Mapping[str, Array], rows: int) -> dict[str, Column]:
        where = f"on-demand view {self.view}, function {self.source.name}"
        function = self.source.load()
        try:
            with np.errstate(all="ignore"):  # what comes of it is looked at
                given = function(arguments)
        except Exception as error:
            raise FunctionError(f"{where} raised {type(error).__name__}: {error}") from error
        names = [name for name, _ in self.gives]
        if not isinstance(given, Mapping) or set(given) != set(names):
            kind = f"columns {', '.join(map(str, given))}" if isinstance(given, Mapping) else f"a {type(given).__name__}"
            raise FunctionError(f"{where} gave {kind}; expected a mapping with {', '.join(names)}")
        return {name: _column(given[name], dtype, rows, f"{where}: feature '{name}'") for name, dtype in self.gives}


def _column(given: Any, dtype: str, rows: int, where: str) -> Column:
    if not isinstance(given, np.ndarray) or given.shape != (rows,):
        seen = f"an array of shape {given.shape}" if isinstance(given, np.ndarray) else f"a {type(given).__name__}"
        raise FunctionError(f"{where} is {seen}; expected a numpy array of shape ({rows},), a value per row")
    if not _is_of(given.dtype, dtype):
        raise FunctionError(f"{where} is {given.dtype}; expected {dtype}, or what fits it whole", hint="say which with .astype(...)")
    return Column(np.ma.getdata(given).astype(NUMPY_TYPES[dtype]), np.ma.getmaskarray(given))


def _is_of(seen: np.dtype[Any], dtype: str) -> bool:
    if dtype == "string":
        return seen.kind in "TU"
    wanted = NUMPY_TYPES[dtype]
    return seen.kind in ("M" if wanted.kind == "M" else "biuf") and np.can_cast(seen, wanted, "safe")


def _sayable(values: Array) -> Flags:
    """Where there is a value that JSON can say."""
    if values.dtype.kind == "f":
        return np.isfinite(values)
    if values.dtype.kind == "M":
        return (values >= _FIRST) & (values <= _LAST)  # not a time is neither
    return np.ones(len(values), np.bool_)


def from_python(dtype: str, values: Sequence[Any]) -> Column:
    """A column of Python's values, None for null; a timestamp is a datetime with a zone."""
    null = np.array([value is None for value in values], np.bool_)
    if dtype == "timestamp":
        micros = np.array([0 if value is None else to_micros(value) for value in values], np.int64)
        return Column(micros.view(NUMPY_TYPES[dtype]), null)
    nothing = "" if dtype == "string" else 0
    return Column(np.array([nothing if value is None else value for value in values], NUMPY_TYPES[dtype]), null)


def to_python(computed: Computed) -> list[Any]:
    """The same values as Python's, None for null."""
    if computed.values.dtype.kind == "M":
        micros = computed.values.view(np.int64).tolist()
        return [None if null else from_micros(value) for value, null in zip(micros, computed.null.tolist(), strict=True)]
    return [None if null else value for value, null in zip(computed.values.tolist(), computed.null.tolist(), strict=True)]


def flags(values: Sequence[bool]) -> Flags:
    """As numpy has them."""
    return np.array(values, np.bool_)


def unknowable(column: Column) -> Flags:
    """Where a column holds what is neither null nor a value: NaN or an infinity."""
    return ~column.null & ~_sayable(column.values)
