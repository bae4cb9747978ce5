"""A publication's writes slow down where the store does not answer, and go on where it does again."""

import asyncio
from collections.abc import Sequence

import pytest

from penstock.errors import StoreError, StoreUnavailable
from penstock.online.memory import MemoryStore
from penstock.online.store import OnlineStore, Slot, Write
from penstock.publication.held_store import Connect, HeldStore
from penstock.publication.paced import AT_ONCE, PIECE, Patience, paced, patiently

SLOT = Slot("delays", 1, 1)


class Moody(MemoryStore):
    """Answers a write after a turn of the event loop, but for those calls that are refused."""

    def __init__(self, refused: range = range(0), error: type[StoreError] = StoreUnavailable) -> None:
        super().__init__()
        self.calls = self.in_flight = self.most = 0
        self._refused, self._error = refused, error

    async def write(self, entity: str, writes: Sequence[Write]) -> None:
        self.calls += 1
        call, self.in_flight = self.calls, self.in_flight + 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
        if call in self._refused:
            raise self._error("overloaded")
        await super().write(entity, writes)


def writes(count: int) -> list[Write]:
    return [Write(b"%d" % n, SLOT, 10, b"v%d" % n) for n in range(count)]


async def held(store: OnlineStore, count: int) -> list[bytes | None]:
    return [value for (value,) in await store.read("airport", [write.key for write in writes(count)], [SLOT])]


def test_everything_put_is_there_at_the_end_and_no_more_than_allowed_is_in_flight() -> None:
    async def check() -> None:
        store = Moody()
        await store.prepare(["airport"])
        async with paced(store, "airport", Patience(0)) as writer:
            await writer.put(writes(3 * AT_ONCE * PIECE))
        assert await held(store, 3 * AT_ONCE * PIECE) == [write.value for write in writes(3 * AT_ONCE * PIECE)]
        assert (store.most, writer.limit) == (AT_ONCE, AT_ONCE)

    asyncio.run(check())


def test_a_store_that_refuses_for_a_while_gets_everything_more_slowly() -> None:
    async def check() -> None:
        store = Moody(range(1, AT_ONCE + 40))  # the first pieces all at once, and what is tried next
        await store.prepare(["airport"])
        count = 4 * AT_ONCE * PIECE
        async with paced(store, "airport", Patience(30)) as writer:
            await writer.put(writes(count))
            assert writer.limit < AT_ONCE
        assert await held(store, count) == [write.value for write in writes(count)]
        assert store.calls == 4 * AT_ONCE + AT_ONCE + 39  # each refused call was made once more

    asyncio.run(check())


def test_failures_of_one_moment_halve_the_limit_once_and_it_grows_by_one_per_round() -> None:
    async def check() -> None:
        store = Moody(range(1, AT_ONCE + 1))
        await store.prepare(["airport"])
        async with paced(store, "airport", Patience(30)) as writer:
            await writer.put(writes(AT_ONCE * PIECE))
        # 64 after the cut; the 128 pieces that are acknowledged then are a round of 64 and most of one of 65
        assert writer.limit == AT_ONCE // 2 + 1

    asyncio.run(check())


def test_a_store_that_never_answers_is_given_up_after_the_patience() -> None:
    async def check() -> None:
        store = Moody(range(1, 10**9))
        await store.prepare(["airport"])
        with pytest.raises(StoreUnavailable, match="overloaded"):
            async with paced(store, "airport", Patience(0.2)) as writer:
                await writer.put(writes(AT_ONCE * PIECE * 2))
        assert store.in_flight == 0

    asyncio.run(check())


def test_what_the_store_refuses_for_good_is_raised_at_once() -> None:
    async def check() -> None:
        store = Moody(range(1, 2), StoreError)
        await store.prepare(["airport"])
        with pytest.raises(StoreError, match="overloaded"):
            async with paced(store, "airport", Patience(30)) as writer:
                await writer.put(writes(PIECE))
        assert store.calls == 1

    asyncio.run(check())


def test_patience_counts_from_the_first_failure_after_an_answer() -> None:
    async def check() -> None:
        patience = Patience(0)
        assert patience.ends()
        waiting = Patience(1e9)
        assert not waiting.ends()
        waiting.answered()
        answers = iter([StoreUnavailable("busy"), StoreUnavailable("busy"), None])

        async def ask() -> str:
            failure = next(answers)
            if failure is not None:
                raise failure
            return "done"

        assert await patiently(ask, waiting) == "done"

    asyncio.run(check())


class Counted(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    async def close(self) -> None:
        self.closed = True


def test_a_process_opens_its_store_once_and_again_after_a_failure_or_for_another_one() -> None:
    stores: list[Counted] = []
    holder = HeldStore()

    async def connect() -> OnlineStore:
        stores.append(Counted())
        return stores[-1]

    async def use(open_store: Connect) -> OnlineStore:
        return await open_store()

    async def fail(open_store: Connect) -> None:
        await open_store()
        raise StoreUnavailable("gone")

    async def leave(open_store: Connect) -> None:
        pass

    holder.use("one", connect, leave)
    assert stores == []
    assert holder.use("one", connect, use) is holder.use("one", connect, use)
    with pytest.raises(StoreUnavailable):
        holder.use("one", connect, fail)
    assert [store.closed for store in stores] == [True]
    holder.use("one", connect, use)
    holder.use("other", connect, use)
    assert [store.closed for store in stores] == [True, True, False]
    holder.close()
    assert [store.closed for store in stores] == [True, True, True]
