"""Which definitions and which values a service is pointed at."""

import asyncio
from datetime import date
from typing import Any

import pytest

from penstock.contract import Feature, FeatureService
from penstock.errors import RegistryError
from penstock.online.ledger import Publication
from penstock.online.memory import MemoryStore
from penstock.publication.services import publish_services
from penstock.registry.project import Project
from penstock.registry.snapshot import Snapshot, compile_snapshot
from tests.world import view_of_orders


def snapshot_of(**changes: Any) -> Snapshot:
    view = view_of_orders(**changes)
    return compile_snapshot(Project("shop", (view,), (FeatureService("spending", views=[view], owner="ml"),)))


def online(*versions: int) -> MemoryStore:
    store = MemoryStore()
    for version in versions:
        row = Publication(
            view="last_order", version=version, generation=1, partition=date(2026, 3, 2), attempt=1, complete_until_us=0,
            readable_at_us=1, run_id="", keys=1,
        )  # fmt: skip
        asyncio.run(store.record([row]))
    return store


def point(store: MemoryStore, snapshot: Snapshot, now_us: int) -> Any:
    return asyncio.run(publish_services(store, snapshot, now_us))


def served(store: MemoryStore) -> dict[str, tuple[str, list[int]]]:
    return {row.service: (row.snapshot, [p.version for p in row.pointers]) for row in asyncio.run(store.pointers())}


def test_a_service_is_served_once_all_its_views_are_online() -> None:
    store, snapshot = online(), snapshot_of()
    assert point(store, snapshot, 10) == {"spending": False}
    assert served(store) == {}
    store = online(1)
    assert point(store, snapshot, 10) == {"spending": True}
    assert served(store) == {"spending": (snapshot.fingerprint, [1])}


def test_a_new_version_that_is_not_online_leaves_the_service_as_it_was() -> None:
    store, first = online(1), snapshot_of()
    point(store, first, 10)
    assert point(store, snapshot_of(version=2), 20) == {"spending": False}
    assert served(store) == {"spending": (first.fingerprint, [1])}


def test_other_features_under_the_same_version_are_refused_and_leave_the_service_as_it_was() -> None:
    store, first = online(1), snapshot_of()
    point(store, first, 10)
    other = snapshot_of(features=[Feature("amount", "float64"), Feature("tip", "float64")])
    with pytest.raises(RegistryError, match=r"last_order@1: its features are not those of the last_order@1 that is being served"):
        point(store, other, 20)
    assert served(store) == {"spending": (first.fingerprint, [1])}


def test_another_description_is_served_at_once() -> None:
    store = online(1)
    point(store, snapshot_of(), 10)
    changed = snapshot_of(description="what a customer ordered last")
    assert point(store, changed, 20) == {"spending": True}
    assert served(store) == {"spending": (changed.fingerprint, [1])}
