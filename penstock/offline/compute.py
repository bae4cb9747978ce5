"""The rows of a view over a range of days, from its sources at pinned versions."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from penstock.clock import MICROSECOND, to_micros
from penstock.contract.view import FeatureView
from penstock.dtypes import spark_type
from penstock.errors import ConfigError
from penstock.offline.arrow import arrow_type
from penstock.offline.lake import Lake
from penstock.offline.sources import read_source, table_name
from penstock.offline.tile_table import windowed_from_tiles
from penstock.offline.watermark import DAY, spans, start_of
from penstock.offline.windows.arrow import input_of, micros
from penstock.offline.windows.inputs import output_schema, with_inputs
from penstock.offline.windows.plan import plan_of
from penstock.offline.windows.rows import Column as Input
from penstock.offline.windows.rows import evaluate


def compute_rows(
    spark: SparkSession, lake: Lake, view: FeatureView, inputs: Mapping[str, int], start: datetime, last: datetime
) -> DataFrame:
    """The rows of a view with `start <= event_time <= last`, and others that its function may give.

    Args:
        spark: the session.
        lake: where the sources are.
        view: what to compute.
        inputs: source table → version to read.
        start, last: the range of event times, both included.

    Returns:
        The rows as computed, from no source row that became available after `last` plus the view's delay.

    Raises:
        SourceError: a source is not as declared.
    """
    if view.tiles is not None:
        return windowed_from_tiles(spark, lake, view, inputs, start, last + MICROSECOND)
    begin, end = start - view.reach - (view.every or MICROSECOND), last + MICROSECOND
    known_by = last + view.delay  # nothing is available before it happened, so this bounds event times too
    frames = [
        # A row of `rows=` without an event time is not left out: it is wrong, and the audit must see it.
        read_source(spark, lake, s, inputs[table_name(s)], begin, known_by, with_timeless=view.rows is not None)
        for s in view.sources
    ]
    if view.aggregations:
        return _windowed(view, frames[0], start, end)
    if view.rows is not None:
        # A row may not be used before it was known: one that came later than the delay says is none of the view's.
        in_time = F.col("available_time") <= F.expr(f"event_time + INTERVAL {view.delay // MICROSECOND} MICROSECOND")
        return frames[0].where(in_time | F.col("event_time").isNull()).select(*view.entity.join_keys, "event_time", *view.feature_names)
    assert view.compute is not None
    rows: DataFrame = view.compute(*frames)
    return rows


def require_utc_session(spark: SparkSession) -> None:
    """Nothing, if the session's days are those of UTC.

    Raises:
        ConfigError: they are not; rows would be cut into other partitions.
    """
    zone = spark.conf.get("spark.sql.session.timeZone")
    if zone != "UTC":
        raise ConfigError(f"spark.sql.session.timeZone is '{zone}'; partitions are days in UTC", hint="leave it unset")


def range_of(complete_until: Mapping[date, datetime]) -> tuple[datetime, datetime]:
    """First and last event time of some contiguous days, as far as they are complete."""
    return start_of(min(complete_until)), min(start_of(max(complete_until)) + DAY - MICROSECOND, max(complete_until.values()))


def schema_problems(view: FeatureView, rows: DataFrame) -> list[str]:
    """What columns of computed rows are not as the view declares, a sentence each."""
    declared = {**view.entity.join_keys, "event_time": "timestamp", **{f.name: f.dtype for f in view.features}}
    seen = dict(rows.dtypes)
    return [
        f"column '{name}' is {seen.get(name, 'missing')}, expected {spark_type(dtype)}"
        for name, dtype in declared.items()
        if seen.get(name) != spark_type(dtype)
    ]


def up_to(view: FeatureView, rows: DataFrame, complete_until: Mapping[date, datetime], now: datetime) -> DataFrame:
    """Join keys, event_time and features of the rows that lie in these days, up to where each is complete.

    Rows later than now and rows without an event time stay in: they are wrong, and the audit must see them.
    """
    columns = [*view.entity.join_keys, "event_time", *view.feature_names]
    event = F.col("event_time")
    return rows.select(*columns).where(is_complete(complete_until) | (event > F.lit(now)) | event.isNull())


def is_complete(limits: Mapping[date, datetime]) -> Column:
    """Whether a row's event time lies in one of these days, up to where that is complete.

    Said by spans, not by days: one condition for a year of closed days.
    """
    event, found = F.col("event_time"), F.lit(False)
    for start, end in spans(limits):
        found = found | ((event >= F.lit(start)) & (event < F.lit(end)))
    return found


def judged_day(days: Iterable[date]) -> Column:
    """The partition that answers for a row: its own; for a row later than all `days`, the last of them; null without an event time."""
    event = F.col("event_time")
    return F.when(event.isNotNull(), F.least(F.to_date(event), F.lit(max(days))))


def _windowed(view: FeatureView, source: DataFrame, start: datetime, end: datetime) -> DataFrame:
    keys = list(view.entity.join_keys)
    return (
        with_inputs(view, source)
        .groupBy(*[F.col(key) for key in keys] or [F.lit(True)])  # a number would be the place of a column
        .applyInArrow(_kernel(view, to_micros(start), to_micros(end)), output_schema(view))
    )


def _kernel(view: FeatureView, start: int, end: int) -> Callable[[Any], Any]:
    # Only plain values cross to the workers: definitions may live in modules they cannot import.
    plan, keys = plan_of(view), list(view.entity.join_keys)
    names, dtypes = view.feature_names, [arrow_type(f.dtype) for f in view.features]

    def rows_of_one_key(table: pa.Table) -> pa.Table:
        data = {name: Input(*input_of(name, table[name])) for name in plan.inputs}
        times, results = evaluate(plan, micros(table["event_time"]), micros(table["available_time"]), data, start, end)
        first = table.slice(0, 1)
        arrays = {key: pa.repeat(first[key][0], len(times)) for key in keys}
        arrays["event_time"] = pa.array(times, pa.timestamp("us", tz="UTC"))
        for name, dtype, (values, flags) in zip(names, dtypes, results, strict=True):
            arrays[name] = pa.array(values, mask=~flags).cast(dtype)
        return pa.table(arrays)

    return rows_of_one_key
