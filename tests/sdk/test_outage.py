"""Without a gateway: asked again within a budget, then what was known, then the baseline, and always said so."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import httpcore
import msgspec
import pytest

from penstock.clock import to_micros
from penstock.errors import ConfigError, MalformedRequest, Unavailable
from penstock.sdk import AsyncFeatureClient, FeatureClient, FeatureResult, FeatureValue
from penstock.sdk.outage import LastKnown, RetryBudget
from tests.serving.world import NOON

ANN, BOB = {"customer": "ann"}, {"customer": "bob"}
HOUR = timedelta(hours=1)


def answer(request: httpcore.Request, contract: str = "c") -> httpcore.Response:
    """What a gateway says: an amount per customer, of 11:00 and good for two hours; nothing is known of eve."""
    names = [entity["customer"] for entity in msgspec.json.decode(b"".join(request.stream))["entities"]]
    known = [name != "eve" for name in names]
    body = {
        "service": "s",
        "contract": contract,
        "snapshot": "f",
        "now_us": to_micros(NOON),
        "token": "p1.x",
        "features": ["v__amount", "v__last"],
        "dtypes": ["float64", "string"],
        "views": [{"view": "v", "version": 1, "generation": 1, "complete_until": None, "features": [0, 1], "ttl_s": 7200.0}],
        "rows": len(names),
        "values": [[len(name) * 1.5 if there else None for name, there in zip(names, known, strict=True)], [None] * len(names)],
        "statuses": [
            ["PRESENT" if there else "NOT_FOUND" for there in known],
            ["NULL" if there else "NOT_FOUND" for there in known],
        ],
        "event_times_us": [[to_micros(NOON - HOUR) if there else None for there in known]],
    }
    return httpcore.Response(200, content=msgspec.msgpack.encode(body))


class Gateway:
    """Answers, or does what a test says: a status, or an exception's class."""

    def __init__(self) -> None:
        self.then: list[Any] = []
        self.always: Any = None
        self.requests = 0

    def __call__(self, request: httpcore.Request) -> httpcore.Response:
        self.requests += 1
        now = self.then.pop(0) if self.then else self.always
        if now is None:
            return answer(request)
        if isinstance(now, str):
            return answer(request, now)
        if isinstance(now, type):
            raise now("as told")
        status, headers = now
        failure = {"error": {"code": "unavailable" if status == 503 else "malformed_request", "message": "m", "request_id": "r"}}
        return httpcore.Response(status, headers=headers, content=msgspec.json.encode(failure))


class Pool(httpcore.ConnectionPool):
    """Connections to it."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.gateway = gateway

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        return self.gateway(request)


class AsyncPool(httpcore.AsyncConnectionPool):
    """The same, to be awaited."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.gateway = gateway

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        return self.gateway(request)


Ask = Callable[..., Awaitable[FeatureResult]]


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest) -> Callable[..., tuple[Gateway, Any, Ask]]:
    """A client of a gateway that a test commands."""

    def make(**options: Any) -> tuple[Gateway, Any, Ask]:
        gateway = Gateway()
        if request.param == "sync":
            one: Any = FeatureClient("http://gateway", **options)
            one._http = Pool(gateway)

            async def ask(*given: Any, **more: Any) -> FeatureResult:
                return await asyncio.to_thread(one.features, *given, **more)

        else:
            one = AsyncFeatureClient("http://gateway", **options)
            one._http = AsyncPool(gateway)
            ask = one.features
        return gateway, one, ask

    return make


def test_a_lost_connection_and_a_short_refusal_are_asked_again(client: Callable[..., tuple[Gateway, Any, Ask]]) -> None:
    gateway, _, ask = client()
    gateway.then = [httpcore.ConnectError, httpcore.RemoteProtocolError, (503, {"retry-after": "0"}), (429, {"retry-after": "0"})]
    assert asyncio.run(ask("s", [ANN])).to_dict()["v__amount"] == [4.5]
    assert gateway.requests == 5


@pytest.mark.parametrize(
    ("then", "error"),
    [
        (httpcore.ReadTimeout, Unavailable),  # it took its time, and would again
        ((503, {"retry-after": "1"}), Unavailable),  # longer than the caller waits
        ((503, {}), Unavailable),
        ((400, {"retry-after": "0"}), MalformedRequest),
    ],
)
def test_what_would_not_help_is_not_asked_again(client: Callable[..., tuple[Gateway, Any, Ask]], then: Any, error: type[Exception]) -> None:
    gateway, _, ask = client(timeout_s=0.9)
    gateway.then = [then]
    with pytest.raises(error):
        asyncio.run(ask("s", [ANN]))
    assert gateway.requests == 1


def test_an_outage_is_not_made_worse_by_asking_again(client: Callable[..., tuple[Gateway, Any, Ask]]) -> None:
    gateway, _, ask = client(timeout_s=0.9)
    gateway.always = (503, {"retry-after": "0"})

    async def run() -> None:
        for _ in range(100):
            with pytest.raises(Unavailable):
                await ask("s", [ANN])

    asyncio.run(run())
    # 100 requests, 10 asked again from what was saved, and one in ten of those that followed
    assert 115 <= gateway.requests <= 122


