"""What is served where requests are held against what was written: one number per item, the number of the write.

A writer goes over all items again and again, as one publication after the other would, and notes what was acknowledged when.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from time import perf_counter, time_ns
from typing import Any

from penstock.config import Settings
from penstock.contract import Entity, Feature, FeatureService, FeatureView, FreshnessSla, Source, hours, seconds, serve_stale
from penstock.contract.fingerprint import schema_id
from penstock.errors import StoreError
from penstock.online.cassandra import CassandraStore
from penstock.online.codec import encode_key, encode_value, write_token
from penstock.online.ledger import FIRST_GENERATION, Publication
from penstock.online.store import OnlineStore, Slot, Write
from penstock.publication.services import publish_services
from penstock.registry.project import Project
from penstock.registry.snapshot import Snapshot, compile_snapshot

KEY = [("item", "int64")]
FRESH_S = 1
"""Seconds of age that the view `held` lets a cache add."""
DEFAULTED = -1
_PUBLISHED_LATER_US = 10_000_000  # what is published has happened before

SOURCE = Source("writes", schema={"item": "int64", "event_time": "timestamp"}, owner="bench")
ITEM = Entity("item", dict(KEY))


def computed(rows: Any) -> Any:
    return rows


def _view(name: str, read_s: int = 0, **how: Any) -> FeatureView:
    return FeatureView(
        name=name,
        version=1,
        entity=ITEM,
        source=SOURCE,
        owner="bench",
        compute=computed,
        features=[Feature("number", "int64", default=DEFAULTED), Feature("again", "int64", default=DEFAULTED)],
        ttl=hours(24 * 365),
        freshness=FreshnessSla(total=hours(24 * 365), **({"read": seconds(read_s)} if read_s else {})),
        **how,
    )


STRICT = _view("strict")
LENIENT = _view("lenient", if_unavailable=serve_stale(up_to=hours(1)).then_default())
HELD = _view("held", FRESH_S)
VIEWS = (STRICT, LENIENT, HELD)


@cache
def snapshot(features: tuple[str, ...] = ("number", "again")) -> Snapshot:
    """A service per view, and `both` of two views with these features of each."""
    services = [FeatureService(view.name, views=[view], owner="bench") for view in VIEWS]
    services.append(FeatureService("both", views={STRICT: list(features), HELD: list(features)}, owner="bench"))
    return compile_snapshot(Project("items", VIEWS, tuple(services)))


class Writer:
    """Writes numbers, and knows which a later read must see.

    Args:
        keys: how many items there are.
        at_once: how many of them one write takes.
    """

    def __init__(self, store: OnlineStore, keys: int, at_once: int = 25) -> None:
        self.written = self.failed = 0
        self._store, self._keys, self._at_once = store, keys, at_once
        self._acknowledged: list[tuple[list[float], list[int]]] = [([], []) for _ in range(keys)]

    async def write(self, keys: Sequence[int], number: int, generation: int = FIRST_GENERATION) -> None:
        """Write a number to items, again until it is acknowledged, as a publication's retry would."""
        us = time_ns() // 1000 - _PUBLISHED_LATER_US
        writes = [
            Write(
                encode_key(KEY, [key]),
                Slot(view.name, 1, generation),
                write_token(us, 0),
                encode_value(schema_id(view), us, us, [number, number]),
            )
            for key in keys
            for view in VIEWS
        ]
        while True:
            try:
                await self._store.write(ITEM.name, writes)
                break
            except StoreError:
                self.failed += 1
                await asyncio.sleep(0.05)
        done = perf_counter()
        for key in keys:
            times, numbers = self._acknowledged[key]
            times.append(done)
            numbers.append(number)
        self.written += len(writes)

    async def fill(self, number: int, generation: int = FIRST_GENERATION) -> None:
        """Write a number to all items."""
        for start in range(0, self._keys, 500):
            await self.write(range(start, min(start + 500, self._keys)), number, generation)

    async def forever(self, pause_s: float = 0.05) -> None:
        """Write numbers from 1 on."""
        number = 1
        while True:
            for start in range(0, self._keys, self._at_once):
                await self.write(range(start, min(start + self._at_once, self._keys)), number)
                await asyncio.sleep(pause_s)
            number += 1

    def at_least(self, key: int, moment: float) -> int:
        """The number that a read begun at `moment` must see, or a greater one."""
        times, numbers = self._acknowledged[key]
        acknowledged = bisect_right(times, moment)
        return numbers[acknowledged - 1] if acknowledged else 0


async def point(store: OnlineStore, generation: int = FIRST_GENERATION, features: tuple[str, ...] = ("number", "again")) -> None:
    """Let everything be served, from one fill of the views and with a choice of their features."""
    us = time_ns() // 1000
    for view in VIEWS:
        row = Publication(
            view=view.name,
            version=1,
            generation=generation,
            partition=datetime.now(UTC).date(),
            attempt=us,
            complete_until_us=us,
            readable_at_us=us,
            run_id="bench",
            keys=0,
        )
        await store.record([row])
    await publish_services(store, snapshot(features), us, generation=generation)


@asynccontextmanager
async def connected(settings: Settings, contact_points: Sequence[str], port: int) -> AsyncIterator[CassandraStore]:
    """A store with room for the items."""
    store = await CassandraStore.connect(contact_points, port, settings)
    try:
        await store.prepare([ITEM.name])
        yield store
    finally:
        await store.close()
