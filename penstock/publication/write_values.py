"""Evaluated values written from Spark's tasks, with a sample of each task's read back."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

import pyarrow as pa
from pyspark import Accumulator, cloudpickle
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from penstock.contract.view import FeatureView
from penstock.errors import PublicationError
from penstock.online.store import OnlineStore, Write
from penstock.publication.encode import Target, writes_of
from penstock.publication.held_store import HELD, Connect
from penstock.publication.paced import Patience, paced, patiently

SAMPLE = 20  # keys read back from what each Spark task wrote
ENCODE_AT_ONCE = 500  # rows: a few milliseconds in which nothing in flight is heard


def write_values(
    values: DataFrame,
    view: FeatureView,
    connect: Connect,
    generation: int,
    patience_s: float,
    rows: Accumulator[int] | None = None,
    sample: int = SAMPLE,
) -> tuple[int, int, int]:
    """Write what was evaluated, from Spark's tasks; how many values were written, deleted and read back.

    Args:
        values: as `evaluate.values_to_write` gives them.
        view, connect, generation: whose, and where to.
        patience_s: as `publish` takes it.
        rows: told how many rows each task has written, once it has.
        sample: keys each task reads back.

    Raises:
        PublicationError: the store failed, or a value read back is not the one written.
    """
    counts = values.mapInArrow(
        _writer(Target.of(view, generation), connect, patience_s, rows, sample), "written bigint, deleted bigint, read_back bigint"
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


def _writer(
    target: Target, connect: Connect, patience_s: float, rows: Accumulator[int] | None, at_most: int
) -> Callable[[Iterator[Any]], Iterator[Any]]:
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
                    sample += writes[: at_most - len(sample)]
                batch = await asyncio.to_thread(next, batches, None)
        await patiently(lambda: _read_back(store, target, sample), patience)
        return written, deleted, len(sample)

    def task(batches: Iterator[Any]) -> Iterator[Any]:
        written, deleted, read_back = HELD.use(name, connect, partial(write_all, batches))
        if rows is not None:
            rows.add(written + deleted)
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
