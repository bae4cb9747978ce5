"""Does a view's function use only what was known at each row's time, looking back no further than it says?

A row at event time `e` may use source rows that were available at `e` plus the view's delay, back to `e` minus
its lookback. A function over whole DataFrames is handed more than that, and cannot be kept from using it. So it
is run again on what was known at some moment, the cut: its rows up to there must come out the same. A function
that looks ahead, or that looks back as far as it is given rows, gives others. See docs/adr/0010.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from penstock.contract.fingerprint import digest
from penstock.contract.view import FeatureView
from penstock.dtypes import FLOAT_DTYPES, element, is_list
from penstock.offline.compute import compute_rows
from penstock.offline.lake import Lake
from penstock.offline.watermark import start_of

GATE = "uses_only_what_was_known"
_CUTS = 2
# Sums of floats may differ in their last digits with the order of rows; a value of another time differs by more.
_CLOSE = 1e-9


@dataclass(frozen=True)
class Cut:
    """The rows of `day` up to the moment `at` are computed again from what was known then."""

    day: date
    at: datetime


def cuts(view: FeatureView, complete_until: Mapping[date, datetime]) -> Iterator[Cut]:
    """Where to cut some days: the last one, and one other. The same at every run of the same days."""
    days = [day for day, limit in sorted(complete_until.items()) if limit >= start_of(day)]
    chosen = days[-1:]
    if len(days) > 1:
        chosen.append(days[_number(view, days[0], days[-1]) % (len(days) - 1)])
    for day in chosen[:_CUTS]:
        start = start_of(day)
        yield Cut(day, start + (complete_until[day] - start) * (250 + _number(view, day) % 700) // 1000)


def problem_at(spark: SparkSession, lake: Lake, view: FeatureView, inputs: Mapping[str, int], rows: DataFrame, cut: Cut) -> str | None:
    """How many rows come out otherwise when the function sees only what was known at the cut; None: none does.

    Args:
        spark, lake, view, inputs: as the rows were computed with.
        rows: computed rows: join keys, event_time, features.
        cut: the day, and the moment.
    """
    start = start_of(cut.day)
    key = [*view.entity.join_keys, "event_time"]
    mine = F.col("event_time").between(F.lit(start), F.lit(cut.at))
    again = compute_rows(spark, lake, view, inputs, start, cut.at).where(mine).select(*key, *view.feature_names)
    first, second = rows.where(mine).withColumn("_first", F.lit(True)).alias("a"), again.withColumn("_second", F.lit(True)).alias("b")
    same_row = F.lit(True)
    for name in key:
        same_row = same_row & F.col(f"a.{name}").eqNullSafe(F.col(f"b.{name}"))
    same = F.col("_first").isNotNull() & F.col("_second").isNotNull()
    for feature in view.features:
        same = same & _same(F.col(f"a.{feature.name}"), F.col(f"b.{feature.name}"), feature.dtype)
    differ = first.join(second, same_row, "full_outer").where(~same).count()
    if not differ:
        return None
    return (
        f"{GATE}: {differ} row(s) of {cut.day} up to {cut.at:%H:%M:%S} come out otherwise from what was known then: the function looks"
        f" ahead, looks back further than lookback={view.lookback}, or does not give the same twice"
    )


def _same(one: Column, other: Column, dtype: str) -> Column:
    if dtype in FLOAT_DTYPES:
        close = F.abs(one - other) <= _CLOSE * F.greatest(F.abs(one), F.abs(other))
        return one.eqNullSafe(other) | F.coalesce(close, F.lit(False))
    if is_list(dtype) and element(dtype) in FLOAT_DTYPES:
        rounded = [F.transform(column, lambda x: F.round(x, 9)) for column in (one, other)]
        return rounded[0].eqNullSafe(rounded[1])
    return one.eqNullSafe(other)


def _number(view: FeatureView, *days: date) -> int:
    return int(digest([view.ref, *map(str, days)])[:8], 16)


def needs_cuts(view: FeatureView) -> bool:
    """Whether the view's rows come from a function; windows and external rows are kept to the rule by the engine."""
    return view.compute is not None
