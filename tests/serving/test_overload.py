"""What a gateway does when it cannot do it all in time: deadlines, and turning requests away."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from penstock.config import GatewaySettings
from penstock.contract.view_parts import Consistency
from penstock.errors import Overloaded
from penstock.online.memory import MemoryStore
from penstock.online.store import Held, Slot
from penstock.serving.admission import Admission, Rounds
from tests.serving.running import Running, running_gateway
from tests.serving.world import serve_everything

STRICT: dict[str, Any] = {"service": "all_features", "entities": [{"carrier": "UA", "number": 1, "departs": "2013-06-01T12:00:00Z"}]}
LENIENT: dict[str, Any] = {"service": "carriers", "entities": [{"carrier": "UA"}]}


class Hanging(MemoryStore):
    """A store whose reads of values wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = False
        self.reading = 0
        self.go = asyncio.Event()

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], *consistency: Consistency) -> list[Held]:
        self.reading += 1
        try:
            if self.hangs:
                await self.go.wait()
            return await super().read(entity, keys, slots, *consistency)
        finally:
            self.reading -= 1


Check = Callable[[Running, Hanging, httpx.AsyncClient], Awaitable[None]]


def serve(folder: Path, check: Check, **options: Any) -> None:
    async def run() -> None:
        store = Hanging()
        await serve_everything(store)
        gateway = GatewaySettings(port=0, refresh_s=3600, **options)
        async with running_gateway(folder, store, gateway=gateway) as running:
            key = {"authorization": f"Bearer {running.key}"}
            async with httpx.AsyncClient(base_url=running.url, timeout=30, headers=key) as http:
                await check(running, store, http)

    asyncio.run(run())


def test_a_store_that_hangs_is_waited_for_until_the_deadline_and_then_each_view_does_as_it_declares(tmp_path: Path) -> None:
    async def check(_: Running, store: Hanging, http: httpx.AsyncClient) -> None:
        fresh = (await http.post("/v1/features", json=LENIENT)).json()["rows"][0]["statuses"]
        assert fresh == ["PRESENT"] * 4
        store.hangs = True
        deadline = {"x-deadline-ms": "40"}
        answer = (await http.post("/v1/features", json=LENIENT, headers=deadline)).json()
        assert answer["rows"][0]["statuses"] == ["ERROR", "ERROR", "STALE", "STALE"]  # fleet is dropped, delays are held
        refused = await http.post("/v1/features", json=STRICT, headers=deadline)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert refused.headers["retry-after"] == "1"
        assert store.reading == 2  # what a cache holds, of both requests, is read on for those who come next; `load` is not

    serve(tmp_path, check)


def test_without_a_header_the_deadline_is_that_of_the_settings(tmp_path: Path) -> None:
    async def check(_: Running, store: Hanging, http: httpx.AsyncClient) -> None:
        store.hangs = True
        assert (await http.post("/v1/features", json=STRICT)).status_code == 503

    serve(tmp_path, check, deadline_ms=30)


@pytest.mark.parametrize("given", ["soon", "-1", "0", "1.5", "1" * 40, "", "٣"])
def test_a_deadline_that_is_none_is_refused(tmp_path: Path, given: str) -> None:
    async def check(_: Running, __: Hanging, http: httpx.AsyncClient) -> None:
        response = await http.post("/v1/features", json=LENIENT, headers={"x-deadline-ms": given.encode()})  # type: ignore[dict-item]
        assert (response.status_code, response.json()["error"]["code"]) == (400, "malformed_request")
        assert "x-deadline-ms" in response.json()["error"]["message"]

    serve(tmp_path, check)


