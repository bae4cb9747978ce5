"""Ports for an embedded node: the preferred ones, or free ones where those are taken."""

import socket
from collections.abc import Sequence
from typing import NamedTuple

from penstock.errors import RuntimeSetupError
from penstock.runtime.node_record import NodeRecord
from penstock.runtime.ports import why_taken

_STORAGE_PORT = 7000
_JMX_PORT = 7199


class Ports(NamedTuple):
    """Where a node listens."""

    cql: int
    storage: int
    jmx: int


def node_address(index: int) -> str:
    """The loopback address of the index-th node of a ring."""
    return f"127.0.0.{index}"


def choose_ports(preferred: int, ring_size: int, before: NodeRecord | None) -> Ports:
    """Ports of a ring's first node, free on the addresses of all its nodes.

    Args:
        preferred: the CQL port to take if it is free.
        ring_size: how many nodes the ring will have; they share the CQL and the storage port.
        before: the node's last start. A ring goes back to its old ports, where its other nodes look for it.
    """
    cql, storage, jmx = [preferred], [_STORAGE_PORT], [_JMX_PORT]
    if before is not None:
        old = Ports(before.port, before.storage_port, before.jmx_port)
        cql = [old.cql, preferred] if ring_size > 1 else [preferred, old.cql]
        storage, jmx = [old.storage, _STORAGE_PORT], [old.jmx, _JMX_PORT]
    # A restarted first node finds the others on its ports, on their own addresses.
    size = ring_size if before is None else 1
    addresses = [node_address(index) for index in range(1, size + 1)]
    chosen_cql = _first_free(cql, addresses, taken=())
    chosen_storage = _first_free(storage, addresses, taken=(chosen_cql,))
    return Ports(chosen_cql, chosen_storage, _first_free(jmx, addresses[:1], taken=(chosen_cql, chosen_storage)))


def follow_ports(index: int, first: NodeRecord) -> Ports:
    """Ports of a further node of a ring: the first node's, on its own address.

    Raises:
        RuntimeSetupError: one of them is taken there.
    """
    address = node_address(index)
    for port in (first.port, first.storage_port):
        if why_taken(address, port) is not None:
            raise RuntimeSetupError(
                f"node {index}: port {port} of {address} is taken, and all nodes of a ring have the same ports",
                hint="end what listens there, or stop the ring and start it with another cassandra.port",
            )
    jmx = _first_free([_JMX_PORT + index - 1], [node_address(1)], taken=())  # JMX of every node is on 127.0.0.1
    return Ports(first.port, first.storage_port, jmx)


def _first_free(candidates: Sequence[int], addresses: Sequence[str], taken: Sequence[int]) -> int:
    for port in candidates:
        if port not in taken and all(why_taken(address, port) is None for address in addresses):
            return port
    while True:
        with socket.socket() as probe:
            probe.bind((addresses[0], 0))
            port = int(probe.getsockname()[1])
        if port not in taken and all(why_taken(address, port) is None for address in addresses):
            return port
