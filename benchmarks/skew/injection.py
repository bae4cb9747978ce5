"""A fault put where it would happen, and taken back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from benchmarks.skew.faults import BOTH, OFFLINE, ONLINE, Fault
from benchmarks.skew.flights import Flights, Key
from penstock.clock import from_micros, to_micros
from penstock.contract import FeatureView
from penstock.contract.fingerprint import schema_id
from penstock.offline.arrow import arrow_type
from penstock.offline.lake import feature_table
from penstock.online.codec import Stored, decode_value, encode_value
from penstock.quality.served_log import SERVED

UNKNOWN = 50
"""Keys that nobody has, of those that are asked for."""


@dataclass
class Injected:
    """What was done.

    Args:
        feature: which was altered; None: not one.
        rows: how many are wrong; fewer than wanted: there are no more that the fault would alter.
        unknown: keys that nobody has, to be asked for.
        values: feature → what each key is served, wrong or right; None: not of features.
    """

    feature: str | None = None
    rows: int = 0
    unknown: Sequence[Key] = ()
    values: dict[Key, list[Any]] = field(default_factory=dict)


@contextmanager
def injected(
    flights: Flights, view: FeatureView, fault: Fault, side: str, dtype: str | None, share: float, chance: np.random.Generator
) -> Iterator[Injected]:
    """The fault is there within the block, in a share of what is asked for; not at all, if there are too few rows that it would alter."""
    held = flights.held[view]
    many = ceil(share * (len(held) + UNKNOWN)) if share < 1 else len(held)
    everyone = list(held)
    picked = [everyone[n] for n in chance.permutation(len(everyone))]
    done = Injected(unknown=[_nobody(view, n) for n in range(UNKNOWN)])
    blobs: dict[Key, bytes | None] = {}
    event_us: dict[Key, int] = {}
    if fault.where == "late":
        flights.clock.advance(view.freshness.total + timedelta(minutes=1))
        done.rows = len(held)
    elif fault.where == "log":
        done.rows = many
    elif fault.where == "extra":
        some, now_us = decode_value(held[picked[0]]), to_micros(flights.clock.now()) - 1_000_000
        done.unknown = [_nobody(view, n) for n in range(max(UNKNOWN, many))]
        blobs = {key: encode_value(schema_id(view), now_us, some.attempt, list(some.values)) for key in done.unknown[:many]}
        event_us = dict.fromkeys(blobs, now_us)
    else:
        done.feature, blobs = _altered(flights, view, fault, dtype, picked, many, chance)
        event_us = {key: decode_value(held[key]).event_time_us for key in blobs}
        if fault.where in ("value", "other_key"):
            done.values = {key: list(decode_value(blobs.get(key) or blob).values) for key, blob in held.items()}
    done.rows = done.rows or len(blobs)
    if done.rows < many:
        yield Injected()
        return
    table, before = DeltaTable(flights.store.lake.location(feature_table(view))), -1
    if blobs and side in (OFFLINE, BOTH):
        before = table.version()
        _alter_lake(view, table, {key: decode_value(blob) for key, blob in blobs.items() if blob is not None})
    if blobs and side in (ONLINE, BOTH):
        flights.put(view, blobs, event_us)
    try:
        yield done
    finally:
        if blobs and side in (ONLINE, BOTH):
            flights.put(view, {key: held.get(key) for key in blobs}, event_us)
        if before >= 0:
            table.restore(before)
        if fault.where == "late":
            flights.clock.at = flights.clock.now() - view.freshness.total - timedelta(minutes=1)


def drop_from_log(flights: Flights, since: datetime, many: int) -> None:
    """So many rows of the log are lost after gateways counted them."""
    table = flights.store.lake.dataset(SERVED).to_table(columns=["request_id", "row"], filter=pc.field("at") == since)
    rows = table.to_pylist()
    lost = rows[:: max(1, len(rows) // many)][:many]
    for request in {row["request_id"] for row in lost}:
        mine = ", ".join(str(row["row"]) for row in lost if row["request_id"] == request)
        DeltaTable(flights.store.lake.location(SERVED)).delete(f"request_id = '{request}' AND \"row\" IN ({mine})")


def _nobody(view: FeatureView, n: int) -> Key:
    return tuple(f"X{n}" for _ in view.entity.join_keys)


def _altered(
    flights: Flights, view: FeatureView, fault: Fault, dtype: str | None, picked: Sequence[Key], many: int, chance: np.random.Generator
) -> tuple[str | None, dict[Key, bytes | None]]:
    """Of the first feature, in random order, that the fault alters in enough rows: its name, and what the store would hold."""
    features = [feature.name for feature in view.features if dtype is None or feature.dtype == dtype]
    found: dict[Key, bytes | None] = {}
    for name in chance.permutation(features).tolist() if dtype else [None]:
        found = {}
        for n, key in enumerate(picked):
            blob = flights.held[view][key]
            other = _as(flights, view, fault, key, -1 if name is None else view.feature_names.index(name), picked[n - 1], chance)
            if other != blob:
                found[key] = other
            if len(found) == many:
                return name, found
    return None, found


def _as(
    flights: Flights, view: FeatureView, fault: Fault, key: Key, place: int, neighbour: Key, chance: np.random.Generator
) -> bytes | None:
    """What the store would hold instead; the same: the fault would not alter it."""
    blob, schema = flights.held[view][key], schema_id(view)
    stored = decode_value(blob)
    event, attempt, values = stored.event_time_us, stored.attempt, list(stored.values)
    match fault.where:
        case "gone":
            return None
        case "schema":
            return encode_value(schema ^ 1, event, attempt, values)
        case "time":
            return encode_value(schema, event - 3 * 3_600_000_000, attempt, values)
        case "bytes":
            return bytes([*blob[:-1], blob[-1] ^ 1])
        case "other_key":
            return encode_value(schema, event, attempt, list(decode_value(flights.held[view][neighbour]).values))
        case "old":
            row = flights.earlier[view].get(key)
            return blob if row is None else encode_value(schema, to_micros(row.event_time), row.attempt, list(row.values))
    assert fault.alter is not None
    changed = fault.alter(values, place, chance)
    return blob if changed == values else encode_value(schema, event, attempt, changed)


def _alter_lake(view: FeatureView, table: DeltaTable, rows: dict[Key, Stored]) -> None:
    """Give rows of the lake, which keep their times and attempt, other features."""
    columns: dict[str, Any] = {
        name: pa.array([key[n] for key in rows], arrow_type(dtype)) for n, (name, dtype) in enumerate(view.entity.join_keys.items())
    }
    columns["event_time"] = pa.array([from_micros(row.event_time_us) for row in rows.values()], arrow_type("timestamp"))
    columns["attempt"] = pa.array([row.attempt for row in rows.values()], pa.int64())
    same = " AND ".join(f"t.{name} = s.{name}" for name in columns)
    for n, feature in enumerate(view.features):
        columns[feature.name] = pa.array([row.values[n] for row in rows.values()], arrow_type(feature.dtype))
    updates = {name: f"s.{name}" for name in view.feature_names}
    merge = table.merge(pa.table(columns), same, source_alias="s", target_alias="t", streamed_exec=False)
    done = merge.when_matched_update(updates).execute()
    assert done["num_target_rows_updated"] == len(rows), done
