"""The rule of time as Spark plans: any table, any size. The reference is `penstock.as_of`.

One view at a time. Each feature row gets the time from which it was known. Without retractions the answer
at `t` is then a running maximum of `(event_time, created_time, row_digest)` in order of the time known,
one window for spine and features together. Keys that have retractions, usually few, are answered by a join
of each spine time with all rows known by then.

Answers are computed for the distinct (key, time) pairs of the spine and joined back, so n rows in give
n rows out, whatever the keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from penstock.as_of import History, Mode
from penstock.clock import MICROSECOND, from_micros, to_micros
from penstock.contract.view import FeatureView
from penstock.dtypes import spark_type
from penstock.errors import SpineError

_EARLIEST_US = to_micros(datetime(1, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class ViewTable:
    """A view with the rows and the history to join.

    Args:
        view: which.
        features: which of its features are wanted, in order.
        rows: all rows of its table at one version.
        history: attempts, ledger and live_since.
    """

    view: FeatureView
    features: tuple[str, ...]
    rows: DataFrame
    history: History


def output_column(view: FeatureView, feature: str) -> str:
    """The name of a joined feature: `<view>__<feature>`."""
    return f"{view.name}__{feature}"


def join(spark: SparkSession, spine: DataFrame, tables: Sequence[ViewTable], mode: Mode, *, suffix: str = "") -> DataFrame:
    """Attach to each spine row the feature values known at its event time, under the rule of `penstock.as_of`.

    Args:
        spark: the session.
        spine: n rows: the views' join keys, `event_time` (timestamp), any labels.
        tables: views with their rows; output columns follow their order.
        mode: what counts as known, see `penstock.as_of.Mode`.
        suffix: appended to the names of the output columns.

    Returns:
        n rows, order not kept: the spine's columns, then `<view>__<feature><suffix>`. Null where no row is eligible.

    Raises:
        SpineError: a join key or the event time is missing or has another type, or a column would be written twice.
    """
    return attach(spark, spine, spine, tables, mode, suffix=suffix)


def attach(
    spark: SparkSession, rows: DataFrame, spine: DataFrame, tables: Sequence[ViewTable], mode: Mode, *, suffix: str = ""
) -> DataFrame:
    """`join`, onto `rows`: the spine's rows with other columns already attached to them.

    The plan asks its questions of the spine itself. Asked of what is attached so far they would hold, at the
    n-th view, the plans of all views before it several times over.
    """
    _check(rows, tables, suffix)
    times = spine.agg(F.min(F.unix_micros("event_time")), F.max(F.unix_micros("event_time"))).collect()[0]
    for table in tables:
        rows = _with_nulls(rows, table, suffix) if times[0] is None else _join_one(spark, rows, spine, table, mode, suffix, times)
    return rows


def _with_nulls(rows: DataFrame, table: ViewTable, suffix: str) -> DataFrame:
    types = {f.name: spark_type(f.dtype) for f in table.view.features}
    return rows.select("*", *[F.lit(None).cast(types[f]).alias(output_column(table.view, f) + suffix) for f in table.features])


def _check(spine: DataFrame, tables: Sequence[ViewTable], suffix: str) -> None:
    seen = dict(spine.dtypes)
    if seen.get("event_time") != "timestamp":
        raise SpineError(
            f"the spine's 'event_time' is {seen.get('event_time', 'missing')}, expected timestamp (with a time zone)",
            hint="name the time of each row event_time; a timestamp_ntz has no zone: say which with to_utc_timestamp",
        )
    for table in tables:
        for key, dtype in table.view.entity.join_keys.items():
            if key not in seen:
                raise SpineError(f"join key '{key}' of feature view '{table.view.name}' is not in the spine; it has {', '.join(seen)}")
            if seen[key] != spark_type(dtype):
                raise SpineError(
                    f"join key '{key}' is {seen[key]} in the spine, {spark_type(dtype)} in '{table.view.name}'", hint="cast it in the spine"
                )
        taken = [name for name in (output_column(table.view, f) + suffix for f in table.features) if name in seen]
        if taken:
            raise SpineError(f"the spine already has column(s) {', '.join(taken)}", hint="drop or rename them")


def _join_one(
    spark: SparkSession, onto: DataFrame, spine: DataFrame, table: ViewTable, mode: Mode, suffix: str, times: tuple[int, int]
) -> DataFrame:
    keys, (first, last) = list(table.view.entity.join_keys), times
    wanted = spine.select(*keys, F.col("event_time").alias("_t")).dropna().distinct()
    columns = [F.col(f"_value.`{f}`").alias(output_column(table.view, f) + suffix) for f in table.features]
    rows = _committed(spark, table).where(_within(table.view, first, last))
    answers = [
        _answers(questions, _known(rows, known, table.history), table)
        for questions, known in _by_mode(wanted, mode, table.history, first, last)
    ]
    joined = onto.alias("s").join(
        reduce(DataFrame.unionByName, answers).alias("a"),
        [F.col(f"s.{key}") == F.col(f"a.{key}") for key in keys] + [F.col("s.event_time") == F.col("a._t")],
        "left",
    )
    return joined.select(*[F.col(f"s.`{name}`") for name in onto.columns], *columns)


def _by_mode(wanted: DataFrame, mode: Mode, history: History, first_us: int, last_us: int) -> list[tuple[DataFrame, Mode]]:
    """The wanted pairs, each with the mode that judges it: `observed` is `assumed` before `live_since`."""
    if mode != "observed":
        return [(wanted, mode)]
    live = history.live_since
    if live is None or last_us < to_micros(live):
        return [(wanted, "assumed")]
    if first_us >= to_micros(live):
        return [(wanted, "observed")]
    before = F.col("_t") < F.lit(live)
    return [(wanted.where(before), "assumed"), (wanted.where(~before), "observed")]


def _within(view: FeatureView, first_us: int, last_us: int) -> Column:
    # Days are computed here, in UTC: Spark's to_date would use the session's zone.
    last = from_micros(last_us)
    kept = (F.col("event_time") <= F.lit(last)) & (F.col("event_date") <= F.lit(last.date()))
    if view.ttl is not None:
        low = from_micros(max(first_us - view.ttl // MICROSECOND, _EARLIEST_US))
        kept = kept & (F.col("event_time") >= F.lit(low)) & (F.col("event_date") >= F.lit(low.date()))
    return kept


def _committed(spark: SparkSession, table: ViewTable) -> DataFrame:
    """Rows whose attempt is logged, with what the history says of their attempt."""
    facts = [(day, attempt, completed, readable) for (day, attempt), (completed, readable) in attempt_facts(table.history).items()]
    schema = "event_date date, attempt bigint, _completed_before timestamp, _readable_at timestamp"
    return table.rows.join(F.broadcast(spark.createDataFrame(facts, schema)), ["event_date", "attempt"])


def attempt_facts(history: History) -> Mapping[tuple[date, int], tuple[datetime | None, datetime | None]]:
    """(partition, attempt) → how far earlier attempts had completed the partition, and when it became readable."""
    facts: dict[tuple[date, int], tuple[datetime | None, datetime | None]] = {}
    for partition in sorted({a.partition for a in history.attempts}):
        own = sorted((a for a in history.attempts if a.partition == partition), key=lambda a: a.attempt)
        ledger = sorted((r for r in history.ledger if r.partition == partition), key=lambda r: r.attempt, reverse=True)
        completed: datetime | None = None
        earlier: dict[int, datetime | None] = {}
        for entry in own:
            earlier.setdefault(entry.attempt, completed)
            completed = entry.complete_until if completed is None else max(completed, entry.complete_until)
        for attempt, completed_before in earlier.items():
            times = [r.readable_at for r in ledger if r.attempt >= attempt]
            facts[partition, attempt] = (completed_before, min(times, default=None))
    return facts


def _known(rows: DataFrame, mode: Mode, history: History) -> DataFrame:
    """Rows with `_known`, the time from which they were known; never known: left out."""
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


def _answers(wanted: DataFrame, rows: DataFrame, table: ViewTable) -> DataFrame:
    """(keys, _t, _value) of the wanted pairs that have an eligible row."""
    keys = list(table.view.entity.join_keys)
    value = F.struct(*[F.col(name) for name in table.view.feature_names])
    ranked = rows.select(
        *keys, "_known", "retracted", F.struct("event_time", "created_time", "row_digest", value.alias("value")).alias("_row")
    )
    if rows.where("retracted").isEmpty():
        answers = _by_running_maximum(wanted, ranked, keys)
    else:
        with_retractions = ranked.where("retracted").select(*keys).distinct()
        plain = _by_running_maximum(wanted, ranked.join(with_retractions, keys, "left_anti"), keys)
        answers = plain.unionByName(_by_comparing_all(wanted.join(with_retractions, keys), ranked, keys))
    if table.view.ttl is not None:
        answers = answers.where(F.col("_t") - F.col("_row.event_time") <= _interval(table.view.ttl))
    return answers.select(*keys, "_t", F.col("_row.value").alias("_value"))


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
