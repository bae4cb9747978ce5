"""`node.json`: what the process that started an embedded node leaves for the others, and whether it still holds."""

import json
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from penstock.runtime.cache import write_atomically

_FILE = "node.json"

# The kernel's boot time, from which a process's start is computed, moves when the machine's clock is set.
_START_TOLERANCE_S = 2.0


@dataclass(frozen=True)
class NodeRecord:
    """One start of a node."""

    #: process id
    pid: int
    #: when that process started, seconds since 1970: a pid alone may by now be another process's
    started_at_s: float
    #: it has answered a query
    ready: bool
    #: of CQL; the storage port has the same address
    address: str
    port: int
    storage_port: int
    jmx_port: int
    #: how many nodes its ring has
    ring_size: int


def log_path(data: Path) -> Path:
    """The log of the node's last start; the one before is `node.log.1`."""
    return data / "node.log"


def read_record(data: Path) -> NodeRecord | None:
    """The record of the last start in this data folder; None: never started, or unreadable."""
    try:
        values = json.loads((data / _FILE).read_text(encoding="utf-8"))
        return NodeRecord(**{field.name: values[field.name] for field in fields(NodeRecord)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(data: Path, record: NodeRecord) -> None:
    """Replace the record."""
    write_atomically(data / _FILE, (json.dumps(asdict(record), indent=2) + "\n").encode())


def running_process(data: Path, record: NodeRecord | None) -> psutil.Process | None:
    """The recorded process, if it still runs and is really the node of this data folder."""
    if record is None:
        return None
    try:
        process = psutil.Process(record.pid)
        if abs(process.create_time() - record.started_at_s) > _START_TOLERANCE_S:
            return None
        # While the launching shell turns into Java, its command line is empty for an instant.
        for _ in range(20):
            if process.cmdline() or has_ended(process):
                break
            time.sleep(0.01)
        return process if _is_node_of(process, data) else None
    except psutil.Error:
        return None


def unrecorded_process(data: Path) -> psutil.Process | None:
    """A node of this data folder, found among all processes: for when the record was lost."""
    for process in psutil.process_iter():
        try:
            if _is_node_of(process, data):
                return process
        except psutil.Error:
            continue
    return None


def has_ended(process: psutil.Process) -> bool:
    """It runs no more. A zombie has ended: in a container, process 1 may never collect it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def storage_argument(data: Path) -> str:
    """The argument by which the node of this data folder is known among processes."""
    return f"-Dcassandra.storagedir={data}"


def _is_node_of(process: psutil.Process, data: Path) -> bool:
    return not has_ended(process) and storage_argument(data) in process.cmdline()
