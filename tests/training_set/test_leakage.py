"""What a mode leaks: which rows, by how much, and the times that show it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from penstock.contract import Feature
from penstock.contract.service import select
from penstock.offline.lake import Lake
from penstock.point_in_time.joined import Resources
from penstock.point_in_time.spine import table_rows
from penstock.point_in_time.view_join import view_joins
from penstock.training_set.leakage import Leakage, leakage
from penstock.training_set.leakage_report import leakage_page
from tests.point_in_time.tables import DAY, HOUR, a_view, write_rows

UTC_MICROS = pa.timestamp("us", tz="UTC")
LATE = a_view("late", delay=2 * HOUR, features=[Feature("amount", "float64"), Feature("word", "string")])


def no_spark() -> Any:
    raise AssertionError("this needs no Spark")


@pytest.fixture
def found(tmp_path: Path) -> Leakage:
    lake = Lake(str(tmp_path))
    # of hours 0 to 4; each may be used from two hours later
    write_rows(lake, LATE, [{"user": 1, "at": DAY + n * HOUR, "amount": 10.0 * n, "word": "same"} for n in range(5)])
    spine = pa.table({"user": [1] * 6 + [2], "event_time": pa.array([DAY + n * HOUR for n in range(6)] + [DAY], UTC_MICROS)})
    joins = view_joins(lake, select([LATE], "the test"), "assumed")
    return leakage(lake, table_rows(spine), joins, Resources(no_spark, 2, 10**8), "event")


def test_rows_that_know_too_early_are_counted(found: Leakage) -> None:
    assert (found.modes, found.rows) == (("event", "assumed"), 7)
    amount, word = found.features
    # event: 0 10 20 30 40 40 -; assumed: - - 0 10 20 30 -
    assert (amount.feature, amount.differ, amount.share, amount.present) == ("late__amount", 6, 6 / 7, (6, 4))
    assert amount.mean_difference == pytest.approx((20 + 20 + 20 + 10) / 4)
    # of 0 10 20 30 the deviation is 12.9
    assert amount.in_deviations == pytest.approx(17.5 / 12.909944)
    assert (word.differ, word.present, word.mean_difference) == (2, (6, 4), None)  # only where one has none


def test_examples_show_when_the_value_was_known(found: Leakage) -> None:
    first, second, third = found.features[0].examples
    assert first.row == {"user": 1, "event_time": (DAY).isoformat().replace("+00:00", "Z")}
    assert (first.values, second.values, third.values) == ((0.0, None), (10.0, None), (20.0, 0.0))
    known = msgspec.convert(third.known_at, type=tuple[Any, Any])
    assert known == (DAY + 2 * HOUR, DAY + 2 * HOUR)  # one at its own time, one two hours after
    assert third.event_times == (DAY + 2 * HOUR, DAY)


def test_ages_are_younger_where_a_mode_knows_too_early(found: Leakage) -> None:
    (ages,) = found.ages
    median = ages.ranks.index(0.5)
    assert (ages.first[median], ages.second[median]) == (0.0, timedelta(hours=2).total_seconds())


def test_the_page_is_one_file_and_says_it_all(found: Leakage) -> None:
    html = leakage_page(found, "Leakage of <baskets>", "build 1")
    assert "Leakage of &lt;baskets&gt;" in html
    assert "<svg" in html
    assert "late__amount" in html
    assert "85.7%" in html
    assert "https://" not in html
    assert "src=" not in html
    assert "<script" not in html
    assert leakage_page(found, "Leakage of <baskets>", "build 1") == html
