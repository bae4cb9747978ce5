"""One Spark session and one Cassandra node for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from penstock.config import Settings, load_settings

ROOT = Path(__file__).parent.parent

# Other examples every time, in CI too; a failing one prints how to replay it. They differ in cost too much for a deadline.
hypothesis_settings.register_profile("penstock", deadline=None, print_blob=True, database=None, derandomize=False)
hypothesis_settings.load_profile("penstock")


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The project's settings with everything it writes in a temporary folder."""
    folder = tmp_path_factory.mktemp("project")
    base = load_settings(ROOT)
    port = 19142 + 10 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # processes of one run have a node each
    return base.model_copy(
        update={
            "lake": base.lake.model_copy(update={"path": str(folder / "lake")}),
            "cassandra": base.cassandra.model_copy(update={"data": str(folder / "cassandra"), "port": port, "keyspace": "penstock_test"}),
            "dagster": base.dagster.model_copy(update={"home": str(folder / "dagster")}),
        }
    )


@pytest.fixture(scope="session")
def spark(settings: Settings) -> Iterator[object]:
    from penstock.runtime.spark import spark_session, stop_session

    yield spark_session(settings, "tests")
    stop_session()


@pytest.fixture(scope="session")
def cassandra_settings(settings: Settings) -> Iterator[Settings]:
    """Settings of the one real node of this run, which is up."""
    from penstock.runtime.nodes import node_down, node_up

    node_up(settings)
    yield settings
    node_down(settings)


@pytest.fixture(scope="session")
def endpoint(cassandra_settings: Settings) -> tuple[list[str], int]:
    """Contact points and CQL port of the node."""
    from penstock.runtime.node_status import cassandra_endpoint

    return cassandra_endpoint(cassandra_settings)
