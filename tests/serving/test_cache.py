"""What a gateway remembers: never longer than views allow, never more than it may, and one read however many ask."""

import asyncio
import random
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.clock import to_micros
from penstock.config import GatewaySettings
from penstock.contract import minutes
from penstock.contract.view_parts import Consistency
from penstock.errors import StoreUnavailable, Unavailable
from penstock.online.codec import Stored, encode_value
from penstock.online.memory import MemoryStore
from penstock.online.store import Held, Slot
from penstock.serving.cache import Known, NearCache
from penstock.serving.judgement import Outcome
from penstock.serving.lookup import Answer, look_up
from penstock.serving.plan import Planner, Read
from penstock.serving.state import StateKeeper
from tests.serving.world import DELAYS, FLEET, NOON, carrier_key, put, serve_everything

SLOTS = (Slot("delays", 1, 1), Slot("fleet", 1, 1))
READ = Read("carrier", (("carrier", "string"),), SLOTS, fresh_s=4.0, is_held=True)
MEGABYTE = 1_000_000


class Store:
    """Holds a number per key; counts what it is asked."""

    def __init__(self) -> None:
        self.number = 0
        self.reads: list[list[bytes]] = []
        self.down = False
        self.gate: asyncio.Event | None = None

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], *consistency: Consistency) -> list[Held]:
        self.reads.append(list(keys))
        number = self.number
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise StoreUnavailable("down")
        return [[None if key.startswith(b"no") else encode_value(1, 0, number, [1.0]), None][: len(slots)] for key in keys]


class Time:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def run(check: Callable[[Store, NearCache, Time], Awaitable[None]], max_bytes: int = MEGABYTE, **options: Any) -> None:
    async def inner() -> None:
        store, time = Store(), Time()
        await check(store, NearCache(store, max_bytes, now=time, **options), time)
        await asyncio.sleep(0)

    asyncio.run(inner())


def number_of(known: Known | None) -> int:
    """Which of the store's numbers was seen."""
    assert known is not None
    assert isinstance(known.values[0], Stored)
    return known.values[0].attempt


async def seen(cache: NearCache, *keys: bytes, read: Read = READ) -> list[int]:
    found = await cache.get(read, keys)
    return [number_of(found[key]) for key in keys]


async def settle() -> None:
    """Let background reads end."""
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


def test_what_is_young_is_served_from_memory_and_what_has_reached_its_age_is_read() -> None:
    async def check(store: Store, cache: NearCache, time: Time) -> None:
        assert await seen(cache, b"a") == [0]
        store.number = 1
        time.at += 1.999  # half of 4 s is 2 s
        assert await seen(cache, b"a") == [0]
        assert len(store.reads) == 1
        time.at += 2.001  # 4.000 s old
        assert await seen(cache, b"a") == [1]
        assert len(store.reads) == 2

    run(check)


def test_past_half_its_age_it_is_served_and_read_again_beside_the_request() -> None:
    async def check(store: Store, cache: NearCache, time: Time) -> None:
        await seen(cache, b"a", b"b")
        store.number = 1
        time.at += 2.0
        assert await seen(cache, b"a", b"b") == [0, 0]
        await settle()
        assert store.reads == [[b"a", b"b"], [b"a", b"b"]]
        assert await seen(cache, b"a", b"b") == [1, 1]
        assert len(store.reads) == 2

    run(check)


def test_however_many_ask_at_once_each_key_is_read_once() -> None:
    async def check(store: Store, cache: NearCache, time: Time) -> None:
        store.gate = asyncio.Event()
        asking = [asyncio.create_task(seen(cache, *keys)) for keys in [(b"a",), (b"a", b"b"), (b"b", b"c", b"a")] * 20]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        store.gate.set()
        assert {tuple(one) for one in await asyncio.gather(*asking)} == {(0,), (0, 0), (0, 0, 0)}
        assert store.reads == [[b"a"], [b"b"], [b"c"]]

    run(check)


