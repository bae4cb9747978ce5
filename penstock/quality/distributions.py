"""Two stretches of one feature compared by what their values are like: from statistics and sketches, without the rows.

A distance counts only if it is large enough to matter and larger than chance gives at these sizes once in a million (1e-6): without
the first every difference of a large sample counts, without the second every small sample. Below `ENOUGH` rows nothing is said.

| distance | of | notable | large | and |
| --- | --- | --- | --- | --- |
| `psi` | numbers: population stability index over ten bins of the reference, and one of nulls | 0.10 | 0.25 | above the χ² quantile |
| `ks` | numbers: Kolmogorov-Smirnov's D | 0.10 | 0.20 | above 2.69 √(1/n + 1/m) |
| `linf` | text and flags: the largest change of one value's share | 0.05 | 0.10 | above its own quantile, for each of the values |
| `unseen` | text: share of values that the reference does not have | 0.5 % | 5 % | 5 rows |
| `nulls` | share of nulls and NaN, the difference | 1 pp | 5 pp | z > 6 |
| `single` | share of one value, the rise: defaults that were filled in, clipping | 1 pp | 5 pp | z > 6 and 10 rows |
| `range` | numbers: share outside the reference's range and a tenth of it on either side | 0.1 % | 1 % | 10 rows |
| `distinct` | numbers: different values a row, against the reference's | half | a fifth | |

Limits and gates are those of a study of twelve kinds of faults over six shapes of numbers and a text of fifty values.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import log, sqrt

import numpy as np

from penstock.contract.view_parts import Feature
from penstock.dtypes import NUMERIC_DTYPES
from penstock.offline.statistics import ColumnStatistics

ENOUGH = 1_000
"""Rows on both sides below which nothing is said."""

_BINS = 10
_SMOOTHING = 0.5
_Z = 6.0
_KS_ALPHA = 2.69  # sqrt(-ln(1e-6 / 2) / 2)
_CHI2 = {1: 23.928, 2: 27.631, 3: 30.665, 4: 33.377, 5: 35.888, 6: 38.258, 7: 40.522, 8: 42.701, 9: 44.811, 10: 46.863}  # at 1e-6


class Size(StrEnum):
    """How large a distance is."""

    NONE = "none"
    NOTABLE = "notable"
    LARGE = "large"
    INSUFFICIENT_DATA = "insufficient_data"


@dataclass(frozen=True)
class Distance:
    """One distance between two stretches of a feature.

    Args:
        name: which, see above.
        value: how far they are apart.
        size: whether that is much.
    """

    name: str
    value: float
    size: Size


def distances(reference: ColumnStatistics, seen: ColumnStatistics, dtype: str) -> list[Distance]:
    """All distances that are there for a feature of this dtype."""
    if min(reference.rows, seen.rows) < ENOUGH:
        return [Distance("rows", float(min(reference.rows, seen.rows)), Size.INSUFFICIENT_DATA)]
    found = [_nulls(reference, seen)]
    if dtype in NUMERIC_DTYPES:
        found += _of_numbers(reference, seen)
    elif dtype in ("string", "bool"):
        found += _of_categories(reference, seen, unseen=dtype == "string")
    return found


def unlike(
    features: Iterable[Feature], reference: Mapping[str, ColumnStatistics], seen: Mapping[str, ColumnStatistics]
) -> tuple[dict[str, str], int]:
    """Feature → its notable and large distances in words, of those that have any; and how many features could be compared."""
    notable: dict[str, str] = {}
    compared = 0
    for feature in features:
        if feature.name not in reference or feature.name not in seen:
            continue
        found = distances(reference[feature.name], seen[feature.name], feature.dtype)
        compared += any(one.size is not Size.INSUFFICIENT_DATA for one in found)
        beyond = [one for one in found if one.size in (Size.NOTABLE, Size.LARGE)]
        if beyond:
            notable[feature.name] = ", ".join(f"{one.name} {one.value:.3g} ({one.size})" for one in beyond)
    return notable, compared


def _sized(name: str, value: float, notable: float, large: float, *, real: bool) -> Distance:
    size = Size.LARGE if value >= large else Size.NOTABLE if value >= notable else Size.NONE
    return Distance(name, value, size if real else Size.NONE)


def _nulls(reference: ColumnStatistics, seen: ColumnStatistics) -> Distance:
    empty = [statistics.nulls + statistics.nans for statistics in (reference, seen)]
    change = abs(empty[1] / seen.rows - empty[0] / reference.rows)
    return _sized("nulls", change, 0.01, 0.05, real=_z(empty[0], reference.rows, empty[1], seen.rows) > _Z)


def _of_numbers(reference: ColumnStatistics, seen: ColumnStatistics) -> Iterator[Distance]:
    if min(reference.finite, seen.finite) < ENOUGH:
        yield Distance("psi", float(min(reference.finite, seen.finite)), Size.INSUFFICIENT_DATA)
        return
    first, second = reference.sketch, seen.sketch
    assert first is not None
    assert second is not None
    edges = sorted(set(first.get_quantiles([n / _BINS for n in range(1, _BINS)])))
    expected = [*_in_bins(first.get_cdf(edges), reference.finite), reference.nulls + reference.nans]
    actual = [*_in_bins(second.get_cdf(edges), seen.finite), seen.nulls + seen.nans]
    spread = 1 / reference.rows + 1 / seen.rows
    psi = _psi(expected, actual)
    yield _sized("psi", psi, 0.10, 0.25, real=psi > _CHI2[len(edges) + 1] * spread)
    ranks = [n / 200 for n in range(1, 200)]
    points = sorted({*first.get_quantiles(ranks), *second.get_quantiles(ranks)})
    apart = float(np.abs(np.array(first.get_cdf(points)) - np.array(second.get_cdf(points))).max())
    yield _sized("ks", apart, 0.10, 0.20, real=apart > _KS_ALPHA * sqrt(1 / reference.finite + 1 / seen.finite))
    yield _single(reference, seen)
    yield _range(reference, seen)
    yield from _distinct(reference, seen)


def _in_bins(cdf: list[float], rows: int) -> list[float]:
    return [(high - low) * rows for low, high in pairwise([0.0, *cdf])]


def _psi(expected: list[float], actual: list[float]) -> float:
    shares = []
    for counts in (expected, actual):
        smoothed = [count + _SMOOTHING for count in counts]
        shares.append([count / sum(smoothed) for count in smoothed])
    return float(sum((q - p) * log(q / p) for p, q in zip(*shares, strict=True)))


def _single(reference: ColumnStatistics, seen: ColumnStatistics) -> Distance:
    """The value whose share rose most. What is not among the reference's most frequent had fewer than its rarest of these."""
    best = Distance("single", 0.0, Size.NONE)
    for value, count in seen.top.items():
        before = reference.top.get(value, 0)
        rise = count / seen.rows - before / reference.rows
        if rise > best.value:
            best = _sized("single", rise, 0.01, 0.05, real=count >= 10 and _z(before, reference.rows, count, seen.rows) > _Z)
    return best


