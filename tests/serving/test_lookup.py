"""Which value is served, and as what; a fixed now, and ages around each bound."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from penstock.clock import MICROSECOND, to_micros
from penstock.config import GatewaySettings
from penstock.contract import FeatureView, hours, minutes
from penstock.contract.view_parts import Consistency
from penstock.errors import (
    ContractMismatch,
    InvalidEntity,
    StoreError,
    TooManyEntities,
    Unavailable,
    UnknownFeature,
    UnknownService,
)
from penstock.online.codec import encode_value
from penstock.online.memory import MemoryStore
from penstock.online.store import Held, Slot
from penstock.serving.cache import NearCache
from penstock.serving.lookup import look_up
from penstock.serving.messages import ColumnsResponse, FeatureRequest, RowsResponse
from penstock.serving.plan import Planner
from penstock.serving.replay_token import held_rows, read_token, token_of
from penstock.serving.responses import in_columns, in_rows
from penstock.serving.state import StateKeeper
from tests.serving.world import (
    DELAYS,
    FLEET,
    LOAD,
    NOON,
    SERVICES,
    SNAPSHOT,
    carrier_key,
    complete,
    flight_key,
    point,
    put,
    put_bytes,
    schema_of,
    serve_everything,
)

UA = {"carrier": "UA"}
UA_1 = {"carrier": "UA", "number": 1, "departs": "2013-06-01T12:00:00Z"}
LIMITS = GatewaySettings()

Setup = Callable[[MemoryStore], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Asked:
    """An answer as it is sent, in rows, and what somebody should look at."""

    response: RowsResponse
    problems: Counter[tuple[str, str]]


async def ask(store: MemoryStore, request: FeatureRequest, now: datetime = NOON, limits: GatewaySettings = LIMITS) -> Asked:
    keeper = StateKeeper(store)
    assert await keeper.refresh()
    assert keeper.state is not None
    plan = Planner().plan(keeper.state, request.service, request.features, request.contract)
    answer = await look_up(plan, NearCache(store, 0), to_micros(now), request.entities, limits)
    response = in_rows(answer, token_of(answer))
    require_the_same_in_columns(response, in_columns(answer, response.token))
    return Asked(response, answer.problems())


def require_the_same_in_columns(rows: RowsResponse, columns: ColumnsResponse) -> None:
    """Both layouts say the same."""
    assert (columns.rows, columns.now_us) == (len(rows.rows), to_micros(rows.now))
    for n, row in enumerate(rows.rows):
        assert [column[n] for column in columns.values] == list(row.values)
        assert [one if isinstance(one, str) else one[n] for one in columns.statuses] == list(row.statuses)
        times = [column[n] for column in columns.event_times_us]
        assert times == [None if time is None else to_micros(time) for time in row.event_times]
        assert row.ages_s == [None if time is None else (columns.now_us - time) / 1e6 for time in times]
    assert [columns.service, columns.contract, columns.snapshot, columns.features, columns.dtypes, columns.views, columns.token] == [
        rows.service, rows.contract, rows.snapshot, rows.features, rows.dtypes, rows.views, rows.token
    ]  # fmt: skip


def carriers(*features: str) -> FeatureRequest:
    return FeatureRequest(service="carriers", entities=[UA], features=list(features) or None)


def served(
    view: FeatureView,
    values: Sequence[object],
    event_time: datetime,
    *features: str,
    now: datetime = NOON,
    until: datetime | None = None,
    then: Setup | None = None,
) -> tuple[list[Any], list[str], Asked]:
    """Values and statuses of one carrier with one row of one view."""

    async def run() -> Asked:
        store = MemoryStore()
        await point(store, SERVICES[1])
        await complete(store, view, now if until is None else until)
        await put(store, view, carrier_key("UA"), event_time, values)
        return await ask(store, carriers(*features), now)

    answer = asyncio.run(run())
    row = answer.response.rows[0]
    return list(row.values), [str(status) for status in row.statuses], answer


MEAN = "delays__mean"
FLIGHTS = "delays__flights"


def test_a_value_exactly_ttl_old_is_served() -> None:
    # ttl is 2 h: the oldest event time served at 12:00 is 10:00:00.000000
    values, statuses, answer = served(DELAYS, [12.25, 4, []], NOON - hours(2), MEAN)
    assert (values, statuses) == ([12.25], ["PRESENT"])
    assert answer.response.rows[0].ages_s == [7200.0]
    assert not answer.problems


def test_a_value_one_microsecond_past_its_ttl_is_null_and_its_event_time_tells_why() -> None:
    # 12:00 - 09:59:59.999999 = 2 h + 1 µs > ttl
    values, statuses, answer = served(DELAYS, [12.25, 4, []], NOON - hours(2) - MICROSECOND, MEAN)
    assert (values, statuses) == ([None], ["NOT_FOUND"])
    assert answer.response.rows[0].event_times == [NOON - hours(2) - MICROSECOND]
    (held,) = held_rows(read_token(answer.response.token).views[0])
    assert held is not None and held[:2] == (to_micros(NOON - hours(2) - MICROSECOND), 7)
    assert answer.problems == {("delays", "expired"): 1}


def test_a_value_of_now_is_served_and_one_of_the_next_microsecond_is_not() -> None:
    assert served(DELAYS, [12.25, 4, []], NOON, MEAN)[:2] == ([12.25], ["PRESENT"])
    values, statuses, answer = served(DELAYS, [12.25, 4, []], NOON + MICROSECOND, MEAN)
    assert (values, statuses) == ([None], ["NOT_FOUND"])
    assert answer.response.rows[0].event_times == [None]
    assert answer.problems == {("delays", "future"): 1}


def test_a_view_without_ttl_never_expires() -> None:
    since = datetime(1926, 4, 6, tzinfo=UTC)
    assert served(FLEET, [since, ["EWR"]], datetime(1970, 1, 1, tzinfo=UTC), "fleet__since")[:2] == ([since], ["PRESENT"])


def test_a_view_complete_exactly_its_sla_ago_is_fresh() -> None:
    # freshness.total is 30 min: at 12:00 complete_until 11:30:00.000000 is fresh, 11:29:59.999999 is late
    assert served(DELAYS, [12.25, 4, []], NOON - hours(1), MEAN, until=NOON - minutes(30))[:2] == ([12.25], ["PRESENT"])
    late = NOON - minutes(30) - MICROSECOND
    assert served(DELAYS, [12.25, 4, []], NOON - hours(1), MEAN, until=late)[:2] == ([12.25], ["STALE"])


def test_a_late_view_says_so_of_nulls_too() -> None:
    assert served(DELAYS, [None, 4, []], NOON, MEAN, FLIGHTS, until=NOON - hours(1))[:2] == ([None, 4], ["STALE", "STALE"])


def test_a_late_view_does_not_bring_an_expired_value_back() -> None:
    values, statuses, _ = served(DELAYS, [12.25, 4, []], NOON - hours(3), MEAN, until=NOON - hours(3))
    assert (values, statuses) == ([None], ["NOT_FOUND"])


def test_a_view_whose_fill_has_no_ledger_row_is_stale() -> None:
    async def run() -> Asked:
        store = MemoryStore()
        await point(store, SERVICES[1])
        await put(store, DELAYS, carrier_key("UA"), NOON, [12.25, 4, []])
        await complete(store, DELAYS, NOON, generation=99)  # another fill's watermark says nothing of this one
        return await ask(store, carriers(MEAN))

    answer = asyncio.run(run())
    assert list(answer.response.rows[0].statuses) == ["STALE"]
    assert answer.response.views[0].complete_until is None


def test_null_zero_and_false_are_told_apart() -> None:
    assert served(DELAYS, [None, 0, []], NOON, MEAN, FLIGHTS)[:2] == ([None, 0], ["NULL", "PRESENT"])
    assert served(DELAYS, [0.0, None, []], NOON, MEAN, FLIGHTS)[:2] == ([0.0, None], ["PRESENT", "NULL"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_cannot_say_is_an_error_and_no_null(value: float) -> None:
    values, statuses, answer = served(DELAYS, [value, 4, []], NOON, MEAN, FLIGHTS)
    assert (values, statuses) == ([None, 4], ["ERROR", "PRESENT"])
    assert answer.problems == {("delays", "not_finite"): 1}


def test_nan_inside_a_list_is_an_error() -> None:
    async def run() -> Asked:
        store = MemoryStore()
        await serve_everything(store)
        await put(store, DELAYS, carrier_key("UA"), NOON, [1.0, 4, [1.0, float("nan")]])
        return await ask(store, FeatureRequest(service="all_features", entities=[UA_1], features=["delays__worst"]))

    assert list(asyncio.run(run()).response.rows[0].statuses) == ["ERROR"]


DAMAGED = bytearray(encode_value(schema_of(DELAYS), to_micros(NOON), 7, [12.25, 4, []]))
DAMAGED[-1] ^= 1


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (bytes(DAMAGED), "corrupt"),
        (b"", "corrupt"),
        (encode_value(schema_of(DELAYS) ^ 1, to_micros(NOON), 7, [12.25, 4, []]), "unknown_schema"),
        (encode_value(schema_of(DELAYS), to_micros(NOON), 7, [12.25, 4]), "unknown_schema"),
    ],
)
def test_a_stored_value_that_cannot_be_read_is_an_error_and_counted(blob: bytes, problem: str) -> None:
    async def run() -> Asked:
        store = MemoryStore()
        await serve_everything(store)
        await put_bytes(store, DELAYS, carrier_key("UA"), blob, to_micros(NOON))
        return await ask(store, carriers())

    answer = asyncio.run(run())
    assert dict(zip(answer.response.features, answer.response.rows[0].statuses, strict=True)) == {
        "fleet__hubs": "PRESENT",  # the other view is served
        "fleet__since": "PRESENT",
        "delays__mean": "ERROR",
        "delays__flights": "ERROR",
    }
    assert list(answer.response.rows[0].values[2:]) == [None, None]
    assert answer.problems == {("delays", problem): 1}


def test_an_unknown_key_is_not_found() -> None:
    async def run() -> Asked:
        store = MemoryStore()
        await serve_everything(store)
        return await ask(store, FeatureRequest(service="carriers", entities=[{"carrier": "XX"}, UA]))

    missing, known = asyncio.run(run()).response.rows
    assert (list(missing.values), list(missing.statuses)) == ([None] * 4, ["NOT_FOUND"] * 4)
    assert (missing.event_times, missing.ages_s) == ([None, None], [None, None])
    assert list(known.statuses) == ["PRESENT"] * 4


def test_only_the_generation_pointed_at_is_read() -> None:
    async def run() -> Asked:
        store = MemoryStore()
        await serve_everything(store)
        await point(store, SERVICES[1], NOON + MICROSECOND, generation=4)  # not filled
        return await ask(store, carriers())

    assert list(asyncio.run(run()).response.rows[0].statuses) == ["NOT_FOUND"] * 4


def test_a_response_names_what_it_served() -> None:
    async def run() -> Asked:
        store = MemoryStore()
        await serve_everything(store)
        return await ask(store, FeatureRequest(service="all_features", entities=[UA_1], features=["load__seats", "delays__mean"]))

    response = asyncio.run(run()).response
    assert (response.features, response.dtypes) == (["load__seats", "delays__mean"], ["int32", "float64"])  # in the order asked
    assert [(v.view, v.version, v.generation, v.features, v.complete_until) for v in response.views] == [
        ("delays", 1, 3, [1], NOON),
        ("load", 1, 3, [0], NOON),
    ]
    row = response.rows[0]
    assert list(row.values) == [151, 12.25]
    assert row.ages_s == [15 * 60.0, 5 * 60.0]  # per view: delays at 11:45, load at 11:55
    assert (response.service, response.snapshot, response.now) == ("all_features", SNAPSHOT.fingerprint, NOON)
    assert response.contract == next(s.contract for s in SNAPSHOT.services if s.name == "all_features")


class Recording(MemoryStore):
    """Remembers which keys were read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[str, list[bytes], list[Slot]]] = []
        self.consistencies: list[tuple[str, Consistency]] = []

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], *consistency: Consistency) -> list[Held]:
        self.reads.append((entity, list(keys), list(slots)))
        self.consistencies += [(entity, one) for one in consistency]
        return await super().read(entity, keys, slots, *consistency)


