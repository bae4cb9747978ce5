"""Counts of distinct values and quantiles, from parts that can be put together in any order.

Both are functions of what they hold and of nothing else: no random numbers, no order of merging. The quantile sketches of
Apache DataSketches (KLL) draw random bits that cannot be seeded: the same rows give another value each time (docs/adr/0014).

Distinct values are the 1,024 smallest of their 64-bit hashes (k minimum values: Bar-Yossef and others 2002): a part keeps its
own smallest, and those of all parts hold the smallest of the whole. Fewer than 1,024 are counted exactly.

For quantiles a part keeps up to 256 of its values, each standing for as many: the middle ones of equal runs of the sorted
values. A quantile of several parts is the one of all they keep, by weight. A value stands for others within half a run of it,
so in each part, and in all together, a rank is off by at most 1/257; a part of up to 256 values is kept as it is.
"""

import numpy as np
import numpy.typing as npt

from penstock.offline.windows.plan import Flags, Floats, Ints

Hashes = npt.NDArray[np.uint64]

SMALLEST = 1024
KEPT_VALUES = 256


def distinct_values(smallest: int, of: float) -> int:
    """About how many distinct hashes there are, of which the `SMALLEST`-th is `of`; fewer than that are counted, in `smallest`."""
    return smallest if smallest < SMALLEST else round((SMALLEST - 1) * 2.0**64 / of)


def smallest_of_groups(group: Ints, hashes: Hashes) -> tuple[Ints, Hashes]:
    """The `SMALLEST` smallest distinct hashes of each group, ascending: group and hash of each; by group."""
    group, hashes = _distinct_sorted(group, hashes)
    kept = _rank_in_group(group) < SMALLEST
    return group[kept], hashes[kept]


def count_distinct(group: Ints, hashes: Hashes, groups: int) -> Floats:
    """About how many distinct hashes each of so many groups has.

    Args:
        group, hashes: of n hashes, sorted by both; the same may stand there more than once.
        groups: groups are 0 to `groups` - 1.
    """
    group, hashes = _distinct_of_sorted(group, hashes)
    counts = np.bincount(group, minlength=groups)
    found = counts.astype(np.float64)
    many = np.flatnonzero(counts >= SMALLEST)
    starts = np.cumsum(counts) - counts
    found[many] = [distinct_values(SMALLEST, float(h)) for h in hashes[starts[many] + SMALLEST - 1]]
    return found


def summary_of_groups(group: Ints, values: Floats) -> tuple[Ints, Floats, Ints]:
    """Up to `KEPT_VALUES` values of each group and how many each stands for: group, value and weight, sorted by the first two."""
    order = np.lexsort((values, group))
    group, values = group[order], values[order]
    rank, count = _rank_in_group(group), _size_of_group(group)
    runs = np.minimum(count, KEPT_VALUES)
    run = rank * runs // count  # equal runs, to one value
    first = -(-run * count // runs)  # rank of the run's first value
    end = -(-(run + 1) * count // runs)
    middle = rank == (first + end - 1) // 2
    return group[middle], values[middle], (end - first)[middle]


def quantile(group: Ints, values: Floats, weights: Ints, rank: float, groups: int) -> tuple[Floats, Flags]:
    """The smallest value of each of so many groups that at least the share `rank` of its weight does not exceed.

    Args:
        group, values, weights: of n values, sorted by the first two.
        rank: between 0 and 1.
        groups: groups are 0 to `groups` - 1.

    Returns:
        A value and a flag for each group: False is none, for a group without values.
    """
    so_far = np.cumsum(weights)
    counts = np.bincount(group, minlength=groups)
    there = counts > 0
    ends = np.cumsum(counts)[there]
    total_before = np.concatenate([[0], so_far])[ends - counts[there]]
    total = so_far[ends - 1] - total_before
    target = np.maximum(1, np.ceil(rank * total - 1e-9).astype(np.int64))  # 0.1 of 30 is the third, in binary too
    found = np.zeros(groups, np.float64)
    found[there] = values[np.searchsorted(so_far, total_before + target, "left")]
    return found, there


def _distinct_sorted(group: Ints, hashes: Hashes) -> tuple[Ints, Hashes]:
    order = np.lexsort((hashes, group))
    return _distinct_of_sorted(group[order], hashes[order])


def _distinct_of_sorted(group: Ints, hashes: Hashes) -> tuple[Ints, Hashes]:
    new = np.ones(len(group), np.bool_)
    new[1:] = (group[1:] != group[:-1]) | (hashes[1:] != hashes[:-1])
    return group[new], hashes[new]


def _rank_in_group(group: Ints) -> Ints:
    starts, sizes = _runs(group)
    return np.arange(len(group)) - np.repeat(starts, sizes)


def _size_of_group(group: Ints) -> Ints:
    _, sizes = _runs(group)
    return np.repeat(sizes, sizes)


def _runs(group: Ints) -> tuple[Ints, Ints]:
    """Where each run of equal values begins, and how long it is."""
    starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])) if len(group) else np.empty(0, np.int64)
    return starts, np.diff([*starts, len(group)])
