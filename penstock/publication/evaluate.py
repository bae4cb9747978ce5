"""The rule of time evaluated at now for the keys a publication touches, as Spark plans.

Of each touched key, over the rows of attempts that are readable once this publication is: the greatest event
time that is not retracted is written. The write token is `e * 1000 + revision`, where `e` is the greatest
event time of the key, retracted ones included, and `revision` counts the publications that touched the key
since the one that brought its first row at `e`. Both are derived from table and ledger, so every writer and
every retry gives the same token, and each publication that touches a key gives it a greater one (ADR 0009).
`ttl` plays no part: it is judged when a value is read.

Rows that an invalidation mark covers and that were taken back are left out of the value, and stay in the token: `e` is of all rows,
and the publication that took a key's rows back, or restored them, counts as one that touched it.
"""

from collections.abc import Mapping
from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from penstock.contract.view import FeatureView
from penstock.point_in_time.history import mark_of
from penstock.point_in_time.known import Covered
from penstock.point_in_time.sql_engine import covers
from penstock.publication.readable import THIS, Obeyed
from penstock.registry.marks import Mark

_ALL = "_all"


def values_to_write(
    spark: SparkSession,
    view: FeatureView,
    rows: DataFrame,
    readable: Mapping[tuple[date, int], int],
    obeyed: Obeyed,
    *,
    every_key: bool = False,
) -> DataFrame:
    """One row per touched key, or per key.

    Args:
        spark: the session.
        view: the view.
        rows: all rows of its table at one version.
        readable: what `readable.readable_from` gives.
        obeyed: of the invalidation marks.
        every_key: of every key that has a readable row, touched or not: what the store holds once all this is published, at the
            tokens at which the publications left it.

    Returns:
        Join keys, `event_time_us`, `attempt` and `_values` (struct of features) of the value to write, all null
        where every event time is retracted and the key is to be deleted; `e_us`, `revision`.
    """
    keys = list(view.entity.join_keys)
    if not keys:  # there is one of it: one key for all rows
        keys, rows = [_ALL], rows.withColumn(_ALL, F.lit(0))
    facts = F.broadcast(
        spark.createDataFrame(
            [(day, attempt, at) for (day, attempt), at in readable.items()], "event_date date, attempt bigint, _readable bigint"
        )
    )
    known = rows.join(facts, ["event_date", "attempt"])
    # One publication brought all there is: no key was touched twice.
    first = not obeyed.moments and len(set(readable.values())) == 1
    is_touched = reduce(Column.__or__, [_covers(mark) for mark, at in obeyed.moments if at == THIS], F.col("_readable") == THIS)
    touched = known.where(is_touched).select(*keys).distinct()
    all_touched = first and THIS in readable.values()
    mine = known if every_key or all_touched else known.join(touched, keys, "left_semi")
    # Rows cross the network once, by key: both groupings below are of what then lies together.
    row = F.struct("created_time", "row_digest", "retracted", "attempt", F.struct(*view.feature_names).alias("values"))
    for mark in obeyed.excluded:
        row = F.when(~_covers(mark), row)
    moments = F.array_compact(F.array("_readable", *(F.when(_covers(mark), F.lit(at)) for mark, at in obeyed.moments)))
    at_event = (
        mine.repartition(*keys)
        .groupBy(*keys, F.unix_micros("event_time").alias("_event_us"))
        .agg(
            F.max(row).alias("_row"),  # the row that counts, as `commit.current_rows` defines it
            *([] if first else [F.min("_readable").alias("_first"), F.flatten(F.collect_set(moments)).alias("_moments")]),
        )
    )
    alive = F.when(~F.col("_row.retracted"), F.struct("_event_us", "_row.attempt", "_row.values"))
    best = F.max(alive).alias("_best")
    if first:
        per_key = at_event.groupBy(*keys).agg(best, F.max("_event_us").alias("e_us")).withColumn("revision", F.lit(0))
    else:
        newest = F.max(F.struct("_event_us", "_first")).alias("_newest")
        per_key = at_event.groupBy(*keys).agg(best, newest, F.flatten(F.collect_list("_moments")).alias("_moments"))
        later = F.filter("_moments", lambda at: at > F.col("_newest._first"))
        per_key = per_key.withColumn("e_us", F.col("_newest._event_us")).withColumn("revision", F.size(F.array_distinct(later)))
    return per_key.select(
        *view.entity.join_keys,
        F.col("_best._event_us").alias("event_time_us"),
        F.col("_best.attempt").alias("attempt"),
        F.col("_best.values").alias("_values"),
        "e_us",
        "revision",
    )


def _covers(mark: Mark) -> Column:
    return covers(Covered.by(mark_of(mark)))
