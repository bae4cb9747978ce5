"""A view's contract as a suite of Great Expectations over rows, for use elsewhere: in a notebook, in data docs, in a pipeline of one's own.

Penstock itself judges counts (`contracts.py`), as expectations on rows pass where there is nothing to look at. A suite is therefore of all
that is needed to fail there too: a row count, and a share of rows that hold a value, beside every range and set. It is for one day of a
view in Spark, where NaN is greater than every number; in pandas NaN is a null.
"""

import sys
from collections.abc import Iterator
from typing import Any

from penstock.contract.row_rules import Kind, RowRule
from penstock.contract.view import FeatureView
from penstock.dtypes import is_list

BEGIN, LATEST = "begin", "latest"
"""The suite's parameters: the day's first moment, and the latest time that a row of it may have."""

_LARGEST = sys.float_info.max
_SOME = 1e-9
_TYPES = {
    "bool": "BooleanType",
    "int32": "IntegerType",
    "int64": "LongType",
    "float32": "FloatType",
    "float64": "DoubleType",
    "string": "StringType",
    "timestamp": "TimestampType",
    "date": "DateType",
    "binary": "BinaryType",
}


def suite(view: FeatureView) -> dict[str, Any]:
    """The suite as JSON: `great_expectations.ExpectationSuite(**suite(view))`.

    Each expectation names its rule in `meta`, and is `critical` where a day that breaks it is refused, else `warning`.
    """
    return {
        "name": view.ref,
        "expectations": [*_schema(view), *(one for rule in view.row_rules for one in _of_rule(view, rule))],
        "meta": {"penstock": {"view": view.name, "version": view.version, "parameters": [BEGIN, LATEST]}},
        "notes": f"One day of {view.ref} in Spark; '{BEGIN}' is its first moment, '{LATEST}' the latest time a row may have, both in UTC.",
    }


def _schema(view: FeatureView) -> Iterator[dict[str, Any]]:
    dtypes = {**view.entity.join_keys, "event_time": "timestamp", **{feature.name: feature.dtype for feature in view.features}}
    for column, dtype in dtypes.items():
        yield _expect("schema", "column_values_to_be_of_type", column=column, type_="ArrayType" if is_list(dtype) else _TYPES[dtype])


def _of_rule(view: FeatureView, rule: RowRule) -> list[dict[str, Any]]:
    def expect(what: str, **kwargs: Any) -> dict[str, Any]:
        return _expect(rule.name, what, warns=rule.warns, **kwargs)

    def on_feature(what: str, **kwargs: Any) -> list[dict[str, Any]]:
        return [expect(f"column_values_to_{what}", column=rule.feature, **kwargs)]

    match rule.kind:
        case Kind.ROWS_AT_LEAST:
            return [expect("table_row_count_to_be_between", min_value=rule.bound)]
        case Kind.ROWS_AT_MOST:
            return [expect("table_row_count_to_be_between", max_value=rule.bound)]
        case Kind.JOIN_KEYS_NOT_NULL:
            return [expect("column_values_to_not_be_null", column=name) for name in view.entity.join_keys]
        case Kind.ONE_ROW_PER_KEY_AND_EVENT_TIME:
            if not view.entity.join_keys:
                return [expect("column_values_to_be_unique", column="event_time")]
            return [expect("compound_columns_to_be_unique", column_list=[*view.entity.join_keys, "event_time"])]
        case Kind.EVENT_TIME_NOT_NULL:
            return [expect("column_values_to_not_be_null", column="event_time")]
        case Kind.EVENT_TIME_NOT_IN_FUTURE:
            ends = {"min_value": {"$PARAMETER": BEGIN}, "max_value": {"$PARAMETER": LATEST}}
            return [expect("column_values_to_be_between", column="event_time", **ends)]
        case Kind.NOT_ALL_NULL:
            return on_feature("not_be_null", mostly=_SOME)
        case Kind.NOT_NULL:
            return on_feature("not_be_null")
        case Kind.NULL_BUDGET:
            return on_feature("not_be_null", mostly=round(1 - (rule.bound or 0), 12))  # 1 - 0.7 is a little more than 0.3
        case Kind.IS_A_NUMBER if is_list(rule.dtype):
            return []  # no expectation looks into lists
        case Kind.IS_A_NUMBER:
            return on_feature("be_between", min_value=-_LARGEST, max_value=_LARGEST)
        case Kind.AT_LEAST:
            return on_feature("be_between", min_value=rule.bound)
        case Kind.AT_MOST:
            return on_feature("be_between", max_value=rule.bound)
        case Kind.ALLOWED:
            return on_feature("be_in_set", value_set=list(rule.allowed))


def _expect(rule: str, what: str, *, warns: bool = False, **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{what}", "kwargs": kwargs, "meta": {"rule": rule}, "severity": "warning" if warns else "critical"}
