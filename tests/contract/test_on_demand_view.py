"""What an on-demand view may be, what its function may import, and what its fingerprint is of."""

from pathlib import Path
from typing import Any

import pytest

from penstock.contract import Entity, Feature, FeatureService, FeatureView, FreshnessSla, OnDemandView, Source, hours
from penstock.contract.function import source_of
from penstock.errors import ContractError
from penstock.registry.project import Project
from tests.functions import DOUBLE, function_in, on_demand_in


def computed(frame: Any) -> Any:
    return frame


def a_view(name: str = "orders", **changes: Any) -> FeatureView:
    settings: dict[str, Any] = {
        "name": name,
        "version": 1,
        "entity": Entity("customer", {"customer": "string"}),
        "source": Source("facts", schema={"event_time": "timestamp"}, owner="tests"),
        "owner": "tests",
        "compute": computed,
        "features": [Feature("amount", "float64"), Feature("sizes", "list[float64]")],
        "ttl": hours(2),
        "freshness": FreshnessSla(total=hours(1)),
    }
    return FeatureView(**{**settings, **changes})


ORDERS = a_view()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("import pandas", "imports 'pandas' (import pandas)"),
        ("import numpy, os", "imports 'os' (import numpy, os)"),
        ("import numpyro", "imports 'numpyro'"),
        ("from datetime import datetime", "imports 'datetime' (from datetime import datetime)"),
        ("from penstock import contract", "imports 'penstock' (from penstock import contract)"),
        ("from penstock.contract.view import FeatureView", "imports 'penstock.contract.view'"),
        ("from feature_assets.sources import arrivals", "imports 'feature_assets.sources'"),
        ("from . import helpers", "imports '.'"),
        ("x = __import__", "uses __import__"),
        ("x = open", "uses open"),
    ],
)
def test_a_function_whose_module_imports_more_is_refused_with_the_import(tmp_path: Path, line: str, shown: str) -> None:
    function = function_in(tmp_path, DOUBLE)
    (tmp_path / "functions.py").write_text(f"{DOUBLE}\ndef later():\n    {line}\n")
    with pytest.raises(ContractError, match="line 8") as caught:
        on_demand_in(tmp_path / "other", compute=function)
    assert shown in caught.value.message
    assert "on-demand view 'doubled'" in caught.value.message


def test_numpy_its_parts_and_the_contract_may_be_imported(tmp_path: Path) -> None:
    text = "import numpy.linalg\nfrom numpy.strings import upper\nfrom penstock.contract import Columns\n" + DOUBLE
    assert on_demand_in(tmp_path, text).function.name == "functions:double"


@pytest.mark.parametrize("function", [lambda columns: columns, max, "functions:double", a_view])
def test_what_is_no_function_of_a_pure_module_is_refused(function: Any) -> None:
    with pytest.raises(ContractError, match=r"is not a function made with def at the top of a module|imports"):
        OnDemandView(
            name="doubled", version=1, owner="tests", request={"n": "float64"}, features=[Feature("twice", "float64")], compute=function
        )


def test_a_fingerprint_changes_with_the_code_of_the_module_and_not_with_what_is_said_of_it(tmp_path: Path) -> None:
    def fingerprint(n: int, text: str) -> str:
        return source_of(function_in(tmp_path / str(n), text), "the test").fingerprint

    one = fingerprint(0, DOUBLE)
    assert fingerprint(1, '"""Said of it."""\n' + DOUBLE.replace("    return", '    """Twice."""\n    return') + "# so be it\n") == one
    assert fingerprint(2, DOUBLE.replace("2.0", "3.0")) != one
    assert fingerprint(3, "FACTOR = 1\n" + DOUBLE) != one


def test_what_runs_is_the_text_that_has_the_fingerprint(tmp_path: Path) -> None:
    view = on_demand_in(tmp_path)
    (tmp_path / "functions.py").write_text(DOUBLE.replace("2.0", "3.0"))
    assert view.function.load()({"n": 2}) == {"twice": 4.0}  # type: ignore[dict-item]


