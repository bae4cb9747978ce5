"""Contract checks: what a view declares, tested on every partition before it is committed.

One Spark aggregate gives a profile: a row of counts per partition. Great Expectations validates the
profile, each count beside its bounds, so a range of a year costs one pass and every partition has its own
verdict. The bounds are generated from the view. Because what is expected is expected of a *count*, and a
partition that has no profile row fails by itself, the silent passes of row-level expectations (an empty,
all-null or NaN frame "succeeds") cannot happen; see docs/adr/0006.
"""

import logging
import math
import warnings
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce
from operator import or_
from typing import Any

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from penstock.contract.row_rules import Kind, RowRule, shown
from penstock.contract.view import FeatureView
from penstock.dtypes import is_list
from penstock.errors import PenstockError
from penstock.offline.attempt import Verdict
from penstock.offline.compute import is_complete, judged_day
from penstock.offline.watermark import DAY, start_of

NO_EVENT_TIME, REPEATED = Kind.EVENT_TIME_NOT_NULL.value, Kind.ONE_ROW_PER_KEY_AND_EVENT_TIME.value
BOUNDED = (("seen", "least"), ("most", "seen"))
"""What is expected of each count: the first is at least the second."""
_PARTITION = "partition"


@dataclass(frozen=True)
class Rule:
    """One rule: a count, or a share of rows, per partition that must lie between two bounds, ends included; without a metric it is
    counted apart. One that warns refuses nothing."""

    name: str
    metric: Column | None
    minimum: float | None = None
    maximum: float | None = None
    closed_days_only: bool = False
    warns: bool = False
    is_share: bool = False

    def sentence(self, seen: float) -> str:
        """Why a partition is refused, or warned of."""
        if self.is_share:
            return f"{self.name}: {seen:.4g} of the rows, expected at most {shown(self.maximum or 0)}"
        if self.maximum == 0:
            return f"{self.name}: {seen:.0f} row(s), expected none"
        bounds = [f"{word} {bound:.0f}" for word, bound in (("at least", self.minimum), ("at most", self.maximum)) if bound is not None]
        return f"{self.name}: {seen:.0f}, expected {' and '.join(bounds)}"


def rules(view: FeatureView) -> list[Rule]:
    """The rules of a view, over computed rows with `_complete` (whether their day is complete so far; null without an event time) added."""
    return [_measured(view, rule) for rule in view.row_rules]


def _measured(view: FeatureView, rule: RowRule) -> Rule:
    """A rule with what it counts."""
    column, rows = F.col(rule.feature), F.count(F.lit(1))

    def counted(metric: Column | None, minimum: float | None = None, maximum: float | None = None) -> Rule:
        return Rule(rule.name, metric, minimum, maximum, rule.closed_days_only, rule.warns, rule.kind is Kind.NULL_BUDGET)

    def none_of(broken: Column) -> Rule:
        return counted(F.count_if(broken), maximum=0)

    match rule.kind:
        case Kind.ROWS_AT_LEAST:
            return counted(rows, minimum=rule.bound)
        case Kind.ROWS_AT_MOST:
            return counted(rows, maximum=rule.bound)
        case Kind.JOIN_KEYS_NOT_NULL:
            return none_of(reduce(or_, (F.col(name).isNull() for name in view.entity.join_keys), F.lit(False)))
        case Kind.ONE_ROW_PER_KEY_AND_EVENT_TIME:
            return counted(None, maximum=0)
        case Kind.EVENT_TIME_NOT_NULL:
            return none_of(F.col("event_time").isNull())
        case Kind.EVENT_TIME_NOT_IN_FUTURE:
            return none_of(~F.col("_complete"))
        case Kind.NOT_ALL_NULL:
            return counted(F.when(F.count(column) == 0, rows).otherwise(0), maximum=0)
        case Kind.NOT_NULL:
            return none_of(column.isNull())
        case Kind.NULL_BUDGET:
            return counted(F.count_if(column.isNull()) / rows, maximum=rule.bound)
        case Kind.IS_A_NUMBER:
            return none_of(F.exists(column, _is_unreal) if is_list(rule.dtype) else _is_unreal(column))
        case Kind.AT_LEAST:
            return none_of(column < F.lit(rule.bound))
        case Kind.AT_MOST:
            return none_of(column > F.lit(rule.bound))
        case Kind.ALLOWED:
            return none_of(~column.isin(*rule.allowed))


def _is_unreal(column: Column) -> Column:
    return F.isnan(column) | column.isin(float("inf"), float("-inf"))


