"""Contract checks: what a view declares, tested on every partition before it is committed.

One Spark aggregate gives a profile: a row of counts per partition. Great Expectations validates the
profile, one expectation per rule, so a range of a year costs one pass and every partition has its own
verdict. The suite is generated from the view. Because each rule is an expectation on a *count*, and a
partition that has no profile row fails by itself, the silent passes of row-level expectations (an empty,
all-null or NaN frame "succeeds") cannot happen; see docs/adr/0006.
"""

import logging
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from penstock.contract.view import FeatureView
from penstock.contract.view_parts import Feature
from penstock.dtypes import FLOAT_DTYPES
from penstock.errors import PenstockError
from penstock.offline.attempt import Verdict
from penstock.offline.compute import is_complete, judged_day
from penstock.offline.watermark import DAY, start_of

NO_EVENT_TIME = "event_time_not_null"
REPEATED = "one_row_per_key_and_event_time"
_PARTITION = "partition"


@dataclass(frozen=True)
class Rule:
    """One rule: a count per partition that must lie between two bounds, ends included; without a metric it is counted apart."""

    name: str
    metric: Column | None
    minimum: float | None = None
    maximum: float | None = None
    closed_days_only: bool = False

    def sentence(self, seen: object) -> str:
        """Why a partition is refused."""
        if self.maximum == 0:
            return f"{self.name}: {seen} row(s), expected none"
        bounds = [f"{word} {bound:g}" for word, bound in (("at least", self.minimum), ("at most", self.maximum)) if bound is not None]
        return f"{self.name}: {seen}, expected {' and '.join(bounds)}"


def rules(view: FeatureView) -> list[Rule]:
    """The rules of a view, over computed rows with `_complete` (whether their day is complete so far; null without an event time) added."""
    keys = [F.col(name) for name in view.entity.join_keys]
    none = F.lit(False)
    no_key = none
    for key in keys:
        no_key = no_key | key.isNull()
    found = [
        Rule("has_rows", F.count(F.lit(1)), minimum=1, closed_days_only=True),
        Rule("join_keys_not_null", F.count_if(no_key), maximum=0),
        Rule(REPEATED, None, maximum=0),
        Rule(NO_EVENT_TIME, F.count_if(F.col("event_time").isNull()), maximum=0),
        Rule("event_time_not_in_future", F.count_if(~F.col("_complete")), maximum=0),
    ]
    for feature in view.features:
        found += _feature_rules(feature)
    return found


def _feature_rules(feature: Feature) -> list[Rule]:
    column = F.col(feature.name)
    found = []
    if feature.nullable:
        found.append(Rule(f"{feature.name}_not_all_null", F.count(column), minimum=1, closed_days_only=True))
    else:
        found.append(Rule(f"{feature.name}_not_null", F.count_if(column.isNull()), maximum=0))
    if feature.dtype in FLOAT_DTYPES:
        unreal = F.isnan(column) | column.isin(float("inf"), float("-inf"))
        found.append(Rule(f"{feature.name}_is_a_number", F.count_if(unreal), maximum=0))
    if feature.minimum is not None:
        found.append(Rule(f"{feature.name}_at_least_{feature.minimum:g}", F.count_if(column < feature.minimum), maximum=0))
    if feature.maximum is not None:
        found.append(Rule(f"{feature.name}_at_most_{feature.maximum:g}", F.count_if(column > feature.maximum), maximum=0))
    return found


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
            gates={rule.name: rule.name not in failed[day] for rule in checks if day in closed or not rule.closed_days_only},
            reasons=[rule.sentence(record[rule.name]) for rule in broken],
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


def validate(table: pd.DataFrame, checks: list[Rule], closed: set[date]) -> dict[date, set[str]]:
    """Partition → names of the rules it breaks, as Great Expectations finds them in a profile.

    Raises:
        PenstockError: an expectation raised or gave no result; never taken as passed.
    """
    failed: dict[date, set[str]] = {day: set() for day in table[_PARTITION]}
    for subset, applicable in (
        (table, [rule for rule in checks if not rule.closed_days_only]),
        (table[table[_PARTITION].isin(closed)], [rule for rule in checks if rule.closed_days_only]),
    ):
        if subset.empty or not applicable:
            continue
        days = list(subset[_PARTITION])
        for rule, result in zip(applicable, _expect(subset.reset_index(drop=True), applicable), strict=True):
            detail: dict[str, Any] = result.result
            if result.exception_info.get("raised_exception") or ("unexpected_index_list" not in detail and not result.success):
                raise PenstockError(f"contract rule '{rule.name}' could not be evaluated: {result.exception_info}")
            for position in detail.get("unexpected_index_list") or []:
                failed[days[position]].add(rule.name)
    return failed


def _expect(table: pd.DataFrame, checks: list[Rule]) -> list[Any]:
    with warnings.catch_warnings():
        # Importing it costs 6 s of CPU, which a sensor or a code location must not pay; and it warns of its own imports.
        warnings.simplefilter("ignore")
        import great_expectations as gx  # noqa: PLC0415
        from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415
        from great_expectations.expectations.core.expect_column_values_to_be_between import ExpectColumnValuesToBeBetween  # noqa: PLC0415
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = context.data_sources.add_pandas("profile").add_dataframe_asset("profile").add_batch_definition_whole_dataframe("all")
    expectations = [ExpectColumnValuesToBeBetween(column=rule.name, min_value=rule.minimum, max_value=rule.maximum) for rule in checks]
    suite = context.suites.add(gx.ExpectationSuite(name="contract", expectations=expectations))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="contract", data=batch, suite=suite))
    outcome = definition.run(batch_parameters={"dataframe": table}, result_format={"result_format": "COMPLETE"})
    return in_order(outcome.results, checks)


def in_order(results: Iterable[Any], checks: list[Rule]) -> list[Any]:
    """One result per rule, in the rules' order.

    Raises:
        PenstockError: a rule has no result; a rule that was not evaluated has not passed.
    """
    by_column = {result.expectation_config.kwargs["column"]: result for result in results}
    lost = [rule.name for rule in checks if rule.name not in by_column]
    if lost:
        raise PenstockError(f"{len(lost)} contract rule(s) came back from Great Expectations without a result: {', '.join(lost)}")
    return [by_column[rule.name] for rule in checks]
