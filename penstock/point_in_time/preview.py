"""A view on a sample, computed as it would be in production and written nowhere: for notebooks."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, TypeAlias

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from penstock.as_of import Attempt, History
from penstock.clock import MICROSECOND, from_micros, to_micros
from penstock.contract.view import FeatureView
from penstock.dtypes import spark_type
from penstock.errors import SpineError
from penstock.offline.compute import compute_rows, range_of, require_utc_session, up_to
from penstock.offline.lake import Lake
from penstock.offline.sources import how_far, versions
from penstock.offline.watermark import complete_until, days_between
from penstock.point_in_time.spine import FrameRows, check
from penstock.point_in_time.sql_engine import ViewTable, join
from penstock.point_in_time.view_join import ViewJoin

Sample: TypeAlias = DataFrame | Sequence[Mapping[str, Any]]


def preview(
    spark: SparkSession, lake: Lake, view: FeatureView, sample: Sample | None, now: datetime, first: date | None, last: date | None
) -> DataFrame:
    """The rows of a view for some keys, or its features on a spine; nothing is checked, committed or registered.

    Args:
        spark, lake: with what, and where the sources are.
        view: it may be one that no feature file defines.
        sample: keys: join keys, as a DataFrame or a list of dicts; a spine: with `event_time` as well; None: all keys.
        now: as far as the sources are complete now.
        first, last: the days, both included; default: those the spine asks for, else today and yesterday. Values
            from before `first` are not seen.

    Returns:
        For keys, join keys, event_time and features of their rows; for a spine, its rows with `<view>__<feature>`
        attached as they were available at each event time.

    Raises:
        SpineError: the sample lacks a join key, or lies after now; or `last` is before `first`.
        SourceError: a source is missing or not as declared.
        ConfigError: the session's time zone is not UTC.
    """
    require_utc_session(spark)
    keys = list(view.entity.join_keys)
    frame = None if sample is None else _frame(spark, view, sample)
    if frame is not None:
        missing = [key for key in keys if key not in frame.columns]
        if missing:
            raise SpineError(f"the sample lacks {', '.join(map(repr, missing))}; a sample of {view.ref} needs {', '.join(keys)}")
    is_spine = frame is not None and "event_time" in frame.columns
    asked = _days_asked(view, frame, now) if is_spine and frame is not None else (_yesterday(now), now.date())
    begin, end = first or asked[0], last or asked[1]
    if end < begin:
        raise SpineError(f"no day to compute from {begin} to {end}; now is {now.isoformat()}", hint="ask for a range of days up to now")
    days = days_between(begin, end)
    known_of = how_far(lake, view, now)
    limits = {day: complete_until(view, day, known_of, now) for day in days}
    inputs = versions(lake, view)
    rows = up_to(view, compute_rows(spark, lake, view, inputs, *range_of(limits)), limits, now)
    if frame is not None:
        rows = rows.join(F.broadcast(frame.select(*keys).distinct()), keys, "left_semi")
    return rows if not is_spine or frame is None else _joined(spark, view, frame, rows, limits, now)


def _frame(spark: SparkSession, view: FeatureView, sample: Sample) -> DataFrame:
    if isinstance(sample, Sequence):
        types = {**{key: spark_type(dtype) for key, dtype in view.entity.join_keys.items()}, "event_time": "timestamp"}
        names = [name for name in types if any(name in row for row in sample)]
        schema = ", ".join(f"`{name}` {types[name]}" for name in names)
        return spark.createDataFrame([tuple(row.get(name) for name in names) for row in sample], schema)
    return sample


def _days_asked(view: FeatureView, spine: DataFrame, now: datetime) -> tuple[date, date]:
    span = spine.agg(F.min(F.unix_micros("event_time")).alias("first"), F.max(F.unix_micros("event_time")).alias("last")).collect()[0]
    if span["first"] is None:
        raise SpineError("the sample's event_time is null everywhere")
    reach = 0 if view.ttl is None else view.ttl // MICROSECOND
    return from_micros(span["first"] - reach).date(), min(from_micros(span["last"]), now).date()


def _yesterday(now: datetime) -> date:
    return from_micros(to_micros(now) - 86_400_000_000).date()


def _joined(
    spark: SparkSession, view: FeatureView, spine: DataFrame, rows: DataFrame, limits: Mapping[date, datetime], now: datetime
) -> DataFrame:
    attempt = to_micros(now)
    table = (
        rows.withColumn("available_time", F.expr(f"event_time + INTERVAL {view.delay // MICROSECOND} MICROSECOND"))
        .withColumn("created_time", F.lit(now))
        .withColumn("attempt", F.lit(attempt))
        .withColumn("retracted", F.lit(False))
        .withColumn("row_digest", F.unhex(F.hex(F.xxhash64(*view.feature_names))))
        .withColumn("event_date", F.to_date("event_time"))
    )
    history = History(attempts=tuple(Attempt(day, attempt, limit) for day, limit in limits.items()))
    wanted = ViewJoin(view, view.feature_names, "assumed", view.ttl, history, 0, view.name, {key: key for key in view.entity.join_keys})
    check(FrameRows(spine), [wanted])
    return join(spark, spine, [ViewTable(wanted, table)])
