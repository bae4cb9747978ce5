"""What was served on a day beside a training set: told where it matters, and never more than a warning."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.contract import Feature
from penstock.offline.statistics import ColumnStatistics, Reference, statistics_of
from penstock.quality.beside_training import training_check
from penstock.quality.skew import Level
from tests.world import view_of_orders

VIEW = view_of_orders(features=[Feature("amount", "float64"), Feature("shop", "string"), Feature("basket", "list[int64]")])
SHOPS = np.array(["north", "south", "west"])


def drawn(seed: int, rows: int = 5_000, **changed: Any) -> dict[str, ColumnStatistics]:
    chance = np.random.default_rng(seed)
    columns = {"amount": chance.gamma(4.0, 5.0, rows), "shop": chance.choice(SHOPS, rows), "basket": [[1, 2]] * rows, **changed}
    return statistics_of(pa.table(columns), list(columns))


TRAINED = Reference("orders of 2026-02-01", drawn(1, 20_000))


def test_what_is_like_it_was_passes() -> None:
    check = training_check(VIEW, TRAINED, drawn(2))
    assert (check.name, check.level, check.bad, check.rows) == ("training", Level.PASSED, 0, 3)
    assert check.said == "last_order@1: 3 features are served as they are in training set orders of 2026-02-01"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"amount": np.random.default_rng(3).gamma(4.0, 15.0, 5_000)}, "amount: psi"),
        ({"shop": np.full(5_000, "east")}, "shop: linf 1 (large), unseen 1 (large)"),
        ({"amount": pa.array([None] * 2_000 + [20.0] * 3_000)}, "amount: nulls 0.4 (large)"),
    ],
)
def test_what_is_otherwise_is_a_warning_that_names_the_feature(changed: dict[str, Any], said: str) -> None:
    check = training_check(VIEW, TRAINED, drawn(2, **changed))
    assert (check.level, check.bad, check.rows) == (Level.WARNING, 1, 3)
    assert said in check.said


def test_of_many_features_five_are_named() -> None:
    names = [f"f{n}" for n in range(8)]
    view = view_of_orders(features=[Feature(name, "float64") for name in names])
    chance = np.random.default_rng(4)
    before, now = ({name: chance.normal(mean, 1, 2_000) for name in names} for mean in (0, 3))
    check = training_check(view, Reference("t", statistics_of(pa.table(before), names)), statistics_of(pa.table(now), names))
    assert (check.bad, check.said.count("psi")) == (8, 5)
    assert check.said.endswith("; and 3 more")


@pytest.mark.parametrize("served", [{}, drawn(2, 300), {"amount": drawn(2, 300)["amount"]}])
def test_what_cannot_be_compared_has_not_passed(served: dict[str, ColumnStatistics]) -> None:
    check = training_check(VIEW, TRAINED, served)
    assert (check.level, check.bad, check.rows) == (Level.INSUFFICIENT_DATA, 0, 0)


def test_features_that_were_not_trained_on_are_left_out() -> None:
    check = training_check(VIEW, Reference("t", {"shop": TRAINED.statistics["shop"]}), drawn(2))
    assert (check.level, check.rows) == (Level.PASSED, 1)
