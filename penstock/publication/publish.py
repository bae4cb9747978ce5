"""One publication of one view: evaluate, write, read a sample back, record.

    next step ──► intent ──► evaluate at now, write (Spark executors) ──► read a sample back ──► ledger row ──► its Delta copy
        ▲                                                                         │
        └──────────────────── the ledger moved meanwhile ◄────────────────────────┘

What the next step is, `next_step.py` decides; here it is done. The ledger row, written last, is what makes the attempt
readable. Killed before it, each key holds its old or its new value, and the next run finishes what was intended: it writes
the same values at the same tokens again, before anything newer is evaluated (ADR 0012).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Protocol

from pyspark.sql import SparkSession

from penstock.clock import Clock, to_micros
from penstock.contract.view import FeatureView
from penstock.errors import PublicationError
from penstock.offline.commit import read_features
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts, copied_marks, copy_marks, copy_publications, passed
from penstock.online.ledger import FIRST_GENERATION, Intent, Publication
from penstock.online.store import OnlineStore
from penstock.publication.evaluate import values_to_write
from penstock.publication.held_store import Connect, with_store
from penstock.publication.next_step import Known, next_step, recorded
from penstock.publication.readable import Obeyed
from penstock.publication.rebuild import rebuild
from penstock.publication.write_values import write_values
from penstock.registry.marks import Mark, Step, of_view

_TRIES = 4


@dataclass(frozen=True)
class Published:
    """What a publication did: the days it made readable, the keys it wrote and deleted, the sample it read back, and of which
    invalidation marks it took back or restored what they cover."""

    rows: tuple[Publication, ...]
    written: int
    deleted: int
    read_back: int
    steps: tuple[tuple[str, Step], ...] = ()


def publish(
    spark: SparkSession,
    lake: Lake,
    view: FeatureView,
    partitions: Sequence[date],
    *,
    connect: Connect,
    clock: Clock,
    run_id: str,
    generation: int = FIRST_GENERATION,
    patience_s: float = 60.0,
) -> Published:
    """Bring the newest committed attempts of some days online.

    A publication of the view that was begun and not recorded is finished first, whatever days it is about; then what
    invalidation marks cover is taken back or restored. Before all that, where the lake knows of publications that the store does
    not, the store is filled again from the lake (`rebuild.rebuild`).

    Args:
        spark, lake, view: with what, from where and what.
        partitions: days; those not committed, or online already, are left out.
        connect: opens the store.
        clock: tells when the attempt became readable.
        run_id: recorded in the ledger.
        generation: which fill of the view version.
        patience_s: seconds for which a store that acknowledges nothing is written to again, ever more slowly, before
            the publication fails.

    Returns:
        What was done; running it again does nothing.

    Raises:
        StoreUnavailable: the store does not answer; the ledger is unchanged.
        PublicationError: the store failed while values were written, a value read back is not the one written,
            a key was changed 1000 times at one event time, the store belongs to another lake, or other publications
            kept moving the ledger.
    """
    rebuilt = rebuild(spark, lake, view, connect=connect, generation=generation, patience_s=patience_s)
    done = bring_online(_SparkAndStore(spark, lake, view, generation, connect, patience_s), partitions, clock, run_id)
    if rebuilt is None:
        return done
    return Published(
        (*rebuilt.rows, *done.rows),
        rebuilt.written + done.written,
        rebuilt.deleted + done.deleted,
        rebuilt.read_back + done.read_back,
        done.steps,
    )


class Outside(Protocol):
    """What a publication reads and changes. A run may end within each of these, and between any two."""

    def look(self) -> Known:
        """What is known now."""

    def intend(self, intent: Intent) -> None:
        """Announce what is about to be written."""

    def write(self, readable: Mapping[tuple[date, int], int], obeyed: Obeyed) -> tuple[int, int, int]:
        """Evaluate and write; how many values were written, deleted and read back."""

    def record(self, rows: Sequence[Publication], taken: Mark | None, ledger: Sequence[Publication]) -> bool:
        """As `record_unless_moved`."""

    def copy(self, ledger: Sequence[Publication], marks: Sequence[Mark]) -> None:
        """Bring to the lake what it lacks of the ledger and the marks."""


def bring_online(outside: Outside, partitions: Collection[date], clock: Clock, run_id: str) -> Published:
    """Take step after step until some days are online; see `publish`. The order of what follows is what a retry relies on."""
    done, moved = Published((), 0, 0, 0), 0
    known = outside.look()
    while step := next_step(known, partitions):
        written = deleted = read_back = 0
        if step.changes_values:
            # Said before it is done: whoever comes after a run that ends here writes these values at these tokens first.
            outside.intend(step.intent(known))
            written, deleted, read_back = outside.write(step.readable, step.obeyed)
        rows, taken = recorded(known, step, now_us=to_micros(clock.now()), run_id=run_id, keys=written + deleted)
        if outside.record(rows, taken, known.ledger):
            outside.copy([*known.ledger, *rows], known.marks if taken is None else [*known.marks, taken])
            done = Published(
                (*done.rows, *rows),
                done.written + written,
                done.deleted + deleted,
                done.read_back + read_back,
                (*done.steps, *([] if step.taking is None else [(step.taking[0].id, step.taking[1])])),
            )
        else:  # what we evaluated may have missed rows that are readable now
            moved += 1
            if moved == _TRIES:
                raise PublicationError(
                    f"{known.view.ref}: the ledger moved during each of {_TRIES} evaluations",
                    hint="publications of one view are serial; look for a publisher outside the Dagster pool",
                )
        known = outside.look()
    outside.copy(known.ledger, known.marks)
    return done


@dataclass(frozen=True)
class _SparkAndStore:
    """`Outside` as it is: a lake, Spark and a store."""

    spark: SparkSession
    lake: Lake
    view: FeatureView
    generation: int
    connect: Connect
    patience_s: float

    def look(self) -> Known:
        lake, view, generation = self.lake, self.view, self.generation
        known_of_store = partial(look_at_store, view=view, generation=generation, copied=copied_marks(lake))
        ledger, intent, marks = with_store(self.connect, known_of_store)
        committed = [entry for entry in attempts(lake, feature_table(view)) if passed(entry)]
        return Known(view, generation, ledger, intent, marks, committed)

    def intend(self, intent: Intent) -> None:
        with_store(self.connect, lambda store: store.intend(intent))

    def write(self, readable: Mapping[tuple[date, int], int], obeyed: Obeyed) -> tuple[int, int, int]:
        rows = read_features(self.spark, self.lake, self.view, self.lake.version(feature_table(self.view)))
        values = values_to_write(self.spark, self.view, rows, readable, obeyed)
        return write_values(values, self.view, self.connect, self.generation, self.patience_s)

    def record(self, rows: Sequence[Publication], taken: Mark | None, ledger: Sequence[Publication]) -> bool:
        return with_store(self.connect, partial(record_unless_moved, view=self.view, rows=rows, taken=taken, ledger=ledger))

    def copy(self, ledger: Sequence[Publication], marks: Sequence[Mark]) -> None:
        copy_publications(self.lake, ledger)
        copy_marks(self.lake, marks)


async def look_at_store(
    store: OnlineStore, view: FeatureView, generation: int, copied: Sequence[Mark]
) -> tuple[list[Publication], Intent | None, list[Mark]]:
    """A view version's ledger, intent and invalidation marks. Marks that only the lake knows, `copied`, are put back: the store
    was emptied, or is another one."""
    await store.prepare([view.entity.name])
    marks = await store.marks()
    lost = [mark for mark in copied if mark.id not in {one.id for one in marks}]
    for mark in lost:
        await store.put_mark(mark)
    ledger, intent = await store.publications(view.name, view.version), await store.intent(view.name, view.version, generation)
    return ledger, intent, of_view([*marks, *lost], view.name, view.version)


async def record_unless_moved(
    store: OnlineStore, view: FeatureView, rows: Sequence[Publication], taken: Mark | None, ledger: Sequence[Publication]
) -> bool:
    """Record a publication, or a step taken for a mark, unless the ledger is no longer the one it was evaluated under; whether it
    was recorded."""
    unmoved = await store.publications(view.name, view.version) == ledger
    if unmoved and taken is not None:
        await store.put_mark(taken)
    elif unmoved:
        await store.record(rows)
    return unmoved
