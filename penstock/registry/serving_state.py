"""What the gateway serves now: for each service its contract, and for each view the generation and watermark.

A response is computed under one such state. It is read from the control plane as a whole and
replaced as a whole; it never goes back.
"""

from typing import Any

import msgspec

from penstock.registry.marks import Mark
from penstock.registry.snapshot import Snapshot


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """Which fill of which view version a service reads."""

    view: str
    version: int
    generation: int


class ServicePointers(msgspec.Struct, frozen=True, kw_only=True):
    """One service's row in the control plane.

    Args:
        service: its name.
        snapshot: fingerprint of the registry snapshot it is served under.
        pointers: one per view of the service.
        changed_at_us: when the row was written, microseconds.
    """

    service: str
    snapshot: str
    pointers: list[Pointer]
    changed_at_us: int


class ServingState(msgspec.Struct, frozen=True, kw_only=True):
    """One consistent look at the control plane.

    Args:
        snapshots: fingerprint → snapshot, of every service.
        services: name → its pointers.
        complete_until_us: (view, version, generation) → the smallest contiguous `complete_until` online; absent:
            nothing was published.
        marks: (view, version) → its invalidation marks that are in force; absent: there are none.
        functions: (snapshot, on-demand view's name and version) → its function, loaded; of every service.
        refused: services that cannot be served, and were not before → why.
    """

    snapshots: dict[str, Snapshot]
    services: dict[str, ServicePointers]
    complete_until_us: dict[tuple[str, int, int], int]
    marks: dict[tuple[str, int], tuple[Mark, ...]] = {}
    functions: dict[tuple[str, str], Any] = {}
    refused: dict[str, str] = {}
