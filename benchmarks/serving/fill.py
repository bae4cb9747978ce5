"""Values of many entities in the online store, written as a publication writes them, and the services pointed at them."""

import random
from datetime import datetime
from time import monotonic, process_time

from benchmarks.serving.definitions import entity, snapshot, views
from penstock.clock import to_micros
from penstock.contract.fingerprint import schema_id
from penstock.online.codec import encode_key, encode_value, write_token
from penstock.online.ledger import FIRST_GENERATION, Publication
from penstock.online.store import OnlineStore, Slot, Write
from penstock.publication.services import publish_services

_AT_ONCE = 5_000
_KEY = [("user_id", "int64")]


async def fill(store: OnlineStore, features: int, entities: int, now: datetime, *, first: int = 0) -> tuple[float, float]:
    """Write the values of entities `first` to `entities`; returns seconds and CPU-seconds of this process."""
    await store.prepare([entity(features).name])
    slots = [(Slot(view.name, view.version, FIRST_GENERATION), schema_id(view), len(view.features)) for view in views(features)]
    numbers = random.Random(features)
    begun, cpu = monotonic(), process_time()
    for start in range(first, entities, _AT_ONCE):
        writes = []
        for n in range(start, min(start + _AT_ONCE, entities)):
            key = encode_key(_KEY, [n])
            for slot, schema, width in slots:
                event_us = to_micros(now) - numbers.randrange(3_600_000_000)
                values = [round(numbers.gauss(0, 100), 6) for _ in range(width)]
                writes.append(Write(key, slot, write_token(event_us, 0), encode_value(schema, event_us, event_us, values)))
        await store.write(entity(features).name, writes)
    return monotonic() - begun, process_time() - cpu


async def point(store: OnlineStore, features: int, now: datetime) -> None:
    """Ledger rows and pointers, so that what was filled is served."""
    for view in views(features):
        us = to_micros(now)
        row = Publication(
            view=view.name,
            version=view.version,
            generation=FIRST_GENERATION,
            partition=now.date(),
            attempt=us,
            complete_until_us=us,
            readable_at_us=us,
            run_id="bench",
            keys=0,
        )
        await store.record([row])
    await publish_services(store, snapshot(), to_micros(now))
