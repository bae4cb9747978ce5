"""A service that takes a view twice under two names, one of a global entity, and one with keys JSON has no type for."""

import asyncio
from collections.abc import Callable
from datetime import date
from typing import Any

import msgspec
import pytest

from penstock.clock import to_micros
from penstock.config import GatewaySettings
from penstock.contract import Degradation, Entity, Feature, FeatureService, FeatureView, hours
from penstock.errors import InvalidEntity, StoreError
from penstock.online.codec import encode_key, encode_value, write_token
from penstock.online.memory import MemoryStore
from penstock.online.store import Slot, Write
from penstock.registry.project import Project
from penstock.registry.snapshot import compile_snapshot, load_snapshot
from penstock.sdk.wire import request_body
from penstock.serving.app import parse_request
from penstock.serving.cache import NearCache
from penstock.serving.catalogue import describe_service
from penstock.serving.lookup import look_up
from penstock.serving.plan import Planner
from penstock.serving.responses import in_rows
from penstock.serving.state import StateKeeper
from tests.serving.world import GENERATION, NOON, complete, point, view

AIRPORT = Entity("airport", {"airport": "string"})
WEATHER = view(
    "weather", AIRPORT, [Feature("wind", "float64"), Feature("rain", "float64", default=0.0)], hours(2), Degradation().then_default()
)
MARKET = view("market", Entity("market", None), [Feature("fuel", "float64")], hours(2), Degradation())
SLOTS = view("slots", Entity("slot", {"day": "date", "tag": "binary"}), [Feature("free", "int64")], hours(2), Degradation())
SERVICE = FeatureService(
    "flight",
    views={
        WEATHER.named("from_weather", on={"airport": "origin"}): ["wind"],
        WEATHER.named("to_weather", on={"airport": "dest"}): ["rain", "wind"],
        MARKET: ["fuel"],
        SLOTS: ["free"],
    },
    owner="models",
)
SNAPSHOT = compile_snapshot(Project("test_project", (WEATHER, MARKET, SLOTS), (SERVICE,)))
FLIGHT = {"origin": "JFK", "dest": "LAX", "day": date(2013, 6, 1), "tag": b"\x00\xff"}


async def put(store: MemoryStore, of: FeatureView, key: list[object], values: list[object]) -> None:
    at_us, slot = to_micros(NOON), Slot(of.name, of.version, GENERATION)
    blob = encode_value(SNAPSHOT.view(of.name, of.version).schema_id, at_us, 7, values)
    await store.write(of.entity.name, [Write(encode_key(list(of.entity.join_keys.items()), key), slot, write_token(at_us, 0), blob)])


def with_store(use: Callable[[MemoryStore, StateKeeper], Any], store: MemoryStore | None = None) -> Any:
    async def run() -> Any:
        held = store or MemoryStore()
        await held.prepare(["airport", "market", "slot"])
        await point(held, SERVICE, snapshot=SNAPSHOT)
        for one in (WEATHER, MARKET, SLOTS):
            await complete(held, one, NOON)
        await put(held, WEATHER, ["JFK"], [11.0, 1.0])
        await put(held, WEATHER, ["LAX"], [22.0, 2.0])
        await put(held, MARKET, [], [3.5])
        await put(held, SLOTS, [date(2013, 6, 1), b"\x00\xff"], [4])
        keeper = StateKeeper(held)
        assert await keeper.refresh()
        return await use(held, keeper)

    return asyncio.run(run())


def values(*entities: dict[str, Any], store: MemoryStore | None = None) -> list[dict[str, Any]]:
    async def ask(held: MemoryStore, keeper: StateKeeper) -> Any:
        assert keeper.state is not None
        request = parse_request(request_body("flight", list(entities), None, None))
        plan = Planner().plan(keeper.state, request.service)
        return in_rows(await look_up(plan, NearCache(held, 0), to_micros(NOON), request.entities, GatewaySettings()), "")

    response = with_store(ask, store)
    return [dict(zip(response.features, row.values, strict=True)) for row in response.rows]


def test_each_name_reads_the_column_it_is_for() -> None:
    both, same, none = values(FLIGHT, {**FLIGHT, "dest": "JFK"}, {**FLIGHT, "origin": None})
    weather = {"from_weather__wind": 11.0, "to_weather__rain": 2.0, "to_weather__wind": 22.0}
    assert both == {**weather, "market__fuel": 3.5, "slots__free": 4}
    # one key under both names: each name has features of its own
    assert (same["from_weather__wind"], same["to_weather__rain"], same["to_weather__wind"]) == (11.0, 1.0, 11.0)
    assert (none["from_weather__wind"], none["to_weather__wind"], none["market__fuel"]) == (None, 22.0, 3.5)


def test_a_key_json_has_no_type_for_is_text() -> None:
    assert values({**FLIGHT, "day": "2013-06-01", "tag": "AP8="})[0]["slots__free"] == 4
    for wrong, message in (
        ({"day": "2013-06-31"}, "join key 'day' is date, got '2013-06-31'; expected ISO 8601, e.g. '2013-01-01'"),
        ({"tag": "not base64!"}, "join key 'tag' is binary, got 'not base64!'; expected base64"),
        ({"day": 5}, "join key 'day' is date, got 5"),
    ):
        with pytest.raises(InvalidEntity, match=message):
            values({**FLIGHT, **wrong})


def test_one_name_may_fail_while_the_other_is_served() -> None:
    class Fails(MemoryStore):
        async def read(self, entity: str, keys: Any, slots: Any, *consistency: Any) -> Any:
            if entity == "airport" and keys == [encode_key([("airport", "string")], ["LAX"])]:
                raise StoreError("no answer")
            return await super().read(entity, keys, slots, *consistency)

    (row,) = values(FLIGHT, store=Fails())
    assert (row["from_weather__wind"], row["to_weather__rain"]) == (11.0, 0.0)  # the default, in place of an answer


def test_the_catalogue_names_the_service_s_own_keys() -> None:
    async def describe(_: MemoryStore, keeper: StateKeeper) -> Any:
        assert keeper.state is not None
        return describe_service(keeper.state, "flight")

    described = with_store(describe)
    assert described.join_keys == {"origin": "string", "dest": "string", "day": "date", "tag": "binary"}
    assert [feature.name for feature in described.features][:3] == ["from_weather__wind", "to_weather__rain", "to_weather__wind"]


def test_a_snapshot_from_before_there_were_names_is_read() -> None:
    service = FeatureService("plain", views=[WEATHER, SLOTS], owner="models")
    now = compile_snapshot(Project("test_project", (WEATHER, SLOTS), (service,)))
    before: Any = msgspec.to_builtins(now)
    before["format"] = 1
    for part in before["services"][0]["selection"]:
        del part["name"], part["on"]
    assert load_snapshot(msgspec.json.encode(before)).services == now.services
