"""What every online store must do, as one function: `await check_online_store(store)`.

The store is fresh or used before: every check writes under names of its own.
"""

from collections.abc import Sequence
from datetime import date
from itertools import permutations

import msgspec
import pytest

from penstock.contract.view_parts import Consistency
from penstock.errors import PublicationError, StoreError
from penstock.online.ledger import Intent, Publication, complete_until_us
from penstock.online.store import MAX_VALUE_BYTES, OnlineStore, Slot, Write
from penstock.registry.marks import Mark
from penstock.registry.serving_state import Pointer, ServicePointers

DELAYS = Slot("delays", 1, 1)
WEATHER = Slot("weather", 1, 1)


async def check_online_store(store: OnlineStore) -> None:
    await check_prepare(store)
    await check_greatest_token_wins_in_any_order(store)
    await check_ties(store)
    await check_writes_are_idempotent(store)
    await check_slots_are_apart(store)
    await check_keys_are_apart(store)
    await check_many_keys(store)
    await check_big_values(store)
    await check_ledger(store)
    await check_intents(store)
    await check_marks(store)
    await check_snapshots(store)
    await check_pointers(store)


async def held(store: OnlineStore, key: bytes, *slots: Slot) -> list[bytes | None]:
    return list((await store.read("airport", [key], slots))[0])


async def check_prepare(store: OnlineStore) -> None:
    with pytest.raises(StoreError, match="entity 'unheard_of' has no table"):
        await store.read("unheard_of", [b"k"], [DELAYS])
    with pytest.raises(StoreError, match="entity 'unheard_of' has no table"):
        await store.write("unheard_of", [Write(b"k", DELAYS, 1, b"v")])
    await store.prepare(["airport", "carrier"])
    await store.prepare(["airport"])
    assert await held(store, b"never written", DELAYS) == [None]
    assert await store.read("airport", [], [DELAYS]) == []
    assert await held(store, b"k") == []
    await store.write("airport", [])


async def check_greatest_token_wins_in_any_order(store: OnlineStore) -> None:
    writes = [(10, b"old"), (20, b"newer"), (30, None), (31, b"newest"), (-5, b"before 1970")]
    for n, order in enumerate(permutations(writes)):
        key = b"order %d" % n
        for token, value in order:
            await store.write("airport", [Write(key, DELAYS, token, value)])
        assert await held(store, key, DELAYS) == [b"newest"], order
    for n, order in enumerate(permutations(writes)):
        key = b"together %d" % n
        await store.write("airport", [Write(key, DELAYS, token, value) for token, value in order])
        assert await held(store, key, DELAYS) == [b"newest"], order


async def check_ties(store: OnlineStore) -> None:
    for n, order in enumerate(permutations([b"\x7f", b"\x80", b"\x80\x00"])):
        key = b"tied values %d" % n
        for value in order:
            await store.write("airport", [Write(key, DELAYS, 10, value)])
        assert await held(store, key, DELAYS) == [b"\x80\x00"], "of equal tokens the greater value by unsigned bytes"
    for n, order in enumerate(permutations([b"value", None])):
        key = b"tied delete %d" % n
        for value in order:
            await store.write("airport", [Write(key, DELAYS, 10, value)])
        assert await held(store, key, DELAYS) == [None], "of equal tokens a delete wins"
        await store.write("airport", [Write(key, DELAYS, 9, b"late")])
        assert await held(store, key, DELAYS) == [None], "a late write does not bring a deleted value back"
        await store.write("airport", [Write(key, DELAYS, 11, b"again")])
        assert await held(store, key, DELAYS) == [b"again"], "one token later the key is there again"


async def check_writes_are_idempotent(store: OnlineStore) -> None:
    first = [Write(b"again", DELAYS, 10, b"a"), Write(b"again", WEATHER, 10, b"w")]
    second = [Write(b"again", DELAYS, 20, b"b"), Write(b"again", WEATHER, 20, None)]
    for writes in (first, first, second, second, first):
        await store.write("airport", writes)
    assert await held(store, b"again", DELAYS, WEATHER) == [b"b", None]


