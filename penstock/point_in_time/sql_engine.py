"""The rule of time as Spark plans: any table, any size. The reference is `penstock.as_of`.

One view at a time. Each feature row gets the time from which it was known. Without retractions the answer
at `t` is then a running maximum of `(event_time, created_time, row_digest)` in order of the time known,
one window for spine and features together. Keys that have retractions, usually few, are answered by a join
of each spine time with all rows known by then.

Answers are computed for the distinct (key, time) pairs of the spine and joined back, so n rows in give
n rows out, whatever the keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from penstock.as_of import History
from penstock.clock import MICROSECOND, from_micros, to_micros
from penstock.contract.view import FeatureView
from penstock.dtypes import spark_type
from penstock.point_in_time.known import Covered, Ruling, attempt_facts, rulings
from penstock.point_in_time.view_join import ViewJoin

_EARLIEST_US = to_micros(datetime(1, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class ViewTable:
    """A view to join, and all rows of its table at one version."""

    join: ViewJoin
    rows: DataFrame

    @property
    def view(self) -> FeatureView:
        return self.join.view

    @property
    def keys(self) -> list[str]:
        """What the join keys are called in here: a spine's columns of these names may be something else."""
        return [f"_key{n}" for n in range(max(1, len(self.join.on)))]

    def keyed(self, columns: Sequence[str]) -> list[Column]:
        """These columns as the join keys; a view without any has one key for all."""
        values = [F.col(f"`{name}`") for name in columns] or [F.lit(0)]
        return [value.alias(name) for value, name in zip(values, self.keys, strict=True)]


def join(spark: SparkSession, spine: DataFrame, tables: Sequence[ViewTable]) -> DataFrame:
    """Attach to each spine row the feature values known at its event time, under the rule of `penstock.as_of`.

    Args:
        spark: the session.
        spine: n rows, checked: the views' join keys, `event_time` (timestamp), any labels.
        tables: views with their rows; output columns follow their order.

    Returns:
        n rows, order not kept: the spine's columns, then `<view>__<feature>`. Null where no row is eligible.
    """
    times = spine.agg(F.min(F.unix_micros("event_time")), F.max(F.unix_micros("event_time"))).collect()[0]
    rows = spine
    for table in tables:
        # The plan asks its questions of the spine itself. Asked of what is attached so far they would hold, at the
        # n-th view, the plans of all views before it several times over.
        rows = _with_nulls(rows, table) if times[0] is None else _join_one(spark, rows, spine, table, times)
    return rows


def _with_nulls(rows: DataFrame, table: ViewTable) -> DataFrame:
    types = {f.name: spark_type(f.dtype) for f in table.view.features}
    columns = [F.lit(None).cast(types[f]).alias(table.join.column(f)) for f in table.join.features]
    return rows.select("*", *columns, *[F.lit(None).cast("timestamp").alias(name) for name in table.join.times])


def _join_one(spark: SparkSession, onto: DataFrame, spine: DataFrame, table: ViewTable, times: tuple[int, int]) -> DataFrame:
    (first, last), history = times, table.join.history
    wanted = spine.select(*table.keyed(list(table.join.on.values())), F.col("event_time").alias("_t")).dropna().distinct()
    columns = [F.col(f"a._row.value.`{f}`").alias(table.join.column(f)) for f in table.join.features]
    columns += [F.col(source).alias(name) for source, name in zip(("a._row.event_time", "a._row._known"), table.join.times, strict=False)]
    rows = _committed(spark, table).where(_within(table.join.ttl, first, last)).select("*", *table.keyed(list(table.join.on)))
    answers = [
        _answers(questions, _known(rows, ruling, history), table, ruling)
        for questions, ruling in _by_ruling(wanted, rulings(table.join.mode, history), first, last)
    ]
    on = [F.col(f"s.`{column}`") == F.col(f"a.{key}") for column, key in zip(table.join.on.values(), table.keys, strict=False)]
    joined = onto.alias("s").join(
        reduce(DataFrame.unionByName, answers).alias("a"), reduce(Column.__and__, on, F.col("s.event_time") == F.col("a._t")), "left"
    )
    return joined.select(*[F.col(f"s.`{name}`") for name in onto.columns], *columns)


def _by_ruling(wanted: DataFrame, judged: Sequence[Ruling], first_us: int, last_us: int) -> list[tuple[DataFrame, Ruling]]:
    """The wanted pairs, each with the ruling of its time; rulings of times that nobody asks about are left out."""
    ends = [ruling.begin for ruling in judged[1:]] + [last_us + 1]
    asked_us = F.unix_micros("_t")
    return [
        (wanted.where((asked_us >= ruling.begin) & (asked_us < end)) if len(judged) > 1 else wanted, ruling)
        for ruling, end in zip(judged, ends, strict=True)
        if ruling.begin <= last_us and end > first_us
    ]


