"""Embedded Cassandra: real nodes as child processes of nobody, found again by any process of the project.

    <data>/node.json   where the node is and which process it is; <data>/node.log its log
    <data>-2, -3       the data folders of a ring's further nodes

Up and down hold a lock in the data folder, so any number of processes may call them at once.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil

from penstock.config import Settings
from penstock.errors import RuntimeSetupError
from penstock.runtime.cache import make_folder, one_at_a_time
from penstock.runtime.jars import cassandra_jars
from penstock.runtime.node_launch import found_port_taken, launch, log_tail
from penstock.runtime.node_ports import Ports, choose_ports, follow_ports, node_address
from penstock.runtime.node_ready import wait_until_ready
from penstock.runtime.node_record import NodeRecord, has_ended, log_path, read_record, running_process, unrecorded_process, write_record
from penstock.runtime.node_status import NodeStatus, data_folder, status_of

_START_DEADLINE_S = 180.0
_STOP_DEADLINE_S = 20.0
_POLL_S = 0.1
_ATTEMPTS = 3  # a port found free may be taken a moment later


def node_up(settings: Settings, *, index: int = 1, of: int = 1, on_progress: Callable[[str], None] | None = None) -> NodeStatus:
    """Bring a node up, or find it up; returns when it answers queries.

    A ring is brought up node by node, the first one first. What a killed node had acknowledged is there again.

    Args:
        settings: `cassandra.data`, `port` (another is taken if it is busy), `heap`, `local_datacenter`.
        index: which node of the ring, from 1; node i listens on 127.0.0.i.
        of: how many nodes the ring has; fixed by the first start in a data folder.
        on_progress: is told, in a few words, what is being waited for.

    Raises:
        RuntimeSetupError: Cassandra is external, Java or jars are not usable, or the node did not come
            up: the log's tail is in the message, and its process has been ended.
    """
    data = data_folder(settings, index, of)
    tell = on_progress or (lambda _: None)
    make_folder(data, hint="set cassandra.data to a folder you may write to")
    with one_at_a_time(data / ".lock"):
        record = read_record(data)
        if record is not None and record.ring_size != of:
            message = f"the node in {data} belongs to a ring of {record.ring_size}, not of {of}"
            raise RuntimeSetupError(message, hint="use another cassandra.data, or delete the folder with what it holds")
        process = running_process(data, record)
        if process is not None and record is not None:
            if not record.ready:
                _await_start(process, data, record, index, of, tell)  # who started it was killed
        else:
            _refuse_unrecorded(data)
            _start(settings, data, record, index, of, tell)
        return status_of(settings, data, index)


def node_down(settings: Settings, *, index: int = 1, of: int = 1) -> NodeStatus:
    """End a node, in order if it will, by force after 20 s; already down is no error."""
    data = data_folder(settings, index, of)
    if data.exists():
        with one_at_a_time(data / ".lock"):
            process = running_process(data, read_record(data))
            if process is not None:
                _end(process)
    return status_of(settings, data, index)


def _start(settings: Settings, data: Path, before: NodeRecord | None, index: int, of: int, tell: Callable[[str], None]) -> None:
    tell("Cassandra's jars: 62 MB are downloaded the first time")
    cassandra_jars(settings)
    for attempt in range(1, _ATTEMPTS + 1):
        ports = choose_ports(settings.cassandra.port, of, before) if index == 1 else follow_ports(index, _first_node(settings, of))
        tell(f"starting Cassandra node {index} of {of} on {node_address(index)}:{ports.cql}")
        process = launch(settings, data, index=index, ring_size=of, ports=ports)
        try:
            record = _record(process, index, of, ports)
            write_record(data, record)
            _await_start(process, data, record, index, of, tell)
            return
        except psutil.NoSuchProcess:
            raise RuntimeSetupError(f"Cassandra node {index} ended at once:\n{log_tail(data)}", hint=f"read {log_path(data)}") from None
        except RuntimeSetupError:
            if attempt == _ATTEMPTS or not found_port_taken(data):
                raise


def _await_start(process: psutil.Process, data: Path, record: NodeRecord, index: int, of: int, tell: Callable[[str], None]) -> None:
    tell(f"waiting for Cassandra node {index} of {of} to answer")
    try:
        if not wait_until_ready(process, data, record, _START_DEADLINE_S):
            how = "ended" if has_ended(process) else f"did not answer within {_START_DEADLINE_S:.0f} s"
            message = f"Cassandra node {index} of {of} {how} while starting on {record.address}:{record.port}:\n{log_tail(data)}"
            raise RuntimeSetupError(message, hint=f"the whole log is {log_path(data)}")
    except BaseException:  # Ctrl-C included: a half-started node is no use to anyone
        _end(process)
        raise
    write_record(data, replace(record, ready=True))


def _record(process: psutil.Process, index: int, of: int, ports: Ports) -> NodeRecord:
    return NodeRecord(
        pid=process.pid,
        started_at_s=process.create_time(),
        ready=False,
        address=node_address(index),
        port=ports.cql,
        storage_port=ports.storage,
        jmx_port=ports.jmx,
        ring_size=of,
    )


def _first_node(settings: Settings, of: int) -> NodeRecord:
    data = data_folder(settings, 1, of)
    record = read_record(data)
    if record is None or running_process(data, record) is None:
        raise RuntimeSetupError(f"node 1 of the ring, in {data}, is not up", hint="bring up node 1 first: the others join it")
    return record


def _refuse_unrecorded(data: Path) -> None:
    process = unrecorded_process(data)
    if process is not None:
        # Cassandra does not lock its data folder: a second node on it would destroy both's data.
        message = f"process {process.pid} is a Cassandra node on {data} that node.json does not know"
        raise RuntimeSetupError(message, hint=f"end it with `kill {process.pid}`, then run this again")


def _end(process: psutil.Process) -> None:
    try:
        for send in (process.terminate, process.kill):
            send()  # psutil sends nothing to another process that has since taken the pid
            deadline = time.monotonic() + _STOP_DEADLINE_S
            while time.monotonic() < deadline:
                if has_ended(process):
                    return
                time.sleep(_POLL_S)
    except psutil.NoSuchProcess:
        return
    raise RuntimeSetupError(f"Cassandra's process {process.pid} does not end", hint="see what it waits for, e.g. a disk that hangs")