async def check_slots_are_apart(store: OnlineStore) -> None:
    slots = [DELAYS, WEATHER, Slot("delays", 2, 1), Slot("delays", 1, 2), Slot("delay", 1, 1)]
    await store.write("airport", [Write(b"slots", slot, 10, repr(slot).encode()) for slot in slots])
    assert await held(store, b"slots", *slots) == [repr(slot).encode() for slot in slots]
    assert await held(store, b"slots", *slots[::-2]) == [repr(slot).encode() for slot in slots[::-2]], "in the order asked"
    assert await held(store, b"slots", Slot("delays", 2, 2)) == [None]
    (one,) = await store.read("airport", [b"slots"], slots, Consistency.LOCAL_ONE)
    assert list(one) == [repr(slot).encode() for slot in slots], "of one replica that missed nothing the same"
    await store.write("airport", [Write(b"slots", DELAYS, 11, None)])
    assert await held(store, b"slots", DELAYS, WEATHER) == [None, repr(WEATHER).encode()], "a delete is of its slot alone"
    assert list((await store.read("carrier", [b"slots"], slots))[0]) == [None] * len(slots), "entities are apart"


async def check_keys_are_apart(store: OnlineStore) -> None:
    keys = [b"\x00", b"\x00\x00", b"a", b"a\x00", b"\xff", b"k" * 60_000]
    await store.write("airport", [Write(key, DELAYS, 10, b"of %d bytes %d" % (len(key), key[-1])) for key in keys])
    asked = [keys[2], b"unknown", keys[0], keys[2], *keys]
    found = await store.read("airport", asked, [DELAYS])
    assert [value for (value,) in found] == [None if key == b"unknown" else b"of %d bytes %d" % (len(key), key[-1]) for key in asked]


async def check_many_keys(store: OnlineStore) -> None:
    keys = [b"many %d" % n for n in range(1000)]
    await store.write("carrier", [Write(key, slot, 10, key + slot.view.encode()) for slot in (DELAYS, WEATHER) for key in keys])
    found = await store.read("carrier", keys, [DELAYS, WEATHER])
    assert [list(one) for one in found] == [[key + slot.view.encode() for slot in (DELAYS, WEATHER)] for key in keys]


async def check_big_values(store: OnlineStore) -> None:
    big = bytes(range(256)) * 1200  # 307,200 bytes
    await store.write("airport", [Write(b"big", slot, 10, big) for slot in (DELAYS, WEATHER)])
    assert await held(store, b"big", DELAYS, WEATHER) == [big, big]
    middling = [b"middling %d" % n for n in range(30)]  # of 6 kB: ten of them are more than Cassandra takes in one batch of several keys
    await store.write("airport", [Write(key, slot, 10, big[:6000]) for key in middling for slot in (DELAYS, WEATHER)])
    found = await store.read("airport", middling, [DELAYS, WEATHER])
    assert [list(one) for one in found] == [[big[:6000]] * 2] * 30
    await store.write("airport", [Write(b"empty", DELAYS, 10, b"")])
    assert await held(store, b"empty", DELAYS) == [b""]

    largest = b"x" * MAX_VALUE_BYTES
    slots = [Slot("delays", 1, generation) for generation in range(1, 6)]
    await store.write("airport", [Write(b"largest", slot, 10, largest) for slot in slots])  # more of one key than a node takes at once
    assert await held(store, b"largest", *slots) == [largest] * 5
    refused = [Write(b"beside", DELAYS, 10, b"v"), Write(b"\x0a\x0b", WEATHER, 10, largest + b"x")]
    with pytest.raises(StoreError, match=r"the value of weather@1 of key 0a0b takes 1,048,577 bytes; at most 1,048,576"):
        await store.write("airport", refused)
    assert await held(store, b"beside", DELAYS) == [None], "of a call that is refused for its size nothing is written"


def publication(day: int, attempt: int, *, generation: int = 1, version: int = 1, readable_at_us: int = 1_000) -> Publication:
    return Publication(
        view="ledger_view",
        version=version,
        generation=generation,
        partition=date(2013, 1, day),
        attempt=attempt,
        complete_until_us=-(2**40) + day,
        readable_at_us=readable_at_us,
        run_id="run é",
        keys=2**40,
    )


