"""The serving state never goes back, and what cannot be read leaves it as it was."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from penstock.clock import MICROSECOND, to_micros
from penstock.contract import hours
from penstock.online.memory import MemoryStore
from penstock.registry.serving_state import ServicePointers
from penstock.serving.state import StateKeeper
from tests.serving.world import DELAYS, NOON, SERVICES, SNAPSHOT, complete, point, serve_everything


class Lagging(MemoryStore):
    """A store that may answer with pointers of an earlier look."""

    lagging: list[ServicePointers] | None = None

    async def pointers(self) -> list[ServicePointers]:
        return self.lagging if self.lagging is not None else await super().pointers()


def keeping(check: Callable[[Lagging, StateKeeper, list[int]], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        store, failures = Lagging(), [0]

        def count() -> None:
            failures[0] += 1

        await serve_everything(store)
        await check(store, StateKeeper(store, count), failures)

    asyncio.run(run())


def test_a_look_gives_services_snapshots_and_watermarks() -> None:
    async def check(store: Lagging, keeper: StateKeeper, failures: list[int]) -> None:
        assert keeper.state is None
        assert await keeper.refresh()
        assert keeper.state is not None
        assert sorted(keeper.state.services) == ["all_features", "carriers"]
        assert list(keeper.state.snapshots) == [SNAPSHOT.fingerprint]
        assert keeper.state.complete_until_us == {(v, 1, 3): to_micros(NOON) for v in ("delays", "fleet", "load")}
        await complete(store, DELAYS, NOON + hours(1))
        assert await keeper.refresh()
        assert keeper.state.complete_until_us["delays", 1, 3] == to_micros(NOON + hours(1))
        assert failures == [0]

    keeping(check)


def test_pointers_never_go_back() -> None:
    async def check(store: Lagging, keeper: StateKeeper, failures: list[int]) -> None:
        older = await store.pointers()
        await point(store, SERVICES[1], NOON + MICROSECOND, generation=4)
        await keeper.refresh()
        for store.lagging in (older, older[:1], []):  # a replica that lags behind, or lacks a service
            assert await keeper.refresh()
            assert keeper.state is not None
            assert keeper.state.services["carriers"].pointers[0].generation == 4
            assert sorted(keeper.state.services) == ["all_features", "carriers"]

    keeping(check)


def test_a_store_that_is_down_leaves_the_state_and_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def check(store: Lagging, keeper: StateKeeper, failures: list[int]) -> None:
        await keeper.refresh()
        before = keeper.state
        store.reachable = False
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert not await keeper.refresh()
        assert keeper.state is before
        assert failures == [3]
        assert len(caplog.records) == 1
        store.reachable = True
        assert await keeper.refresh()

    keeping(check)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"snapshot": "f" * 16}, "registry snapshot 'ffffffffffffffff' is not in the store"),
        ({"pointers": []}, "the pointers of feature service 'carriers' lack fleet@1, delays@1"),
        ({"snapshot": "bad"}, "not a registry snapshot"),
        ({"snapshot": "other"}, "has no feature service 'carriers'"),
    ],
)
def test_pointers_that_do_not_fit_leave_their_service_as_it_was_and_others_go_on(
    change: dict[str, Any], complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(store: Lagging, keeper: StateKeeper, failures: list[int]) -> None:
        await store.put_snapshot("bad", b"{}")
        await store.put_snapshot("other", msgspec.structs.replace(SNAPSHOT, services=[]).to_json())
        await keeper.refresh()
        carriers = next(p for p in await store.pointers() if p.service == "carriers")
        await store.set_pointers(msgspec.structs.replace(carriers, changed_at_us=carriers.changed_at_us + 1, **change))
        await point(store, SERVICES[0], NOON + MICROSECOND, generation=5)
        with caplog.at_level(logging.WARNING):
            assert await keeper.refresh()
            assert await keeper.refresh()
        assert keeper.state is not None
        assert keeper.state.services["carriers"] == carriers
        assert {p.generation for p in keeper.state.services["all_features"].pointers} == {5}
        assert failures == [2]
        assert [complaint in record.getMessage() for record in caplog.records] == [True]  # logged once

    keeping(check)