def test_what_is_more_than_it_can_do_is_turned_away_at_once_and_what_it_does_it_finishes(tmp_path: Path) -> None:
    async def check(running: Running, store: Hanging, http: httpx.AsyncClient) -> None:
        store.hangs = True
        admitted = [asyncio.create_task(http.post("/v1/features", json=STRICT)) for _ in range(5)]  # of 6: ten times 3, no more
        while running.gateway._admission.in_progress < 30:
            await asyncio.sleep(0)
        for path, body in (("/v1/features", STRICT), ("/get-online-features", {})):
            response = await http.post(path, json=body, headers={"authorization": "Bearer nobody's"})
            assert (response.status_code, response.json()["error"]["code"]) == (503, "overloaded")
            assert response.headers["retry-after"] == "1"
        assert (await http.get("/healthz")).status_code == 200
        metrics = (await http.get("/metrics")).text
        assert 'penstock_gateway_requests_total{code="overloaded",service="unknown"} 2.0' in metrics
        store.go.set()
        assert {response.status_code for response in await asyncio.gather(*admitted)} == {200}
        assert (await http.post("/v1/features", json=STRICT)).status_code == 200

    serve(tmp_path, check, max_in_progress=3)


class Time:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.at = 100.0
        self.round_s = 0.0

    def __call__(self) -> float:
        return self.at


def admission_of(at_most: int, time: Time) -> Admission:
    return Admission(at_most, time, lambda: time.round_s)


def ask(admission: Admission) -> None:
    """A request comes, and the event loop comes to it."""
    admission.let_in()
    admission.begin()


@contextmanager
def full(admission: Admission) -> Iterator[None]:
    """As much in progress as is worked on side by side."""
    with admission.doing(95):
        ask(admission)  # notes that it is full
        yield


def work(admission: Admission, time: Time, seconds: float) -> None:
    """Requests come and end for a while."""
    until = time.at + seconds
    while time.at < until:
        with admission.doing(1):
            time.at += 0.01
            with suppress(Overloaded):
                ask(admission)


def test_what_lasts_longer_than_a_burst_is_an_overload_until_there_is_room() -> None:
    time = Time()
    admission = admission_of(100, time)
    with full(admission):
        work(admission, time, 0.09)
        ask(admission)
        work(admission, time, 0.03)
        with pytest.raises(Overloaded, match="more requests than it can answer"):
            ask(admission)
    ask(admission)  # there is room
    time.at += 0.06  # and has been for a while
    with full(admission):  # the next burst is one again
        work(admission, time, 0.09)
        ask(admission)


def test_room_for_a_moment_does_not_end_an_overload() -> None:
    time = Time()
    admission = admission_of(100, time)
    for _ in range(10):
        with full(admission):
            time.at += 0.01
    time.at += 0.01
    with admission.doing(95), pytest.raises(Overloaded):
        ask(admission)


def let_in(admission: Admission) -> int:
    """How many of thirty requests that are read at once."""
    for already in range(30):
        try:
            admission.let_in()
        except Overloaded:
            return already
    return 30


def come_round(admission: Admission) -> None:
    while admission.waiting:
        admission.begin()


@pytest.mark.parametrize(("round_s", "wait"), [(0.001, 12), (0.02, 1)])
def test_once_a_burst_lasts_no_more_is_let_in_than_the_event_loop_comes_to_soon(round_s: float, wait: int) -> None:
    time = Time()
    admission = admission_of(1_000, time)
    time.round_s = round_s
    with admission.doing(695):
        admission._last_size = 5
        for _ in range(10):
            assert let_in(admission) == 30  # a burst is waited out
            come_round(admission)
            time.at += 0.01
        assert let_in(admission) == wait
        come_round(admission)
        assert let_in(admission) == wait
        come_round(admission)
        time.at += 0.06  # nobody waited for a while
        assert let_in(admission) == 30
        come_round(admission)


def test_a_few_are_let_in_however_long_they_wait() -> None:
    time = Time()
    admission = admission_of(1_000, time)
    time.round_s = 5.0
    for _ in range(100):
        assert let_in(admission) == 30
        come_round(admission)
        time.at += 0.01


