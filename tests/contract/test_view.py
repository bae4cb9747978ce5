"""Definitions that cannot be right are refused when they are made, by view, field, value and rule."""

import os
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from penstock.contract import (
    EACH_EVENT,
    Entity,
    Feature,
    FeatureService,
    FeatureView,
    FreshnessSla,
    Pii,
    Source,
    approx_distinct,
    approx_quantile,
    available_after,
    available_at,
    count,
    days,
    delta,
    first,
    hours,
    mean,
    minutes,
    parquet,
    serve_stale,
    std,
    total,
)
from penstock.contract.fingerprint import schema_id, transformation_fingerprint
from penstock.contract.view_parts import Consistency
from penstock.errors import ContractError
from penstock.registry.project import Project
from penstock.registry.snapshot import compile_snapshot, load_snapshot

orders = Source("orders", schema={"customer": "string", "amount": "float64", "event_time": "timestamp"}, owner="shop")
customer = Entity("customer", {"customer": "string"})


odd_orders = Source("orders", schema={**orders.schema, "a b": "float64"}, owner="shop")


def view(**changes: Any) -> FeatureView:
    settings: dict[str, Any] = {
        "name": "spending",
        "version": 1,
        "entity": customer,
        "source": orders,
        "owner": "shop",
        "aggregations": [mean("amount", over=[hours(3), days(7)]), count(over=[minutes(90)])],
        "every": minutes(15),
        "ttl": hours(12),
        "freshness": FreshnessSla(total=hours(1)),
    }
    return FeatureView(**{**settings, **changes})


def computed(**changes: Any) -> FeatureView:
    return view(**{"aggregations": (), "every": None, "compute": double, "features": [Feature("amount", "float64")], **changes})


def double(rows: Any) -> Any:
    """Twice the amount."""
    return rows.selectExpr("customer", "event_time", "amount * 2 AS amount")


def test_every_function_gives_features_with_a_name_a_type_and_what_it_is_over_nothing() -> None:
    over = [hours(1)]
    functions = [
        total("amount", over=over),
        std("amount", over=over),
        first("amount", over=over),
        approx_quantile("amount", 0.5, over=over),
        approx_quantile("amount", 0.999, over=over),
        approx_distinct("customer", over=over),
    ]
    features = view(aggregations=functions).features
    assert [(f.name, f.dtype, f.nullable) for f in features] == [
        ("amount_sum_1h", "float64", True),
        ("amount_std_1h", "float64", True),
        ("amount_first_1h", "float64", True),
        ("amount_p50_1h", "float64", True),
        ("amount_p99_9_1h", "float64", True),
        ("customer_distinct_1h", "int64", False),
    ]
    assert features[4].description == "approx_quantile 0.999 of amount over the last 1h"
    for rank in (0, 1, -0.1, 95):
        with pytest.raises(ContractError, match=rf"aggregation 'amount_p.*': rank {rank}; expected a number between 0 and 1, e.g. 0.95"):
            approx_quantile("amount", rank, over=over)


def test_what_tiles_and_ranks_are_is_part_of_what_a_view_is_known_by() -> None:
    plain, tiled = view(), view(tiles=minutes(15))
    assert transformation_fingerprint(plain) != transformation_fingerprint(tiled) != transformation_fingerprint(view(tiles=minutes(5)))
    quantiles = [view(aggregations=[approx_quantile("amount", rank, over=[hours(1)], name="q")]) for rank in (0.5, 0.9)]
    assert quantiles[0].feature_names == quantiles[1].feature_names
    assert transformation_fingerprint(quantiles[0]) != transformation_fingerprint(quantiles[1])


