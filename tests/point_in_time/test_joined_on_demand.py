"""On-demand views in joins: what a spine must have, which names there are, and which functions are refused."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock.contract import Feature, FeatureService, OnDemandView
from penstock.errors import FunctionError, SpineError
from penstock.offline.lake import Lake
from penstock.point_in_time.joined import Joined, Resources, join
from penstock.point_in_time.on_demand import on_demand_joins
from penstock.point_in_time.spine import table_rows
from penstock.point_in_time.view_join import view_joins
from tests.functions import function_in, on_demand_in
from tests.point_in_time.tables import DAY, HOUR, a_view, write_rows

UTC_MICROS = pa.timestamp("us", tz="UTC")
SPEND = a_view()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    write_rows(lake, SPEND, [{"user": n, "at": DAY, "amount": float(n)} for n in range(4)])
    return lake


def spine(**columns: Any) -> pa.Table:
    times = pa.array([DAY + HOUR] * 5, UTC_MICROS)
    return pa.table({"user": range(5), "n": [0.5, None, float("nan"), 2.0, 1.0], "event_time": times, **columns})


def joined(lake: Lake, view: OnDemandView, rows: pa.Table, spark: Any = None, **names: Any) -> Joined:
    service = FeatureService("basket", views=[SPEND], on_demand=[view], owner="tests")
    joins = view_joins(lake, service.selection, "event", **names)
    resources = Resources(lambda: spark, 2, 10**8)
    return join(lake, table_rows(rows), joins, resources, "sql" if spark else None, on_demand_joins(service.on_demand, joins))


def ratio(folder: Path, text: str = "columns['spend__amount'] / columns['n']") -> OnDemandView:
    compute = function_in(folder, f"import numpy as np\ndef f(columns):\n    return {{'ratio': {text}}}\n", "f")
    return on_demand_in(folder, inputs=[SPEND], compute=compute, features=[Feature("ratio", "float64")])


def test_it_is_computed_of_what_was_known_and_of_the_spine_and_stands_last(tmp_path: Path, lake: Lake) -> None:
    made = joined(lake, ratio(tmp_path), spine())
    assert made.columns == ["user", "n", "event_time", "spend__amount", "doubled__ratio"]
    assert "computed  doubled@1: 1 features by functions:f" in made.explain().splitlines()
    # 0 / 0.5; n is null; n is NaN, which no caller can send; 3 / 2; user 4 is not known
    assert made.to_arrow()["doubled__ratio"].to_pylist() == [0.0, None, None, 1.5, None]


def test_with_short_names_it_takes_and_gives_short_ones(tmp_path: Path, lake: Lake) -> None:
    made = joined(lake, ratio(tmp_path), spine(), full_feature_names=False)
    assert made.columns == ["user", "n", "event_time", "amount", "ratio"]
    assert made.to_arrow()["ratio"].to_pylist() == [0.0, None, None, 1.5, None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"n": [1, 2, 3, 4, 5]}, "request field 'n' of doubled@1 is bigint in the spine, expected double"),
        ({"doubled__ratio": [1.0] * 5}, "column 'doubled__ratio' of doubled@1 would be written twice"),
    ],
)
def test_a_spine_that_does_not_fit_is_refused(tmp_path: Path, lake: Lake, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(SpineError, match=message):
        joined(lake, ratio(tmp_path), spine(**columns))


def test_a_spine_without_a_request_field_is_refused(tmp_path: Path, lake: Lake) -> None:
    with pytest.raises(SpineError, match="request field 'n' of doubled@1 is missing in the spine, expected double; the spine has user"):
        joined(lake, ratio(tmp_path), spine().drop_columns(["n"]))


@pytest.mark.parametrize(
    "text",
    [
        "columns['n'] - columns['n'].mean()",
        "np.cumsum(columns['n'])",
        "np.roll(columns['n'], 1)",
        "np.full(len(columns['n']), float(len(columns['n'])))",
    ],
)
def test_a_function_that_looks_at_other_rows_is_refused(tmp_path: Path, lake: Lake, text: str) -> None:
    rows = spine(user=[0, 1, 2, 3, 3], n=[0.5, 1.0, 4.0, 2.0, 1.0])
    with pytest.raises(FunctionError, match=r"'doubled__ratio' of a row is .* by itself and .* among other rows"):
        joined(lake, ratio(tmp_path, text), rows).to_arrow()


@pytest.mark.real
def test_what_a_function_raises_in_a_task_of_spark_is_told_as_itself(tmp_path: Path, lake: Lake, spark: Any) -> None:
    made = joined(lake, ratio(tmp_path, "columns['nothing']"), spine(), spark)
    with pytest.raises(FunctionError, match="on-demand view doubled@1, function functions:f raised KeyError: 'nothing'"):
        made.to_parquet(str(tmp_path / "out"))
