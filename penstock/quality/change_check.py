"""A change of definitions, tried before it is merged: what it means, and one day of each view computed and written nowhere.

definitions ──► compiled ──► beside what was published last: `registry`
one closed day of real source rows ──► computed ──► the contract: `contract`
                                          ├──► beside the committed rows: `values`, `distribution`
                                          └──► encoded and decoded as a gateway does: `served`
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from penstock.clock import to_micros
from penstock.contract.fingerprint import schema_id
from penstock.contract.view import FeatureView
from penstock.errors import PenstockError, SourceError
from penstock.offline.attempt import audited
from penstock.offline.commit import current_rows, read_features
from penstock.offline.lake import Lake, feature_table
from penstock.offline.sources import how_far
from penstock.offline.task_errors import as_themselves
from penstock.offline.watermark import DAY, complete_until, known_by
from penstock.online.codec import decode_value, encode_value
from penstock.point_in_time.preview import preview
from penstock.quality.contracts import audit
from penstock.quality.distributions import unlike
from penstock.quality.drift import statistics_of_day
from penstock.registry.plan import diff
from penstock.registry.snapshot import Snapshot
from penstock.report.checks import Checked, Outcome

ENCODED = 2_000
"""Rows of a view that are encoded and decoded."""


def check_definitions(now: Snapshot, published: Snapshot | None) -> list[Checked]:
    """What the definitions change of what was published last."""
    if published is None:
        return [Checked("definitions", "registry", Outcome.SKIPPED, "nothing was published yet to compare with")]
    changes = diff(published, now)
    if not changes:
        return [Checked("definitions", "registry", Outcome.PASSED, f"no difference from what is published: {now.fingerprint}")]
    found = []
    for change in changes:
        outcome = Outcome.FAILED if change.means.startswith("refused") else Outcome.WARNING if change.means else Outcome.PASSED
        what = f"{change.what}{f'.{change.field}' if change.field else ''} {change.kind}"
        found.append(Checked("definitions", "registry", outcome, f"{what}: {change.means}" if change.means else what))
    return found


def changed_views(views: Sequence[FeatureView], now: Snapshot, published: Snapshot | None) -> list[FeatureView]:
    """The views that are new, or are computed or declared otherwise than what was published last."""
    known = {} if published is None else {entry.ref: entry for entry in published.views}
    mine = {entry.ref: entry for entry in now.views}
    return [view for view in views if known.get(view.ref) != mine[view.ref]]


def check_view(spark: SparkSession, lake: Lake, view: FeatureView, now: datetime, day: date | None = None) -> list[Checked]:
    """One day of a view, computed as it is defined now.

    Args:
        spark, lake: with what, and where sources and committed rows are.
        view: which.
        now: as far as the sources are complete now.
        day: which; None: the newest whose sources are all in.
    """
    try:
        inputs = how_far(lake, view, now)
        day = day or (known_by(view, now.date(), inputs, now) - view.delay - DAY).date()
        limit = complete_until(view, day, inputs, now)
        with as_themselves():
            rows = preview(spark, lake, view, None, now, day, day).persist()
            try:
                return list(_of_rows(spark, lake, view, rows, day, limit))
            finally:
                rows.unpersist()
    except SourceError as error:
        return [Checked(view.ref, "computed", Outcome.SKIPPED, error.message)]
    except PenstockError as error:
        return [Checked(view.ref, "computed", Outcome.FAILED, error.message)]
    except Exception as error:  # whatever a view's own code raises is what is wrong with the view
        kind = "" if isinstance(error, PySparkException) else f"{type(error).__name__}: "
        return [Checked(view.ref, "computed", Outcome.FAILED, kind + str(error).strip().partition("\n")[0])]


def _of_rows(spark: SparkSession, lake: Lake, view: FeatureView, rows: DataFrame, day: date, limit: datetime) -> Iterator[Checked]:
    verdict = audited(audit, view, rows, {day: limit})[day]
    told = f"{day}: {'; '.join([*verdict.reasons, *verdict.warnings])}"
    if not verdict.passed or verdict.warnings:
        yield Checked(view.ref, "contract", Outcome.WARNING if verdict.passed else Outcome.FAILED, told)
    elif verdict.rows:
        yield Checked(view.ref, "contract", Outcome.PASSED, f"{verdict.rows:,} rows of {day} keep it")
    else:
        yield Checked(view.ref, "contract", Outcome.SKIPPED, f"there are no rows of {day}")
    yield _served(view, rows)
    if lake.version(feature_table(view)) is None:
        yield Checked(view.ref, "values", Outcome.SKIPPED, "nothing of it was committed yet")
        return
    table = read_features(spark, lake, view, days=(day, day))
    committed = current_rows(table, view).where(~F.col("retracted"))
    values = _values(view, rows, committed, day)
    yield values
    if values.outcome is Outcome.WARNING:
        yield _distribution(view, rows, committed, day)


def _served(view: FeatureView, rows: DataFrame) -> Checked:
    """Whether what a gateway would decode is what training is given, of some rows."""
    schema, names = schema_id(view), view.feature_names
    some = rows.select("event_time", *names).limit(ENCODED).toArrow().to_pylist()
    if not some:
        return Checked(view.ref, "served", Outcome.SKIPPED, "there are no rows")
    for row in some:
        values = [row[name] for name in names]
        try:
            held = decode_value(encode_value(schema, to_micros(row["event_time"]), 1, values)).values
        except PenstockError as error:
            return Checked(view.ref, "served", Outcome.FAILED, error.message)
        for name, value, got in zip(names, values, held, strict=True):
            if not _same(value, got):
                return Checked(view.ref, "served", Outcome.FAILED, f"{name}: {value!r} would be served as {got!r}")
    return Checked(view.ref, "served", Outcome.PASSED, f"{len(some):,} rows are served as they are trained on")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and bool(one == other)


def _values(view: FeatureView, rows: DataFrame, committed: DataFrame, day: date) -> Checked:
    keys = [*view.entity.join_keys, "event_time"]
    names = view.feature_names
    now = rows.select(*keys, F.struct(*names).alias("now"))
    before = committed.select(*keys, F.struct(*names).alias("before"))
    if before.isEmpty():
        return Checked(view.ref, "values", Outcome.SKIPPED, f"nothing of {day} was committed")
    both = F.col("now").isNotNull() & F.col("before").isNotNull()
    differ = {name: both & ~F.col(f"now.{name}").eqNullSafe(F.col(f"before.{name}")) for name in names}
    any_differs = F.lit(False)
    for one in differ.values():
        any_differs = any_differs | one
    counted = now.join(before, keys, "full").agg(
        F.count_if(both).alias("_both"),
        F.count_if(any_differs).alias("_differ"),
        F.count_if(F.col("before").isNull()).alias("_came"),
        F.count_if(F.col("now").isNull()).alias("_went"),
        *[F.count_if(one).alias(name) for name, one in differ.items()],
    )
    found: Mapping[str, int] = counted.first().asDict()  # type: ignore[union-attr]
    if not (found["_differ"] or found["_came"] or found["_went"]):
        return Checked(view.ref, "values", Outcome.PASSED, f"the {found['_both']:,} rows of {day} are those committed")
    of = ", ".join(f"{name} {found[name]:,}" for name in names if found[name])
    said = f"{found['_differ']:,} of {found['_both']:,} rows of {day} are others than those committed{f' ({of})' if of else ''}"
    return Checked(view.ref, "values", Outcome.WARNING, f"{said}; {found['_came']:,} came, {found['_went']:,} went")


def _distribution(view: FeatureView, rows: DataFrame, committed: DataFrame, day: date) -> Checked:
    before, now = (statistics_of_day(view, frame, day) for frame in (committed, rows))
    notable, compared = unlike(view.features, before, now)
    if notable:
        shown = "; ".join(f"{name}: {said}" for name, said in notable.items())
        return Checked(view.ref, "distribution", Outcome.WARNING, f"{day}, beside the rows committed: {shown}")
    if not compared:
        return Checked(view.ref, "distribution", Outcome.SKIPPED, f"{day} has too few rows to say what they are like")
    return Checked(view.ref, "distribution", Outcome.PASSED, f"{compared} features of {day} are distributed as those committed")
