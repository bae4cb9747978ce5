"""The near cache: what a gateway process has read of the store, for as long as the views' contracts let a cache add age.

    young ──► served
    past half its age ──► served, and read again beside the request
    past its age, or not held ──► read, once however many ask at the same time
    not read because the store failed ──► what is held, whatever its age, marked stale; the views judge whether it may be served

A view's `freshness.read` is the age it lets a cache add; views read together have the smallest of theirs. What the store
does not hold is held too. Memory is bounded in bytes; what was not asked for since the last round goes first.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple, TypeAlias

from penstock.deadline import Deadline
from penstock.errors import StoreError
from penstock.online.store import Slot
from penstock.serving.breaker import Store
from penstock.serving.judgement import Decoded, decode
from penstock.serving.plan import Read

_TABLES = 4096
_AGAIN_AFTER = 0.5  # of its age: then it is read again beside the request that finds it
_ENTRY_BYTES, _VALUE_BYTES, _BYTES_PER_BYTE = 400, 200, 5  # of Python objects, measured; the last per stored byte


class Known(NamedTuple):
    """What is known of a key.

    Args:
        values: per slot of the read, what it holds.
        stale: the store could not be asked; the values are of an earlier read.
    """

    values: Sequence[Decoded]
    stale: bool = False


@dataclass(slots=True)
class _Entry:
    known: Known
    read_at: float
    bytes: int
    asked: bool = False


_Address: TypeAlias = tuple[int, bytes]
"""Which entity and slots, by number, and which key."""


class NearCache:
    """Reads of the store through memory.

    Args:
        store: what is read.
        max_bytes: how much memory what is held may take; 0: nothing is held.
        on_lookup: told, per read, how many keys were answered from memory, and how many were asked of the store.
        now: seconds that never go back.
    """

    def __init__(
        self,
        store: Store,
        max_bytes: int,
        on_lookup: Callable[[int, int], None] = lambda *_: None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.bytes = 0
        self._store, self._max_bytes, self._on_lookup, self._now = store, max_bytes, on_lookup, now
        self._tables: dict[tuple[str, tuple[Slot, ...]], int] = {}
        self._entries: dict[_Address, _Entry] = {}
        self._flights: dict[_Address, asyncio.Task[dict[bytes, Known]]] = {}

    async def get(self, read: Read, keys: Sequence[bytes], until: float | None = None) -> Mapping[bytes, Known | None]:
        """Of each key, what is known; None: the store could not answer by `until`, of the event loop's time, and nothing is held."""
        if not self._max_bytes or not read.is_held:
            self._on_lookup(0, len(keys))
            return {**dict.fromkeys(keys), **await self._read_now(read, keys, until)}
        found: dict[bytes, Known | None] = {}
        missing, again, now = [], [], self._now()
        table = self._table(read)
        for key in keys:
            entry = self._entries.get((table, key))
            age = read.fresh_s if entry is None else now - entry.read_at
            if entry is None or age >= read.fresh_s:
                missing.append(key)
                continue
            entry.asked = True
            found[key] = entry.known
            if age >= read.fresh_s * _AGAIN_AFTER and (table, key) not in self._flights:
                again.append(key)
        self._on_lookup(len(found), len(missing))
        if again:
            self._launch(read, again)
        if missing:
            await self._load(read, missing, found, until)
        return found

    def _table(self, read: Read) -> int:
        if len(self._tables) > _TABLES:  # callers may ask for any choice of views
            self._tables.clear()
            self._entries.clear()
            self.bytes = 0
        return self._tables.setdefault((read.entity, read.slots), len(self._tables))

    async def _read_now(self, read: Read, keys: Sequence[bytes], until: float | None) -> dict[bytes, Known]:
        try:
            with Deadline(until):
                return await self._read(read, keys)
        except TimeoutError:
            return {}

    async def _load(self, read: Read, keys: Sequence[bytes], found: dict[bytes, Known | None], until: float | None) -> None:
        table = self._table(read)
        self._launch(read, [key for key in keys if (table, key) not in self._flights])
        flights = {key: self._flights[table, key] for key in keys}
        # A caller that goes away must not take the read from those who wait for it too.
        left_s = None if until is None else max(0.0, until - asyncio.get_running_loop().time())
        await asyncio.wait(set(flights.values()), timeout=left_s)
        for key, flight in flights.items():
            found[key] = flight.result().get(key) if flight.done() else None
            if found[key] is None and (entry := self._entries.get((table, key))) is not None:
                found[key] = Known(entry.known.values, stale=True)

    def _launch(self, read: Read, keys: Sequence[bytes]) -> None:
        if keys:
            table = self._table(read)
            flight = asyncio.create_task(self._fly(read, table, keys))
            for key in keys:
                self._flights[table, key] = flight

    async def _fly(self, read: Read, table: int, keys: Sequence[bytes]) -> dict[bytes, Known]:
        try:
            return await self._read(read, keys)
        finally:
            for key in keys:
                self._flights.pop((table, key), None)

    async def _read(self, read: Read, keys: Sequence[bytes]) -> dict[bytes, Known]:
        """What the store holds; nothing if it failed: refused or no answer, either way there is no value to judge."""
        read_at = self._now()  # before it is read: what was written meanwhile may not be in it
        try:
            held = await self._store.read(read.entity, keys, read.slots, read.consistency)
        except StoreError:
            return {}
        known = {key: Known([decode(value) for value in values]) for key, values in zip(keys, held, strict=True)}
        if self._max_bytes and read.is_held:
            table = self._table(read)
            for key, values in zip(keys, held, strict=True):
                self._hold((table, key), _Entry(known[key], read_at, _size(values)))
        return known

    def _hold(self, address: _Address, entry: _Entry) -> None:
        before = self._entries.get(address)
        if before is not None:
            if before.read_at > entry.read_at:
                return  # two reads crossed; the later one stands
            self.bytes -= before.bytes
            entry.asked = before.asked
        self._entries[address] = entry
        self.bytes += entry.bytes
        while self.bytes > self._max_bytes and self._entries:
            oldest = next(iter(self._entries))
            candidate = self._entries.pop(oldest)
            if candidate.asked:
                candidate.asked = False  # asked for since the last round: it gets another
                self._entries[oldest] = candidate
            else:
                self.bytes -= candidate.bytes


def _size(values: Iterable[bytes | None]) -> int:
    return _ENTRY_BYTES + sum(_VALUE_BYTES + _BYTES_PER_BYTE * len(value or b"") for value in values)
