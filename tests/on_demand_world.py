"""A carrier's history, a trip of which the caller knows the plan, and services of both, online in memory and offline in a lake."""

import shutil
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from penstock.clock import to_micros
from penstock.contract import (
    Entity,
    Feature,
    FeatureService,
    FeatureView,
    FreshnessSla,
    OnDemandView,
    Source,
    hours,
    minutes,
    serve_stale,
)
from penstock.offline.lake import Lake
from penstock.online.codec import encode_key, encode_value, write_token
from penstock.online.ledger import FIRST_GENERATION, Publication
from penstock.online.memory import MemoryStore
from penstock.online.store import Slot, Write
from penstock.registry.project import Project
from penstock.registry.serving_state import Pointer, ServicePointers
from penstock.registry.snapshot import Snapshot, compile_snapshot
from tests.feature_functions.trips import best_known, slack
from tests.point_in_time.tables import write_rows

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
FUNCTIONS = Path(__file__).parent / "feature_functions"
CARRIER = Entity("carrier", {"carrier": "string"})


def nothing(rows: Any) -> Any:
    return rows


HISTORY = FeatureView(
    name="history",
    version=1,
    entity=CARRIER,
    source=Source("facts", schema={"carrier": "string", "event_time": "timestamp"}, owner="tests"),
    owner="tests",
    compute=nothing,
    features=[
        Feature("mean", "float64", default=10.0),
        Feature("late", "int64"),
        Feature("flights", "int32"),
        Feature("since", "timestamp"),
        Feature("base", "string"),
        Feature("ratio", "float32"),
    ],
    ttl=hours(2),
    freshness=FreshnessSla(total=minutes(30)),
    if_unavailable=serve_stale(up_to=hours(1)).then_default(),
)
TRIP = OnDemandView(
    name="trip",
    version=1,
    owner="tests",
    inputs=[HISTORY],
    request={"planned": "float64", "departs": "timestamp", "base": "string"},
    features=[
        Feature("minutes", "float64"),
        Feature("share", "float64"),
        Feature("flights", "int64"),
        Feature("hour", "int32"),
        Feature("same_base", "bool"),
        Feature("where", "string"),
        Feature("since", "timestamp"),
        Feature("small", "float32"),
    ],
    compute=slack,
)
BEST = OnDemandView(
    name="best",
    version=1,
    owner="tests",
    inputs={HISTORY: ["mean"]},
    request={"planned": "float64"},
    features=[Feature("minutes", "float64"), Feature("from_history", "bool")],
    compute=best_known,
    handles_nulls=True,
)
SERVICE = FeatureService("trips", views=[HISTORY], on_demand=[TRIP, BEST], owner="tests")
PLAIN = FeatureService("plain", views=[HISTORY], owner="tests")
PROJECT = Project("test_project", (HISTORY,), (SERVICE, PLAIN), (TRIP, BEST))

Row = tuple[str, datetime, Sequence[Any]]
"""A carrier, the event time, and the values of HISTORY."""


def with_functions(folder: Path) -> Path:
    """A project's folder with the modules of the functions in it."""
    shutil.copytree(FUNCTIONS, folder / "feature_functions", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


async def online(rows: Sequence[Row], project: Project = PROJECT, *, until: datetime = NOON, attempt: int = 7) -> MemoryStore:
    """A store with these rows, complete until then, whose pointers name the services of the project."""
    store, snapshot = MemoryStore(), compile_snapshot(project)
    await store.prepare([CARRIER.name])
    slot, schema = Slot(HISTORY.name, 1, FIRST_GENERATION), snapshot.view("history", 1).schema_id
    for carrier, at, values in rows:
        blob = encode_value(schema, to_micros(at), attempt, list(values))
        await store.write(CARRIER.name, [Write(key_of(carrier), slot, write_token(to_micros(at), 0), blob)])
    row = Publication(
        view=HISTORY.name,
        version=1,
        generation=FIRST_GENERATION,
        partition=date(2026, 3, 2),
        attempt=attempt,
        complete_until_us=to_micros(until),
        readable_at_us=to_micros(until),
        run_id="run",
        keys=len(rows),
    )
    await store.record([row])
    await point(store, snapshot, 1)
    return store


async def point(store: MemoryStore, snapshot: Snapshot, changed_at_us: int) -> None:
    """Let all services of a snapshot be served under it."""
    await store.put_snapshot(snapshot.fingerprint, snapshot.to_json())
    pointers = [Pointer(view=HISTORY.name, version=1, generation=FIRST_GENERATION)]
    for service in snapshot.services:
        await store.set_pointers(
            ServicePointers(service=service.name, snapshot=snapshot.fingerprint, pointers=pointers, changed_at_us=changed_at_us)
        )


def offline(lake: Lake, rows: Sequence[Row]) -> None:
    """The same rows as a feature table."""
    names = HISTORY.feature_names
    write_rows(lake, HISTORY, [{"carrier": carrier, "at": at, **dict(zip(names, values, strict=True))} for carrier, at, values in rows])


def key_of(carrier: str) -> bytes:
    return encode_key(list(CARRIER.join_keys.items()), [carrier])
