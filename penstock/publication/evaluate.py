"""The rule of time evaluated at now for the keys a publication touches, as Spark plans.

Of each touched key, over the rows of attempts that are readable once this publication is: the greatest event
time that is not retracted is written. The write token is `e * 1000 + revision`, where `e` is the greatest
event time of the key, retracted ones included, and `revision` counts the commits that touched the key since
its first row at `e`. It is derived from the table, so every writer and every retry gives the same token, and
a later change of the same key gives a greater one. `ttl` plays no part: it is judged when a value is read.
"""

from collections.abc import Mapping
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from penstock.contract.view import FeatureView
from penstock.offline.commit import current_rows


def values_to_write(
    spark: SparkSession, view: FeatureView, rows: DataFrame, publishing: Mapping[date, int], online: Mapping[date, int]
) -> DataFrame:
    """One row per touched key.

    Args:
        spark: the session.
        view: the view.
        rows: all rows of its table at one version.
        publishing: partition → the attempt to make readable.
        online: partition → the attempt readable now; absent: none.

    Returns:
        Join keys, `event_time_us`, `attempt` and `_values` (struct of features) of the value to write, all null
        where every event time is retracted and the key is to be deleted; `e_us`, `revision`.
    """
    keys = list(view.entity.join_keys)
    upto = {**online, **{day: max(attempt, online.get(day, 0)) for day, attempt in publishing.items()}}
    facts = [(day, attempt, online.get(day, 0)) for day, attempt in upto.items()]
    limits = F.broadcast(spark.createDataFrame(facts, "event_date date, _upto bigint, _online bigint"))
    readable = rows.join(limits, "event_date").where("attempt <= _upto")
    touched = readable.where("attempt > _online").select(*keys).distinct()
    mine = readable.join(touched, keys, "left_semi").withColumn("_event_us", F.unix_micros("event_time"))
    value = F.struct("_event_us", "attempt", F.struct(*[F.col(name) for name in view.feature_names]).alias("values"))
    best = (
        current_rows(mine, view)
        .groupBy(*keys)
        .agg(F.max(F.when(~F.col("retracted"), value)).alias("_best"), F.max("_event_us").alias("e_us"))
    )
    first = (
        mine.join(best.select(*keys, "e_us"), keys)
        .groupBy(*keys)
        .agg(F.min(F.when(F.col("_event_us") == F.col("e_us"), F.col("attempt"))).alias("_first"))
    )
    revision = (
        mine.join(first, keys)
        .groupBy(*keys)
        .agg(F.count_distinct(F.when(F.col("attempt") > F.col("_first"), F.col("attempt"))).alias("revision"))
    )
    return best.join(revision, keys).select(
        *keys,
        F.col("_best._event_us").alias("event_time_us"),
        F.col("_best.attempt").alias("attempt"),
        F.col("_best.values").alias("_values"),
        "e_us",
        "revision",
    )
