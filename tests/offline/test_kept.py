"""Rows that are kept are computed once, and let go of at the end, whichever way they are kept."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from pyspark.sql import DataFrame

from penstock.offline import kept as kept_module
from penstock.offline.kept import kept

pytestmark = pytest.mark.real
Keeping = Callable[[DataFrame], AbstractContextManager[DataFrame]]


@pytest.mark.parametrize("keep", [kept, kept_module._checkpointed, kept_module._cached])
def test_rows_are_computed_once_and_given_up_at_the_end(spark: Any, keep: Keeping) -> None:
    def held() -> set[int]:
        return set(spark.sparkContext._jsc.getPersistentRDDs())

    before = held()
    with keep(spark.range(100).selectExpr("id", "uuid() AS drawn")) as rows:
        assert len(rows.where("id < 10").collect()) == 10
        first, again = rows.orderBy("id").collect(), rows.orderBy("id").collect()
        assert first == again
        assert len(held() - before) == 1
    assert held() == before


@pytest.mark.parametrize("keep", [kept_module._checkpointed, kept_module._cached])
def test_they_are_given_up_when_what_reads_them_fails_too(spark: Any, keep: Keeping) -> None:
    before = set(spark.sparkContext._jsc.getPersistentRDDs())
    with pytest.raises(ZeroDivisionError), keep(spark.range(3).selectExpr("uuid() AS drawn")) as rows:
        rows.collect()
        raise ZeroDivisionError
    assert set(spark.sparkContext._jsc.getPersistentRDDs()) == before


def test_a_local_master_keeps_them_as_spark_made_them(spark: Any) -> None:
    with kept(spark.range(3).selectExpr("uuid() AS drawn")) as rows:
        assert "InMemoryTableScan" not in rows._jdf.queryExecution().executedPlan().toString()
