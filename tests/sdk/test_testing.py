"""The fake clients are held to what the real ones do: one check runs on all four, so code tested with a fake meets no surprise."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from penstock.errors import ContractMismatch, InvalidEntity, RequestError, Unavailable, UnknownFeature, UnknownService
from penstock.sdk import AsyncFeatureClient, FeatureClient, FeatureResult, FeatureValue
from penstock.sdk.service import Service
from penstock.sdk.testing import AsyncFakeFeatureClient, FakeFeatureClient
from tests.serving.running import Running, running_gateway
from tests.serving.world import NOON

UA, XX = {"carrier": "UA"}, {"carrier": "XX"}
UA_1 = {**UA, "number": 1, "departs": NOON}

Ask = Callable[..., Awaitable[FeatureResult]]


def as_the_world_is(client: FakeFeatureClient, services: list[Service]) -> FakeFeatureClient:
    """Put what `world.py` serves."""
    for service in services:
        client.declare(service)
    since = datetime(1926, 4, 6, tzinfo=UTC)
    return client.put(
        "carriers", UA, {"delays__mean": 12.25, "delays__flights": 4, "fleet__hubs": ["EWR", "ORD"], "fleet__since": since}
    ).put("all_features", UA_1, {"load__seats": 151}, age=timedelta(minutes=5))


async def check_feature_client(ask: Ask, contract: str) -> None:
    """What every client does with the world's services."""
    result = await ask("carriers", [UA, XX, UA])
    assert result.to_dict() == {
        "fleet__hubs": [["EWR", "ORD"], None, ["EWR", "ORD"]],
        "fleet__since": [datetime(1926, 4, 6, tzinfo=UTC), None, datetime(1926, 4, 6, tzinfo=UTC)],
        "delays__mean": [12.25, None, 12.25],
        "delays__flights": [4, None, 4],
    }
    assert result.dtypes == ("list[string]", "timestamp", "float64", "int64")
    assert [row["delays__mean"].status for row in result] == ["PRESENT", "NOT_FOUND", "PRESENT"]
    assert result[1]["delays__mean"] == FeatureValue(None, "NOT_FOUND", None, None)
    assert [(view.view, view.version, view.features) for view in result.views] == [("fleet", 1, (0, 1)), ("delays", 1, (2, 3))]
    assert (result.service, result.contract, result.now, result.degraded) == ("carriers", contract, NOON, "")

    few = await ask("carriers", [UA], features=["delays__flights", "fleet__hubs"], contract=contract)
    assert (few.features, few.columns) == (("delays__flights", "fleet__hubs"), ((4,), (["EWR", "ORD"],)))
    none = await ask("carriers", [])
    assert (len(none), none.features, none.to_pandas().shape) == (0, result.features, (0, 4))

    new_york = {**UA_1, "departs": NOON.astimezone(ZoneInfo("America/New_York"))}
    seats = await ask("all_features", [new_york, {**UA_1, "number": 2}], features=["load__seats"])
    assert seats.columns == ((151, None),)
    assert seats[0]["load__seats"] == FeatureValue(151, "PRESENT", NOON - timedelta(minutes=5), timedelta(minutes=5))
    nobody = await ask("carriers", [{"carrier": None}])
    assert (nobody["delays__mean"], nobody.statuses[2]) == ((None,), ("NOT_FOUND",))

    refused: list[tuple[type[RequestError], tuple[Any, ...], dict[str, Any]]] = [
        (UnknownService, ("nobody", [UA]), {}),
        (UnknownFeature, ("carriers", [UA]), {"features": ["delays__mode"]}),
        (ContractMismatch, ("carriers", [UA]), {"contract": "0" * 16}),
        (InvalidEntity, ("carriers", [{}]), {}),
        (InvalidEntity, ("carriers", [{**UA, "carier": "UA"}]), {}),
        (InvalidEntity, ("carriers", [{"carrier": 1}]), {}),
        (InvalidEntity, ("carriers", [{"carrier": ["UA"]}]), {}),
        (InvalidEntity, ("carriers", [{"carrier": float("nan")}]), {}),
        (InvalidEntity, ("all_features", [{**UA_1, "departs": datetime(2013, 6, 1)}]), {}),
        (InvalidEntity, ("all_features", [{**UA_1, "number": True}]), {}),
        (InvalidEntity, ("all_features", [{**UA_1, "number": 2**63}]), {}),
    ]
    for error, asked, options in refused:
        with pytest.raises(error) as caught:
            await ask(*asked, **options)
        assert type(caught.value) is error, (asked, options)


