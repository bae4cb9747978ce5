"""A real Cassandra node for this folder's tests."""

from collections.abc import Iterator

import pytest

from penstock.config import Settings
from penstock.runtime.nodes import cassandra_endpoint, node_down, node_up


@pytest.fixture(scope="session")
def cassandra_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = Settings(root=tmp_path_factory.mktemp("online"), cassandra={"data": "node", "port": 19242})
    node_up(settings)
    yield settings
    node_down(settings)


@pytest.fixture(scope="session")
def endpoint(cassandra_settings: Settings) -> tuple[list[str], int]:
    return cassandra_endpoint(cassandra_settings)