def audit(view: FeatureView, rows: DataFrame, complete_until: Mapping[date, datetime]) -> Mapping[date, Verdict]:
    """A verdict on every partition of some computed rows.

    Args:
        view: what declares the rules.
        rows: join keys, event_time and features.
        complete_until: the partitions to judge → how far each is complete; rules that need a whole day
            apply to days that have closed. A row without an event time may belong to any: it refuses them all.

    Returns:
        A verdict for each partition, one with no rows included.
    """
    checks = rules(view)
    judged = rows.withColumn("_day", judged_day(complete_until)).withColumn("_complete", is_complete(complete_until))
    counts = [rule.metric.alias(rule.name) for rule in checks if rule.metric is not None]
    profile = judged.groupBy("_day").agg(F.count(F.lit(1)).alias("_rows"), *counts)
    repeated = _repeated(view, judged)
    counted = {row["_day"]: {**row.asDict(), REPEATED: repeated.get(row["_day"], 0)} for row in profile.collect()}
    nowhere = counted.pop(None, {"_rows": 0})["_rows"]
    empty = {"_rows": 0, **{rule.name: 0 for rule in checks}}
    table = pd.DataFrame([{_PARTITION: day, **(counted.get(day) or empty), NO_EVENT_TIME: nowhere} for day in complete_until])
    closed = {day for day, limit in complete_until.items() if limit >= start_of(day) + DAY}
    failed = validate(table, checks, closed)
    verdicts = {}
    for record in table.to_dict("records"):
        day = record[_PARTITION]
        broken = [rule for rule in checks if rule.name in failed[day]]
        verdicts[day] = Verdict(
            rows=int(record["_rows"]),
            gates={
                rule.name: rule.name not in failed[day]
                for rule in checks
                if not rule.warns and (day in closed or not rule.closed_days_only)
            },
            reasons=[rule.sentence(record[rule.name]) for rule in broken if not rule.warns],
            warnings=[rule.sentence(record[rule.name]) for rule in broken if rule.warns],
        )
    return verdicts


def _repeated(view: FeatureView, judged: DataFrame) -> dict[date | None, int]:
    """Day → how many of its rows repeat the key and event time of another; no day of which none does. Beside the other counts, Spark
    would carry all of them through a shuffle by key."""
    which = [*view.entity.join_keys, "event_time"]
    # Rows that are equal have one hash: where no hash repeats, no row does, and numbers are half as dear to group by as keys.
    if judged.groupBy(F.xxhash64(*which)).count().where("count > 1").isEmpty():
        return {}
    each = judged.groupBy("_day", *which).agg((F.count(F.lit(1)) - 1).alias("_more"))
    return {row["_day"]: row["_more"] for row in each.groupBy("_day").agg(F.sum("_more").alias("_more")).collect()}


def validate(table: pd.DataFrame, checks: Sequence[Rule], closed: Set[date]) -> dict[date, set[str]]:
    """Partition → names of the rules it breaks, as Great Expectations finds them in a profile.

    Args:
        table: a row per partition: `partition`, and what each rule counts.
        checks: the rules.
        closed: partitions to which the rules of closed days apply.

    Raises:
        PenstockError: a rule was not counted, or an expectation raised, gave no result or did not see all of them; never taken as passed.
    """
    lost = [rule.name for rule in checks if rule.name not in table]
    if lost:
        raise PenstockError(f"{len(lost)} contract rule(s) could not be evaluated, nothing was counted for them: {', '.join(lost)}")
    judged = [
        (record[_PARTITION], rule, record[rule.name])
        for record in table.to_dict("records")
        for rule in checks
        if record[_PARTITION] in closed or not rule.closed_days_only
    ]
    counts = pd.DataFrame(
        [
            (seen, -math.inf if rule.minimum is None else rule.minimum, math.inf if rule.maximum is None else rule.maximum)
            for _, rule, seen in judged
        ],
        columns=["seen", "least", "most"],
        dtype=float,
    )
    failed: dict[date, set[str]] = {day: set() for day in table[_PARTITION]}
    for position in unexpected(counts, _expect(counts)):
        day, rule, _ = judged[position]
        failed[day].add(rule.name)
    return failed


def _expect(counts: pd.DataFrame) -> Sequence[Any]:
    with warnings.catch_warnings():
        # Importing it costs 6 s of CPU, which a sensor or a code location must not pay; and it warns of its own imports.
        warnings.simplefilter("ignore")
        import great_expectations as gx  # noqa: PLC0415
        from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415
        from great_expectations.expectations.core.expect_column_pair_values_a_to_be_greater_than_b import (  # noqa: PLC0415
            ExpectColumnPairValuesAToBeGreaterThanB as FirstIsAtLeastSecond,
        )
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = context.data_sources.add_pandas("profile").add_dataframe_asset("profile").add_batch_definition_whole_dataframe("all")
    # A pair for each count, and not an expectation for each rule: those cost 15 ms each, on a profile of one row as of many.
    expectations = [FirstIsAtLeastSecond(column_A=more, column_B=less, or_equal=True, ignore_row_if="neither") for more, less in BOUNDED]
    suite = context.suites.add(gx.ExpectationSuite(name="contract", expectations=expectations))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="contract", data=batch, suite=suite))
    return list(definition.run(batch_parameters={"dataframe": counts}, result_format={"result_format": "COMPLETE"}).results)


def unexpected(counts: pd.DataFrame, results: Sequence[Any]) -> set[int]:
    """Positions of the counts that are not within their bounds.

    Args:
        counts: `seen`, `least` and `most`.
        results: what came of each expectation of `BOUNDED`.

    Raises:
        PenstockError: one raised, did not come back, or did not see every count; what was not evaluated has not passed.
    """
    positions: set[int] = set()
    if len(results) != len(BOUNDED):
        raise PenstockError(
            f"{len(results)} of {len(BOUNDED)} expectations of the contract came back from Great Expectations with a result"
        )
    for result in results:
        raised, looked_at = result.exception_info.get("raised_exception"), result.result.get("element_count")
        if raised or looked_at != len(counts):
            raise PenstockError(
                f"the contract could not be evaluated: Great Expectations looked at {looked_at or 0} of {len(counts)} counts:"
                f" {result.exception_info}"
            )
        positions |= set(result.result["unexpected_index_list"])
    return positions
