"""The circuit breaker: a store that gives no answer is asked by one, and requests go on without it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from penstock.contract.view_parts import Consistency
from penstock.errors import StoreError, StoreUnavailable
from penstock.online.store import Held, Slot
from penstock.serving import breaker as module
from penstock.serving.breaker import Breaker

SLOTS = (Slot("delays", 1, 1),)


class Store:
    """Answers, fails, refuses or hangs, as it is told."""

    def __init__(self) -> None:
        self.how = "answers"
        self.asked = 0
        self.woken = asyncio.Event()

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], *consistency: Consistency) -> list[Held]:
        self.asked += 1
        if self.how == "hangs":
            await self.woken.wait()
        if self.how == "fails":
            raise StoreUnavailable("no answer")
        if self.how == "refuses":
            raise StoreError("refused")
        return [[b"value"] for _ in keys]


class World:
    def __init__(self) -> None:
        self.store, self.at, self.told = Store(), 100.0, list[bool]()
        self.breaker = Breaker(self.store, self.told.append, lambda: self.at)

    async def ask(self, *, wait_s: float | None = None) -> str:
        try:
            async with asyncio.timeout(wait_s):
                await self.breaker.read("carrier", [b"a", b"b"], SLOTS, Consistency.LOCAL_QUORUM)
        except StoreUnavailable as error:
            return "at once" if "being tried" in error.message else "no answer"
        except StoreError:
            return "refused"
        except TimeoutError:
            return "waited"
        return "value"


def run(check: Callable[[World], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.0)

    async def inner() -> None:
        world = World()
        await check(world)
        await world.breaker.close()

    asyncio.run(inner())


async def open_it(world: World, how: str = "fails") -> None:
    world.store.how = how
    for _ in range(5):
        await world.ask(wait_s=0)
    world.at += 0.5
    await world.ask(wait_s=0)
    assert world.breaker.is_open


def test_reads_that_get_no_answer_open_it_and_an_answer_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(world: World) -> None:
        assert await world.ask() == "value"
        await open_it(world)
        asked = world.store.asked
        assert [await world.ask() for _ in range(3)] == ["at once"] * 3
        assert world.store.asked == asked
        for _ in range(10):
            await asyncio.sleep(0)
        assert world.store.asked > asked  # it tries by itself
        assert world.breaker.is_open
        world.store.how = "answers"
        while world.breaker.is_open:
            await asyncio.sleep(0)
        assert await world.ask() == "value"
        assert world.told == [True, False]

    run(check, monkeypatch)


def test_a_store_that_hangs_opens_it_while_its_callers_still_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(world: World) -> None:
        world.store.how = "hangs"
        waiting = [asyncio.create_task(world.ask()) for _ in range(5)]
        await asyncio.sleep(0)
        world.at += 0.5
        waiting.append(asyncio.create_task(world.ask()))
        await asyncio.sleep(0)
        assert await world.ask() == "at once"
        world.store.woken.set()
        assert await asyncio.gather(*waiting) == ["value"] * 6
        while world.breaker.is_open:
            await asyncio.sleep(0)
        assert await world.ask() == "value"

    run(check, monkeypatch)


def test_an_answer_between_keeps_it_closed_and_so_does_a_short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(world: World) -> None:
        for n in range(30):
            world.store.how = "answers" if n % 5 == 4 else "fails"
            world.at += 1.0
            await world.ask()
            assert not world.breaker.is_open
        world.store.how = "fails"
        for _ in range(100):  # many at once, within less than half a second
            assert await world.ask() == "no answer"
        assert not world.breaker.is_open

    run(check, monkeypatch)


def test_who_opens_it_is_answered_by_the_store_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(world: World) -> None:
        world.store.how = "fails"
        for _ in range(5):
            await world.ask()
        world.at += 3600.0  # an hour in which nobody asked, and the store came back
        world.store.how = "answers"
        assert await world.ask() == "value"
        while world.breaker.is_open:
            await asyncio.sleep(0)
        assert await world.ask() == "value"

    run(check, monkeypatch)


def test_a_store_that_refuses_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(world: World) -> None:
        world.store.how = "refuses"
        for _ in range(20):
            world.at += 1.0
            assert await world.ask() == "refused"
        assert not world.breaker.is_open
        await open_it(world)
        world.store.how = "refuses"
        while world.breaker.is_open:
            await asyncio.sleep(0)

    run(check, monkeypatch)


def test_closing_ends_the_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(world: World) -> None:
        await open_it(world, "hangs")
        await world.breaker.close()
        assert len(asyncio.all_tasks()) == 1

    run(check, monkeypatch)
