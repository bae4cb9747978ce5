"""What is served, for tests of its quality."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.config import Settings
from tests.served import Served, served_orders


@pytest.fixture
def served(
    spark: Any, cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Served]:
    with served_orders(spark, cassandra_settings, endpoint, tmp_path, request.node.name) as found:
        yield found