def test_aggregations_name_their_features_by_column_function_and_window() -> None:
    assert view().feature_names == ("amount_mean_3h", "amount_mean_7d", "count_90m")
    assert view().reach == days(7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Spending"}, "feature view 'Spending': a name is lower-case"),
        ({"name": "a__b"}, "single '_'"),
        ({"version": 0}, "version 0; versions are whole numbers from 1"),
        ({"every": None}, "aggregations need every="),
        ({"every": minutes(7)}, "every=0:07:00 does not divide 24 hours"),
        ({"ttl": minutes(30)}, r"ttl=0:30:00 is shorter than freshness.total=1:00:00"),
        ({"ttl": timedelta(0)}, "ttl: expected a duration above zero"),
        ({"if_unavailable": serve_stale(up_to=days(1))}, r"serve_stale\(up_to=1 day, 0:00:00\) is past ttl"),
        ({"delay": -hours(1)}, "delay and lookback are not negative"),
        ({"compute": double}, "one of aggregations=.*, compute=.* and rows="),
        ({"aggregations": [], "every": None}, "one of aggregations=.*, compute=.* and rows="),
        ({"source": None}, "no source; give source=, or rows="),
        ({"every": EACH_EVENT, "dense": True}, "dense=True with every=EACH_EVENT would be a row each microsecond"),
        ({"aggregations": [mean("price", over=[hours(1)])]}, "source 'orders' has no column 'price'"),
        ({"aggregations": [mean("customer", over=[hours(1)])]}, "mean of 'customer', which is string; it needs a number"),
        ({"tiles": hours(1)}, "tiles=1:00:00 does not divide every=0:15:00"),
        ({"tiles": minutes(15), "aggregations": [count(over=[minutes(20)])]}, "does not divide the window of 20m of 'count'"),
        ({"tiles": hours(5), "every": hours(10)}, "every=10:00:00 does not divide 24 hours"),
        ({"tiles": timedelta(0)}, "tiles: expected a duration above zero"),
        (
            {"tiles": minutes(15), "aggregations": [mean("a b", over=[hours(1)])], "source": odd_orders},
            "column 'a b' of its source cannot name",
        ),
        (
            {"tiles": hours(1), "aggregations": (), "every": None, "compute": double, "features": [Feature("amount", "float64")]},
            "tiles= is for",
        ),
        ({"aggregations": [count(over=[hours(1)]), count(over=[hours(1)])]}, "1 duplicate name"),
        ({"entity": Entity("shop", {"shop": "string"})}, "source 'orders' has no column 'shop'"),
        *[
            ({"row_count": odd}, r"row_count=.*; it is \(least, most\) rows of a day")
            for odd in (5, (5,), (-1, None), (5, 4), (None, 4), ("1", None), (True, None), (0, True), (1.0, None), None)
        ],
        (
            {"warn_only": ["orders_1h_not_null"]},
            "warn_only names 'orders_1h_not_null', which is no rule of this view; its rules .* 'has_rows'",
        ),
        ({"warn_only": "has_rows"}, "warn_only='has_rows'; it is a list of names of rules"),
        ({"warn_only": ["join_keys_not_null"]}, "feature view 'spending': warn_only names 'join_keys_not_null', which always refuses"),
        ({"entity": Entity("customer", {"customer": "int64"})}, "join key 'customer' is int64 in entity 'customer', string in its source"),
    ],
)
def test_a_view_that_cannot_be_right_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        view(**changes)


spending = Source(
    "spending",
    schema={"customer": "string", "amount": "float64", "event_time": "timestamp"},
    table=delta("marts/spending"),
    availability=available_after(hours(6)),
    owner="shop",
)


def held(**changes: Any) -> FeatureView:
    return computed(**{"compute": None, "source": None, "rows": spending, "delay": hours(6), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": orders}, "source= is for aggregations= and compute="),
        ({"rows": orders}, "rows= 'orders' is not an external table"),
        ({"delay": hours(5)}, "delay=5:00:00, but a row of 'spending' may become known 6:00:00 after its event time"),
        ({"features": [Feature("amount", "int64")]}, "'amount' is int64 in the view, float64 in source 'spending'"),
        ({"features": [Feature("tips", "int64")]}, "'tips' is int64 in the view, missing in source 'spending'"),
        ({"features": []}, r"compute= and rows= need features="),
        ({"compute": double}, "one of aggregations="),
    ],
)
def test_a_view_over_rows_computed_elsewhere_that_cannot_be_right_is_refused(changes: dict[str, Any], message: str) -> None:
    assert held().sources == (spending,)
    with pytest.raises(ContractError, match=message):
        held(**changes)


