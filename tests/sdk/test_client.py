"""Both clients against a real gateway: what was served arrives, and what was raised is raised again."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from penstock.contract import hours
from penstock.errors import (
    ConfigError,
    ContractMismatch,
    InvalidEntity,
    NotAuthenticated,
    NotAuthorized,
    RequestError,
    RequestTooLarge,
    TooManyEntities,
    Unavailable,
    UnknownFeature,
    UnknownService,
)
from penstock.online.memory import MemoryStore
from penstock.sdk import AsyncFeatureClient, FeatureClient, FeatureResult, FeatureValue
from penstock.serving.replay_token import read_token
from tests.serving.running import Running, running_gateway
from tests.serving.world import NOON, SNAPSHOT, serve_everything

UA_1 = {"carrier": "UA", "number": 1, "departs": NOON}
NEW_YORK_8AM = NOON.astimezone(ZoneInfo("America/New_York"))

NAIVE = datetime(2013, 6, 1)

Ask = Callable[..., Awaitable[FeatureResult]]
"""`ask(service, entities, ..., **client options)`, by one of the two clients."""


def ask_sync(running: Running) -> Ask:
    async def ask(*request: Any, client: Mapping[str, Any] = {}, **options: Any) -> FeatureResult:
        def in_thread() -> FeatureResult:
            with FeatureClient(running.url, **{"api_key": running.key, "timeout_s": 10, **client}) as features:
                return features.features(*request, **options)

        return await asyncio.to_thread(in_thread)

    return ask


def ask_async(running: Running) -> Ask:
    async def ask(*request: Any, client: Mapping[str, Any] = {}, **options: Any) -> FeatureResult:
        async with AsyncFeatureClient(running.url, **{"api_key": running.key, "timeout_s": 10, **client}) as features:
            return await features.features(*request, **options)

    return ask


@pytest.fixture(params=[ask_sync, ask_async], ids=["sync", "async"])
def with_client(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """Run a check with a gateway and a client."""

    def run(check: Callable[[Running, Ask], Awaitable[None]], store: MemoryStore | None = None) -> None:
        async def serve() -> None:
            async with running_gateway(tmp_path, store) as running:
                await check(running, request.param(running))

        asyncio.run(serve())

    return run


def test_values_arrive_with_what_they_are_worth(with_client: Callable[..., None]) -> None:
    async def check(running: Running, ask: Ask) -> None:
        result = await ask("all_features", [UA_1, {**UA_1, "carrier": "XX"}])
        assert result.rows[0]["delays__mean"] == FeatureValue(12.25, "PRESENT", NOON - timedelta(minutes=15), timedelta(minutes=15))
        assert result.rows[1]["delays__mean"] == FeatureValue(None, "NOT_FOUND", None, None)
        assert result.to_dicts() == [
            {
                "delays__mean": 12.25,
                "delays__flights": 4,
                "delays__worst": [60.0, 7.5],
                "fleet__since": datetime(1926, 4, 6, tzinfo=UTC),
                "fleet__hubs": ["EWR", "ORD"],
                "load__seats": 151,
            },
            dict.fromkeys(("delays__mean", "delays__flights", "delays__worst", "fleet__since", "fleet__hubs", "load__seats")),
        ]
        assert [(v.view, v.version, v.generation, v.complete_until, v.event_times) for v in result.views] == [
            ("delays", 1, 3, NOON, (NOON - timedelta(minutes=15), None)),
            ("fleet", 1, 3, NOON, (NOON - timedelta(hours=1), None)),
            ("load", 1, 3, NOON, (NOON - timedelta(minutes=5), None)),
        ]
        assert read_token(result.token).service == "all_features"
        assert (result.service, result.snapshot, result.now) == ("all_features", SNAPSHOT.fingerprint, NOON)

    with_client(check)


def test_values_come_as_a_matrix_and_as_a_frame(with_client: Callable[..., None]) -> None:
    async def check(running: Running, ask: Ask) -> None:
        result = await ask("all_features", [UA_1, {**UA_1, "carrier": "XX"}], features=["load__seats", "delays__mean", "fleet__since"])
        assert result.to_dict() == {
            "load__seats": [151, None],
            "delays__mean": [12.25, None],
            "fleet__since": [datetime(1926, 4, 6, tzinfo=UTC), None],
        }
        matrix = result.to_numpy(["delays__mean", "load__seats"])
        assert matrix.shape == (2, 2)
        assert matrix[0].tolist() == [12.25, 151.0]
        assert np.isnan(matrix[1]).all()
        with pytest.raises(TypeError, match=r"no numbers: fleet__since \(timestamp\)"):
            result.to_numpy()
        frame = result.to_pandas()
        assert [str(dtype) for dtype in frame.dtypes] == ["Int32", "float64", "datetime64[us, UTC]"]
        assert frame["load__seats"].to_list() == [151, pd.NA]
        assert (await ask("all_features", [], features=["load__seats"])).to_numpy().shape == (0, 1)

    with_client(check)


def test_an_instant_is_one_key_whatever_its_zone(with_client: Callable[..., None]) -> None:
    async def check(running: Running, ask: Ask) -> None:
        rows = [UA_1, {**UA_1, "departs": NEW_YORK_8AM}, {**UA_1, "departs": NOON + timedelta(microseconds=1)}]
        result = await ask("all_features", rows, features=["load__seats"])
        assert [row["load__seats"] for row in result.to_dicts()] == [151, 151, None]

    with_client(check)


def test_a_pinned_contract_is_served_and_another_refused(with_client: Callable[..., None]) -> None:
    async def check(running: Running, ask: Ask) -> None:
        served = (await ask("carriers", [{"carrier": "UA"}])).contract
        assert (await ask("carriers", [{"carrier": "UA"}], contract=served)).contract == served
        assert (await ask("carriers", [{"carrier": "UA"}], client={"contract": served})).contract == served
        for pinned in ({"contract": "0" * 16}, {"client": {"contract": "0" * 16}}):
            with pytest.raises(ContractMismatch, match=f"served under contract '{served}', the request pins '0000000000000000'"):
                await ask("carriers", [{"carrier": "UA"}], **pinned)

    with_client(check)


UA = {"carrier": "UA"}


@pytest.mark.parametrize(
    ("request_", "options", "error", "message"),
    [
        (("carrier", [UA]), {}, UnknownService, r"no feature service 'carrier' is published .*\n.*did you mean 'carriers'"),
        (("carriers", [UA]), {"features": ["delays__mode"]}, UnknownFeature, "no feature 'delays__mode'"),
        (("carriers", [{}]), {}, InvalidEntity, r"entity 0: 1 missing join key\(s\): 'carrier'"),
        (("carriers", [UA, {"carier": "UA"}]), {}, InvalidEntity, "entity 1: 'carier' is no join key of this service; it has 'carrier'"),
        (("carriers", [{"carrier": 1}]), {}, InvalidEntity, "join key 'carrier' is string, got 1"),
        (("carriers", [{"carrier": True}]), {}, InvalidEntity, "join key 'carrier' is string, got True"),
        (("all_features", [{**UA_1, "number": True}]), {}, InvalidEntity, "join key 'number' is int64, got True"),
        (("all_features", [{**UA_1, "number": 2**63}]), {}, InvalidEntity, "join key 'number' is int64, got 9223372036854775808"),
        (
            ("all_features", [{**UA_1, "departs": NAIVE}]),
            {},
            InvalidEntity,
            "entity 0: join key 'departs' is a naive datetime",
        ),
        (("carriers", [{"carrier": float("nan")}]), {}, InvalidEntity, "join key 'carrier' is nan"),
        (
            ("carriers", [{"carrier": {}}]),
            {},
            InvalidEntity,
            "join key 'carrier' is a dict; expected bool, int, str, datetime, date or bytes",
        ),
        (("carriers", [{"carrier": ["UA"]}]), {}, InvalidEntity, "join key 'carrier' is a list"),
        (("carriers", [{"carrier": "\ud800"}]), {}, InvalidEntity, "not valid Unicode"),
        (("carriers", [UA] * 501), {}, TooManyEntities, "501 entities in one request; at most 500"),
        (("carriers", [{"carrier": "U" * 100_000}]), {}, RequestTooLarge, "larger than 100000 bytes"),
        (("carriers", [{"carrier": "U" * 70_000}]), {}, InvalidEntity, "at most 65535 are allowed"),
        (("carriers", [UA]), {"client": {"api_key": None}}, NotAuthenticated, "no API key"),
        (("carriers", [UA]), {"client": {"api_key": "wrong"}}, NotAuthenticated, "the API key is not known"),
    ],
)
def test_what_the_gateway_refuses_is_raised_again(
    with_client: Callable[..., None], request_: tuple[Any, ...], options: dict[str, Any], error: type[RequestError], message: str
) -> None:
    async def check(running: Running, ask: Ask) -> None:
        with pytest.raises(error, match=message) as caught:
            await ask(*request_, **options)
        assert type(caught.value) is error

    with_client(check)


def test_a_gateway_tells_what_it_serves_to_whom_it_was_granted(tmp_path: Path) -> None:
    def check(running: Running) -> None:
        with FeatureClient(running.url, api_key=running.carriers_key, timeout_s=10) as client:
            assert client.services() == ["carriers"]
            found = client.describe("carriers")
            assert (found.name, found.owner, found.fields) == ("carriers", "models", {"carrier": "string"})
            assert found.contract == client.features("carriers", [UA]).contract
            mean = next(feature for feature in found.features if feature.name == "delays__mean")
            assert (mean.dtype, mean.default, mean.ttl_s) == ("float64", 0.5, 7200.0)
            for name in ("all_features", "no such/service?"):
                with pytest.raises(NotAuthorized, match=re.escape(name)):
                    client.describe(name)
        with FeatureClient(running.url, timeout_s=10) as client, pytest.raises(NotAuthenticated):
            client.services()
        with FeatureClient(f"{running.url}/healthz", api_key=running.key) as client, pytest.raises(RequestError, match="nothing is served"):
            client.services()

    async def serve() -> None:
        async with running_gateway(tmp_path) as running:
            await asyncio.to_thread(check, running)

    asyncio.run(serve())


def test_a_service_that_was_not_granted_is_refused(with_client: Callable[..., None]) -> None:
    async def check(running: Running, ask: Ask) -> None:
        with pytest.raises(NotAuthorized, match="'carriers only' holds no grant for feature service 'all_features'"):
            await ask("all_features", [UA_1], client={"api_key": running.carriers_key})
        assert (await ask("carriers", [UA], client={"api_key": running.carriers_key})).rows

    with_client(check)


class KeyInAVault:
    def __init__(self, key: str) -> None:
        self.key = key

    def reveal(self) -> str:
        return self.key


def test_a_key_may_be_a_reference(with_client: Callable[..., None]) -> None:
    async def check(running: Running, ask: Ask) -> None:
        assert (await ask("carriers", [UA], client={"api_key": KeyInAVault(running.key)})).rows

    with_client(check)


def test_a_store_that_is_down_gives_defaults_or_unavailable(with_client: Callable[..., None]) -> None:
    store = MemoryStore()
    asyncio.run(serve_everything(store))

    async def check(running: Running, ask: Ask) -> None:
        store.reachable = False
        row = (await ask("carriers", [UA])).rows[0]
        assert (row["delays__mean"].value, row["delays__mean"].status) == (0.5, "DEFAULT")
        assert (row["fleet__hubs"].value, row["fleet__hubs"].status) == (None, "ERROR")
        with pytest.raises(Unavailable, match="'load@1' allows no substitute"):
            await ask("all_features", [UA_1], client={"timeout_s": 2})  # it asks again until then

    with_client(check, store)


def test_a_value_grows_older_as_the_gateways_clock_goes(with_client: Callable[..., None]) -> None:
    async def check(running: Running, ask: Ask) -> None:
        # delays of 11:45 with a ttl of 2 h: at 13:45 exactly two hours old, complete_until 12:00 is late
        running.clock.advance(hours(1) + timedelta(minutes=45))
        assert (await ask("carriers", [UA])).rows[0]["delays__mean"][:2] == (12.25, "STALE")
        running.clock.advance(timedelta(microseconds=1))
        value = (await ask("carriers", [UA])).rows[0]["delays__mean"]
        assert value == FeatureValue(None, "NOT_FOUND", NOON - timedelta(minutes=15), hours(2) + timedelta(microseconds=1))

    with_client(check)


def test_a_gateway_that_is_not_there_is_unavailable(with_client: Callable[..., None]) -> None:
    async def check(running: Running, ask: Ask) -> None:
        running.url = "http://127.0.0.1:9"  # the discard port: nothing listens
        with pytest.raises(Unavailable, match=r"the gateway at http://127\.0\.0\.1:9/? cannot be reached"):
            await ask("carriers", [UA])

    with_client(check)


def test_a_gateway_that_does_not_answer_in_time_is_unavailable(with_client: Callable[..., None]) -> None:
    async def check(running: Running, ask: Ask) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, and says nothing
            running.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(Unavailable, match="did not answer in time"):
                await ask("carriers", [UA], client={"timeout_s": 0.05})

    with_client(check)


def test_the_gateway_is_told_how_long_it_may_take_and_answers_before_without_its_store(with_client: Callable[..., None]) -> None:
    class Stuck(MemoryStore):
        async def read(self, *_: object) -> Any:
            await stuck.wait()

    store = Stuck()
    stuck = asyncio.Event()
    asyncio.run(serve_everything(store))

    async def check(running: Running, ask: Ask) -> None:
        result = await ask("carriers", [UA], client={"timeout_s": 0.5})
        assert {value.status for value in result.rows[0].values()} == {"DEFAULT", "ERROR"}

    with_client(check, store)


def test_a_url_of_another_scheme_is_a_setting_to_mend() -> None:
    for client in (FeatureClient, AsyncFeatureClient):
        with pytest.raises(ConfigError, match="expected one that begins with http"):
            client("localhost:8090")
