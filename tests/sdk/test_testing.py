"""The fake client answers in the form of a gateway's client, so that code tested with it meets no surprise."""

import asyncio
from datetime import timedelta

import pytest

from penstock.errors import InvalidEntity, Unavailable, UnknownFeature, UnknownService
from penstock.sdk import FeatureClient, FeatureValue
from penstock.sdk.testing import AsyncFakeFeatureClient, FakeFeatureClient
from tests.serving.world import NOON

ANN, BOB = {"customer": "ann"}, {"customer": "bob"}


def fake() -> FakeFeatureClient:
    return (
        FakeFeatureClient(NOON).put("s", ANN, {"v__amount": 4.5, "w__last": None}, age=timedelta(hours=1)).put("s", BOB, {"v__amount": 2})
    )


def test_it_gives_what_was_put_with_statuses_and_ages() -> None:
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


def test_it_refuses_what_a_client_or_gateway_refuses() -> None:
    client = fake()
    with pytest.raises(UnknownService):
        client.features("t", [ANN])
    with pytest.raises(UnknownFeature):
        client.features("s", [ANN], features=["v__other"])
    with pytest.raises(InvalidEntity):
        client.features("s", [{"customer": float("nan")}])
    client.fail(Unavailable("down"))
    with pytest.raises(Unavailable, match="down"):
        client.features("s", [ANN])
    client.fail(None)
    assert client.features("s", [ANN], features=["v__amount"]).features == ("v__amount",)


def test_the_other_one_is_awaited() -> None:
    async def run() -> None:
        async with AsyncFakeFeatureClient(NOON) as client:
            client.fake.put("s", ANN, {"v__amount": 1})
            assert (await client.features("s", [ANN])).to_dicts() == [{"v__amount": 1}]

    asyncio.run(run())


def test_it_can_stand_where_a_client_stands() -> None:
    def amount(client: FeatureClient | FakeFeatureClient) -> object:
        return client.features("s", [ANN]).to_dicts()[0]["v__amount"]

    assert amount(fake()) == 4.5
