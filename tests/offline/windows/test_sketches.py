"""What is kept of a set of values is small, is a function of the set, and is as close as it says."""

import numpy as np
import pytest

from penstock.offline.windows.sketches import (
    KEPT_VALUES,
    SMALLEST,
    count_distinct,
    quantile,
    smallest_of_groups,
    summary_of_groups,
)


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 300, 600, 8_000, 100_000])
def test_a_rank_is_off_by_half_a_run_at_most(n: int) -> None:
    values = np.random.default_rng(n).permutation(n).astype(np.float64)
    group, kept, weights = summary_of_groups(np.zeros(n, np.int64), values)
    assert len(kept) == min(n, KEPT_VALUES)
    assert weights.sum() == n
    for rank in np.linspace(0.001, 0.999, 499):
        (found,), (there,) = quantile(group, kept, weights, float(rank), 1)
        exact = max(0, int(np.ceil(rank * n - 1e-9)) - 1)  # values are their own ranks, from 0
        assert there
        assert abs(found - exact) <= -(-n // KEPT_VALUES) // 2
        assert abs(found - exact) / n <= 1 / 257


def test_what_is_kept_does_not_depend_on_an_order() -> None:
    random = np.random.default_rng(3)
    group, values = random.integers(0, 5, 5_000), random.normal(size=5_000)
    hashes = random.integers(0, 2**63, 5_000).astype(np.uint64) % np.uint64(3_000)
    order = random.permutation(5_000)
    for one, other in (
        (summary_of_groups(group, values), summary_of_groups(group[order], values[order])),
        (smallest_of_groups(group, hashes), smallest_of_groups(group[order], hashes[order])),
    ):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))


def test_the_smallest_hashes_of_parts_hold_those_of_the_whole() -> None:
    random = np.random.default_rng(4)
    hashes = random.integers(0, 2**64, 20_000, dtype=np.uint64)
    part = random.integers(0, 7, len(hashes))
    whole = smallest_of_groups(np.zeros(len(hashes), np.int64), hashes)[1]
    _, of_parts = smallest_of_groups(part, hashes)
    assert (smallest_of_groups(np.zeros(len(of_parts), np.int64), of_parts)[1] == whole).all()
    assert len(whole) == SMALLEST


@pytest.mark.parametrize("n", [0, 1, 1_023, 1_024, 50_000])
def test_few_distinct_values_are_counted_and_many_are_estimated(n: int) -> None:
    hashes = np.sort(np.random.default_rng(n).integers(0, 2**64, n, dtype=np.uint64))
    twice = np.repeat(hashes, 2)
    (found,) = count_distinct(np.zeros(len(twice), np.int64), twice, 1)
    assert found == n if n < SMALLEST else found == pytest.approx(n, rel=0.1)


def test_a_group_of_nothing_has_no_quantile_and_no_distinct_values() -> None:
    group = np.array([1, 1, 3])
    values, there = quantile(group, np.array([1.0, 2.0, 5.0]), np.ones(3, np.int64), 0.5, 5)
    assert (there.tolist(), values[there].tolist()) == ([False, True, False, True, False], [1.0, 5.0])
    assert count_distinct(group, np.array([1, 2, 5], np.uint64), 5).tolist() == [0, 2, 0, 1, 0]