def test_an_entity_named_twice_is_read_once_and_answered_twice() -> None:
    async def run() -> tuple[Asked, Recording]:
        store = Recording()
        await serve_everything(store)
        rows = [UA_1, {**UA_1, "number": 2}, UA_1]
        return await ask(store, FeatureRequest(service="all_features", entities=rows)), store

    answer, store = asyncio.run(run())
    # two flights, but one carrier; both views of the carrier in one read
    assert [(entity, len(keys), len(slots)) for entity, keys, slots in store.reads] == [("carrier", 1, 2), ("flight", 2, 1)]
    first, second, third = answer.response.rows
    assert first == third
    assert (first.values[-1], second.values[-1]) == (151, None)


def test_views_read_together_are_read_as_consistently_as_the_one_that_needs_most() -> None:
    lower = [
        msgspec.structs.replace(view, consistency=Consistency.LOCAL_ONE) if view.name in ("delays", "load") else view
        for view in SNAPSHOT.views
    ]
    snapshot = msgspec.structs.replace(SNAPSHOT, views=lower)

    async def run() -> list[tuple[str, Consistency]]:
        store = Recording()
        await serve_everything(store)
        await point(store, SERVICES[0], NOON + minutes(1), snapshot=snapshot)
        await ask(store, FeatureRequest(service="all_features", entities=[UA_1]))  # fleet is of a quorum, and of the same entity as delays
        await ask(store, FeatureRequest(service="all_features", entities=[UA], features=[MEAN]))
        return store.consistencies

    assert asyncio.run(run()) == [
        ("carrier", Consistency.LOCAL_QUORUM),
        ("flight", Consistency.LOCAL_ONE),
        ("carrier", Consistency.LOCAL_ONE),
    ]