def test_a_caller_that_goes_away_does_not_take_the_read_along() -> None:
    async def check(store: Store, cache: NearCache, time: Time) -> None:
        store.gate = asyncio.Event()
        first, second = (asyncio.create_task(seen(cache, b"a")) for _ in range(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        store.gate.set()
        assert await second == [0]
        assert first.cancelled()
        assert len(store.reads) == 1

    run(check)


def test_a_key_that_has_nothing_is_remembered_too() -> None:
    async def check(store: Store, cache: NearCache, time: Time) -> None:
        for _ in range(3):
            assert (await cache.get(READ, [b"none"]))[b"none"] == Known([None, None])
        assert len(store.reads) == 1

    run(check)


def test_when_the_store_fails_what_is_held_is_told_as_stale_and_the_rest_as_not_known() -> None:
    async def check(store: Store, cache: NearCache, time: Time) -> None:
        await seen(cache, b"a")
        time.at += 3600.0
        store.down = True
        found = await cache.get(READ, [b"a", b"b"])
        assert (number_of(found[b"a"]), found[b"b"]) == (0, None)
        assert found[b"a"] is not None
        assert found[b"a"].stale
        store.down, store.number = False, 5
        assert await seen(cache, b"a", b"b") == [5, 5]

    run(check)


def test_a_failed_read_beside_a_request_changes_nothing() -> None:
    async def check(store: Store, cache: NearCache, time: Time) -> None:
        await seen(cache, b"a")
        time.at += 3.0
        store.down = True
        assert await seen(cache, b"a") == [0]
        await settle()
        assert await seen(cache, b"a") == [0]
        time.at += 1.0
        found = await cache.get(READ, [b"a"])
        assert found[b"a"] is not None
        assert found[b"a"].stale

    run(check)


def test_views_that_let_no_age_be_added_are_read_each_time_and_still_held_for_when_the_store_fails() -> None:
    read = Read("carrier", READ.keys, SLOTS, fresh_s=0.0, is_held=True)

    async def check(store: Store, cache: NearCache, time: Time) -> None:
        for number in range(3):
            store.number = number
            assert await seen(cache, b"a", read=read) == [number]
        store.down = True
        found = await cache.get(read, [b"a"])
        assert found[b"a"] is not None
        assert (number_of(found[b"a"]), found[b"a"].stale) == (2, True)

    run(check)


def test_what_no_view_lets_be_held_is_not_and_a_cache_of_nothing_holds_nothing() -> None:
    plain = Read("carrier", READ.keys, SLOTS, fresh_s=0.0, is_held=False)

    async def check(store: Store, cache: NearCache, time: Time) -> None:
        for read in (plain, READ):
            assert await seen(cache, b"a", read=read) == [0]
            assert await seen(cache, b"a", read=read) == [0]
        assert (len(store.reads), cache.bytes) == (4, 0)
        store.down = True
        assert await cache.get(READ, [b"a"]) == {b"a": None}

    run(check, max_bytes=0)


def test_reads_of_other_slots_are_apart() -> None:
    one = Read("carrier", READ.keys, SLOTS[:1], fresh_s=4.0, is_held=True)
    other_fill = Read("carrier", READ.keys, (Slot("delays", 1, 2), SLOTS[1]), fresh_s=4.0, is_held=True)

    async def check(store: Store, cache: NearCache, time: Time) -> None:
        for number, read in enumerate((READ, one, other_fill)):
            store.number = number
            assert await seen(cache, b"a", read=read) == [number]
        equal = Read("carrier", READ.keys, SLOTS, fresh_s=4.0, is_held=True)
        assert await seen(cache, b"a", read=equal) == [0]

    run(check)


def test_it_counts_where_keys_were_found() -> None:
    told: list[tuple[int, int]] = []

    async def check(store: Store, cache: NearCache, time: Time) -> None:
        await seen(cache, b"a", b"b")
        await seen(cache, b"a", b"c")
        assert told == [(0, 2), (1, 1)]

    run(check, on_lookup=lambda *counts: told.append(counts))


def test_memory_is_bounded_and_what_is_asked_for_often_stays() -> None:
    async def check(store: Store, cache: NearCache, time: Time) -> None:
        for n in range(3000):
            await seen(cache, b"key %d" % n)
            await seen(cache, b"hot")
            assert cache.bytes <= 100_000
        assert sum(keys == [b"hot"] for keys in store.reads) == 1
        assert 50 < len(cache._entries) < 300

    run(check, max_bytes=100_000)


class Wide(MemoryStore):
    """Answers with values of many sizes."""

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], *consistency: Consistency) -> list[Held]:
        numbers = random.Random(len(keys))
        return [
            [encode_value(1, 0, n, [numbers.random() for _ in range(1 + n % 60)]) if n % 7 else None for _ in slots]
            for n in range(len(keys))
        ]


