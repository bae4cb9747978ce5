"""The rows of a view over a range of days, from its sources at pinned versions."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from penstock.clock import MICROSECOND, to_micros
from penstock.contract.source import Source
from penstock.contract.view import FeatureView
from penstock.dtypes import spark_type
from penstock.errors import SourceError
from penstock.offline import windows
from penstock.offline.lake import Lake, raw_table
from penstock.offline.watermark import DAY, start_of

_ARROW = {"int64": pa.int64(), "float64": pa.float64()}


def read_source(spark: SparkSession, lake: Lake, source: Source, version: int, start: datetime, end: datetime) -> DataFrame:
    """The rows of a source with `start <= event_time < end`: its declared columns and `available_time`.

    Raises:
        SourceError: a declared column is missing or of another type.
    """
    frame = spark.read.format("delta").option("versionAsOf", version).load(lake.location(raw_table(source)))
    seen = dict(frame.dtypes)
    wrong = [
        f"'{name}' {seen.get(name, 'missing')}, expected {spark_type(dtype)}"
        for name, dtype in source.schema.items()
        if seen.get(name) != spark_type(dtype)
    ]
    if wrong:
        raise SourceError(
            f"source '{source.name}' at version {version}: {len(wrong)} column(s) not as declared: {'; '.join(wrong)}",
            hint="mend the table, or declare the source as it is and raise the version of the views that read it",
        )
    if "event_date" in seen:
        frame = frame.where(F.col("event_date").between(F.lit(start.date()), F.lit((end - MICROSECOND).date())))
    event, rule = F.col(source.event_time), source.availability
    available = (
        F.col(rule.column)
        if rule.column is not None
        else F.expr(f"{source.event_time} + INTERVAL {rule.at_most // MICROSECOND} MICROSECOND")
    )
    columns = [F.col(name) for name in source.schema if name not in ("event_time", "available_time")]
    frame = frame.select(*columns, event.alias("event_time"), available.alias("available_time"))
    return frame.where((F.col("event_time") >= F.lit(start)) & (F.col("event_time") < F.lit(end)))


def compute_rows(
    spark: SparkSession, lake: Lake, view: FeatureView, inputs: Mapping[str, int], complete_until: Mapping[date, datetime]
) -> DataFrame:
    """The rows of a view for some days, as far as each day's inputs are complete.

    Args:
        spark: the session.
        lake: where the sources are.
        view: what to compute.
        inputs: source table → Delta version to read.
        complete_until: contiguous days → the event time up to which rows may stand, included.

    Returns:
        The rows as computed; `up_to` cuts them to the days and what of them is complete.

    Raises:
        SourceError: a source is not as declared.
    """
    first, last = min(complete_until), max(complete_until)
    start, end = start_of(first), min(start_of(last) + DAY, max(complete_until.values()) + MICROSECOND)
    reach = view.reach + (view.every or MICROSECOND)
    frames = [read_source(spark, lake, s, inputs[raw_table(s)], start - reach, end) for s in view.sources]
    if view.aggregations:
        return _windowed(view, frames[0], start, end)
    assert view.compute is not None
    rows: DataFrame = view.compute(*frames)
    return rows


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
    limits = F.create_map(*[F.lit(x) for day, limit in complete_until.items() for x in (day, limit)])
    columns = [*view.entity.join_keys, "event_time", *view.feature_names]
    event, day = F.col("event_time"), F.to_date("event_time")
    complete = day.isin(list(complete_until)) & (event <= limits[day])
    return rows.select(*columns).where(complete | (event > F.lit(now)) | event.isNull())


def judged_day(days: Iterable[date]) -> Column:
    """The partition that answers for a row: its own; for a row later than all `days`, the last of them; null without an event time."""
    event = F.col("event_time")
    return F.when(event.isNotNull(), F.least(F.to_date(event), F.lit(max(days))))


def _windowed(view: FeatureView, source: DataFrame, start: datetime, end: datetime) -> DataFrame:
    keys = list(view.entity.join_keys)
    columns = windows.plan_of(view).columns
    needed = source.select(*keys, "event_time", "available_time", *[F.col(name).cast("double").alias(name) for name in columns])
    fields = [*((k, spark_type(t)) for k, t in view.entity.join_keys.items()), ("event_time", "timestamp")]
    fields += [(f.name, spark_type(f.dtype)) for f in view.features]
    schema = ", ".join(f"`{name}` {dtype}" for name, dtype in fields)
    known_keys = needed.dropna(subset=keys)  # an entity that is not identified has no features
    return known_keys.groupBy(*keys).applyInArrow(_kernel(view, to_micros(start), to_micros(end)), schema)


def _kernel(view: FeatureView, start: int, end: int) -> Callable[[Any], Any]:
    # Only plain values cross to the workers: definitions may live in modules they cannot import.
    plan, keys = windows.plan_of(view), list(view.entity.join_keys)
    names, dtypes = view.feature_names, [_ARROW[f.dtype] for f in view.features]

    def rows_of_one_key(table: pa.Table) -> pa.Table:
        data = {name: _column(table[name]) for name in plan.columns}
        times, results = windows.evaluate(plan, _micros(table["event_time"]), _micros(table["available_time"]), data, start, end)
        first = table.slice(0, 1)
        arrays = {key: pa.repeat(first[key][0], len(times)) for key in keys}
        arrays["event_time"] = pa.array(times, pa.timestamp("us", tz="UTC"))
        for name, dtype, (values, flags) in zip(names, dtypes, results, strict=True):
            arrays[name] = pa.array(values, mask=~flags).cast(dtype)
        return pa.table(arrays)

    return rows_of_one_key


def _micros(column: pa.ChunkedArray) -> Any:
    return pc.cast(column.cast(pa.timestamp("us", tz="UTC")), pa.int64()).to_numpy()


def _column(column: pa.ChunkedArray) -> windows.Column:
    return windows.Column(pc.fill_null(column, 0.0).to_numpy(), np.asarray(pc.is_valid(column).to_numpy()))
