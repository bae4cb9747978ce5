"""One publication of one view: evaluate, write, read a sample back, record.

    due ──► evaluate at now ──► intent ──► write (Spark executors) ──► read a sample back ──► ledger row ──► its Delta copy
              ▲                                                                 │
              └───────────────── the ledger moved meanwhile ◄───────────────────┘

The ledger row, written last, is what makes the attempt readable. Killed before it, each key holds its old or
its new value, and the next run finishes what was intended: it writes the same values at the same tokens again,
before anything newer is evaluated (ADR 0012).
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from hashlib import sha256
from typing import Any

import msgspec
import pyarrow as pa
from pyspark import cloudpickle
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from penstock.clock import Clock, to_micros
from penstock.contract.view import FeatureView
from penstock.errors import PublicationError
from penstock.offline.commit import read_features
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import AttemptEntry, attempts, copied_marks, copy_marks, copy_publications, newest, passed, publications
from penstock.online.ledger import FIRST_GENERATION, Intent, Publication, latest, unfinished, unfinished_step
from penstock.online.store import OnlineStore, Write
from penstock.publication.encode import Target, writes_of
from penstock.publication.evaluate import Obeyed, readable_from, values_to_write
from penstock.publication.held_store import HELD, Connect, with_store
from penstock.publication.paced import Patience, paced, patiently
from penstock.registry.marks import Mark, Step, of_view

SAMPLE = 20  # keys read back from what each Spark task wrote
ENCODE_AT_ONCE = 500  # rows: a few milliseconds in which nothing in flight is heard
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
    invalidation marks cover is taken back or restored; and days that the lake knows as published, but the store does not, are
    published again.

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
    done, moved = Published((), 0, 0, 0), 0
    while moved < _TRIES:
        ledger, intent, marks = with_store(connect, partial(_begun, view=view, generation=generation, copied=copied_marks(lake)))
        mine = [row for row in ledger if row.generation == generation]
        entries = [entry for entry in attempts(lake, feature_table(view)) if passed(entry)]
        interrupted = unfinished(intent, mine)
        _require_this_lake(view, [*((row.partition, row.attempt) for row in mine), *interrupted.items()], entries)
        # What was begun is finished first, then what must not be online any more is taken back.
        step = None if interrupted else unfinished_step(intent, marks) or _next_step(marks)
        publishing = {} if step is not None else interrupted or _due(entries, mine, {*partitions, *_lost(lake, view, mine, generation)})
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


def _lost(lake: Lake, view: FeatureView, ledger: Sequence[Publication], generation: int) -> set[date]:
    """Days that were published, as the lake knows, and of which the store knows nothing: it was emptied, or is another one."""
    copied = publications(lake, view.name, view.version)
    return {row.partition for row in copied if row.generation == generation} - {row.partition for row in ledger}


def _require_this_lake(view: FeatureView, online: Iterable[tuple[date, int]], entries: Sequence[AttemptEntry]) -> None:
    foreign = sorted({*online} - {(entry.partition, entry.attempt) for entry in entries})
    if foreign:
        raise PublicationError(
            f"{view.ref}: the store holds {len(foreign)} publication(s) of attempts that this lake does not know, e.g. of"
            f" {foreign[0][0]}: it belongs to another lake, and their values would be mixed",
            hint="set cassandra.keyspace to one of its own (an embedded node: delete its data folder), or bring that lake back",
        )


def write_values(values: DataFrame, view: FeatureView, connect: Connect, generation: int, patience_s: float) -> tuple[int, int, int]:
    """Write what was evaluated, from Spark's tasks; how many values were written, deleted and read back.

    Raises:
        PublicationError: the store failed, or a value read back is not the one written.
    """
    counts = values.mapInArrow(
        _writer(Target.of(view, generation), connect, patience_s), "written bigint, deleted bigint, read_back bigint"
    )
    try:
        (total,) = counts.groupBy().sum("written", "deleted", "read_back").collect()
    except PySparkException as error:
        # What a worker raises comes back as the text of its traceback.
        why = [line for line in str(error).splitlines() if line.startswith("penstock.errors.")]
        raise PublicationError(
            f"{view.ref}: values were not written: {why[-1] if why else error}",
            hint="each key holds its old or its new value; the sensor publishes again, or materialize the online asset",
        ) from error
    written, deleted, read_back = (n or 0 for n in total)
    return written, deleted, read_back


def _writer(target: Target, connect: Connect, patience_s: float) -> Callable[[Iterator[Any]], Iterator[Any]]:
    # Only plain values cross to the workers: definitions may live in modules they cannot import.
    name = sha256(cloudpickle.dumps(connect)).hexdigest()  # type: ignore[no-untyped-call]

    async def write_all(batches: Iterator[Any], open_store: Connect) -> tuple[int, int, int]:
        patience, sample = Patience(patience_s), list[Write]()
        # In a thread: while Spark prepares the next rows, what is in flight must be heard.
        batch = await asyncio.to_thread(next, batches, None)
        if batch is None:
            return 0, 0, 0
        store = await patiently(open_store, patience)
        await patiently(lambda: store.prepare([target.entity]), patience)
        written = deleted = 0
        async with paced(store, target.entity, patience) as writer:
            while batch is not None:
                for start in range(0, batch.num_rows, ENCODE_AT_ONCE):
                    writes = writes_of(target, batch.slice(start, ENCODE_AT_ONCE))
                    await writer.put(writes)
                    gone = sum(write.value is None for write in writes)
                    written, deleted = written + len(writes) - gone, deleted + gone
                    sample += writes[: SAMPLE - len(sample)]
                batch = await asyncio.to_thread(next, batches, None)
        await patiently(lambda: _read_back(store, target, sample), patience)
        return written, deleted, len(sample)

    def task(batches: Iterator[Any]) -> Iterator[Any]:
        written, deleted, read_back = HELD.use(name, connect, partial(write_all, batches))
        yield pa.RecordBatch.from_pydict({"written": [written], "deleted": [deleted], "read_back": [read_back]})

    return task


async def _read_back(store: OnlineStore, target: Target, sample: Sequence[Write]) -> None:
    slot = target.slot
    found = await store.read(target.entity, [write.key for write in sample], [slot])
    wrong = [write.key.hex() for write, (value,) in zip(sample, found, strict=True) if value != write.value]
    if wrong:
        raise PublicationError(
            f"{len(wrong)} of {len(sample)} values read back from {slot.view}@{slot.version} are not the ones written, e.g. key {wrong[0]}",
            hint="another writer may hold a greater token for these keys; nothing was recorded, run the publication again",
        )
