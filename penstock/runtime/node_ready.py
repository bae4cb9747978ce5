"""Whether an embedded node answers: asked with real queries, by a real driver."""

import socket
import time
from pathlib import Path
from typing import Any

import psutil
from cassandra import DriverException
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.io.libevreactor import LibevConnection
from cassandra.policies import WhiteListRoundRobinPolicy

from penstock.runtime.node_ports import node_address
from penstock.runtime.node_record import NodeRecord, has_ended

_POLL_S = 0.1


def wait_until_ready(process: psutil.Process, data: Path, record: NodeRecord, deadline_s: float) -> bool:
    """True as soon as the node answers and is part of its ring; False when it ended or time is up.

    Args:
        process: the node's process.
        data: its data folder; a node of another folder that answers is not meant.
        record: where it listens.
        deadline_s: seconds to wait at most.
    """
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if has_ended(process):
            return False
        if _answers(data, record) and (record.ring_size == 1 or _ring_agrees(record)):
            return True
        time.sleep(_POLL_S)
    return False


def _answers(data: Path, record: NodeRecord) -> bool:
    if not _ask(record.address, record.port, "SELECT release_version FROM system.local"):
        return False
    # Two nodes started at once may both have found a port free: only one of them got it.
    rows = _ask(record.address, record.port, "SELECT value FROM system_views.settings WHERE name = 'commitlog_directory'")
    return any(row.value == str(data / "commitlog") for row in rows)


def _ring_agrees(record: NodeRecord) -> bool:
    """All nodes of the ring that answer know each other and have the same schema: what is created at one is there at all."""
    views = {}
    for index in range(1, record.ring_size + 1):
        rows = _ask(node_address(index), record.port, "SELECT rpc_address AS address, schema_version FROM system.local")
        if rows:
            peers = _ask(node_address(index), record.port, "SELECT native_address AS address, schema_version FROM system.peers_v2")
            views[node_address(index)] = {row.address: row.schema_version for row in rows + peers}
    versions = {view.get(address) for view in views.values() for address in views}
    return len(versions) == 1 and None not in versions


def _ask(address: str, port: int, query: str) -> list[Any]:
    """The rows this one node answers with; none if it does not answer."""
    if not _listens(address, port):  # far cheaper than a driver's connection
        return []
    cluster = Cluster(
        [address],
        port=port,
        connection_class=LibevConnection,
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: ExecutionProfile(WhiteListRoundRobinPolicy([address]))},
        schema_metadata_enabled=False,
        token_metadata_enabled=False,
    )
    try:
        return list(cluster.connect().execute(query))
    except (NoHostAvailable, DriverException, OSError):
        return []
    finally:
        cluster.shutdown()


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False
