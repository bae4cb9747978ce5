"""A small project to serve: three views, two entities, one service per way to degrade."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from penstock.clock import to_micros
from penstock.contract import (
    Degradation,
    Entity,
    Feature,
    FeatureService,
    FeatureView,
    FreshnessSla,
    Source,
    hours,
    minutes,
    serve_stale,
)
from penstock.online.codec import encode_key, encode_value, write_token
from penstock.online.ledger import Publication
from penstock.online.store import OnlineStore, Slot, Write
from penstock.registry.project import Project
from penstock.registry.serving_state import Pointer, ServicePointers
from penstock.registry.snapshot import Snapshot, compile_snapshot

NOON = datetime(2013, 6, 1, 12, tzinfo=UTC)


def computed(frame: Any) -> Any:
    return frame


CARRIER = Entity("carrier", {"carrier": "string"})
FLIGHT = Entity("flight", {"carrier": "string", "number": "int64", "departs": "timestamp"})
FACTS = Source(
    "facts", schema={"carrier": "string", "number": "int64", "departs": "timestamp", "event_time": "timestamp"}, owner="flight-ops"
)


def view(name: str, entity: Entity, features: list[Feature], ttl: timedelta | None, if_unavailable: Degradation) -> FeatureView:
    return FeatureView(
        name=name,
        version=1,
        entity=entity,
        source=FACTS,
        owner="flight-ops",
        compute=computed,
        features=features,
        ttl=ttl,
        freshness=FreshnessSla(total=minutes(30)),
        if_unavailable=if_unavailable,
    )


# Ages up to 2 h are served; late when complete_until is more than 30 min ago; defaults when the store fails.
DELAYS = view(
    "delays",
    CARRIER,
    [Feature("mean", "float64", default=0.5), Feature("flights", "int64"), Feature("worst", "list[float64]", default=[])],
    hours(2),
    serve_stale(up_to=hours(1)).then_default(),
)
# Never expires; left out when the store fails.
FLEET = view("fleet", CARRIER, [Feature("since", "timestamp"), Feature("hubs", "list[string]")], None, Degradation().then_drop())
# Fails when the store fails.
LOAD = view("load", FLIGHT, [Feature("seats", "int32", default=0)], hours(1), Degradation())

SERVICES = [
    FeatureService("all_features", views=[DELAYS, FLEET, LOAD], owner="models"),
    FeatureService("carriers", views={FLEET: ["hubs", "since"], DELAYS: ["mean", "flights"]}, owner="models"),
]
SNAPSHOT: Snapshot = compile_snapshot(Project("test_project", (DELAYS, FLEET, LOAD), tuple(SERVICES)))
GENERATION = 3


def slot_of(view: FeatureView) -> Slot:
    return Slot(view.name, view.version, GENERATION)


def schema_of(view: FeatureView) -> int:
    return SNAPSHOT.view(view.name, view.version).schema_id


def carrier_key(carrier: str) -> bytes:
    return encode_key(list(CARRIER.join_keys.items()), [carrier])


def flight_key(carrier: str, number: int, departs: datetime) -> bytes:
    return encode_key(list(FLIGHT.join_keys.items()), [carrier, number, departs])


async def put(store: OnlineStore, view: FeatureView, key: bytes, event_time: datetime, values: Sequence[object], attempt: int = 7) -> None:
    """One row of a view, as a publication would write it."""
    at_us = to_micros(event_time)
    await put_bytes(store, view, key, encode_value(schema_of(view), at_us, attempt, values), at_us)


async def put_bytes(store: OnlineStore, view: FeatureView, key: bytes, blob: bytes, at_us: int = 0) -> None:
    await store.prepare([view.entity.name])
    await store.write(view.entity.name, [Write(key, slot_of(view), write_token(at_us, 0), blob)])


async def complete(store: OnlineStore, view: FeatureView, until: datetime, generation: int = GENERATION) -> None:
    """A ledger row: the view is complete up to `until`."""
    row = Publication(
        view=view.name,
        version=view.version,
        generation=generation,
        partition=date(2013, 6, 1),
        attempt=to_micros(until),
        complete_until_us=to_micros(until),
        readable_at_us=to_micros(until),
        run_id="run",
        keys=1,
    )
    await store.record([row])


async def point(
    store: OnlineStore,
    service: FeatureService,
    at: datetime = NOON,
    *,
    snapshot: Snapshot = SNAPSHOT,
    generation: int = GENERATION,
) -> None:
    """What `penstock` does when it flips a service to a filled generation."""
    await store.put_snapshot(snapshot.fingerprint, snapshot.to_json())
    views = dict.fromkeys(part.view for part in service.selection)
    pointers = [Pointer(view=v.name, version=v.version, generation=generation) for v in views]
    await store.set_pointers(
        ServicePointers(service=service.name, snapshot=snapshot.fingerprint, pointers=pointers, changed_at_us=to_micros(at))
    )


async def serve_everything(store: OnlineStore) -> None:
    """All services pointed at, all views complete until noon, one carrier and one flight with values."""
    for service in SERVICES:
        await point(store, service)
    for one in (DELAYS, FLEET, LOAD):
        await complete(store, one, NOON)
    await put(store, DELAYS, carrier_key("UA"), NOON - minutes(15), [12.25, 4, [60.0, 7.5]])
    await put(store, FLEET, carrier_key("UA"), NOON - hours(1), [datetime(1926, 4, 6, tzinfo=UTC), ["EWR", "ORD"]])
    await put(store, LOAD, flight_key("UA", 1, NOON), NOON - minutes(5), [151])
