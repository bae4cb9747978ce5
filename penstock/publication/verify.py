"""What a store holds of a view, key by key, beside what the rule of time gives: for a sample of the keys of the view's table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from penstock.contract.view import FeatureView
from penstock.errors import CorruptValue, PublicationError
from penstock.offline.commit import read_features
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts, passed
from penstock.online.codec import Stored, decode_value, encode_key, possible_checksums
from penstock.online.ledger import FIRST_GENERATION, Intent, Publication, unfinished, unfinished_step
from penstock.online.store import OnlineStore
from penstock.publication.encode import Target, writes_of
from penstock.publication.evaluate import values_to_write
from penstock.publication.held_store import Connect, with_store
from penstock.publication.next_step import require_this_lake
from penstock.publication.readable import Obeyed, changing, readable_from
from penstock.registry.marks import Mark, of_view

SAMPLE = 1000  # keys: of a fill in which one key in a hundred is wrong, 1000 miss them all once in 23,000 times
_TRIES = 4


@dataclass(frozen=True)
class Told:
    """What the control plane tells of one fill of a view version: its ledger, its newest intent, the view version's marks."""

    ledger: tuple[Publication, ...]
    intent: Intent | None
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Difference:
    """A key that does not hold what the rule gives.

    Args:
        key: its join keys by name.
        expected: what the rule gives; None: nothing.
        found: what the store holds; None: nothing; a text: bytes that are no value, and why.
    """

    key: Mapping[str, Any]
    expected: Stored | None
    found: Stored | str | None


@dataclass(frozen=True)
class Verified:
    """How many keys were looked at, and those that differ."""

    keys: int
    differing: tuple[Difference, ...] = ()


async def told(store: OnlineStore, view: FeatureView, generation: int) -> Told:
    """What the store's control plane tells of a fill of a view version."""
    await store.prepare([view.entity.name])
    ledger = await store.publications(view.name, view.version)
    mine = tuple(row for row in ledger if row.generation == generation)
    intent = await store.intent(view.name, view.version, generation)
    return Told(mine, intent, tuple(of_view(await store.marks(), view.name, view.version)))


def verify(
    spark: SparkSession,
    lake: Lake,
    view: FeatureView,
    *,
    connect: Connect,
    seed: int,
    sample: int = SAMPLE,
    generation: int = FIRST_GENERATION,
) -> Verified:
    """Compare a random sample of keys: what the store holds, and what the rule gives over the attempts its ledger says are readable.

    Args:
        spark, lake, view: with what, from where and what.
        connect: opens the store.
        seed: which sample; the same seed takes the same keys of a table.
        sample: how many of the table's keys, those that must hold nothing included.
        generation: which fill of the view version.

    Raises:
        StoreUnavailable: the store does not answer.
        PublicationError: the store belongs to another lake, or publications kept changing what was compared.
    """
    for _ in range(_TRIES):
        before = with_store(connect, partial(told, view=view, generation=generation))
        found = compare(spark, lake, view, before, connect=connect, seed=seed, sample=sample)
        if not found.differing or with_store(connect, partial(told, view=view, generation=generation)) == before:
            return found
    raise PublicationError(f"{view.ref} was published during each of {_TRIES} comparisons", hint="verify it when fewer days are due")


def compare(
    spark: SparkSession,
    lake: Lake,
    view: FeatureView,
    by: Told,
    *,
    connect: Connect,
    seed: int,
    sample: int,
    generation: int = FIRST_GENERATION,
) -> Verified:
    """As `verify`, with the readable attempts and marks taken from `by` instead of the store.

    While a publication has begun and is not recorded, a key holds its old or its new value: either is right.
    """
    committed = [entry for entry in attempts(lake, feature_table(view)) if passed(entry)]
    begun = unfinished(by.intent, by.ledger)
    require_this_lake(view, [*((row.partition, row.attempt) for row in by.ledger), *begun.items()], committed)
    version = lake.version(feature_table(view))
    if version is None or not sample:
        return Verified(0)
    rows = read_features(spark, lake, view, version)
    names = list(view.entity.join_keys)
    if names:
        keys = rows.select(*names).distinct().orderBy(F.xxhash64(F.lit(seed), *names), *names).limit(sample).toArrow()
        rows = rows.join(F.broadcast(spark.createDataFrame(keys)), names, "left_semi")
        sampled = keys.to_pylist()
    else:
        sampled = [{}]
    with_rows = changing(committed)
    step = unfinished_step(by.intent, by.marks)
    possible = [(readable_from(with_rows, by.ledger, {}), Obeyed.of(by.marks))]
    if begun or step is not None:
        possible.append((readable_from(with_rows, by.ledger, begun), Obeyed.of(by.marks, step)))
    target = Target.of(view, generation)
    right = [_evaluated(spark, view, target, rows, *under) for under in possible]
    encoded = [encode_key(target.join_keys, [row[name] for name in names]) for row in sampled]
    held = with_store(connect, partial(_read, target=target, keys=encoded))
    differing = tuple(
        Difference(row, None if (value := right[0].get(key)) is None else decode_value(value), _readably(found))
        for row, key, found in zip(sampled, encoded, held, strict=True)
        if not any(_same(of.get(key), found) for of in right)
    )
    return Verified(len(sampled), differing)


def _evaluated(
    spark: SparkSession, view: FeatureView, target: Target, rows: Any, readable: Mapping[tuple[date, int], int], obeyed: Obeyed
) -> dict[bytes, bytes | None]:
    """Key → the bytes it must hold."""
    values: pa.Table = values_to_write(spark, view, rows, readable, obeyed, every_key=True).toArrow()
    return {write.key: write.value for batch in values.combine_chunks().to_batches() for write in writes_of(target, batch)}


async def _read(store: OnlineStore, target: Target, keys: Sequence[bytes]) -> list[bytes | None]:
    await store.prepare([target.entity])
    return [value for (value,) in await store.read(target.entity, keys, [target.slot])]


def _same(expected: bytes | None, found: bytes | None) -> bool:
    if expected == found:
        return True
    if expected is None or found is None:
        return False
    held, right = _readably(found), decode_value(expected)
    # Another Penstock may have written the same values in another format.
    return (
        isinstance(held, Stored)
        and held[:3] == right[:3]
        and held.checksum in possible_checksums(right.schema_id, right.event_time_us, right.attempt, right.values)
    )


def _readably(found: bytes | None) -> Stored | str | None:
    try:
        return None if found is None else decode_value(found)
    except CorruptValue as error:
        return str(error)
