"""Filling a store from the lake: an online store that was lost, or came back from an old backup, holds again what it held.

The ledger's copy in the lake says which attempts were readable and since when. Tokens derive from table and ledger (ADR 0009), so
the values written are those that were online, at the tokens they had, and the ledger rows are recorded as they were: what is
published later wins over them, and training on what was observed does not change.

Killed anywhere, the store still lacks ledger rows that the lake has, and whoever comes next, a rebuild or a publication, writes
the same values at the same tokens again. No intent is needed to say so; one that the store still has stays, to be finished.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pyspark import Accumulator
from pyspark.sql import SparkSession

from penstock.contract.view import FeatureView
from penstock.errors import PublicationError
from penstock.offline.commit import read_features
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import AttemptEntry, attempts, copied_marks, copy_marks, copy_publications, passed, publications
from penstock.online.ledger import FIRST_GENERATION, Publication, unfinished
from penstock.online.store import OnlineStore
from penstock.publication.evaluate import values_to_write
from penstock.publication.held_store import Connect, with_store
from penstock.publication.next_step import require_this_lake
from penstock.publication.readable import Obeyed, changing, readable_from
from penstock.publication.verify import SAMPLE, Told, compare, told
from penstock.publication.write_values import write_values
from penstock.registry.marks import Mark, joined, of_view

_TRIES = 4


@dataclass(frozen=True)
class Rebuilt:
    """What filling a view again did: the ledger rows it recorded, the values it wrote and deleted, the keys it compared afterwards."""

    rows: tuple[Publication, ...]
    written: int
    deleted: int
    read_back: int


def lacking(lake: Lake, view: FeatureView, *, connect: Connect, generation: int = FIRST_GENERATION) -> list[Publication]:
    """Ledger rows of a view that the lake knows and the store does not.

    Raises:
        StoreUnavailable: the store does not answer.
        PublicationError: the store belongs to another lake.
    """
    return _with_what_is_lacking(lake, view, with_store(connect, partial(told, view=view, generation=generation)), generation)[1]


def rebuild(
    spark: SparkSession,
    lake: Lake,
    view: FeatureView,
    *,
    connect: Connect,
    generation: int = FIRST_GENERATION,
    patience_s: float = 60.0,
    sample: int = SAMPLE,
    seed: int = 0,
    force: bool = False,
    rows: Accumulator[int] | None = None,
) -> Rebuilt | None:
    """Write every value of a view that the lake knows as published, compare a sample, and record the ledger as it was.

    Args:
        spark, lake, view: with what, from where and what.
        connect: opens the store.
        generation: which fill of the view version.
        patience_s: as `publish` takes it.
        sample, seed: which keys are compared, as `verify` takes it.
        force: write the values of a view, too, whose ledger is whole.
        rows: told how many rows each task has written, once it has.

    Returns:
        What was done; None: nothing, for the store's ledger is whole, or nothing was published yet.

    Raises:
        StoreUnavailable: the store does not answer; the ledger is unchanged.
        PublicationError: the store failed while values were written, a value compared is not the one written, the store belongs
            to another lake, or publications kept moving the ledger.
    """
    if not force and not publications(lake, view.name, view.version):
        return None
    for _ in range(_TRIES):
        before = with_store(connect, partial(told, view=view, generation=generation))
        known, missing, committed = _with_what_is_lacking(lake, view, before, generation)
        if not known.ledger or not (missing or force):
            return None
        with_store(connect, partial(_put_marks, marks=known.marks))
        table = read_features(spark, lake, view, lake.version(feature_table(view)))
        readable, obeyed = readable_from(changing(committed), known.ledger, {}), Obeyed.of(known.marks)
        values = values_to_write(spark, view, table, readable, obeyed, every_key=True)
        # A task does not read back what it wrote: where a publication was begun and not recorded, a key may hold something newer.
        written, deleted, _ = write_values(values, view, connect, generation, patience_s, rows, sample=0)
        found = compare(spark, lake, view, known, connect=connect, seed=seed, sample=sample, generation=generation)
        if with_store(connect, partial(told, view=view, generation=generation)).ledger != before.ledger:
            continue  # a publication came between: what it wrote is newer, and what is lacking may be another
        if found.differing:
            raise PublicationError(
                f"{view.ref}: {len(found.differing)} of {found.keys} keys compared do not hold what was written, e.g."
                f" {dict(found.differing[0].key)}: expected {found.differing[0].expected}, found {found.differing[0].found}",
                hint="the store holds values of something else at greater tokens; give the lake a cassandra.keyspace of its own",
            )
        if missing:
            with_store(connect, lambda store, missing=missing: store.record(missing))  # type: ignore[misc]
        copy_publications(lake, known.ledger)
        copy_marks(lake, known.marks)
        return Rebuilt(tuple(missing), written, deleted, found.keys)
    raise PublicationError(f"{view.ref} was published during each of {_TRIES} rebuilds", hint="rebuild it while the sensor is stopped")


def copy_ledger(
    spark: SparkSession,
    lake: Lake,
    view: FeatureView,
    *,
    connect: Connect,
    seed: int,
    sample: int = SAMPLE,
    generation: int = FIRST_GENERATION,
) -> tuple[int, int]:
    """Make the ledger and its copy in the lake complete, each from the other; how many rows the lake and the store were given.

    The store is given rows only if a sample of keys holds what these rows say is online.

    Raises:
        StoreUnavailable: the store does not answer.
        PublicationError: values are not online that the lake's rows speak of, the store belongs to another lake, or the view was
            published meanwhile.
    """
    before = with_store(connect, partial(told, view=view, generation=generation))
    known, missing, _ = _with_what_is_lacking(lake, view, before, generation)
    copied = copy_publications(lake, before.ledger)
    copy_marks(lake, before.marks)
    if missing:
        found = compare(spark, lake, view, known, connect=connect, seed=seed, sample=sample, generation=generation)
        if found.differing:
            raise PublicationError(
                f"{view.ref}: {len(found.differing)} of {found.keys} keys do not hold what {len(missing)} ledger row(s), which only"
                f" the lake has, say is online, e.g. {dict(found.differing[0].key)}",
                hint=f"fill the store again: `penstock online rebuild {view.ref}`",
            )
        if not with_store(connect, partial(_record_unless_moved, view=view, rows=missing, before=before, generation=generation)):
            raise PublicationError(f"{view.ref} was published while its ledger was copied", hint="run it again")
    with_store(connect, partial(_put_marks, marks=known.marks))
    return copied, len(missing)


def _with_what_is_lacking(
    lake: Lake, view: FeatureView, of_store: Told, generation: int
) -> tuple[Told, list[Publication], list[AttemptEntry]]:
    """What store and lake know together, the ledger rows that the store lacks of it, and the attempts that passed."""
    committed = [entry for entry in attempts(lake, feature_table(view)) if passed(entry)]
    have = {(row.partition, row.attempt) for row in of_store.ledger}
    require_this_lake(view, [*have, *unfinished(of_store.intent, of_store.ledger).items()], committed)
    copied = [row for row in publications(lake, view.name, view.version) if row.generation == generation]
    missing = [row for row in copied if (row.partition, row.attempt) not in have]
    marks = _joined([*of_store.marks, *of_view(copied_marks(lake), view.name, view.version)])
    return replace(of_store, ledger=tuple(sorted([*of_store.ledger, *missing])), marks=tuple(marks)), missing, committed


def _joined(marks: Iterable[Mark]) -> list[Mark]:
    found: dict[str, Mark] = {}
    for mark in marks:
        found[mark.id] = joined(mark, found.get(mark.id))
    return sorted(found.values())


async def _put_marks(store: OnlineStore, marks: Sequence[Mark]) -> None:
    have = {mark.id: mark for mark in await store.marks()}
    for mark in marks:
        if joined(mark, have.get(mark.id)) != have.get(mark.id):
            await store.put_mark(mark)


async def _record_unless_moved(store: OnlineStore, view: FeatureView, rows: Sequence[Publication], before: Told, generation: int) -> bool:
    unmoved = (await told(store, view, generation)).ledger == before.ledger
    if unmoved:
        await store.record(rows)
    return unmoved
