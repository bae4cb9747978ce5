"""Where Cassandra is: the embedded node, as its record and its process say, or the cluster of the settings.

Who only connects needs no more than this: neither Java nor jars.
"""

from dataclasses import dataclass
from pathlib import Path

from penstock.config import Settings
from penstock.errors import RuntimeSetupError
from penstock.runtime.node_ports import node_address
from penstock.runtime.node_record import log_path, read_record, running_process


@dataclass(frozen=True)
class NodeStatus:
    """An embedded node as it is now.

    Args:
        running: the process runs and has answered a query; a starting node has a pid and is not running yet.
        pid: its process, None if there is none.
        address: where it listens, or last listened, for CQL.
        port: the CQL port, likewise.
        data: its data folder.
        log: the log of its last start.
    """

    running: bool
    pid: int | None
    address: str
    port: int
    data: Path
    log: Path


def node_status(settings: Settings, *, index: int = 1, of: int = 1) -> NodeStatus:
    """How a node is; asks its process, not the node."""
    return status_of(settings, data_folder(settings, index, of), index)


def cassandra_endpoint(settings: Settings) -> tuple[list[str], int]:
    """Contact points and CQL port: the settings' own if Cassandra is external, else where the embedded node listens.

    Raises:
        RuntimeSetupError: the embedded node is not up.
    """
    if settings.cassandra.mode == "external":
        return list(settings.cassandra.contact_points), settings.cassandra.port
    status = node_status(settings)
    if not status.running:
        state = "is still starting" if status.pid is not None else "is not up"
        raise RuntimeSetupError(f"the embedded Cassandra node in {status.data} {state}", hint="start it with `penstock node up`")
    return [status.address], status.port


def status_of(settings: Settings, data: Path, index: int) -> NodeStatus:
    """How the node of a data folder is."""
    record = read_record(data)
    process = running_process(data, record)
    return NodeStatus(
        running=process is not None and record is not None and record.ready,
        pid=None if process is None else process.pid,
        address=node_address(index) if record is None else record.address,
        port=settings.cassandra.port if record is None else record.port,
        data=data,
        log=log_path(data),
    )


def data_folder(settings: Settings, index: int, of: int) -> Path:
    """Where a node keeps its data.

    Raises:
        RuntimeSetupError: Cassandra is external.
    """
    if settings.cassandra.mode != "embedded":
        raise RuntimeSetupError(
            f"cassandra.mode is '{settings.cassandra.mode}': its nodes are not Penstock's to run",
            hint="use your cluster's own tools, or set cassandra.mode to 'embedded'",
        )
    if not 1 <= index <= of:
        raise ValueError(f"node {index} of {of}: expected 1 <= index <= of")
    data = settings.path(settings.cassandra.data)
    return data if index == 1 else data.with_name(f"{data.name}-{index}")