@pytest.mark.parametrize("kind", ["sync", "async", "fake sync", "fake async"])
def test_every_client_answers_and_refuses_alike(kind: str, tmp_path: Path) -> None:
    async def check(running: Running) -> None:
        def describe() -> list[Service]:
            with FeatureClient(running.url, api_key=running.key, timeout_s=10) as client:
                assert client.services() == ["all_features", "carriers"]
                return [Service.of(client.describe(name)) for name in client.services()]

        services = await asyncio.to_thread(describe)
        contract = next(service.contract for service in services if service.name == "carriers")
        if kind == "async":
            async with AsyncFeatureClient(running.url, api_key=running.key, timeout_s=10) as real:
                await check_feature_client(real.features, contract)
        elif kind == "fake async":
            async with AsyncFakeFeatureClient(NOON) as later:
                as_the_world_is(later.fake, services)
                await check_feature_client(later.features, contract)
        else:
            fake = as_the_world_is(FakeFeatureClient(NOON), services)
            client = fake if kind == "fake sync" else FeatureClient(running.url, api_key=running.key, timeout_s=10)
            with client as one:

                async def ask(*request: Any, **options: Any) -> FeatureResult:
                    return await asyncio.to_thread(one.features, *request, **options)

                await check_feature_client(ask, contract)

    async def run() -> None:
        async with running_gateway(tmp_path) as running:
            await check(running)

    asyncio.run(run())


ANN, BOB = {"customer": "ann"}, {"customer": "bob"}


def fake() -> FakeFeatureClient:
    return (
        FakeFeatureClient(NOON).put("s", ANN, {"v__amount": 4.5, "w__last": None}, age=timedelta(hours=1)).put("s", BOB, {"v__amount": 2})
    )


def test_without_a_declaration_it_gives_what_was_put_with_statuses_and_ages() -> None:
    with fake() as client:
        result = client.features("s", [ANN, BOB, {"customer": "eve"}])
    assert result.to_dict() == {"v__amount": [4.5, 2, None], "w__last": [None, None, None]}
    assert result.rows[0]["v__amount"] == FeatureValue(4.5, "PRESENT", NOON - timedelta(hours=1), timedelta(hours=1))
    assert [[value.status for value in row.values()] for row in result.rows] == [
        ["PRESENT", "NULL"],
        ["PRESENT", "NOT_FOUND"],
        ["NOT_FOUND", "NOT_FOUND"],
    ]
    assert result.to_numpy(["v__amount"]).shape == (3, 1)
    assert [view.view for view in result.views] == ["v", "w"]
    assert client.asked == [("s", [ANN, BOB, {"customer": "eve"}])]


def test_an_outage_can_be_rehearsed() -> None:
    client = fake()
    client.fail(Unavailable("down"))
    with pytest.raises(Unavailable, match="down"):
        client.features("s", [ANN])
    client.fail(None)
    assert client.features("s", [ANN], features=["v__amount"]).features == ("v__amount",)


SERVICE = Service(name="s", contract="c", fields={"customer": "string"}, features={"v__amount": "float64", "v__names": "list[string]"})


@pytest.mark.parametrize(
    ("entity", "values", "error", "message"),
    [
        (ANN, {"v__amont": 1.0}, UnknownFeature, "feature service 's' has no feature 'v__amont'; it has v__amount, v__names"),
        (ANN, {"v__amount": "1"}, ContractMismatch, "feature 'v__amount' of service 's' is float64, got '1'"),
        (ANN, {"v__names": [1]}, ContractMismatch, r"'v__names' of service 's' is list\[string\], got \[1\]"),
        ({"customer": 1}, {"v__amount": 1.0}, InvalidEntity, "'customer' is string, got 1"),
        ({"custmer": "ann"}, {"v__amount": 1.0}, InvalidEntity, "'custmer' is no join key"),
        ({}, {"v__amount": 1.0}, InvalidEntity, r"missing join key 'customer' \(string\)"),
        ({"customer": datetime(2013, 6, 1)}, {}, InvalidEntity, "naive"),
    ],
)
def test_a_test_of_a_declared_service_cannot_put_what_no_gateway_gives(
    entity: dict[str, object], values: dict[str, object], error: type[RequestError], message: str
) -> None:
    client = FakeFeatureClient(NOON).declare(SERVICE)
    with pytest.raises(error, match=message):
        client.put("s", entity, values)
    assert client.put("s", ANN, {"v__amount": 1, "v__names": None}).features("s", [ANN]).columns == ((1,), (None,))


def test_it_can_stand_where_a_client_stands() -> None:
    def amount(client: FeatureClient | FakeFeatureClient) -> object:
        return client.features("s", [ANN]).to_dicts()[0]["v__amount"]

    assert amount(fake()) == 4.5
