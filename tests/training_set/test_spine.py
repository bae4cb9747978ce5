"""A spine from a query or a table of the project: what is read, and what is refused."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.clock import FixedClock
from penstock.config import Settings
from penstock.errors import SourceError, SpineError
from penstock.offline.lake import Lake
from penstock.registry.project import Project
from penstock.store import Store
from tests.world import MONDAY, World, view_of_orders

pytestmark = pytest.mark.real


@pytest.fixture
def store(spark: Any, settings: Settings, tmp_path: Path) -> Store:
    world = World(spark, Lake(str(tmp_path)), FixedClock(MONDAY + timedelta(hours=12)))
    world.place("ann", 1.0, MONDAY)
    world.place("bob", 2.0, MONDAY)
    world.ingest([MONDAY.date()])
    of = settings.model_copy(update={"lake": settings.lake.model_copy(update={"path": str(tmp_path)})})
    return Store(of, Project("shop", (view_of_orders(),), ()))


def test_a_source_in_braces_is_its_table(store: Store) -> None:
    assert store.query("SELECT customer FROM {orders} WHERE amount > 1").collect()[0]["customer"] == "bob"
    assert store.spine(table="raw/orders").extent().rows == 2
    assert store.query("SELECT '{{a}}' AS braces").collect()[0]["braces"] == "{a}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"query": "SELECT * FROM {orderz}"}, r"the query reads \{orderz\}; the project's sources are orders"),
        ({"query": "SELECT * FROM {orders"}, "the query: expected '}' before end of string"),
        ({"query": "SELEKT 1"}, "the query cannot be run: .*PARSE_SYNTAX_ERROR"),
        ({"query": "SELECT shop FROM {orders}"}, "the query cannot be run: .*UNRESOLVED_COLUMN"),
        ({"table": "raw/orderz"}, "there is no Delta table at .*raw/orderz"),
        ({}, "a spine is either a query or a table"),
        ({"query": "SELECT 1", "table": "raw/orders"}, "a spine is either a query or a table"),
    ],
)
def test_what_is_no_spine_is_refused(store: Store, given: dict[str, str], message: str) -> None:
    with pytest.raises(SpineError, match=message) as refused:
        store.spine(**given)
    assert "JVM" not in refused.value.message


def test_a_source_that_was_never_ingested_is_said_so(store: Store, tmp_path: Path) -> None:
    (tmp_path / "raw" / "orders").rename(tmp_path / "raw" / "moved")
    with pytest.raises(SourceError, match="source 'orders' has no table raw/orders in the lake"):
        store.query("SELECT * FROM {orders}")