def _range(reference: ColumnStatistics, seen: ColumnStatistics) -> Distance:
    assert reference.low is not None
    assert reference.high is not None
    margin = (reference.high - reference.low) / 10
    low, high = reference.low - margin, reference.high + margin
    far = [sum(value < low for value in seen.lowest), sum(value > high for value in seen.highest)]
    # Of more than are kept the sketch tells.
    ranks = [seen.sketch.get_rank(low, False), 1.0 - seen.sketch.get_rank(high, True)]
    shares = [
        max(n / seen.finite, rank) if n == len(kept) else n / seen.finite
        for n, rank, kept in zip(far, ranks, (seen.lowest, seen.highest), strict=True)
    ]
    outside = sum(shares)
    return _sized("range", outside, 0.001, 0.01, real=outside * seen.finite >= 10)


def _distinct(reference: ColumnStatistics, seen: ColumnStatistics) -> Iterator[Distance]:
    """Of numbers nearly all of which differ; the share of different values falls with the number of rows, so both are of as many."""
    before, now = reference.distinct_values, seen.distinct_values
    if before is None or now is None or before / reference.finite < 0.5:
        return
    ratio = (now / seen.finite) / (before / reference.finite)
    yield Distance("distinct", ratio, Size.LARGE if ratio < 0.2 else Size.NOTABLE if ratio < 0.5 else Size.NONE)


def _of_categories(reference: ColumnStatistics, seen: ColumnStatistics, *, unseen: bool) -> Iterator[Distance]:
    values = {*reference.top, *seen.top}
    there = [max(1, statistics.rows - statistics.nulls) for statistics in (reference, seen)]
    shares = {value: (reference.top.get(value, 0) / there[0], seen.top.get(value, 0) / there[1]) for value in values}
    change = max((abs(now - before) for before, now in shares.values()), default=0.0)
    gate = sqrt(log(2 * max(1, len(values)) / 1e-6) / 2) * sqrt(1 / there[0] + 1 / there[1])
    yield _sized("linf", change, 0.05, 0.10, real=change > gate)
    if unseen:
        new = sum(count for value, count in seen.top.items() if value not in reference.top)
        yield _sized("unseen", new / there[1], 0.005, 0.05, real=new >= 5 and _complete(reference))


def _complete(reference: ColumnStatistics) -> bool:
    """Whether the most frequent values are all there are: else one that is not among them may only be rare."""
    return sum(reference.top.values()) == reference.rows - reference.nulls


def _z(before: int, of_before: int, now: int, of_now: int) -> float:
    """Of two shares, how many standard deviations they are apart."""
    pooled = (before + now) / (of_before + of_now)
    spread = sqrt(pooled * (1 - pooled) * (1 / of_before + 1 / of_now))
    return abs(now / of_now - before / of_before) / spread if spread else 0.0
