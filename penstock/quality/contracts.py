"""Contract checks: what a view declares, tested on every partition before it is committed.

In the one pass over computed rows each rule counts, which gives a profile: a row of counts per partition. Great Expectations
validates the profile, each count beside its bounds, so a range of a year costs no pass of its own and every partition has its own
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
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from penstock.contract.row_rules import Kind, RowRule, shown
from penstock.contract.view import FeatureView
from penstock.dtypes import is_list
from penstock.errors import PenstockError
from penstock.offline.attempt import Audit, Verdict
from penstock.offline.stage import Look, Part, Seen
from penstock.offline.watermark import closed_days

NO_EVENT_TIME = Kind.EVENT_TIME_NOT_NULL.value
BOUNDED = (("seen", "least"), ("most", "seen"))
"""What is expected of each count: the first is at least the second."""
_PARTITION = "partition"


@dataclass(frozen=True)
class Rule:
    """One rule: a count, or a share of rows, per partition that must lie between two bounds, ends included. It may only warn."""

    name: str
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
    """The rules of a view."""
    return [_bounded(rule) for rule in view.row_rules]


def _bounded(rule: RowRule) -> Rule:
    minimum: float | None = None
    maximum: float | None = 0
    match rule.kind:
        case Kind.ROWS_AT_LEAST:
            minimum, maximum = rule.bound, None
        case Kind.ROWS_AT_MOST | Kind.NULL_BUDGET:
            maximum = rule.bound
    return Rule(rule.name, minimum, maximum, rule.closed_days_only, rule.warns, rule.kind is Kind.NULL_BUDGET)


class Counted(msgspec.Struct):
    """Of some rows of one day, how many there are, and what each rule counts: rows that break it; of NOT_ALL_NULL, those with a value."""

    rows: int
    counts: dict[str, int]


@dataclass(frozen=True)
class Count:
    """Rows of one day → what each rule counts of them. Counts of a day's parts add up."""

    join_keys: tuple[str, ...]
    rules: tuple[RowRule, ...]

    def __call__(self, part: Part) -> bytes:
        return msgspec.json.encode(self.of(part))

    def of(self, part: Part) -> Counted:
        """What is counted of a part."""
        return Counted(part.rows.num_rows, {rule.name: self._broken(rule, part) for rule in self.rules})

    def _broken(self, rule: RowRule, part: Part) -> int:
        rows = part.rows
        match rule.kind:
            case Kind.ROWS_AT_LEAST | Kind.ROWS_AT_MOST:
                return int(rows.num_rows)
            case Kind.JOIN_KEYS_NOT_NULL:
                return int(np.sum(np.any([np.asarray(pc.is_null(rows[name])) for name in self.join_keys], axis=0)))
            case Kind.ONE_ROW_PER_KEY_AND_EVENT_TIME:
                return part.repeated
            case Kind.EVENT_TIME_NOT_NULL:
                return int(rows["event_time"].null_count)
            case Kind.EVENT_TIME_NOT_IN_FUTURE:
                return _how_many(pc.invert(part.complete))
            case Kind.NOT_ALL_NULL:
                return int(rows.num_rows - rows[rule.feature].null_count)
            case Kind.NOT_NULL | Kind.NULL_BUDGET:
                return int(rows[rule.feature].null_count)
            case _:
                return _of_values(rule, rows[rule.feature])


def _of_values(rule: RowRule, column: pa.ChunkedArray) -> int:
    """How many values break a rule; null breaks none of these."""
    match rule.kind:
        case Kind.IS_A_NUMBER if is_list(rule.dtype):
            unreal = pc.fill_null(pc.invert(pc.is_finite(pc.list_flatten(column))), False)
            return int(pc.count_distinct(pc.list_parent_indices(column).filter(unreal)).as_py())
        case Kind.IS_A_NUMBER:
            return _how_many(pc.invert(pc.is_finite(column)))
        case Kind.AT_LEAST:
            return _how_many(pc.less(column.cast(pa.float64(), safe=False), rule.bound))
        case Kind.AT_MOST:
            numbers = column.cast(pa.float64(), safe=False)
            return _how_many(pc.or_(pc.greater(numbers, rule.bound), pc.is_nan(numbers)))  # as Spark has it: greater than every number
        case Kind.ALLOWED:
            values = column.cast(pa.int64()) if pa.types.is_integer(column.type) else column
            return _how_many(pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, pa.array(rule.allowed, values.type)))))
    raise AssertionError(rule.kind)


def _how_many(broken: pa.ChunkedArray) -> int:
    return int(pc.sum(broken).as_py() or 0)


def _look(view: FeatureView, _: Mapping[date, datetime]) -> Look:
    return Count(tuple(view.entity.join_keys), view.row_rules)


def _judge(view: FeatureView, seen: Seen, complete_until: Mapping[date, datetime]) -> Mapping[date, Verdict]:
    counted = {day: [msgspec.json.decode(one, type=Counted) for one in parts] for day, parts in seen.items()}
    return verdicts(view, counted, complete_until)


audit = Audit(_look, _judge)
"""Holds every partition to its view's contract: counts what each rule asks for, and gives a verdict on each.

A rule that needs a whole day applies to days that have closed. A row without an event time may belong to any: it refuses them all.
"""


def verdicts(
    view: FeatureView, counted: Mapping[date | None, Sequence[Counted]], complete_until: Mapping[date, datetime]
) -> Mapping[date, Verdict]:
    """A verdict on every partition, one with no rows included.

    Args:
        view: what declares the rules.
        counted: day → what was counted of its parts; None: of rows without an event time.
        complete_until: the partitions to judge → how far each is complete.
    """
    checks = rules(view)
    nowhere = sum(part.rows for part in counted.get(None, []))
    table = pd.DataFrame([{_PARTITION: day, **_seen(view, counted.get(day, [])), NO_EVENT_TIME: nowhere} for day in complete_until])
    closed = closed_days(complete_until)
    failed = validate(table, checks, closed)
    found = {}
    for record in table.to_dict("records"):
        day = record[_PARTITION]
        broken = [rule for rule in checks if rule.name in failed[day]]
        found[day] = Verdict(
            rows=int(record["_rows"]),
            gates={
                rule.name: rule.name not in failed[day]
                for rule in checks
                if not rule.warns and (day in closed or not rule.closed_days_only)
            },
            reasons=[rule.sentence(record[rule.name]) for rule in broken if not rule.warns],
            warnings=[rule.sentence(record[rule.name]) for rule in broken if rule.warns],
        )
    return found


def _seen(view: FeatureView, parts: Sequence[Counted]) -> dict[str, float]:
    """Rule → what is held against its bounds, of a day."""
    rows = sum(part.rows for part in parts)
    seen: dict[str, float] = {"_rows": rows}
    for rule in view.row_rules:
        count = sum(part.counts[rule.name] for part in parts)
        match rule.kind:
            case Kind.NOT_ALL_NULL:
                seen[rule.name] = 0 if count else rows
            case Kind.NULL_BUDGET:
                seen[rule.name] = count / rows if rows else 0
            case _:
                seen[rule.name] = count
    return seen


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