def _within(ttl: timedelta | None, first_us: int, last_us: int) -> Column:
    # Days are computed here, in UTC: Spark's to_date would use the session's zone.
    last = from_micros(last_us)
    kept = (F.col("event_time") <= F.lit(last)) & (F.col("event_date") <= F.lit(last.date()))
    if ttl is not None:
        low = from_micros(max(first_us - ttl // MICROSECOND, _EARLIEST_US))
        kept = kept & (F.col("event_time") >= F.lit(low)) & (F.col("event_date") >= F.lit(low.date()))
    return kept


def _committed(spark: SparkSession, table: ViewTable) -> DataFrame:
    """Rows whose attempt is logged, with what the history says of their attempt."""
    facts = [(day, attempt, completed, readable) for (day, attempt), (completed, readable) in attempt_facts(table.join.history).items()]
    schema = "event_date date, attempt bigint, _completed_before timestamp, _readable_at timestamp"
    return table.rows.join(F.broadcast(spark.createDataFrame(facts, schema)), ["event_date", "attempt"])


def _known(rows: DataFrame, ruling: Ruling, history: History) -> DataFrame:
    """Rows with `_known`, the time from which they were known; never known: left out."""
    mode = ruling.mode
    for covered in ruling.without:
        rows = rows.where(~covers(covered))
    if mode == "event":
        known = F.col("event_time")
    elif mode == "observed":
        known = F.col("_readable_at")
    elif mode == "restated" or history.live_since is None:
        known = F.col("available_time")
    else:
        correction = (F.col("created_time") >= F.lit(history.live_since)) & (F.col("_completed_before") >= F.col("event_time"))
        known = F.when(correction, F.greatest("available_time", "created_time")).otherwise(F.col("available_time"))
    return rows.withColumn("_known", F.greatest(known, F.col("event_time"))).where(known.isNotNull())


def covers(covered: Covered, of: str = "") -> Column:
    """Whether a mark covers a row, whose columns begin with `of`; an attempt is its created time (ADR 0007)."""
    event, created = F.unix_micros(f"{of}event_time"), F.unix_micros(f"{of}created_time")
    found = (created <= covered.created_until) & (event >= covered.since) & (event < covered.until)
    return found if covered.attempt is None else found & (created == covered.attempt)


def _answers(wanted: DataFrame, rows: DataFrame, table: ViewTable, ruling: Ruling) -> DataFrame:
    """(keys, _t, _row) of the wanted pairs that have an eligible row."""
    keys = table.keys
    value = F.struct(*[F.col(f"`{name}`") for name in table.view.feature_names])
    ranked = rows.select(
        *keys, "_known", "retracted", F.struct("event_time", "created_time", "row_digest", "_known", value.alias("value")).alias("_row")
    )
    if rows.where("retracted").isEmpty():
        answers = _by_running_maximum(wanted, ranked, keys)
    else:
        with_retractions = ranked.where("retracted").select(*keys).distinct()
        plain = _by_running_maximum(wanted, ranked.join(with_retractions, keys, "left_anti"), keys)
        answers = plain.unionByName(_by_comparing_all(wanted.join(with_retractions, keys), ranked, keys))
    if table.join.ttl is not None:
        answers = answers.where(F.col("_t") - F.col("_row.event_time") <= _interval(table.join.ttl))
    for covered in ruling.blind:
        answers = answers.where(~covers(covered, "_row."))
    return answers.select(*keys, "_t", "_row")


def _by_running_maximum(wanted: DataFrame, rows: DataFrame, keys: list[str]) -> DataFrame:
    row_type = rows.schema["_row"].dataType
    questions = wanted.select(*keys, F.col("_t").alias("_at"), F.lit(1).alias("_asks"), F.lit(None).cast(row_type).alias("_row"))
    facts = rows.select(*keys, F.col("_known").alias("_at"), F.lit(0).alias("_asks"), "_row")
    # At equal times facts come before questions: "at or before".
    so_far = Window.partitionBy(*keys).orderBy("_at", "_asks").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    seen = questions.unionByName(facts).withColumn("_row", F.max("_row").over(so_far))
    return seen.where("_asks = 1 AND _row IS NOT NULL").select(*keys, F.col("_at").alias("_t"), "_row")


def _by_comparing_all(wanted: DataFrame, rows: DataFrame, keys: list[str]) -> DataFrame:
    pairs = wanted.join(rows, keys).where(F.col("_known") <= F.col("_t"))
    rank = F.struct("_row.created_time", "_row.row_digest", "retracted", "_row")
    per_event_time = pairs.groupBy(*keys, "_t", F.col("_row.event_time").alias("_event")).agg(F.max(rank).alias("_best"))
    counting = per_event_time.where(~F.col("_best.retracted"))
    return counting.groupBy(*keys, "_t").agg(F.max("_best._row").alias("_row"))


def _interval(value: timedelta) -> Column:
    return F.make_dt_interval(F.lit(0), F.lit(0), F.lit(0), F.lit(value.total_seconds()).cast("decimal(18,6)"))
