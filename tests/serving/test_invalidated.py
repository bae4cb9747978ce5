"""What is served while an invalidation mark is in force: of the view no value, of the others all, and no request fails."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from msgspec.structs import replace

from penstock.clock import to_micros
from penstock.contract import hours, minutes
from penstock.contract.view import FeatureView
from penstock.online.memory import MemoryStore
from penstock.registry.marks import Mark
from penstock.serving.state import StateKeeper
from tests.serving.running import Running, running_gateway
from tests.serving.world import DELAYS, FLEET, LOAD, NOON, serve_everything

NOON_US = to_micros(NOON)
ALL: dict[str, Any] = {"service": "all_features", "entities": [{"carrier": "UA", "number": 1, "departs": "2013-06-01T12:00:00Z"}]}


def mark_on(view: FeatureView, **changes: Any) -> Mark:
    whole = Mark(
        view=view.name, version=1, marked_at_us=NOON_US, id=f"m_{view.name}", attempt=7, since_us=None, until_us=None, reason="a bad join"
    )
    return replace(whole, **changes)


def serve(folder: Path, check: Callable[[Running, Callable[[], Awaitable[dict[str, Any]]]], Awaitable[None]]) -> None:
    async def run() -> None:
        store = MemoryStore()
        await serve_everything(store)
        async with running_gateway(folder, store) as running:
            http = httpx.AsyncClient(base_url=running.url, headers={"authorization": f"Bearer {running.key}"})

            async def row() -> dict[str, Any]:
                answer = (await http.post("/v1/features", json=ALL)).raise_for_status().json()
                found = answer["rows"][0]
                return dict(zip(answer["features"], zip(found["values"], found["statuses"], strict=True), strict=True))

            async with http:
                await check(running, row)

    asyncio.run(run())


def test_each_view_gives_its_defaults_or_null_and_an_undone_mark_gives_the_values_back(tmp_path: Path) -> None:
    async def check(running: Running, row: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        before = await row()
        assert {status for _, status in before.values()} == {"PRESENT"}
        for view in (DELAYS, FLEET, LOAD):
            await running.store.put_mark(mark_on(view))
        assert await row() == before  # not read yet
        await running.gateway.refresh()
        assert await row() == {
            "delays__mean": (0.5, "DEFAULT"),
            "delays__flights": (None, "DEFAULT"),
            "delays__worst": ([], "DEFAULT"),
            "fleet__since": (None, "ERROR"),
            "fleet__hubs": (None, "ERROR"),
            "load__seats": (None, "ERROR"),  # fails requests when the store fails; not for this
        }
        for view in (FLEET, LOAD):
            await running.store.put_mark(mark_on(view, lifted_at_us=NOON_US + 1))
        await running.gateway.refresh()
        after = await row()
        assert {name for name in after if after[name] != before[name]} == {"delays__mean", "delays__flights", "delays__worst"}
        async with httpx.AsyncClient(base_url=running.url) as http:
            assert 'penstock_value_problems_total{problem="invalidated",view="delays"} 2.0' in (await http.get("/metrics")).text

    serve(tmp_path, check)


def test_a_mark_covers_only_its_attempt_its_times_and_what_was_there(tmp_path: Path) -> None:
    at_us = to_micros(NOON - minutes(15))  # of the value of `delays`, of attempt 7
    scopes = {
        "its attempt": ({"attempt": 7}, True),
        "another attempt": ({"attempt": 8}, False),
        "from its time on": ({"attempt": None, "since_us": at_us}, True),
        "from after it": ({"attempt": None, "since_us": at_us + 1}, False),
        "up to it": ({"attempt": None, "until_us": at_us}, False),
        "up to after it": ({"attempt": None, "until_us": at_us + 1}, True),
        "all": ({"attempt": None}, True),
        "what was computed before it was": ({"attempt": None, "marked_at_us": 6}, False),
        "another version": ({"attempt": None, "version": 2}, False),
    }

    async def check(running: Running, row: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        for name, (scope, is_covered) in scopes.items():
            mark = mark_on(DELAYS, id=name, **scope)
            await running.store.put_mark(mark)
            await running.gateway.refresh()
            assert (await row())["delays__mean"] == ((0.5, "DEFAULT") if is_covered else (12.25, "PRESENT")), name
            await running.store.put_mark(replace(mark, lifted_at_us=NOON_US + 1))

    serve(tmp_path, check)


def test_what_a_cache_held_for_when_the_store_fails_is_not_served_either(tmp_path: Path) -> None:
    async def check(running: Running, row: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        await row()
        await running.store.put_mark(mark_on(DELAYS))
        await running.store.put_mark(mark_on(LOAD))
        await running.gateway.refresh()
        running.store.reachable = False
        async with httpx.AsyncClient(base_url=running.url, headers={"authorization": f"Bearer {running.key}"}) as http:
            carriers = {"service": "carriers", "entities": [{"carrier": "UA"}]}
            answer = (await http.post("/v1/features", json=carriers)).raise_for_status().json()["rows"][0]
        assert answer["statuses"] == ["ERROR", "ERROR", "DEFAULT", "DEFAULT"]

    serve(tmp_path, check)


def test_a_replica_that_lags_behind_undoes_no_mark() -> None:
    class Lagging(MemoryStore):
        lags = False

        async def marks(self) -> list[Mark]:
            return [] if self.lags else await super().marks()

    async def run() -> None:
        store = Lagging()
        await serve_everything(store)
        keeper = StateKeeper(store)
        await store.put_mark(mark_on(DELAYS))
        await store.put_mark(mark_on(DELAYS, id="of another", version=2))
        for store.lags in (False, True):
            await keeper.refresh()
            assert keeper.state is not None
            assert keeper.state.marks == {("delays", 1): (mark_on(DELAYS),)}
        store.lags = False
        await store.put_mark(mark_on(DELAYS, lifted_at_us=NOON_US + to_micros(NOON + hours(1))))
        await keeper.refresh()
        assert keeper.state.marks == {}

    asyncio.run(run())
