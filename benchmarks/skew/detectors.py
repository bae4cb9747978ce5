"""What compares distributions alone: ours, and the rules that others use, on one feature as it is served beside a reference.

| detector | rule |
| --- | --- |
| `distances` | `quality/distributions.py`: notable or large |
| `psi` | population stability index over ten bins of the reference's quantiles and one of nulls, 0.25 and more |
| `ks` | Kolmogorov-Smirnov, or χ² of text and flags: p < 0.05 |
| `tfdv` | TensorFlow Data Validation's L∞ of the shares of values (numbers: of ten equal bins), above 0.01 as in its tutorial |
| `evidently` | the package itself in an environment of its own, with its defaults (`evidently_drift.py`) |
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

from penstock.offline.arrow import arrow_type
from penstock.offline.statistics import statistics_of
from penstock.quality.distributions import Size, distances

NUMBERS = ("int32", "int64", "float32", "float64")
CATEGORIES = ("string", "bool")


def alarms(dtype: str, reference: Sequence[Any], seen: Sequence[Any]) -> dict[str, bool]:
    """Detector → whether it says that the two differ; none of a type that none of them can compare."""
    if dtype not in (*NUMBERS, *CATEGORIES):
        return {}
    before, now = (statistics_of(pa.table({"x": pa.array(list(column), arrow_type(dtype))}), ["x"])["x"] for column in (reference, seen))
    ours = any(one.size in (Size.NOTABLE, Size.LARGE) for one in distances(before, now, dtype))
    rules = _of_numbers if dtype in NUMBERS else _of_categories
    return {name: bool(said) for name, said in {"distances": ours, **rules(reference, seen)}.items()}


def _of_numbers(reference: Sequence[Any], seen: Sequence[Any]) -> dict[str, bool]:
    first, second = (np.array([value for value in column if value is not None], float) for column in (reference, seen))
    if not len(first) or not len(second):
        return {"psi": True, "ks": True, "tfdv": True}
    edges = np.unique(np.quantile(first, np.linspace(0.1, 0.9, 9)))
    shares = []
    for values, column in ((first, reference), (second, seen)):
        counts = np.bincount(np.searchsorted(edges, values, "right"), minlength=len(edges) + 1)
        smoothed = np.append(counts, len(column) - len(values)) + 0.5
        shares.append(smoothed / smoothed.sum())
    psi = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    bins = np.linspace(min(first.min(), second.min()), max(first.max(), second.max()), 11)
    apart = [
        abs(((second >= low) & (second < high)).mean() - ((first >= low) & (first < high)).mean())
        for low, high in pairwise([*bins[:-1], np.inf])
    ]
    return {"psi": psi >= 0.25, "ks": bool(stats.ks_2samp(first, second).pvalue < 0.05), "tfdv": max(apart) > 0.01}


def _of_categories(reference: Sequence[Any], seen: Sequence[Any]) -> dict[str, bool]:
    first, second = (Counter("null" if value is None else str(value) for value in column) for column in (reference, seen))
    names = sorted({*first, *second})
    counts = np.array([[of[name] for name in names] for of in (first, second)], float)
    shares = (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)
    psi = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    apart = np.abs(counts[1] / counts[1].sum() - counts[0] / counts[0].sum()).max()
    p = stats.chi2_contingency(counts).pvalue if len(names) > 1 else 1.0
    return {"psi": psi >= 0.25, "ks": bool(p < 0.05), "tfdv": bool(apart > 0.01)}