def test_a_function_that_its_file_no_longer_has_is_refused(tmp_path: Path) -> None:
    function = function_in(tmp_path, DOUBLE)
    (tmp_path / "functions.py").write_text(DOUBLE.replace("def double", "def twice"))
    with pytest.raises(ContractError, match=r"on-demand view 'doubled': .*functions\.py defines no function 'double'"):
        on_demand_in(tmp_path, compute=function)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Doubled"}, "on-demand view 'Doubled': a name is lower-case"),
        ({"version": 0}, "version 0; versions are whole numbers from 1"),
        ({"request": {}}, "it needs inputs= or request="),
        ({"features": []}, "it needs inputs= or request="),
        ({"request": {"event_time": "timestamp"}}, "'event_time' is a column Penstock writes itself"),
        ({"request": {"n": "number"}}, "unknown dtype 'number'"),
        ({"request": {"n": "date"}}, "'n' is date; a column is one of"),
        ({"inputs": [ORDERS]}, "'orders__sizes' is list"),
        ({"inputs": {ORDERS: ["price"]}}, "orders@1 has no feature 'price'"),
        ({"features": [Feature("a", "float64"), Feature("a", "int64")]}, "duplicate"),
        ({"features": [Feature("a", "float64", default=1.0)]}, "'a' has a default, a range, a set, a null budget or nullable=False"),
        ({"features": [Feature("a", "float64", minimum=1.0)]}, "'a' has a default, a range, a set, a null budget or nullable=False"),
        ({"features": [Feature("a", "float64", null_budget=0.1)]}, "'a' has a default, a range, a set, a null budget or nullable=False"),
        ({"features": [Feature("a", "int64", allowed=[1])]}, "'a' has a default, a range, a set, a null budget or nullable=False"),
    ],
)
def test_a_view_that_cannot_be_right_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError) as caught:
        on_demand_in(tmp_path, **changes)
    assert message in caught.value.message


def test_a_service_has_what_its_on_demand_views_take(tmp_path: Path) -> None:
    doubled = on_demand_in(tmp_path, inputs={ORDERS: ["amount"]})
    assert doubled.columns == (("orders__amount", "float64"), ("n", "float64"))
    service = FeatureService("basket", views={ORDERS: ["amount"]}, on_demand=[doubled], owner="tests")
    assert service.request == {"n": "float64"}
    for views in ({ORDERS: ["sizes"]}, [a_view("others")], [ORDERS.named("mine")], [a_view(version=2)]):
        with pytest.raises(ContractError, match="doubled@1 takes orders__amount, which the service does not have"):
            FeatureService("basket", views=views, on_demand=[doubled], owner="tests")


def test_a_request_field_has_one_dtype_in_a_service_and_may_be_a_join_key(tmp_path: Path) -> None:
    first, second = (on_demand_in(tmp_path, name=name, request={"n": dtype}) for name, dtype in (("a", "float64"), ("b", "int64")))
    with pytest.raises(ContractError, match="'n' is float64 for one view or join key and int64 for 'b'"):
        FeatureService("basket", views=[ORDERS], on_demand=[first, second], owner="tests")
    by_key = on_demand_in(tmp_path, request={"customer": "string"})
    FeatureService("basket", views=[ORDERS], on_demand=[by_key], owner="tests")
    wrong = on_demand_in(tmp_path, request={"customer": "int64"})
    with pytest.raises(ContractError, match="'customer' is string for one view or join key and int64 for 'doubled'"):
        FeatureService("basket", views=[ORDERS], on_demand=[wrong], owner="tests")


def test_an_on_demand_view_has_a_name_of_its_own_in_a_service_and_is_defined_in_its_project(tmp_path: Path) -> None:
    doubled = on_demand_in(tmp_path)
    with pytest.raises(ContractError, match="duplicate name"):
        FeatureService("basket", views=[a_view("doubled")], on_demand=[doubled], owner="tests")
    service = FeatureService("basket", views=[ORDERS], on_demand=[doubled], owner="tests")
    with pytest.raises(ContractError, match="uses doubled@1, which no feature file defines"):
        Project("shop", (ORDERS,), (service,))
    Project("shop", (ORDERS,), (service,), (doubled,))


def test_a_function_in_a_feature_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"the function of doubled@1 is in somewhere\.functions; the gateway never loads feature files"):
        Project("somewhere", (ORDERS,), (), (on_demand_in(tmp_path),))


def test_two_modules_of_one_name_are_refused(tmp_path: Path) -> None:
    one, other = on_demand_in(tmp_path / "a", name="one"), on_demand_in(tmp_path / "b", DOUBLE + "# another\n", name="other")
    with pytest.raises(ContractError, match="the functions of one@1 and other@1 are in two modules"):
        Project("shop", (ORDERS,), (), (one, other))