def test_parts_that_cannot_be_right_are_refused() -> None:
    with pytest.raises(ContractError, match=r"ingest \+ compute \+ publish \+ read is 1:10:00, above the total of 1:00:00"):
        FreshnessSla(total=hours(1), ingest=minutes(40), compute=minutes(30))
    with pytest.raises(ContractError, match="pii 'direct' must not be online"):
        Feature("email", "string", pii=Pii.DIRECT)
    with pytest.raises(ContractError, match="unknown dtype 'decimal'"):
        Feature("price", "decimal")
    with pytest.raises(ContractError, match="default 'x' is not a int64"):
        Feature("n", "int64", default="x")
    for budget in (-0.1, 1, 1.5, False, "0.1", Decimal("0.1"), float("nan")):
        with pytest.raises(ContractError, match=r"feature 'n': null_budget=.*; it is a share of rows, 0 <= share < 1"):
            Feature("n", "int64", null_budget=budget)
    with pytest.raises(ContractError, match="null_budget with nullable=False"):
        Feature("n", "int64", null_budget=0.1, nullable=False)
    for dtype, value in (("float64", 1.0), ("timestamp", None), ("list[int64]", [1])):
        with pytest.raises(ContractError, match="sets are of strings, whole numbers and bools"):
            Feature("n", dtype, allowed=[value])
    for bound in (float("nan"), float("inf"), True, "5", 2**63, Decimal(1)):
        with pytest.raises(ContractError, match="a bound is a finite number, whole ones of 64 bits"):
            Feature("n", "float64", maximum=bound)
    for values, message in (
        ("abc", "allowed='abc'; it is a list of values"),
        ({"a", "b"}, "it is a list of values"),
        (None, "allowed=None; it is a list of values"),
        (["a", "a"], "holds a value twice"),
        (["\ud800"], "which is not a string"),
        ([str(n) for n in range(1_001)], "holds 1,001 values; a set is of 1,000 at most"),
    ):
        with pytest.raises(ContractError, match=message):
            Feature("n", "string", allowed=values)
    assert Feature("n", "string", allowed=["b", "a"]).allowed == ("a", "b")
    for odd in ("1", None, 2**40):
        with pytest.raises(ContractError, match=r"allowed= holds .*, which is not a int32"):
            Feature("n", "int32", allowed=[1, odd])
    with pytest.raises(ContractError, match="a join key is one of"):
        Entity("place", {"lat": "float64"})
    with pytest.raises(ContractError, match="'event_time' must be a timestamp column of its schema; it is missing"):
        Source("orders", schema={"customer": "string"}, owner="shop")
    with pytest.raises(ContractError, match="'known' must be a timestamp"):
        Source("orders", schema=orders.schema, owner="shop", availability=available_at("known", at_most=hours(1)))
    with pytest.raises(ContractError, match="no location"):
        parquet("")
    with pytest.raises(ContractError, match="holds credentials") as secret:
        delta("s3://me:hunter2@bucket/orders")
    assert "hunter2" not in str(secret.value)
    with pytest.raises(ContractError, match="has no feature 'tips'"):
        FeatureService("s", views={view(): ["tips"]}, owner="ml")
    with pytest.raises(ContractError, match="is not a function made with def"):
        computed(compute=lambda rows: rows)
    with pytest.raises(ContractError, match="is a column Penstock writes itself"):
        computed(features=[Feature("attempt", "int64")])


