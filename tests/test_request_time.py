"""What a request-time function is shown, and what is taken of what it gives."""

from collections.abc import Callable
from datetime import UTC, datetime
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from penstock.contract.function import FunctionSource
from penstock.errors import FunctionError
from penstock.request_time import RequestFunction, from_python, to_python

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


def function(text: str, takes: dict[str, str], gives: dict[str, str], *, handles_nulls: bool = False) -> RequestFunction:
    body = f"import numpy as np\ndef f(columns):\n    {text}\n"
    return RequestFunction("v@1", FunctionSource("m:f", body, "m.py"), tuple(takes.items()), tuple(gives.items()), handles_nulls)


def run(f: RequestFunction, unusable: list[bool] | None = None, **columns: list[Any]) -> list[list[Any]]:
    rows = len(next(iter(columns.values())))
    given = {name: from_python(dtype, columns[name]) for name, dtype in f.takes}
    return [to_python(one) for one in f(given, np.array(unusable or [False] * rows))]


def test_a_row_with_a_null_has_null_features_and_is_not_shown() -> None:
    f = function(
        "assert (columns['a'] != 0).all(); return {'x': 1 / columns['a'] + columns['b']}", {"a": "float64", "b": "int64"}, {"x": "float64"}
    )
    assert run(f, a=[2.0, None, 4.0, 1.0], b=[1, 1, None, 3]) == [[1.5, None, None, 4.0]]
    assert run(f, a=[None], b=[1]) == [[None]]


def test_one_that_handles_nulls_sees_them_as_a_mask() -> None:
    text = "return {'x': np.ma.MaskedArray(np.ma.getdata(columns['a']), mask=~np.ma.getmaskarray(columns['a']))}"
    f = function(text, {"a": "string"}, {"x": "string"}, handles_nulls=True)
    assert run(f, a=["one", None, ""]) == [[None, "", None]]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("bool", [True, None, False]),
        ("int32", [1, None, -(2**31)]),
        ("int64", [2**63 - 1, None, -(2**63)]),
        ("float32", [0.5, None, -1.5]),
        ("float64", [0.1, None, 1e308]),
        ("string", ["Ü\0", None, ""]),
        ("timestamp", [AT, None, datetime.min.replace(tzinfo=UTC)]),
    ],
)
def test_every_dtype_goes_in_and_comes_out_as_it_was(dtype: str, values: list[Any]) -> None:
    f = function("return {'x': columns['a']}", {"a": dtype}, {"x": dtype})
    assert run(f, a=values) == [values]


def test_what_cannot_be_known_is_not_shown_even_to_one_that_handles_nulls() -> None:
    f = function("assert len(columns['a']) == 1; return {'x': columns['a']}", {"a": "float64"}, {"x": "float64"}, handles_nulls=True)
    assert run(f, [True, False], a=[1.0, 2.0]) == [[None, 2.0]]
    (found,) = f({"a": from_python("float64", [1.0, 2.0])}, np.array([True, False]))
    assert found.bad.tolist() == [True, False]


@pytest.mark.parametrize(
    ("dtype", "gives"),
    [("float64", f"[{nan!r}, 1, {inf!r}]"), ("timestamp", "['NaT', '2026-01-01', '+12000-01-01']")],
)
def test_what_is_no_value_is_null_and_bad(dtype: str, gives: str) -> None:
    kind = {"float64": "float64", "timestamp": "datetime64[us]"}[dtype]
    f = function(f"nan = inf = float('nan'); return {{'x': np.array({gives}, '{kind}')}}", {"a": "int64"}, {"x": dtype})
    (found,) = f({"a": from_python("int64", [1, 2, 3])}, np.zeros(3, bool))
    assert (found.null.tolist(), found.bad.tolist()) == ([True, False, True], [True, False, True])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise KeyError('k')", "on-demand view v@1, function m:f raised KeyError: 'k'"),
        ("columns['a'] += 1; return {'x': columns['a']}", "raised ValueError: output array is read-only"),
        ("return columns['a']", "gave a ndarray; expected a mapping with x"),
        ("return {'y': columns['a']}", "gave columns y; expected a mapping with x"),
        ("return {'x': columns['a'], 'y': columns['a']}", "gave columns x, y; expected"),
        ("return {'x': 1.0}", "feature 'x' is a float; expected a numpy array of shape (2,)"),
        ("return {'x': [1.0, 2.0]}", "feature 'x' is a list; expected"),
        ("return {'x': columns['a'][:1]}", "feature 'x' is an array of shape (1,); expected"),
        ("return {'x': columns['a'].reshape(2, 1)}", "feature 'x' is an array of shape (2, 1); expected"),
        ("return {'x': columns['a'].astype('complex128')}", "feature 'x' is complex128; expected float32"),
        ("return {'x': columns['a'].astype('float64')}", "feature 'x' is float64; expected float32"),
        ("return {'x': columns['a'].astype('U')}", "feature 'x' is <U32; expected float32"),
        ("return {'x': columns['a'].astype(object)}", "feature 'x' is object; expected float32"),
    ],
)
def test_a_function_that_fails_or_gives_something_else_is_an_error_that_says_what(text: str, message: str) -> None:
    with pytest.raises(FunctionError) as caught:
        run(function(text, {"a": "float32"}, {"x": "float32"}), a=[1.0, 2.0])
    assert message in caught.value.message


@pytest.mark.parametrize(("gives", "declared"), [("int32", "int64"), ("int32", "float64"), ("float32", "float64"), ("bool", "int32")])
def test_what_fits_whole_is_taken(gives: str, declared: str) -> None:
    f = function(f"return {{'x': columns['a'].astype('{gives}')}}", {"a": "int64"}, {"x": declared})
    assert run(f, a=[0, 1]) == [[0, 1]]


@pytest.mark.parametrize("text", ["syntax error here", "1 / 0", "g = 1"])
def test_a_module_that_cannot_be_loaded_is_said_to_be(text: str) -> None:
    broken = RequestFunction("v@1", FunctionSource("m:f", text, "m.py"), (("a", "int64"),), (("x", "int64"),), False)
    load: Callable[[], Any] = broken.source.load
    with pytest.raises(FunctionError, match=r"m\.py"):
        load()