def test_a_budget_earns_one_in_ten_and_saves_ten() -> None:
    budget = RetryBudget()
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(9):
        budget.earn()
    assert not budget.spend()
    for _ in range(2):
        budget.earn()
    assert budget.spend()
    assert not budget.spend()


def test_what_was_known_last_is_given_as_stale_and_grows_older(client: Callable[..., tuple[Gateway, Any, Ask]]) -> None:
    gateway, one, ask = client(last_known=10)
    seconds = [0.0]
    one._last_known._now = lambda: seconds[0]

    async def run() -> None:
        first = await ask("s", [ANN, {"customer": "eve"}])
        assert (first.degraded, first.token) == ("", "p1.x")
        gateway.always = httpcore.ReadTimeout
        seconds[0] += 1800.0
        again = await ask("s", [{"customer": "eve"}, ANN])
        assert (again.degraded, again.token, again.now) == ("last_known", "", NOON + HOUR / 2)
        assert again.rows[1]["v__amount"] == FeatureValue(4.5, "STALE", NOON - HOUR, 1.5 * HOUR)
        assert again.rows[1]["v__last"] == FeatureValue(None, "STALE", NOON - HOUR, 1.5 * HOUR)
        assert again.rows[0]["v__amount"] == FeatureValue(None, "NOT_FOUND", None, None)
        seconds[0] += 1800.0  # of 11:00, good for two hours: at 13:00 still
        assert (await ask("s", [ANN])).rows[0]["v__amount"][:2] == (4.5, "STALE")
        seconds[0] += 0.001
        assert (await ask("s", [ANN])).rows[0]["v__amount"][:2] == (None, "NOT_FOUND")
        with pytest.raises(Unavailable):
            await ask("s", [ANN, BOB])  # of bob nothing is known
        with pytest.raises(Unavailable):
            await ask("s", [ANN], features=["v__amount"])  # another question

    asyncio.run(run())


def test_without_being_told_to_a_client_remembers_nothing(client: Callable[..., tuple[Gateway, Any, Ask]]) -> None:
    gateway, _, ask = client()

    async def run() -> None:
        await ask("s", [ANN])
        gateway.always = httpcore.ReadTimeout
        with pytest.raises(Unavailable, match="did not answer in time"):
            await ask("s", [ANN])

    asyncio.run(run())


def guess(service: str, entities: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, Any]]:
    assert service == "s"
    return [{"v__amount": 1.0 + n, "v__last": "none"} for n in range(len(entities))]


def test_a_baseline_answers_for_whom_nothing_is_known(client: Callable[..., tuple[Gateway, Any, Ask]]) -> None:
    gateway, _, ask = client(last_known=10, baseline=guess)

    async def run() -> None:
        gateway.always = httpcore.ConnectError
        alone = await ask("s", [ANN, BOB])
        assert (alone.degraded, alone.dtypes) == ("baseline", ("float64", "string"))
        assert alone.to_dict() == {"v__amount": [1.0, 2.0], "v__last": ["none", "none"]}
        assert alone.rows[0]["v__amount"] == FeatureValue(1.0, "DEFAULT", None, None)
        gateway.always = None
        await ask("s", [ANN])
        gateway.always = httpcore.ReadTimeout
        both = await ask("s", [BOB, ANN])
        assert both.to_dict() == {"v__amount": [1.0, 4.5], "v__last": ["none", None]}
        assert [row["v__amount"].status for row in both.rows] == ["DEFAULT", "STALE"]
        assert [row["v__amount"].event_time for row in both.rows] == [None, NOON - HOUR]
        assert both.degraded == "baseline"
        assert (await ask("s", [BOB, ANN], features=["v__amount"])).features == ("v__amount",)

    asyncio.run(run())


def test_a_baseline_that_gives_too_little_is_a_mistake_of_its_author(client: Callable[..., tuple[Gateway, Any, Ask]]) -> None:
    gateway, _, ask = client(baseline=lambda service, entities: [])
    gateway.always = httpcore.ReadTimeout
    with pytest.raises(ConfigError, match=r"baseline gave 0 row\(s\) for 1 entities of service 's'"):
        asyncio.run(ask("s", [ANN]))


def test_a_refusal_is_never_answered_by_memory_or_baseline(client: Callable[..., tuple[Gateway, Any, Ask]]) -> None:
    gateway, _, ask = client(last_known=10, baseline=guess)
    gateway.then = [None, (400, {})]

    async def run() -> None:
        await ask("s", [ANN])
        with pytest.raises(MalformedRequest):
            await ask("s", [ANN])

    asyncio.run(run())


def test_values_of_another_contract_are_forgotten_and_old_ones_make_room(client: Callable[..., tuple[Gateway, Any, Ask]]) -> None:
    gateway, one, ask = client(last_known=2)

    async def run() -> None:
        await ask("s", [ANN])
        gateway.then = ["another contract"]
        await ask("s", [BOB])
        gateway.always = httpcore.ReadTimeout
        assert (await ask("s", [BOB])).contract == "another contract"
        with pytest.raises(Unavailable):
            await ask("s", [ANN])
        gateway.always = None
        for name in ("a", "b", "c"):
            await ask("s", [{"customer": name}])
        assert len(one._last_known._rows) == 2

    asyncio.run(run())


def test_a_negative_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="last_known=-1"):
        LastKnown(-1)
