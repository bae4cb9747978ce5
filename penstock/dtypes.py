"""The types a feature or join key may have, one name each, and their names in Spark and Arrow."""

import math
from collections.abc import Callable
from datetime import date, datetime

from penstock.errors import ContractError

SPARK_TYPES = {
    "bool": "boolean",
    "int32": "int",
    "int64": "bigint",
    "float32": "float",
    "float64": "double",
    "string": "string",
    "timestamp": "timestamp",
    "date": "date",
    "binary": "binary",
}

JOIN_KEY_DTYPES = frozenset({"bool", "int32", "int64", "string", "timestamp", "date", "binary"})
FEATURE_DTYPES = frozenset(SPARK_TYPES) - {"date", "binary"}
NUMERIC_DTYPES = frozenset({"int32", "int64", "float32", "float64"})
FLOAT_DTYPES = frozenset({"float32", "float64"})


def is_list(dtype: str) -> bool:
    """Whether `dtype` is `list[<scalar>]`."""
    return dtype.startswith("list[") and dtype.endswith("]")


def element(dtype: str) -> str:
    """The element type of a list type."""
    return dtype[5:-1]


def require_dtype(dtype: str, where: str) -> str:
    """`dtype` if it is one of ours.

    Raises:
        ContractError: it is not.
    """
    scalar = element(dtype) if is_list(dtype) else dtype
    if scalar not in SPARK_TYPES:
        names = ", ".join(SPARK_TYPES)
        raise ContractError(f"{where}: unknown dtype '{dtype}'; expected one of {names}, or list[...] of one")
    return dtype


def spark_type(dtype: str) -> str:
    """The Spark SQL name of `dtype`."""
    return f"array<{SPARK_TYPES[element(dtype)]}>" if is_list(dtype) else SPARK_TYPES[dtype]


def _integer(bits: int) -> Callable[[object], bool]:
    bound = 1 << (bits - 1)
    return lambda value: type(value) is int and -bound <= value < bound


def _float(value: object) -> bool:
    return type(value) in (int, float) and not isinstance(value, bool) and not math.isnan(float(value))  # type: ignore[arg-type]


_ACCEPTS: dict[str, Callable[[object], bool]] = {
    "bool": lambda value: type(value) is bool,
    "int32": _integer(32),
    "int64": _integer(64),
    "float32": _float,
    "float64": _float,
    "string": lambda value: type(value) is str,
    "timestamp": lambda value: isinstance(value, datetime) and value.tzinfo is not None,
    "date": lambda value: type(value) is date,
    "binary": lambda value: isinstance(value, bytes | bytearray),
}


def accepts(dtype: str, value: object) -> bool:
    """Whether a Python value is of `dtype`; None never is, True is no integer, NaN no float."""
    if is_list(dtype):
        return isinstance(value, list) and all(_ACCEPTS[element(dtype)](item) for item in value)
    return _ACCEPTS[dtype](value)
