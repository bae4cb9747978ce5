"""Feast's `POST /get-online-features`: its documented payloads are answered in its shape, and what it cannot say is said beside."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.clock import MICROSECOND
from penstock.contract import hours, minutes
from penstock.online.memory import MemoryStore
from penstock.serving.replay_token import read_token
from tests.serving.running import Running, running_gateway
from tests.serving.world import DELAYS, NOON, carrier_key, put, serve_everything

Ask = Callable[..., Awaitable[httpx.Response]]
NEVER = "1970-01-01T00:00:00Z"


def serve(folder: Path, check: Callable[[Running, Ask], Awaitable[None]], store: MemoryStore | None = None) -> None:
    async def run() -> None:
        async with running_gateway(folder, store) as running, httpx.AsyncClient(base_url=running.url, timeout=10) as http:

            async def ask(key: str = running.key, **body: Any) -> httpx.Response:
                return await http.post("/get-online-features", json=body, headers={"authorization": f"Bearer {key}"})

            await check(running, ask)

    asyncio.run(run())


def test_a_feature_service_is_answered_a_vector_per_join_key_and_feature(tmp_path: Path) -> None:
    async def check(_: Running, ask: Ask) -> None:
        response = await ask(feature_service="carriers", entities={"carrier": ["UA", "XX"]})
        assert response.status_code == 200
        body = response.json()
        beside = body["metadata"].pop("penstock")
        assert body == {
            "metadata": {"feature_names": ["carrier", "hubs", "since", "mean", "flights"]},
            "results": [
                {"values": ["UA", "XX"], "statuses": ["PRESENT"] * 2, "event_timestamps": [NEVER] * 2},
                {
                    "values": [["EWR", "ORD"], None],
                    "statuses": ["PRESENT", "NOT_FOUND"],
                    "event_timestamps": ["2013-06-01T11:00:00Z", NEVER],
                },
                # 1926-04-06 in seconds since 1970, as Feast has timestamps
                {"values": [-1380326400, None], "statuses": ["PRESENT", "NOT_FOUND"], "event_timestamps": ["2013-06-01T11:00:00Z", NEVER]},
                {"values": [12.25, None], "statuses": ["PRESENT", "NOT_FOUND"], "event_timestamps": ["2013-06-01T11:45:00Z", NEVER]},
                {"values": [4, None], "statuses": ["PRESENT", "NOT_FOUND"], "event_timestamps": ["2013-06-01T11:45:00Z", NEVER]},
            ],
            "status": True,
        }
        token = read_token(beside.pop("token"))
        assert (token.service, token.rows) == ("carriers", 2)
        assert beside.pop("contract")
        assert beside.pop("snapshot") == token.snapshot
        assert beside == {
            "service": "carriers",
            "now": "2013-06-01T12:00:00Z",
            "ages_s": {"fleet": [3600.0, None], "delays": [900.0, None]},
            "late": [],
            "degraded": [],
        }

    serve(tmp_path, check)


def test_full_names_and_feature_references_are_answered_as_asked(tmp_path: Path) -> None:
    async def check(_: Running, ask: Ask) -> None:
        response = await ask(features=["delays:flights", "fleet:hubs"], entities={"carrier": ["UA"]}, full_feature_names=True)
        body = response.json()
        assert body["metadata"]["feature_names"] == ["carrier", "delays__flights", "fleet__hubs"]
        assert [result["values"] for result in body["results"]] == [["UA"], [4], [["EWR", "ORD"]]]
        # fields of Feast's that mean nothing here are passed over, as Feast does
        more = await ask(feature_service="carriers", entities={"carrier": ["UA"]}, include_feature_view_version_metadata=True, other=1)
        assert more.status_code == 200

    serve(tmp_path, check)


def test_null_late_and_expired_values_are_told_apart(tmp_path: Path) -> None:
    store = MemoryStore()

    async def fill() -> None:
        await serve_everything(store)
        await put(store, DELAYS, carrier_key("DL"), NOON, [None, 4, []])
        await put(store, DELAYS, carrier_key("OO"), NOON - hours(2) - MICROSECOND, [1.0, 2, []])

    asyncio.run(fill())

    async def check(running: Running, ask: Ask) -> None:
        asked: dict[str, Any] = {"features": ["delays:mean"], "entities": {"carrier": ["UA", "DL", "OO", None]}}
        body = (await ask(**asked)).json()
        assert body["results"][1]["values"] == [12.25, None, None, None]
        assert body["results"][1]["statuses"] == ["PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND"]
        running.clock.advance(minutes(31))  # the SLA is 30 min: late, and still within its ttl
        body = (await ask(**asked)).json()
        assert body["results"][1]["statuses"] == ["PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND"]
        assert body["metadata"]["penstock"]["late"] == ["delays"]

    serve(tmp_path, check, store)


def test_a_substitute_is_never_told_as_a_value_that_is_present(tmp_path: Path) -> None:
    store = MemoryStore()
    asyncio.run(serve_everything(store))

    async def check(_: Running, ask: Ask) -> None:
        store.reachable = False
        body = (await ask(feature_service="carriers", entities={"carrier": ["UA"]})).json()
        assert [result["values"] for result in body["results"][1:]] == [[None], [None], [0.5], [None]]
        assert [result["statuses"] for result in body["results"][1:]] == [["INVALID"]] * 4
        assert body["metadata"]["penstock"]["degraded"] == ["fleet", "delays"]
        failed = await ask(feature_service="all_features", entities={"carrier": ["UA"], "number": [1], "departs": ["2013-06-01T12:00:00Z"]})
        assert (failed.status_code, failed.json()["error"]["code"]) == (503, "unavailable")

    serve(tmp_path, check, store)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"entities": {"carrier": ["UA"]}}, 400, "either 'feature_service' or 'features'"),
        ({"feature_service": "carriers", "features": ["delays:mean"], "entities": {"carrier": ["UA"]}}, 400, "either 'feature_service'"),
        ({"feature_service": "carriers", "entities": {"carrier": "UA"}}, 400, "not as Feast documents it"),
        ({"feature_service": "carriers", "entities": {"carrier": ["UA"], "number": []}}, 400, "carrier has 1, number has 0"),
        ({"feature_service": "carriers", "entities": {"carier": ["UA"]}}, 400, "'carier' is no join key"),
        ({"feature_service": "carriers", "entities": {"carrier": [1]}}, 400, "join key 'carrier' is string"),
        ({"feature_service": "none", "entities": {"carrier": ["UA"]}}, 404, "no feature service 'none'"),
        ({"features": ["delays:mean", "delays:mode"], "entities": {"carrier": ["UA"]}}, 404, "has all of delays__mean, delays__mode"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_reason(tmp_path: Path, body: dict[str, Any], status: int, message: str) -> None:
    async def check(_: Running, ask: Ask) -> None:
        response = await ask(**body)
        assert response.status_code == status
        assert message in response.json()["error"]["message"]

    serve(tmp_path, check)


def test_features_of_a_service_that_was_not_granted_are_not_there(tmp_path: Path) -> None:
    async def check(running: Running, ask: Ask) -> None:
        worst: dict[str, Any] = {"features": ["delays:worst"], "entities": {"carrier": ["UA"]}}  # of all_features alone
        assert (await ask(**worst)).status_code == 200
        assert (await ask(key=running.carriers_key, **worst)).status_code == 404
        assert (await ask(key=running.carriers_key, feature_service="all_features", entities={"carrier": ["UA"]})).status_code == 403
        assert (await ask(key="none", **worst)).status_code == 401

    serve(tmp_path, check)
