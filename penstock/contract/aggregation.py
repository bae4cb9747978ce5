"""Windowed aggregations: what to compute over which windows `[end - length, end)`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from penstock.clock import MICROSECOND
from penstock.contract.rules import require_positive
from penstock.contract.view_parts import Feature
from penstock.errors import ContractError


def seconds(n: int) -> timedelta:
    """n seconds."""
    return timedelta(seconds=n)


def minutes(n: int) -> timedelta:
    """n minutes."""
    return timedelta(minutes=n)


def hours(n: int) -> timedelta:
    """n hours."""
    return timedelta(hours=n)


def days(n: int) -> timedelta:
    """n times 24 hours."""
    return timedelta(days=n)


EACH_EVENT = MICROSECOND
"""The finest grid, for `every`: windows are evaluated wherever a source row becomes known or leaves one."""


def window_suffix(length: timedelta) -> str:
    """The shortest exact name of a window's length: `7d`, `3h`, `15m`, `90s`.

    Raises:
        ContractError: the length is not a whole number of seconds.
    """
    for unit, letter in ((days(1), "d"), (hours(1), "h"), (minutes(1), "m"), (seconds(1), "s")):
        if not length % unit:
            return f"{length // unit}{letter}"
    raise ContractError(f"window of {length}: expected a whole number of seconds")


COUNTS = frozenset({"count", "approx_distinct"})
"""Functions that are 0 over no rows, not null."""

OF_ANY_TYPE = frozenset({"approx_distinct"})
"""Functions of columns that need not be numbers."""


@dataclass(frozen=True)
class Aggregation:
    """One function of one source column over several windows; each window gives a feature.

    Nulls of the column are left out, as in SQL. Over no rows `count` and `approx_distinct` are 0 and the others are null.
    """

    function: str
    column: str | None
    over: tuple[timedelta, ...]
    name: str
    dtype: str
    unit: str
    minimum: float | None
    maximum: float | None
    rank: float | None = None

    def __post_init__(self) -> None:
        if self.rank is not None and not 0 < self.rank < 1:
            raise ContractError(f"aggregation '{self.name}': rank {self.rank}; expected a number between 0 and 1, e.g. 0.95")
        if not self.over:
            raise ContractError(f"aggregation '{self.name}': no windows; give over=[hours(3), ...]")
        for length in self.over:
            require_positive(length, f"aggregation '{self.name}': window")

    def features(self) -> tuple[Feature, ...]:
        """The features this aggregation gives, in the order of its windows."""
        return tuple(
            Feature(
                f"{self.name}_{window_suffix(length)}",
                self.dtype,
                unit=self.unit,
                nullable=self.function not in COUNTS,
                minimum=self.minimum,
                maximum=self.maximum,
                description=f"{self._what} of {self.column or 'rows'} over the last {window_suffix(length)}",
            )
            for length in self.over
        )

    @property
    def _what(self) -> str:
        return self.function if self.rank is None else f"{self.function} {self.rank:g}"


def _over_column(
    function: str, column: str, over: Sequence[timedelta], name: str | None, unit: str, between: tuple[float, float] | None
) -> Aggregation:
    low, high = between if between is not None else (None, None)
    return Aggregation(function, column, tuple(over), name or f"{column}_{function}", "float64", unit, low, high)


def mean(
    column: str, *, over: Sequence[timedelta], name: str | None = None, unit: str = "", between: tuple[float, float] | None = None
) -> Aggregation:
    """The mean of a numeric column; `between` bounds the values a contract check accepts, ends included."""
    return _over_column("mean", column, over, name, unit, between)


def total(
    column: str, *, over: Sequence[timedelta], name: str | None = None, unit: str = "", between: tuple[float, float] | None = None
) -> Aggregation:
    """The sum of a numeric column; null over no rows, as in SQL."""
    return _over_column("sum", column, over, name, unit, between)


def smallest(
    column: str, *, over: Sequence[timedelta], name: str | None = None, unit: str = "", between: tuple[float, float] | None = None
) -> Aggregation:
    """The smallest value of a numeric column."""
    return _over_column("min", column, over, name, unit, between)


def largest(
    column: str, *, over: Sequence[timedelta], name: str | None = None, unit: str = "", between: tuple[float, float] | None = None
) -> Aggregation:
    """The largest value of a numeric column."""
    return _over_column("max", column, over, name, unit, between)


def std(
    column: str, *, over: Sequence[timedelta], name: str | None = None, unit: str = "", between: tuple[float, float] | None = None
) -> Aggregation:
    """The standard deviation of a numeric column as a sample (divided by n - 1); null over fewer than two values, as in SQL."""
    return _over_column("std", column, over, name, unit, between)


def approx_quantile(
    column: str,
    rank: float,
    *,
    over: Sequence[timedelta],
    name: str | None = None,
    unit: str = "",
    between: tuple[float, float] | None = None,
) -> Aggregation:
    """The smallest value of a numeric column that at least this share of its values do not exceed, e.g. 0.5 for the median.

    Exact from rows, and from tiles of up to 256 values each; from larger ones its rank is off by at most 0.4 %.
    """
    low, high = between if between is not None else (None, None)
    default = f"{column}_p{100 * rank:g}".replace(".", "_")
    return Aggregation("approx_quantile", column, tuple(over), name or default, "float64", unit, low, high, rank)


def approx_distinct(
    column: str, *, over: Sequence[timedelta], name: str | None = None, unit: str = "values", at_most: float | None = None
) -> Aggregation:
    """How many different values a column of any type has: exact below 1,024, else within about 3 % (one standard deviation)."""
    return Aggregation("approx_distinct", column, tuple(over), name or f"{column}_distinct", "int64", unit, 0, at_most)


def first(
    column: str, *, over: Sequence[timedelta], name: str | None = None, unit: str = "", between: tuple[float, float] | None = None
) -> Aggregation:
    """The value of a numeric column in the oldest row that has one; of rows with one event time, that known first."""
    return _over_column("first", column, over, name, unit, between)


def last(
    column: str, *, over: Sequence[timedelta], name: str | None = None, unit: str = "", between: tuple[float, float] | None = None
) -> Aggregation:
    """The value of a numeric column in the newest row that has one; of rows with one event time, that known last."""
    return _over_column("last", column, over, name, unit, between)


def count(*, over: Sequence[timedelta], name: str = "count", unit: str = "rows", at_most: float | None = None) -> Aggregation:
    """The number of rows."""
    return Aggregation("count", None, tuple(over), name, "int64", unit, 0, at_most)