def test_views_of_features_not_asked_for_are_not_read_and_need_no_key() -> None:
    async def run() -> Asked:
        store = MemoryStore()
        await serve_everything(store)
        return await ask(store, FeatureRequest(service="all_features", entities=[UA], features=[MEAN]))

    assert list(asyncio.run(run()).response.rows[0].values) == [12.25]


class Failing(MemoryStore):
    """A store of which one entity's table refuses to be read."""

    failing = ""

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], *consistency: Consistency) -> list[Held]:
        if entity == self.failing:
            raise StoreError("refused")
        return await super().read(entity, keys, slots, *consistency)


def degraded(failing: str, request: FeatureRequest) -> Asked:
    async def run() -> Asked:
        store = Failing()
        await serve_everything(store)
        store.failing = failing
        return await ask(store, request)

    return asyncio.run(run())


def test_when_the_store_fails_each_view_degrades_as_its_contract_says() -> None:
    wanted = ["delays__mean", "delays__flights", "delays__worst", "fleet__hubs", "load__seats"]
    answer = degraded("carrier", FeatureRequest(service="all_features", entities=[UA_1], features=wanted))
    row = answer.response.rows[0]
    # delays: its defaults, of which `flights` has none; fleet: dropped; load: another table, still served
    assert list(row.values) == [0.5, None, [], None, 151]
    assert list(row.statuses) == ["DEFAULT", "DEFAULT", "DEFAULT", "ERROR", "PRESENT"]
    assert row.event_times[:2] == [None, None]
    assert answer.problems == {("delays", "defaulted"): 1, ("fleet", "dropped"): 1}


