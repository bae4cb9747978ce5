"""One publication of one view: evaluate, write, read a sample back, record.

    due ──► evaluate at now ──► intent ──► write (Spark executors) ──► read a sample back ──► ledger row ──► its Delta copy
              ▲                                                                 │
              └───────────────── the ledger moved meanwhile ◄───────────────────┘

The ledger row, written last, is what makes the attempt readable. Killed before it, each key holds its old or
its new value, and the next run finishes what was intended: it writes the same values at the same tokens again,
before anything newer is evaluated (ADR 0012).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

import msgspec
from pyspark.sql import SparkSession

from penstock.clock import Clock, to_micros
from penstock.contract.view import FeatureView
from penstock.errors import PublicationError
from penstock.offline.commit import read_features
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import AttemptEntry, attempts, copied_marks, copy_marks, copy_publications, newest, passed
from penstock.online.ledger import FIRST_GENERATION, Intent, Publication, latest, unfinished, unfinished_step
from penstock.online.store import OnlineStore
from penstock.publication.evaluate import Obeyed, readable_from, values_to_write
from penstock.publication.held_store import Connect, with_store
from penstock.publication.rebuild import rebuild
from penstock.publication.verify import require_this_lake
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
    done = Published((), 0, 0, 0) if rebuilt is None else Published(rebuilt.rows, rebuilt.written, rebuilt.deleted, rebuilt.read_back)
    moved = 0
    while moved < _TRIES:
        ledger, intent, marks = with_store(connect, partial(_begun, view=view, generation=generation, copied=copied_marks(lake)))
        mine = [row for row in ledger if row.generation == generation]
        entries = [entry for entry in attempts(lake, feature_table(view)) if passed(entry)]
        interrupted = unfinished(intent, mine)
        require_this_lake(view, [*((row.partition, row.attempt) for row in mine), *interrupted.items()], entries)
        # What was begun is finished first, then what must not be online any more is taken back.
        step = None if interrupted else unfinished_step(intent, marks) or _next_step(marks)
        publishing = {} if step is not None else interrupted or _due(entries, mine, partitions)
        if not publishing and step is None:
            copy_publications(lake, ledger)
            copy_marks(lake, marks)
            return done
        written = deleted = read_back = 0
        online = {day: row.attempt for day, row in latest(mine).items()}
        if step or any(e.changed != 0 and online.get(e.partition, 0) < e.attempt <= publishing.get(e.partition, 0) for e in entries):
            rows_of_view = read_features(spark, lake, view, lake.version(feature_table(view)))
            readable = readable_from([(e.partition, e.attempt) for e in entries if e.changed != 0], mine, publishing)
            values = values_to_write(spark, view, rows_of_view, readable, Obeyed.of(marks, step))
            # Said before it is done: whoever comes after a run that ends here writes these values at these tokens first.
            about = None if step is None else (step[0].id, step[1])
            begun = Intent(view=view.name, version=view.version, generation=generation, attempts=publishing, mark=about)
            with_store(connect, lambda store, begun=begun: store.intend(begun))  # type: ignore[misc]
            written, deleted, read_back = write_values(values, view, connect, generation, patience_s)
        # One instant, later than any before it, whatever the Clock says: publications of a view have an order.
        before = [*(row.readable_at_us for row in mine), *(at for _, at in Obeyed.of(marks).moments), *(m.marked_at_us for m in marks)]
        readable_at_us = max([to_micros(clock.now()), *publishing.values(), *(at + 1 for at in before)])
        complete_until = {(e.partition, e.attempt): e.complete_until for e in entries}
        rows = tuple(
            Publication(
                view=view.name,
                version=view.version,
                generation=generation,
                partition=day,
                attempt=attempt,
                complete_until_us=to_micros(complete_until[day, attempt]),
                readable_at_us=readable_at_us,
                run_id=run_id,
                keys=written + deleted,
            )
            for day, attempt in sorted(publishing.items())
        )
        taken = None if step is None else _taken(step, readable_at_us)
        if not with_store(connect, partial(_record, view=view, rows=rows, taken=taken, ledger=ledger)):
            moved += 1
            continue  # what we evaluated may have missed rows that are readable now
        copy_publications(lake, [*ledger, *rows])
        copy_marks(lake, marks if taken is None else [*marks, taken])
        done = Published(
            (*done.rows, *rows),
            done.written + written,
            done.deleted + deleted,
            done.read_back + read_back,
            (*done.steps, *([] if step is None else [(step[0].id, step[1])])),
        )
    raise PublicationError(
        f"{view.ref}: the ledger moved during each of {_TRIES} evaluations",
        hint="publications of one view are serial; look for a publisher outside the Dagster pool",
    )


def _next_step(marks: Sequence[Mark]) -> tuple[Mark, Step] | None:
    return next(((mark, step) for mark in marks if (step := mark.due) is not None), None)


def _taken(step: tuple[Mark, Step], at_us: int) -> Mark:
    """A mark once its step is taken."""
    mark, what = step
    return msgspec.structs.replace(mark, **{"excluded_at_us" if what == "exclude" else "restored_at_us": at_us})


async def _begun(
    store: OnlineStore, view: FeatureView, generation: int, copied: Sequence[Mark]
) -> tuple[list[Publication], Intent | None, list[Mark]]:
    await store.prepare([view.entity.name])
    marks = await store.marks()
    lost = [mark for mark in copied if mark.id not in {one.id for one in marks}]  # the store was emptied, or is another one
    for mark in lost:
        await store.put_mark(mark)
    ledger, intent = await store.publications(view.name, view.version), await store.intent(view.name, view.version, generation)
    return ledger, intent, of_view([*marks, *lost], view.name, view.version)


async def _record(
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


def _due(entries: Sequence[AttemptEntry], ledger: Sequence[Publication], days: Iterable[date]) -> dict[date, int]:
    """Of some days, the newest attempt, where it is not online."""
    online, committed = latest(ledger), newest(entries)
    return {
        day: committed[day].attempt
        for day in sorted(days)
        if day in committed and (day not in online or committed[day].attempt > online[day].attempt)
    }
