"""A result in the forms that people and models take: of one dtype whatever the values, nulls kept, rows in order."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from penstock.sdk import FeatureResult, FeatureValue, ViewRead
from tests.serving.world import NOON

DTYPES = {
    "v__bool": "bool",
    "v__int32": "int32",
    "v__int64": "int64",
    "v__float32": "float32",
    "v__float64": "float64",
    "v__string": "string",
    "v__timestamp": "timestamp",
    "v__list": "list[timestamp]",
}
PANDAS = ["boolean", "Int32", "Int64", "float32", "float64", "object", "datetime64[us, UTC]", "object"]
VALUES = (True, 7, 2**53 + 1, 1.5, 2.5, "a <b>", NOON, [NOON])


def result(*rows: tuple[object, ...]) -> FeatureResult:
    """Rows of a view with a feature of each dtype, of 11:00."""
    return FeatureResult(
        service="s",
        contract="c",
        snapshot="f",
        token="p1.",
        now=NOON,
        features=tuple(DTYPES),
        dtypes=tuple(DTYPES.values()),
        columns=tuple(zip(*rows, strict=True)) if rows else ((),) * len(DTYPES),
        statuses=tuple(tuple("NULL" if row[n] is None else "PRESENT" for row in rows) for n in range(len(DTYPES))),
        views=(ViewRead("v", 1, 1, NOON, None, tuple(range(len(DTYPES))), (NOON - timedelta(hours=1),) * len(rows)),),
    )


NULLS = (None,) * len(DTYPES)


@pytest.mark.parametrize("rows", [[], [NULLS], [VALUES], [VALUES, NULLS]], ids=["no rows", "nulls", "values", "both"])
def test_a_frame_has_the_same_dtypes_whatever_the_values(rows: list[tuple[object, ...]]) -> None:
    frame = result(*rows).to_pandas()
    assert [str(dtype) for dtype in frame.dtypes] == PANDAS
    assert (list(frame.columns), len(frame)) == (list(DTYPES), len(rows))


def test_a_frame_has_the_values_and_their_nulls() -> None:
    frame = result(VALUES, NULLS).to_pandas()
    assert frame["v__int64"].to_list() == [2**53 + 1, pd.NA]  # no float has it
    assert frame["v__bool"].to_list() == [True, pd.NA]
    assert frame["v__timestamp"].to_list() == [pd.Timestamp("2013-06-01T12:00:00Z"), pd.NaT]
    assert frame["v__string"].to_list() == ["a <b>", None]
    assert frame["v__list"].to_list() == [[NOON], None]
    assert frame["v__float64"].isna().to_list() == [False, True]


@pytest.mark.parametrize("rows", [[], [NULLS], [VALUES], [VALUES, NULLS]], ids=["no rows", "nulls", "values", "both"])
def test_a_matrix_is_rows_by_the_features_named(rows: list[tuple[object, ...]]) -> None:
    numbers = ["v__float64", "v__bool", "v__int32"]
    matrix = result(*rows).to_numpy(numbers)
    assert (matrix.shape, matrix.dtype) == ((len(rows), 3), np.float64)
    expected = [[np.nan] * 3 if row is NULLS else [2.5, 1.0, 7.0] for row in rows]
    assert np.array_equal(matrix, np.array(expected, dtype=float).reshape(-1, 3), equal_nan=True)
    assert result(*rows).to_numpy([]).shape == (len(rows), 0)


def test_a_matrix_of_what_is_no_number_or_not_there_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"no numbers: v__string \(string\), v__timestamp \(timestamp\), v__list \(list\[timestamp\]\)"):
        result(VALUES).to_numpy()
    with pytest.raises(KeyError, match="no feature 'v__bol' in the result; it has v__bool, v__int32"):
        result(VALUES).to_numpy(["v__bol"])


def test_a_feature_is_had_by_its_name_and_a_row_by_its_position() -> None:
    both = result(VALUES, NULLS)
    assert both["v__int32"] == (7, None)
    assert both[0]["v__int32"] == both.value(0, "v__int32") == FeatureValue(7, "PRESENT", NOON - timedelta(hours=1), timedelta(hours=1))
    assert both[-1] == list(both)[1] == both.rows[1]
    assert (len(both), len(result()), list(result())) == (2, 0, [])
    assert [row["v__bool"].status for row in both] == ["PRESENT", "NULL"]
    with pytest.raises(KeyError, match="no feature 'v__bol'"):
        both["v__bol"]
    with pytest.raises(IndexError):
        both[2]


def test_people_see_what_it_holds() -> None:
    both = result(VALUES, NULLS)
    said = "FeatureResult of 's' at 2013-06-01 12:00:00 UTC: 2 row(s) of 8 feature(s): 8 PRESENT, 8 NULL"
    assert repr(both) == f"<{said}>"
    assert repr(result()) == "<FeatureResult of 's' at 2013-06-01 12:00:00 UTC: 0 row(s) of 8 feature(s): no values>"
    page = both._repr_html_()
    assert "<tr><th>v__string</th><td>a &lt;b&gt;</td><td> <small>NULL</small></td></tr>" in page
    assert result(*[VALUES] * 50)._repr_html_().count("<td>7</td>") == 10


def test_times_of_another_era_stay_exact() -> None:
    long_ago = datetime(1, 1, 1, tzinfo=UTC)
    assert result((*VALUES[:6], long_ago, None)).to_pandas()["v__timestamp"][0].year == 1
