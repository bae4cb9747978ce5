"""What is published in the benchmark: views of ten numbers each, one row per entity, in a lake and as evaluated rows."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.clock import FixedClock, to_micros
from penstock.contract import Entity, Feature, FeatureView, FreshnessSla, Source, hours
from penstock.offline.attempt import run_attempt
from penstock.offline.ingest import ingest_days
from penstock.offline.lake import Lake
from penstock.quality.contracts import audit

VIEWS, WIDTH = 5, 10
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
USER = Entity("user", {"user_id": "int64"})


def dtype(k: int) -> str:
    return "float64" if k % 2 else "float32"


EVENTS = Source(
    "events",
    schema={"user_id": "int64", **{f"f{n}_{k}": dtype(k) for n in range(VIEWS) for k in range(WIDTH)}, "event_time": "timestamp"},
    owner="bench",
)


def _selects(names: Sequence[str]) -> Any:
    def selected(rows: Any) -> Any:
        return rows.select("user_id", "event_time", *names)

    return selected


@cache
def view(n: int) -> FeatureView:
    features = [Feature(f"f{n}_{k}", dtype(k)) for k in range(WIDTH)]
    return FeatureView(
        name=f"view_{n}",
        version=1,
        entity=USER,
        source=EVENTS,
        owner="bench",
        compute=_selects([feature.name for feature in features]),
        features=features,
        ttl=hours(24 * 365),
        freshness=FreshnessSla(total=hours(24)),
    )


def events(entities: int) -> pa.Table:
    """One row per entity, at some moment of today."""
    numbers = np.random.default_rng(entities)
    moments = to_micros(NOW) - numbers.integers(1, 3_600_000_000, entities)
    columns = {"user_id": pa.array(np.arange(entities)), "event_time": pa.array(moments, pa.timestamp("us", tz="UTC"))}
    for name, of in EVENTS.schema.items():
        if of.startswith("float"):
            columns[name] = pa.array(numbers.normal(0, 100, entities).astype(of))
    return pa.table({name: columns[name] for name in EVENTS.schema})


def make_lake(spark: Any, lake: Lake, entities: int, views: int) -> None:
    """Ingest and compute, so that the views' one day is due."""
    clock = FixedClock(NOW)
    ingest_days(lake, EVENTS, [NOW.date()], fetch=lambda *_: events(entities), clock=clock, run_id="bench")
    for n in range(views):
        (entry,) = run_attempt(
            spark, lake, view(n), [NOW.date()], clock=FixedClock(NOW + timedelta(minutes=1)), run_id="bench", audit=audit
        )
        if entry.state != "passed":
            raise SystemExit(f"{view(n).ref}: {entry.reasons}")


def evaluated(entities: int, n: int) -> pa.Table:
    """A view's rows as `evaluate.values_to_write` gives them."""
    rows = events(entities)
    at = rows["event_time"].cast(pa.int64())
    values = pa.StructArray.from_arrays([rows[f"f{n}_{k}"].combine_chunks() for k in range(WIDTH)], [f"f{n}_{k}" for k in range(WIDTH)])
    columns = {"user_id": rows["user_id"], "event_time_us": at, "attempt": at, "_values": values, "e_us": at}
    return pa.table({**columns, "revision": pa.array(np.zeros(entities, dtype=np.int64))})
