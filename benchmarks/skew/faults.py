"""Faults of what is online and of the log: what each alters, and how it should be named.

A fault is injected where it would happen: into rows of Cassandra, rows of the log, or the clock of a publisher that
stopped. `expected` is the check that has to be critical, `named` the finding that has to be the most frequent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.quality.findings import Finding

Values = list[Any]
Alter = Callable[[Values, int, np.random.Generator], Values]
"""Values of a row, the place of a feature in it, chance → other values."""


@dataclass(frozen=True)
class Fault:
    """One kind.

    Args:
        name: which.
        where: `value`, `old`, `other_key`, `gone`, `extra`, `schema`, `bytes`, `time`, `log`, `late`.
        dtypes: of which features; empty: of any.
        expected: the check that must be critical.
        named: the finding it must be named; None: it is no difference of values.
        alter: what `value` does.
    """

    name: str
    where: str
    expected: str
    named: Finding | None
    dtypes: Sequence[str] = ()
    alter: Alter | None = None


def _of(change: Callable[[Any], Any]) -> Alter:
    return lambda values, place, _: [change(value) if n == place and value is not None else value for n, value in enumerate(values)]


def _null(values: Values, place: int, _: np.random.Generator) -> Values:
    return [None if n == place else value for n, value in enumerate(values)]


def _default(values: Values, place: int, _: np.random.Generator) -> Values:
    return [(-1 if value is None or value != -1 else 0) if n == place else value for n, value in enumerate(values)]


def _swapped(values: Values, place: int, _: np.random.Generator) -> Values:
    other = next(
        (n for n, value in enumerate(values) if n != place and type(value) is type(values[place]) and value != values[place]), place
    )
    found = list(values)
    found[place], found[other] = found[other], found[place]
    return found


NUMBERS, FLOATS, WHOLE, TEXTS = ("int32", "int64", "float64"), ("float64",), ("int32", "int64"), ("string",)

FAULTS = (
    Fault("another unit", "value", "fidelity", Finding.VALUE, FLOATS, _of(lambda x: x * 1_000 + 1)),
    Fault("another sign", "value", "fidelity", Finding.VALUE, NUMBERS, _of(lambda x: -x - 1)),
    Fault("rounded to whole numbers", "value", "fidelity", Finding.VALUE, FLOATS, _of(lambda x: float(round(x)))),
    Fault("one event lost", "value", "fidelity", Finding.VALUE, WHOLE, _of(lambda x: x - 1)),
    Fault("a millionth more", "value", "fidelity", Finding.VALUE, FLOATS, _of(lambda x: x * (1 + 1e-6) + 1e-9)),
    Fault("a null", "value", "fidelity", Finding.VALUE, (), _null),
    Fault("a default filled in", "value", "fidelity", Finding.VALUE, NUMBERS, _default),
    Fault("text cut off", "value", "fidelity", Finding.VALUE, TEXTS, _of(lambda x: x[:-1])),
    Fault("text of another category", "value", "fidelity", Finding.VALUE, TEXTS, _of(lambda x: "OTHER" if x != "OTHER" else "NONE")),
    Fault("two features swapped", "value", "fidelity", Finding.VALUE, NUMBERS, _swapped),
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