def test_a_request_that_waits_counts_as_much_as_the_last_one_did() -> None:
    time = Time()
    admission = admission_of(100, time)
    for _ in range(10):
        with full(admission):
            time.at += 0.01
    time.at += 0.02
    with admission.doing(35):
        pass
    assert let_in(admission) == 2  # 0, 40; 80 are too much


def test_a_round_is_timed_while_somebody_asks_and_leaves_nothing_ticking() -> None:
    async def check() -> None:
        rounds, loop = Rounds(), asyncio.get_running_loop()
        assert rounds() < 0.01
        until = loop.time() + 0.02
        while loop.time() < until:  # a busy event loop that comes round
            assert rounds() < 0.01
            await asyncio.sleep(0)
        begun = monotonic()
        while monotonic() < begun + 0.03:  # one that does not
            pass
        assert rounds() >= 0.03
        await asyncio.sleep(0.05)
        assert rounds._begun is None

    asyncio.run(check())


def test_while_nothing_ends_there_is_no_overload_but_a_bound() -> None:
    time = Time()
    admission = admission_of(100, time)
    with full(admission):
        work(admission, time, 0.09)
        time.at += 5.0  # the store pauses
        ask(admission)
        with admission.doing(894):
            ask(admission)  # 999
            with admission.doing(1), pytest.raises(Overloaded):
                ask(admission)  # 1005
        work(admission, time, 0.05)  # it is back
        ask(admission)
        work(admission, time, 0.1)
        with pytest.raises(Overloaded):
            ask(admission)


def test_room_is_given_back_whatever_becomes_of_a_request() -> None:
    admission = admission_of(10, Time())
    with pytest.raises(RuntimeError), admission.doing(500):
        assert admission.in_progress == 505
        raise RuntimeError
    assert admission.in_progress == 0
    ask(admission)


async def _exchange(running: Running, *pieces: bytes) -> bytes:
    """What a connection gets back for what is sent on it piece by piece, until it is closed or silent for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
    back = b""
    try:
        for piece in pieces:
            writer.write(piece)
            with suppress(TimeoutError):
                while heard := await asyncio.wait_for(reader.read(65536), 0.2):
                    back += heard
        return back + (b"" if not reader.at_eof() else b"<closed>")
    finally:
        writer.close()


def test_on_the_wire_a_request_turned_away_leaves_its_connection_as_any_other_does(tmp_path: Path) -> None:
    body = b'{"service": "carriers", "entities": [{"carrier": "UA"}]}'
    head = b"POST /v1/features?x=1 HTTP/1.1\r\nhost: me\r\nx-request-id: mine\r\ncontent-length: %d\r\n" % len(body)

    async def check(running: Running, _: Hanging, __: httpx.AsyncClient) -> None:
        running.gateway._admission.in_progress = 1_000
        twice = await _exchange(running, head + b"\r\n" + body, b"GET /healthz HTTP/1.1\r\nhost: me\r\n\r\n")
        assert twice.startswith(b"HTTP/1.1 503 ")
        assert b"HTTP/1.1 200 OK" in twice
        assert b'"code":"overloaded"' in twice
        assert b"\r\nx-request-id: mine\r\n" in twice
        assert b"\r\nretry-after: 1\r\n" in twice
        assert not twice.endswith(b"<closed>")
        at_once = await _exchange(running, (head + b"\r\n" + body) * 3)
        assert at_once.count(b"HTTP/1.1 503 ") == 3
        slowly = await _exchange(running, head + b"connection: close\r\n\r\n" + body[:9], body[9:])
        assert slowly.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nconnection: close\r\n" in slowly
        assert slowly.endswith(b"}}<closed>")
        old = await _exchange(running, head.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n" + body)
        assert old.endswith(b"}}<closed>")
        running.gateway._admission.in_progress = 0
        assert running.gateway._admission.waiting == 0

    serve(tmp_path, check, max_in_progress=3)