def test_when_the_store_fails_a_view_that_must_not_degrade_fails_the_request() -> None:
    with pytest.raises(Unavailable, match="'load@1' allows no substitute"):
        degraded("flight", FeatureRequest(service="all_features", entities=[UA_1]))


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (FeatureRequest(service="carrier", entities=[]), UnknownService, "no feature service 'carrier' is published"),
        (FeatureRequest(service="carriers", entities=[], contract="0" * 16), ContractMismatch, "the request pins '0000000000000000'"),
        (FeatureRequest(service="carriers", entities=[], features=["delays__worst"]), UnknownFeature, "no feature 'delays__worst'"),
        (FeatureRequest(service="carriers", entities=[{}]), InvalidEntity, r"entity 0: 1 missing join key\(s\): 'carrier' \(string\)"),
        (
            FeatureRequest(service="carriers", entities=[UA, {"carrier": 1}]),
            InvalidEntity,
            r"entity 1: join key 'carrier' is string, got 1",
        ),
        (FeatureRequest(service="carriers", entities=[{"carrier": True}]), InvalidEntity, "is string, got True"),
        (FeatureRequest(service="carriers", entities=[{**UA, "carier": "UA"}]), InvalidEntity, "'carier' is no join key of this service"),
        (FeatureRequest(service="all_features", entities=[{**UA_1, "number": True}]), InvalidEntity, "'number' is int64, got True"),
        (FeatureRequest(service="all_features", entities=[{**UA_1, "number": 1.0}]), InvalidEntity, "'number' is int64, got 1.0"),
        (FeatureRequest(service="all_features", entities=[{**UA_1, "departs": "2013-06-01T12:00:00"}]), InvalidEntity, "is timestamp"),
        (FeatureRequest(service="all_features", entities=[{**UA_1, "departs": "noon"}]), InvalidEntity, "is timestamp, got 'noon'"),
        (FeatureRequest(service="all_features", entities=[{**UA_1, "departs": 1370088000}]), InvalidEntity, "is timestamp, got 1370088000"),
        (
            FeatureRequest(service="all_features", entities=[{**UA_1, "departs": "2013-06-01T12:00:00.0000001Z"}]),
            InvalidEntity,
            "is timestamp",
        ),
        (FeatureRequest(service="carriers", entities=[UA] * 501), TooManyEntities, "501 entities in one request; at most 500"),
    ],
)
def test_a_request_that_cannot_be_answered_as_asked_is_refused(request_: FeatureRequest, error: type[Exception], message: str) -> None:
    async def run() -> None:
        store = MemoryStore()
        await serve_everything(store)
        await ask(store, request_)

    with pytest.raises(error, match=message):
        asyncio.run(run())


