"""The checker: every key of a view's table, online, against the rule of time."""

from typing import Any

from penstock.as_of import as_of
from penstock.clock import EPOCH, to_micros
from penstock.contract.view import FeatureView
from penstock.offline.lake import Lake
from penstock.online.codec import Stored, decode_value, encode_key
from penstock.online.store import OnlineStore, Slot
from penstock.point_in_time.history import history_of
from penstock.publication.held_store import Connect, with_store
from tests.world import feature_rows

FOREVER = EPOCH.replace(year=9999)


async def read_values(store: OnlineStore, view: FeatureView, keys: list[tuple[object, ...]]) -> dict[tuple[object, ...], Stored | None]:
    """What each key holds of a view, as stored."""
    slot, join_keys = Slot(view.name, view.version, 1), list(view.entity.join_keys.items())
    found = await store.read(view.entity.name, [encode_key(join_keys, key) for key in keys], [slot])
    return {key: None if value is None else decode_value(value) for key, (value,) in zip(keys, found, strict=True)}


def values_online(connect: Connect, view: FeatureView, keys: list[tuple[object, ...]]) -> dict[tuple[object, ...], Stored | None]:
    """The same, over a connection of its own."""

    async def read(store: OnlineStore) -> dict[tuple[object, ...], Stored | None]:
        await store.prepare([view.entity.name])
        return await read_values(store, view, keys)

    return with_store(connect, read)


def require_what_the_rule_gives(spark: Any, lake: Lake, view: FeatureView, connect: Connect) -> int:
    """Every key holds what the rule gives for now, `ttl` aside, once all that is committed is published; returns how many hold a value."""
    history, rows = history_of(lake, view), feature_rows(spark, lake, view)
    stored, present = values_online(connect, view, list(rows)), 0
    for key, own in rows.items():
        expected, found = as_of(own, FOREVER, ttl=None, mode="event", history=history), stored[key]
        if expected is None:
            assert found is None, key
        else:
            present += 1
            assert found is not None, key
            assert (found.event_time_us, tuple(found.values)) == (to_micros(expected.event_time), expected.values), key
    return present
