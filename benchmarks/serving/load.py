"""Load over HTTP, from a process of its own: closed loop for the greatest rate, open loop for latency.

    python -m benchmarks.serving.load < plan.json

In the open loop a request's latency runs from the moment it was due, whether or not a connection was free then: a server
that stalls is charged for everyone who waited (no coordinated omission).
"""

import asyncio
import json
import random
import sys
from collections import deque
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any, NamedTuple

import msgspec
import uvloop


class Plan(msgspec.Struct, kw_only=True):
    """What to send.

    Args:
        rate: requests a second, evenly spaced; None: closed loop, each connection sends when it has its answer.
        warm_s, measure_s: how long before, and while, answers are counted.
    """

    host: str
    port: int
    path: str
    headers: dict[str, str]
    bodies: list[str]
    connections: int
    warm_s: float
    measure_s: float
    rate: float | None = None
    seed: int = 1


class Heard(NamedTuple):
    """What became of one request.

    Args:
        due, sent, done: moments of `perf_counter`; what was asked at `sent` was due at `due`.
        number: which of the plan's bodies was asked.
        status: of the answer; 0: there was none, the connection was closed.
        body: the answer.
    """

    due: float
    sent: float
    done: float
    number: int
    status: int
    body: bytes

    @property
    def ms(self) -> float:
        """From when it was due."""
        return (self.done - self.due) * 1000


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time."""

    def __init__(self, keep_body: bool) -> None:
        self._transport: Any = None
        self._answered: asyncio.Future[int] | None = None
        self._seen = bytearray()
        self._missing = -1
        self._status = 0
        self._last = False
        self._keep_body = keep_body
        self.body = b""
        self.length = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the protocol names it
        self._transport = None
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(0)

    @property
    def alive(self) -> bool:
        """Another request may be sent on it: it is there, and the last answer did not say that it ends."""
        return self._transport is not None and not self._last

    async def ask(self, request: bytes) -> int:
        """The answer's status; 0: the connection was closed."""
        self._answered = asyncio.get_running_loop().create_future()
        self._missing = -1
        self._seen.clear()
        self._transport.write(request)
        return await self._answered

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            self._seen += data
            end = self._seen.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._seen[:end]).lower()
            self._status = int(head[9:12])
            self._last = b"connection: close" in head
            at = head.index(b"content-length:") + 15
            self.length = int(head[at:].split(b"\r\n", 1)[0])
            self._missing = self.length - (len(self._seen) - end - 4)
            del self._seen[: end + 4]
        else:
            self._missing -= len(data)
            if self._keep_body:
                self._seen += data
        if self._missing <= 0 and self._answered is not None and not self._answered.done():
            self.body = bytes(self._seen) if self._keep_body else b""
            self._answered.set_result(self._status)


class Load:
    """Sends what a plan says, and keeps what came back or tells `heard`, with the bodies."""

    def __init__(self, plan: Plan, heard: Callable[[Heard], None] | None = None) -> None:
        self._plan = plan
        self._heard = heard
        self.stop = False
        head = f"POST {plan.path} HTTP/1.1\r\nhost: {plan.host}:{plan.port}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in plan.headers.items())
        texts = [f"{head}content-length: {len(body.encode())}\r\n\r\n{body}" for body in plan.bodies]
        self._requests = [(number, text.encode()) for number, text in enumerate(texts)]
        random.Random(plan.seed).shuffle(self._requests)
        self._next = 0
        self._answers: list[tuple[float, float, int]] = []
        self._bytes = 0

    async def run(self) -> dict[str, Any]:
        plan = self._plan
        connections = [await self._connect() for _ in range(plan.connections)]
        begin = perf_counter() + 0.05
        measure_from, until = begin + plan.warm_s, begin + plan.warm_s + plan.measure_s
        cpu = process_time()
        if plan.rate is None:
            await asyncio.gather(*(self._closed(one, until) for one in connections))
        else:
            await self._open(connections, begin, until)
        counted = [one for one in self._answers if one[0] >= measure_from and one[0] < until]
        good = sorted(latency for _, latency, status in counted if status == 200)
        away = sorted(latency for _, latency, status in counted if status != 200)
        statuses: dict[int, int] = {}
        for _, _, status in counted:
            statuses[status] = statuses.get(status, 0) + 1
        return {
            "requests": len(counted),
            "all": len(self._answers),
            "bytes": self._bytes,
            "ok_per_s": len(good) / plan.measure_s,
            "statuses": statuses,
            "p50_ms": _at(good, 0.50),
            "p95_ms": _at(good, 0.95),
            "p99_ms": _at(good, 0.99),
            "max_ms": _at(good, 1.0),
            "away_p50_ms": _at(away, 0.50),
            "away_p95_ms": _at(away, 0.95),
            "away_p99_ms": _at(away, 0.99),
            "client_cpu_s": process_time() - cpu,
        }

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self._heard is not None), self._plan.host, self._plan.port)
        return connection

    async def _ask(self, connection: Connection, due: float) -> Connection:
        number, request = self._requests[self._next % len(self._requests)]
        self._next += 1
        sent = perf_counter()
        status = await connection.ask(request) if connection.alive else 0
        done = perf_counter()
        self._bytes = connection.length
        if self._heard is not None:
            self._heard(Heard(due, sent, done, number, status, connection.body if status else b""))
        else:
            self._answers.append((due, (done - due) * 1000, status))
        return connection if connection.alive else await self._connect()

    async def _closed(self, connection: Connection, until: float) -> None:
        while (now := perf_counter()) < until and not self.stop:
            connection = await self._ask(connection, now)

    async def _open(self, connections: list[Connection], begin: float, until: float) -> None:
        assert self._plan.rate is not None
        free, waiting = deque(connections), deque[float]()
        tasks: set[asyncio.Task[None]] = set()

        async def send(connection: Connection, due: float) -> None:
            free.append(await self._ask(connection, due))
            if waiting:
                start(waiting.popleft())

        def start(due: float) -> None:
            task = asyncio.create_task(send(free.popleft(), due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        n = 0
        while (due := begin + n / self._plan.rate) < until and not self.stop:
            n += 1
            if (early := due - perf_counter()) > 0:
                await asyncio.sleep(early)
            if free:
                start(due)
            else:
                waiting.append(due)
        while tasks:
            await asyncio.wait(tasks, timeout=10)


def _at(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


if __name__ == "__main__":
    print(json.dumps(uvloop.run(Load(msgspec.json.decode(sys.stdin.read(), type=Plan)).run())))
