"""Distances between two stretches of a feature: large where a fault is, none where there is only chance."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import chdtri

from penstock.offline.statistics import ColumnStatistics, merged, statistics_of
from penstock.quality.distributions import _CHI2, ENOUGH, Distance, Size, distances

Rows = Callable[[np.random.Generator, int], Any]
SHAPES: dict[str, Rows] = {
    "normal": lambda r, n: r.normal(10, 3, n),
    "lognormal": lambda r, n: r.lognormal(1, 1, n),
    "many zeros": lambda r, n: np.where(r.random(n) < 0.6, 0.0, r.exponential(5, n)),
    "uniform": lambda r, n: r.uniform(-1, 1, n),
    "beta": lambda r, n: r.beta(2, 5, n),
    "hours": lambda r, n: r.integers(0, 24, n).astype(float),
}


def texts(r: np.random.Generator, n: int) -> Any:
    return np.array([f"k{place}" for place in np.minimum(r.zipf(1.4, n), 50)])


def of(values: Any) -> ColumnStatistics:
    return statistics_of(pa.table({"x": values}), ["x"])["x"]


def with_nulls(values: Any, share: float, r: np.random.Generator) -> pa.Array:
    return pa.array(values, mask=r.random(len(values)) < share)


def largest(found: list[Distance]) -> Size:
    """The size that stands for all."""
    order = (Size.LARGE, Size.NOTABLE, Size.INSUFFICIENT_DATA, Size.NONE)
    sizes = {one.size for one in found}
    return next((size for size in order if size in sizes), Size.INSUFFICIENT_DATA)


def sizes(reference: Any, seen: Any, dtype: str = "float64") -> dict[str, Size]:
    return {one.name: one.size for one in distances(of(reference), of(seen), dtype)}


@pytest.mark.parametrize("shape", [*SHAPES, "texts"])
def test_chance_alone_is_never_large_nor_notable(shape: str) -> None:
    r = np.random.default_rng(len(shape))
    draw, dtype = (texts, "string") if shape == "texts" else (SHAPES[shape], "float64")
    reference = of(draw(r, 50_000))
    for n in (ENOUGH, 5_000):
        for _ in range(60):
            found = distances(reference, of(draw(r, n)), dtype)
            assert largest(found) is Size.NONE, found


FAULTS: dict[str, tuple[Callable[[Any, np.random.Generator], Any], Size]] = {
    "a mean a standard deviation higher": (lambda x, _: x + x.std(), Size.LARGE),
    "twice as wide": (lambda x, _: x.mean() + 2 * (x - x.mean()), Size.LARGE),
    "another unit": (lambda x, _: x * 1_000, Size.LARGE),
    "another sign": (lambda x, _: -x - 1e-3, Size.LARGE),
    "a fifth null": (lambda x, r: with_nulls(x, 0.2, r), Size.LARGE),
    "a tenth filled with -1": (lambda x, r: np.where(r.random(len(x)) < 0.1, -1.0, x), Size.LARGE),
    "clipped at the 90th percentile": (lambda x, _: np.minimum(x, np.quantile(x, 0.9)), Size.LARGE),
}


@pytest.mark.parametrize("shape", ["normal", "lognormal"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_large_fault_is_large(shape: str, fault: str) -> None:
    r = np.random.default_rng(1)
    spoil, size = FAULTS[fault]
    reference = of(SHAPES[shape](r, 50_000))
    for _ in range(10):
        assert largest(distances(reference, of(spoil(SHAPES[shape](r, 5_000), r)), "float64")) is size


def test_what_replay_sees_and_this_does_not() -> None:
    """Keys that were shuffled, hours shifted on a whole day, one event lost on 5 % of the rows: the same values, on other rows."""
    r = np.random.default_rng(2)
    hours, counts = SHAPES["hours"](r, 50_000), r.poisson(20, 50_000).astype(float)
    assert largest(distances(of(hours), of((hours[:5_000] + 3) % 24), "float64")) is Size.NONE
    assert largest(distances(of(counts), of(r.permutation(counts)[:5_000]), "float64")) is Size.NONE
    lost = counts[:5_000] - (r.random(5_000) < 0.05)
    assert largest(distances(of(counts), of(lost), "float64")) is Size.NONE


def test_each_distance_is_named_for_what_happened() -> None:
    r = np.random.default_rng(3)
    x = r.normal(10, 3, 50_000)
    seen = x[:5_000]
    assert sizes(x, with_nulls(seen, 0.03, r))["nulls"] is Size.NOTABLE
    assert sizes(x, np.where(r.random(5_000) < 0.03, np.nan, seen))["nulls"] is Size.NOTABLE
    assert sizes(x, np.where(r.random(5_000) < 0.03, 0.0, seen))["single"] is Size.NOTABLE
    assert sizes(x, np.where(r.random(5_000) < 0.005, 1e6, seen))["range"] is Size.NOTABLE
    assert sizes(x, np.round(seen / 3) * 3)["distinct"] is Size.LARGE
    assert sizes(x, seen + 3)["ks"] is Size.LARGE
    few = [f"k{n % 20}" for n in range(50_000)]
    new = [*few[:4_900], *["OTHER"] * 100]
    assert sizes(few, new, "string") == {"nulls": Size.NONE, "linf": Size.NONE, "unseen": Size.NOTABLE}
    assert sizes([n % 2 == 0 for n in range(5_000)], [n % 5 == 0 for n in range(5_000)], "bool")["linf"] is Size.LARGE


@pytest.mark.parametrize("dtype", ["float64", "int64", "string", "bool", "timestamp", "list[float64]"])
def test_of_few_rows_nothing_is_said(dtype: str) -> None:
    few, enough = ColumnStatistics(rows=ENOUGH - 1), ColumnStatistics(rows=ENOUGH)
    assert [one.size for one in distances(few, enough, dtype)] == [Size.INSUFFICIENT_DATA]
    assert [one.size for one in distances(enough, few, dtype)] == [Size.INSUFFICIENT_DATA]


def test_nothing_but_nulls_is_large_and_few_numbers_are_too_few() -> None:
    r = np.random.default_rng(4)
    nothing = pa.array([None] * 5_000, pa.float64())
    found = sizes(r.normal(size=5_000), nothing)
    assert found == {"nulls": Size.LARGE, "psi": Size.INSUFFICIENT_DATA}
    assert largest([]) is Size.INSUFFICIENT_DATA
    assert sizes(nothing, nothing) == {"nulls": Size.NONE, "psi": Size.INSUFFICIENT_DATA}


def test_infinite_numbers_and_a_reference_of_one_value_are_compared() -> None:
    same = [7.0] * 5_000
    assert largest(distances(of(same), of(same), "float64")) is Size.NONE
    assert sizes(same, [8.0] * 5_000)["single"] is Size.LARGE
    assert sizes([*same, float("inf")], [*same, float("-inf")])["psi"] is Size.NONE


def test_parts_together_are_as_the_whole() -> None:
    r = np.random.default_rng(5)
    x = np.where(r.random(40_000) < 0.3, 0.0, r.normal(size=40_000))
    parts = merged([{"x": of(part)} for part in np.split(x, 8)])["x"]
    assert parts.top == of(x).top == {"0.0": int((x == 0).sum())}
    assert largest(distances(of(x), parts, "float64")) is Size.NONE


def test_the_quantiles_of_chi_square_are_those() -> None:
    assert {df: pytest.approx(chdtri(df, 1e-6), abs=1e-3) for df in range(1, 11)} == _CHI2
