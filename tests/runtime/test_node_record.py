"""What node.json may claim and what it may not, with a sleeping process in place of a node."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from penstock.config import Settings
from penstock.errors import RuntimeSetupError
from penstock.runtime.node_launch import initial_token
from penstock.runtime.node_record import NodeRecord, read_record, running_process, storage_argument, unrecorded_process, write_record
from penstock.runtime.node_status import cassandra_endpoint, node_status
from penstock.runtime.nodes import node_down, node_up


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, cassandra={"data": "node", "port": 19142})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "node"
    folder.mkdir()
    return folder


@pytest.fixture
def sleeper(data: Path) -> Iterator[psutil.Process]:
    """A process with a node's mark on its command line."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", storage_argument(data)]) as child:
        yield psutil.Process(child.pid)
        child.kill()


def record_of(process: psutil.Process) -> NodeRecord:
    return NodeRecord(process.pid, process.create_time(), True, "127.0.0.1", 19150, 7000, 7199, 1)


def test_a_recorded_node_is_found_by_other_processes(settings: Settings, data: Path, sleeper: psutil.Process) -> None:
    write_record(data, record_of(sleeper))
    status = node_status(settings)
    assert (status.running, status.pid, status.port) == (True, sleeper.pid, 19150)
    assert cassandra_endpoint(settings) == (["127.0.0.1"], 19150)


def test_a_starting_node_is_not_running_yet(settings: Settings, data: Path, sleeper: psutil.Process) -> None:
    write_record(data, replace(record_of(sleeper), ready=False))
    status = node_status(settings)
    assert (status.running, status.pid) == (False, sleeper.pid)
    with pytest.raises(RuntimeSetupError, match="still starting"):
        cassandra_endpoint(settings)


def test_a_pid_that_is_now_another_process_is_stale(data: Path, sleeper: psutil.Process) -> None:
    assert running_process(data, replace(record_of(sleeper), started_at_s=sleeper.create_time() - 60)) is None


def test_a_process_that_is_no_node_of_this_folder_is_stale(tmp_path: Path, sleeper: psutil.Process) -> None:
    other = tmp_path / "other"
    assert running_process(other, record_of(sleeper)) is None


def test_down_spares_a_process_that_took_a_stale_pid(settings: Settings, data: Path, sleeper: psutil.Process) -> None:
    write_record(data, replace(record_of(sleeper), started_at_s=0.0))
    assert node_down(settings).running is False
    assert sleeper.is_running()


def test_down_ends_the_recorded_process(settings: Settings, data: Path, sleeper: psutil.Process) -> None:
    write_record(data, record_of(sleeper))
    assert node_down(settings).pid is None
    assert running_process(data, record_of(sleeper)) is None


def test_up_refuses_a_second_node_on_the_same_data(settings: Settings, data: Path, sleeper: psutil.Process) -> None:
    assert unrecorded_process(data) == sleeper
    with pytest.raises(RuntimeSetupError, match=f"process {sleeper.pid} is a Cassandra node .* node.json does not know"):
        node_up(settings)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_an_unreadable_record_counts_as_none(settings: Settings, data: Path, content: str) -> None:
    (data / "node.json").write_text(content)
    assert read_record(data) is None
    assert node_status(settings).running is False


def test_a_folder_of_a_ring_is_refused_to_a_single_node(settings: Settings, data: Path, sleeper: psutil.Process) -> None:
    write_record(data, replace(record_of(sleeper), ring_size=3))
    with pytest.raises(RuntimeSetupError, match="belongs to a ring of 3, not of 1"):
        node_up(settings)


def test_without_a_node_the_endpoint_says_how_to_start_one(settings: Settings) -> None:
    with pytest.raises(RuntimeSetupError, match="penstock node up"):
        cassandra_endpoint(settings)


def test_an_external_cassandra_is_left_to_its_owners() -> None:
    settings = Settings(cassandra={"mode": "external", "contact_points": ("10.0.0.1", "10.0.0.2"), "port": 9142})
    assert cassandra_endpoint(settings) == (["10.0.0.1", "10.0.0.2"], 9142)
    with pytest.raises(RuntimeSetupError, match="not Penstock's to run"):
        node_up(settings)


def test_nodes_of_a_ring_share_it_evenly() -> None:
    assert initial_token(1, 1) == -(2**63)
    assert [initial_token(index, 4) for index in (1, 2, 3, 4)] == [-(2**63), -(2**62), 0, 2**62]