@pytest.mark.parametrize(
    ("feature", "changes", "rule"),
    [
        (Feature("join_keys", "int64", nullable=False), {}, "join_keys_not_null"),
        (Feature("rows", "int64", maximum=5), {"row_count": (1, 5)}, "rows_at_most_5"),
        (Feature("rows", "int64", minimum=5), {"row_count": (5, None)}, "rows_at_least_5"),
    ],
)
def test_a_feature_whose_rule_would_have_the_name_of_another_is_refused(feature: Feature, changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(ContractError, match=f"2 rules would be called '{rule}'; give feature '{feature.name}' another name"):
        computed(features=[feature], **changes)


def test_a_bound_is_in_the_name_of_its_rule_in_full() -> None:
    bounds = (1_234_567, 1_234_568, 1e-9, -0.5, 2880.0)
    named = [computed(features=[Feature("n", "float64", minimum=bound)]).row_rules[-1].name for bound in bounds]
    assert named == ["n_at_least_1234567", "n_at_least_1234568", "n_at_least_1e-09", "n_at_least_-0.5", "n_at_least_2880"]


def test_the_fingerprint_follows_what_computes_and_nothing_else() -> None:
    same = transformation_fingerprint(view())
    assert transformation_fingerprint(view(description="x", owner="y", freshness=FreshnessSla(total=hours(2)))) == same
    for changed in ({"every": minutes(30)}, {"delay": minutes(5)}, {"ttl": hours(10)}, {"dense": True}):
        assert transformation_fingerprint(view(**changed)) != same, changed
    assert transformation_fingerprint(computed()) == transformation_fingerprint(computed(description="x"))


def test_the_fingerprint_of_code_ignores_comments_and_docstrings_and_follows_what_it_calls() -> None:
    def function(source: str) -> Any:
        import linecache

        name = f"<{hash(source)}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        module: dict[str, Any] = {"__name__": "shop.views"}
        exec(compile(source, name, "exec"), module)
        return module["compute"]

    plain = transformation_fingerprint(computed(compute=function("RATE = 2\ndef compute(rows):\n    return rows * RATE\n")))
    noted = function('RATE = 2\ndef compute(rows):\n    """Doubles."""\n    # why not\n    return rows * RATE\n')
    assert transformation_fingerprint(computed(compute=noted)) == plain
    other_constant = function("RATE = 3\ndef compute(rows):\n    return rows * RATE\n")
    assert transformation_fingerprint(computed(compute=other_constant)) != plain
    one = function("def rate(x):\n    return x\ndef compute(rows):\n    return rate(rows)\n")
    two = function("def rate(x):\n    return -x\ndef compute(rows):\n    return rate(rows)\n")
    assert transformation_fingerprint(computed(compute=one)) != transformation_fingerprint(computed(compute=two))


def function_with(rate: object, share: float = 0.5, *, rates: object = ()) -> Any:
    def compute(rows: Any, limits: object = rates) -> Any:
        return rows.selectExpr("customer", "event_time", f"amount * {rate} * {share} AS amount")

    return compute


def test_the_fingerprint_of_a_function_follows_the_values_it_was_made_with() -> None:
    made = [function_with(1), function_with(2), function_with(1, 0.6), function_with(1, rates=[1]), function_with(1, rates=[2])]
    fingerprints = [transformation_fingerprint(computed(compute=each)) for each in made]
    assert len(set(fingerprints)) == len(made)
    assert transformation_fingerprint(computed(compute=function_with(1))) == fingerprints[0]


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    program = (
        "from tests.contract.test_view import *\n"
        "names = frozenset('abcdefgh')\n"
        "print(transformation_fingerprint(computed(compute=function_with(names, rates=[object(), orders, names]))))"
    )
    seen = set()
    for seed in "123":
        env = {**os.environ, "PYTHONHASHSEED": seed}
        seen.add(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env).stdout)
    assert len(seen) == 1


def test_a_snapshot_is_canonical_and_survives_its_json() -> None:
    first, second = (compile_snapshot(project()) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert load_snapshot(first.to_json()) == first
    assert first.view("spending", 1).schema_id == schema_id(view())
    assert project(owner="other").services[0].name == "spend"
    assert compile_snapshot(project(owner="other")).services[0].contract == first.services[0].contract
    assert compile_snapshot(project(ttl=hours(11))).services[0].contract != first.services[0].contract


def project(**changes: Any) -> Project:
    one = view(**changes)
    return Project("shop", (one,), (FeatureService("spend", views=[one], owner="ml"),))


def test_a_project_refuses_two_things_of_one_name() -> None:
    with pytest.raises(ContractError, match="feature views: 1 duplicate name"):
        Project("shop", (view(), view()), ())
    with pytest.raises(ContractError, match="which no feature file defines"):
        Project("shop", (), (FeatureService("spend", views=[view()], owner="ml"),))


def test_a_view_reads_at_a_local_quorum_unless_it_says_one() -> None:
    assert view().consistency is Consistency.LOCAL_QUORUM
    assert view(consistency="local_one").consistency is Consistency.LOCAL_ONE
    assert transformation_fingerprint(view(consistency="local_one")) == transformation_fingerprint(view())  # no value changes
    with pytest.raises(ContractError, match="consistency='one'; it is one of 'local_quorum', 'local_one'"):
        view(consistency="one")
