"""What is said of a column is what counting its values one by one says."""

import math
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from penstock.offline.statistics import statistics_of

NAN, INF = math.nan, math.inf
DAY = datetime(2026, 3, 2, tzinfo=UTC)
COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "floats": (pa.float64(), [1.5, None, -0.0, 0.0, NAN, NAN, INF, INF, -INF, 1.5, 1.5, 2.25]),
    "small floats": (pa.float32(), [0.5, 0.5, 0.25, None]),
    "nothing finite": (pa.float64(), [NAN, -INF, INF]),
    "great whole numbers": (pa.int64(), [2**53 + 1, 2**53 + 1, 2**53, -7, 0, 0]),
    "truths": (pa.bool_(), [True, False, True, None]),
    "texts": (pa.string(), ["", "a\nb", 'say "x"', "a\nb", "", None, "ö", "ö", "once"]),
    "times": (pa.timestamp("us", tz="UTC"), [DAY, DAY, None]),
    "days": (pa.date32(), [DAY.date(), DAY.date(), date(2026, 3, 3)]),
    "nulls": (pa.float64(), [None, None]),
    "no rows": (pa.int32(), []),
}
TOP = {
    "floats": {"1.5": 3, "0.0": 2, "Infinity": 2},
    "small floats": {"0.5": 2},
    "great whole numbers": {"0": 2, "9007199254740993": 2},
    "truths": {"true": 2},
    "texts": {'""': 2, '"\\u00f6"': 2, '"a\\nb"': 2},
    "times": {'"2026-03-02T00:00:00+00:00"': 2},
    "days": {'"2026-03-02"': 2},
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_as_it_is_counted(name: str) -> None:
    dtype, values = COLUMNS[name]
    found = statistics_of(pa.table({"x": pa.array(values, dtype)}), ["x"])["x"]
    present = [value for value in values if value is not None]
    numbers = [float(value) for value in present if isinstance(value, int | float)]
    finite = sorted(value for value in numbers if math.isfinite(value))
    assert (found.rows, found.nulls, found.nans) == (len(values), len(values) - len(present), sum(map(math.isnan, numbers)))
    assert found.zeros == sum(value in (0, "") for value in present)
    assert (found.finite, found.lowest, found.highest) == (len(finite), finite, finite)
    assert (found.low, found.high) == ((finite[0], finite[-1]) if finite else (None, None))
    if finite:
        assert found.mean == pytest.approx(sum(finite) / len(finite))
        assert found.quantile(0.5) in finite
    assert found.top == TOP.get(name, {})


def test_only_the_most_frequent_values_are_kept_and_all_of_them_are() -> None:
    values = [value for value in range(200) for _ in range(value + 1)]
    found = statistics_of(pa.table({"x": values}), ["x"])["x"]
    often = Counter(values).most_common(50)
    assert found.top == {str(value): count for value, count in often}
    assert [*found.top][:3] == ["199", "198", "197"]
    assert (found.lowest[:2], found.highest[-2:], len(found.lowest), len(found.highest)) == ([0, 1], [199, 199], 32, 32)


def test_the_least_and_the_greatest_are_apart_where_there_are_many() -> None:
    values = [float(value) for value in range(1_000)]
    found = statistics_of(pa.table({"x": pa.chunked_array([values[500:], values[:500]])}), ["x"])["x"]
    assert (found.lowest, found.highest) == (values[:32], values[-32:])
    assert found.deviation == pytest.approx(math.sqrt(1_000 * 1_001 / 12))  # of 0 ... n-1, of the sample: n (n + 1) / 12
    assert found.quantile(0.5) == pytest.approx(500, abs=13)  # 1.3 % of rank
    assert found.top == {}
