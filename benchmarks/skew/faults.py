"""Kinds of faults: what each alters, on which side, and how it should be named.

| where | what is altered |
| --- | --- |
| `value`, `other_key` | the features of rows: online in Cassandra, offline in the lake, or the same on both sides |
| `time`, `bytes`, `schema`, `old`, `gone`, `extra` | rows of Cassandra |
| `log` | rows of the feature log, lost after a gateway had counted them |
| `late` | the clock of a publisher that stopped |

`expected` is the check that has to be critical, `named` the finding that has to be the most frequent. What is altered in the same way on
both sides is no skew: replay must be silent, and only distributions can see it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from penstock.quality.findings import Finding

Values = list[Any]
Alter = Callable[[Values, int, np.random.Generator], Values]
"""Values of a row, the place of a feature in it, chance → other values."""

ONLINE, OFFLINE, BOTH = "online", "offline", "both"


@dataclass(frozen=True)
class Fault:
    """One kind.

    Args:
        name: which.
        where: what is altered, see above.
        expected: the check that must be critical.
        named: the finding it must be named; None: it is no difference of values.
        dtypes: features of which types it can alter; none: it is not of one feature.
        alter: what `value` does.
    """

    name: str
    where: str
    expected: str
    named: Finding | None
    dtypes: Sequence[str] = ()
    alter: Alter | None = None

    @property
    def sides(self) -> Sequence[str]:
        """Where it can be."""
        return (ONLINE, OFFLINE, BOTH) if self.where in ("value", "other_key") else (ONLINE,)


def _of(change: Callable[[Any], Any]) -> Alter:
    return lambda values, place, _: [change(value) if n == place and value is not None else value for n, value in enumerate(values)]


def _null(values: Values, place: int, _: np.random.Generator) -> Values:
    return [None if n == place else value for n, value in enumerate(values)]


def _default(values: Values, place: int, _: np.random.Generator) -> Values:
    return [type(value)(0) if n == place and value is not None else value for n, value in enumerate(values)]


def _filled(values: Values, place: int, _: np.random.Generator) -> Values:
    return [0.0 if n == place and value is None else value for n, value in enumerate(values)]


def _swapped(values: Values, place: int, _: np.random.Generator) -> Values:
    others = (n for n, value in enumerate(values) if n != place and type(value) is type(values[place]) and value != values[place])
    other, found = next(others, place), list(values)
    found[place], found[other] = found[other], found[place]
    return found


def _value(name: str, dtypes: Sequence[str], alter: Alter) -> Fault:
    return Fault(name, "value", "fidelity", Finding.VALUE, dtypes, alter)


DOUBLES, WHOLE, TEXTS, LISTS = ("float64",), ("int32", "int64"), ("string",), ("list[float64]",)
FLOATS, NUMBERS = ("float64", "float32"), ("float64", "float32", "int32", "int64")
ALL = (*NUMBERS, "bool", "string", "timestamp", *LISTS)

FAULTS = (
    _value("another unit", DOUBLES, _of(lambda x: x * 1_000 + 1)),
    _value("another sign", ("float64", *WHOLE), _of(lambda x: -x - 1)),
    _value("rounded to whole numbers", DOUBLES, _of(lambda x: float(round(x)))),
    _value("rounded to two decimals", DOUBLES, _of(lambda x: round(x, 2))),
    _value("clipped", WHOLE, _of(lambda x: min(x, 3))),
    _value("one event lost", WHOLE, _of(lambda x: x - 1)),
    _value("a millionth more", DOUBLES, _of(lambda x: x * (1 + 1e-6) + 1e-9)),
    _value("half as much again", FLOATS, _of(lambda x: x * 1.5 + 1)),
    _value("a null", ALL, _null),
    _value("a default filled in", NUMBERS, _default),
    _value("zero in place of null", FLOATS, _filled),
    _value("text cut off", TEXTS, _of(lambda x: x[:-1])),
    _value("text of another category", TEXTS, _of(lambda x: "OTHER" if x != "OTHER" else "NONE")),
    _value("a flag the other way", ("bool",), _of(lambda x: not x)),
    _value("of another time zone", ("timestamp",), _of(lambda x: x + timedelta(hours=5))),
    _value("cut to the second", ("timestamp",), _of(lambda x: x.replace(second=59))),
    _value("an order reversed", LISTS, _of(lambda x: x[::-1])),
    _value("one element of a list", LISTS, _of(lambda x: [x[0] + 1, *x[1:]])),
    _value("a list cut off", LISTS, _of(lambda x: x[:-1])),
    _value("two features swapped", ("int32", "float64"), _swapped),
    Fault("the value of another key", "other_key", "fidelity", Finding.VALUE),
    Fault("three hours later", "time", "fidelity", Finding.VALUE),
    Fault("bytes damaged", "bytes", "fidelity", Finding.VALUE),
    Fault("of another schema", "schema", "fidelity", Finding.TYPE),
    Fault("an older value", "old", "staleness", Finding.STALE),
    Fault("gone", "gone", "presence", Finding.MISSING),
    Fault("where nothing should be", "extra", "presence", Finding.EXTRA),
    Fault("log rows lost", "log", "log", None),
    Fault("the publisher stopped", "late", "age", None),
)

UNSEEN = (
    "an older value",
    "the value of another key",
    "two features swapped",
    "three hours later",
    "rounded to two decimals",
    "one event lost",
    "zero in place of null",
)
"""What no distribution shows, or hardly: shares of values stay as they are."""