async def check_ledger(store: OnlineStore) -> None:
    assert await store.publications("ledger_view", 99) == []
    rows = [publication(3, 7), publication(1, 9), publication(1, 8), publication(2, 7, generation=2)]
    await store.record(rows)
    await store.record(rows[:2])
    of_another_version = [publication(1, 8, version=2)]
    await store.record(of_another_version)
    await expect_ledger(store, 1, rows)
    await expect_ledger(store, 2, of_another_version)

    await store.record([replace_readable(rows[0], 2_000)])
    await expect_ledger(store, 1, rows)  # readable since 1,000: a repetition changes nothing
    await store.record([replace_readable(rows[0], 500)])
    await expect_ledger(store, 1, [replace_readable(rows[0], 500), *rows[1:]])

    with pytest.raises(PublicationError, match="2 view versions"):
        await store.record([publication(4, 7), publication(4, 7, version=2)])
    await expect_ledger(store, 2, of_another_version)  # and nothing of the refused rows is there

    for version in (1, 2):
        whole = await store.publications("ledger_view", version)
        fills = {row.generation for row in whole}
        of = {fill: complete_until_us(row for row in whole if row.generation == fill) for fill in fills}
        assert await store.watermarks("ledger_view", version) == of
    assert await store.watermarks("ledger_view", 99) == {}

    many = [publication(1 + n % 28, n, version=3) for n in range(6000)]  # more than a page, and one atomic batch
    await store.record(many)
    await expect_ledger(store, 3, many)


async def check_intents(store: OnlineStore) -> None:
    assert await store.intent("intended_view", 1, 1) is None
    first = Intent(view="intended_view", version=1, generation=1, attempts={date(2013, 1, 1): 2**60, date(2013, 1, 2): 7})
    of_another_generation = Intent(view="intended_view", version=1, generation=2, attempts={date(2013, 1, 1): 7})
    await store.intend(first)
    await store.intend(of_another_generation)
    assert await store.intent("intended_view", 1, 1) == first
    second = Intent(view="intended_view", version=1, generation=1, attempts={date(2013, 1, 3): 8})
    await store.intend(second)
    assert await store.intent("intended_view", 1, 1) == second
    assert await store.intent("intended_view", 1, 2) == of_another_generation


async def check_marks(store: OnlineStore) -> None:
    def mark(id: str, marked_at_us: int, **more: int) -> Mark:
        known = {"attempt": None, "since_us": -5, "until_us": None, "reason": "a bad é", **more}
        return Mark(view="marked", version=1, marked_at_us=marked_at_us, id=id, **known)  # type: ignore[arg-type]

    async def mine() -> list[Mark]:
        return [one for one in await store.marks() if one.view == "marked"]

    assert await mine() == []
    await store.put_mark(mark("b", 100, attempt=7))
    await store.put_mark(mark("a", 200))
    assert await mine() == [mark("b", 100, attempt=7), mark("a", 200)]
    await store.put_mark(mark("a", 200, lifted_at_us=300))
    await store.put_mark(mark("a", 200, excluded_at_us=250))  # whoever knows one time does not undo another
    await store.put_mark(mark("a", 200))
    assert (await mine())[1] == mark("a", 200, lifted_at_us=300, excluded_at_us=250)
    await store.put_mark(mark("a", 200, lifted_at_us=400, excluded_at_us=240, restored_at_us=2**60))
    assert (await mine())[1] == mark("a", 200, lifted_at_us=300, excluded_at_us=240, restored_at_us=2**60)
    assert (await mine())[0] == mark("b", 100, attempt=7)


def replace_readable(row: Publication, readable_at_us: int) -> Publication:
    return msgspec.structs.replace(row, readable_at_us=readable_at_us)


async def expect_ledger(store: OnlineStore, version: int, rows: Sequence[Publication]) -> None:
    in_order = sorted(rows, key=lambda row: (row.generation, row.partition, row.attempt))
    assert await store.publications("ledger_view", version) == in_order


async def check_snapshots(store: OnlineStore) -> None:
    assert await store.snapshot("0123456789abcdef") is None
    for _ in range(2):
        await store.put_snapshot("fedcba9876543210", b'{"format": 1}' * 20_000)
    assert await store.snapshot("fedcba9876543210") == b'{"format": 1}' * 20_000
    assert await store.snapshot("0123456789abcdef") is None


async def check_pointers(store: OnlineStore) -> None:
    first = ServicePointers(
        service="z_service", snapshot="a" * 16, pointers=[Pointer(view="delays", version=1, generation=1)], changed_at_us=100
    )
    later = ServicePointers(service="z_service", snapshot="b" * 16, pointers=[], changed_at_us=200)
    other = ServicePointers(service="a_service", snapshot="c" * 16, pointers=[], changed_at_us=50)
    for pointers in (first, other, later, first, later):
        await store.set_pointers(pointers)
    assert [p for p in await store.pointers() if p.service in ("a_service", "z_service")] == [other, later]
