"""Rows that are read several times and computed once."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

from pyspark.sql import DataFrame


def kept(rows: DataFrame) -> AbstractContextManager[DataFrame]:
    """The same rows, computed when first read and kept, in memory or on local disk, until the end of the `with`.

    A checkpoint keeps rows as Spark made them, for 4 CPU-seconds of a million where Spark's cache, which lays them out by columns,
    takes 7. But what it keeps is all there is of them: an executor that is lost takes its rows along, and the job fails. So it is
    for a local master, which cannot lose one.
    """
    local = (rows.sparkSession.sparkContext.master or "").startswith("local")
    return _checkpointed(rows) if local else _cached(rows)


@contextmanager
def _checkpointed(rows: DataFrame) -> Iterator[DataFrame]:
    checkpoint = rows.localCheckpoint(eager=False)
    try:
        yield checkpoint
    finally:
        # Spark itself frees it with the heap's next full collection, which in a quiet session is far away.
        cast(Any, checkpoint)._jdf.queryExecution().logical().rdd().unpersist(False)


@contextmanager
def _cached(rows: DataFrame) -> Iterator[DataFrame]:
    cached = rows.cache()
    try:
        yield cached
    finally:
        cached.unpersist()