def test_what_it_takes_is_not_more_than_it_says() -> None:
    async def check() -> None:
        cache = NearCache(Wide(), 8 * MEGABYTE)
        keys = [b"%08d" % n for n in range(20_000)]
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for start in range(0, len(keys), 500):
            await cache.get(READ, keys[start : start + 500])
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert 2 * MEGABYTE < taken < 1.15 * 8 * MEGABYTE
        assert cache.bytes <= 8 * MEGABYTE

    asyncio.run(check())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["ask", "write", "wait", "fail", "mend"]), st.integers(0, 4), st.floats(0, 5)), max_size=40))
def test_no_value_is_ever_older_than_its_age_unless_it_is_told_as_stale(steps: list[tuple[str, int, float]]) -> None:
    async def check(store: Store, cache: NearCache, time: Time) -> None:
        written = [(time.at, 0)]  # when the store came to hold which number
        for what, key, seconds in steps:
            if what == "write":
                store.number += 1
                written.append((time.at, store.number))
            elif what == "wait":
                time.at += seconds
                await settle()
            elif what in ("fail", "mend"):
                store.down = what == "fail"
            else:
                known = (await cache.get(READ, [b"%d" % key]))[b"%d" % key]
                if known is not None and not known.stale:
                    newest_then = max(number for at, number in written if at <= time.at - READ.fresh_s or number == 0)
                    assert number_of(known) >= newest_then

    run(check)


def served(held: Callable[[MemoryStore], Awaitable[None]], now_us: int, service: str = "carriers") -> Answer:
    """The answer of a gateway that has read a carrier before its store failed."""

    async def inner() -> Answer:
        store = MemoryStore()
        await serve_everything(store)
        await held(store)
        keeper = StateKeeper(store)
        assert await keeper.refresh()
        assert keeper.state is not None
        cache, plan = NearCache(store, MEGABYTE), Planner().plan(keeper.state, service)
        entities: list[dict[str, Any]] = [{"carrier": "UA"}]
        if service == "all_features":
            entities[0] |= {"number": 1, "departs": "2013-06-01T12:00:00Z"}
        await look_up(plan, cache, to_micros(NOON), entities, GatewaySettings())
        store.reachable = False
        return await look_up(plan, cache, now_us, entities, GatewaySettings())

    return asyncio.run(inner())


async def nothing_more(_: MemoryStore) -> None: ...


def test_when_the_store_fails_a_held_value_is_served_until_it_is_as_old_as_its_view_allows() -> None:
    # delays of 11:45 may be served stale up to 1 h of age: until 12:45:00.000000; `fleet` allows none and is dropped
    fleet, delays = served(nothing_more, to_micros(NOON + minutes(45))).parts
    assert (delays[0].outcome, list(delays[0].values), list(delays[0].statuses)) == (Outcome.CACHED, [12.25, 4], ["STALE", "STALE"])
    assert (delays[0].event_time_us, delays[0].attempt) == (to_micros(NOON - minutes(15)), 7)
    assert fleet[0].outcome is Outcome.DROPPED
    _, delays = served(nothing_more, to_micros(NOON + minutes(45)) + 1).parts
    assert (delays[0].outcome, list(delays[0].values)) == (Outcome.DEFAULTED, [0.5, None])


def test_when_the_store_fails_a_key_known_to_have_nothing_gets_the_default_and_a_null_stays_one() -> None:
    async def null(store: MemoryStore) -> None:
        await put(store, DELAYS, carrier_key("UA"), NOON, [None, float("nan"), []])
        await put(store, FLEET, carrier_key("UA"), NOON, [None, []])

    _, delays = served(null, to_micros(NOON)).parts
    assert (list(delays[0].values), list(delays[0].statuses)) == ([None, None], ["STALE", "ERROR"])

    async def gone(store: MemoryStore) -> None:
        store._cells["carrier"].clear()

    _, delays = served(gone, to_micros(NOON)).parts
    assert delays[0].outcome is Outcome.DEFAULTED


def test_a_view_that_allows_neither_a_held_value_nor_a_substitute_fails_the_request() -> None:
    with pytest.raises(Unavailable, match="'load@1' allows no substitute"):
        served(nothing_more, to_micros(NOON), "all_features")
