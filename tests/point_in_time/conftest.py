"""Joins by one engine after the other."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.as_of import Mode
from penstock.contract.service import AnyView, select
from penstock.offline.lake import Lake
from penstock.point_in_time.joined import Joined, Resources, join
from penstock.point_in_time.spine import DeltaRows, FrameRows, TableRows, table_rows
from penstock.point_in_time.view_join import view_joins

Join = Callable[..., Joined]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


@pytest.fixture(params=["columnar", pytest.param("sql", marks=pytest.mark.real)])
def joined(lake: Lake, request: pytest.FixtureRequest) -> Join:
    """Joins by one engine after the other; the columnar one runs in this process, and may not ask for Spark."""
    return joining(lake, request.param, lambda: request.getfixturevalue("spark"))


@pytest.fixture
def columnar(lake: Lake) -> Join:
    return joining(lake, "columnar", None)


def joining(lake: Lake, engine: Any, spark: Any) -> Join:
    def attached(spine: Any, views: Sequence[AnyView], mode: Mode = "event", *, with_times: bool = False, **names: Any) -> Joined:
        joins = [replace(one, with_times=with_times) for one in view_joins(lake, select(views, "the test"), mode, **names)]
        rows = spine if isinstance(spine, DeltaRows | FrameRows | TableRows) else table_rows(spine)
        return join(lake, rows, joins, Resources(spark if engine == "sql" else no_spark, 2, 512_000_000), engine)

    return attached


def no_spark() -> Any:
    raise AssertionError("this needs no Spark")