def test_cells_are_limited_too_at_exactly_the_limit() -> None:
    async def run(entities: int) -> Asked:
        store = MemoryStore()
        await serve_everything(store)
        # 4 features: 3 x 4 = 12 cells, 4 x 4 = 16
        return await ask(store, FeatureRequest(service="carriers", entities=[UA] * entities), limits=GatewaySettings(max_cells=12))

    assert len(asyncio.run(run(3)).response.rows) == 3
    with pytest.raises(TooManyEntities, match="4 entities x 4 features = 16 cells"):
        asyncio.run(run(4))


def test_no_entities_give_no_rows() -> None:
    async def run() -> Asked:
        store = MemoryStore()
        await serve_everything(store)
        return await ask(store, FeatureRequest(service="all_features", entities=[]))

    assert asyncio.run(run()).response.rows == []


def test_one_instant_in_two_notations_is_one_key() -> None:
    async def run() -> Asked:
        store = MemoryStore()
        await serve_everything(store)
        rows = [UA_1, {**UA_1, "departs": "2013-06-01T08:00:00.000000-04:00"}]
        return await ask(store, FeatureRequest(service="all_features", entities=rows, features=["load__seats"]))

    assert [list(row.values) for row in asyncio.run(run()).response.rows] == [[151], [151]]
    assert flight_key("UA", 1, NOON) != flight_key("UA", 1, NOON + timedelta(microseconds=1))
    assert LOAD.ttl == hours(1)
