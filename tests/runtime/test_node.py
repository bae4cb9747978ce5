"""A real embedded node: up, found, killed, recovered, down."""

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import WhiteListRoundRobinPolicy

from penstock.config import Settings
from penstock.runtime.node_record import has_ended
from penstock.runtime.node_status import cassandra_endpoint, node_status
from penstock.runtime.nodes import node_down, node_up

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = Settings(root=tmp_path_factory.mktemp("a project"), cassandra={"data": "node", "port": 19042})
    node_up(settings)
    yield settings
    node_down(settings)


@contextmanager
def connected(settings: Settings) -> Iterator[Session]:
    addresses, port = cassandra_endpoint(settings)
    profile = ExecutionProfile(WhiteListRoundRobinPolicy(addresses))
    with Cluster(addresses, port=port, protocol_version=5, execution_profiles={EXEC_PROFILE_DEFAULT: profile}) as cluster:
        yield cluster.connect()


def test_bringing_up_a_node_that_is_up_finds_it(settings: Settings) -> None:
    first = node_status(settings)
    assert first.running
    assert node_up(settings) == first


def test_a_node_answers_with_the_locked_version(settings: Settings) -> None:
    with connected(settings) as session:
        assert session.execute("SELECT release_version FROM system.local").one().release_version == "5.0.9"


def test_a_node_keeps_its_data_to_its_own_folder(settings: Settings) -> None:
    data = node_status(settings).data
    assert data == settings.root / "node"
    assert {path.name for path in data.iterdir()} >= {"data", "commitlog", "conf", "node.json", "node.log"}


def test_what_a_node_acknowledged_last_outlives_its_kill(settings: Settings) -> None:
    process = psutil.Process(node_status(settings).pid)
    with connected(settings) as session:
        session.execute("CREATE KEYSPACE kept WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        session.execute("CREATE TABLE kept.rows (id int PRIMARY KEY)")
        session.execute("INSERT INTO kept.rows (id) VALUES (7)")
        process.kill()
    while not has_ended(process):
        pass
    assert node_status(settings).running is False
    assert node_up(settings).pid != process.pid
    with connected(settings) as session:
        assert [row.id for row in session.execute("SELECT id FROM kept.rows")] == [7]


def test_down_leaves_no_process(settings: Settings) -> None:
    process = psutil.Process(node_status(settings).pid)
    status = node_down(settings)
    assert (status.running, status.pid) == (False, None)
    assert has_ended(process)
    assert node_down(settings) == status
