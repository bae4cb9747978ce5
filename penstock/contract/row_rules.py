"""What every day of a view's rows is held to, before it is committed: the rules that follow from how the view is declared.

`quality/contracts.py` judges by them, `quality/contract_suite.py` writes them as a suite of Great Expectations.
"""

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from penstock.contract.view_parts import Feature
from penstock.dtypes import FLOAT_DTYPES, element, is_list
from penstock.errors import ContractError


class Kind(StrEnum):
    """What a rule looks at."""

    ROWS_AT_LEAST = "rows_at_least"
    ROWS_AT_MOST = "rows_at_most"
    JOIN_KEYS_NOT_NULL = "join_keys_not_null"
    ONE_ROW_PER_KEY_AND_EVENT_TIME = "one_row_per_key_and_event_time"
    EVENT_TIME_NOT_NULL = "event_time_not_null"
    EVENT_TIME_NOT_IN_FUTURE = "event_time_not_in_future"
    NOT_ALL_NULL = "not_all_null"
    NOT_NULL = "not_null"
    NULL_BUDGET = "null_budget"
    IS_A_NUMBER = "is_a_number"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    ALLOWED = "allowed"


ALWAYS_REFUSES = frozenset(
    {Kind.JOIN_KEYS_NOT_NULL, Kind.ONE_ROW_PER_KEY_AND_EVENT_TIME, Kind.EVENT_TIME_NOT_NULL, Kind.EVENT_TIME_NOT_IN_FUTURE}
)
"""Kinds without which the rule of time has no answer: no view may take them for a warning."""


@dataclass(frozen=True)
class RowRule:
    """One rule.

    Args:
        name: by which verdicts and `warn_only` call it, e.g. `amount_at_most_100`.
        kind: what it looks at.
        feature: of which feature; empty: of whole rows.
        bound: of `*_AT_*` the number itself, of NULL_BUDGET the largest share of rows.
        allowed: of ALLOWED the values.
        closed_days_only: whether an open day, of which rows are still to come, is not held to it.
        warns: whether a day that breaks it is committed all the same, with a warning.
        dtype: of IS_A_NUMBER the feature's type: a list holds numbers.
    """

    name: str
    kind: Kind
    feature: str = ""
    bound: float | None = None
    allowed: tuple[bool | int | str, ...] = ()
    closed_days_only: bool = False
    warns: bool = False
    dtype: str = ""


def row_rules(features: Sequence[Feature], row_count: tuple[int, int | None], warn_only: Sequence[str]) -> tuple[RowRule, ...]:
    """The rules of a view with these features.

    Args:
        features: in their order.
        row_count: least and most rows of a closed day; 0: none are needed, None: there may be any number.
        warn_only: names of rules that warn and refuse nothing.

    Raises:
        ContractError: `warn_only` names no rule, or one that always refuses.
    """
    least, most = row_count
    found = []
    if least:
        name = "has_rows" if least == 1 else f"rows_at_least_{least}"
        found.append(RowRule(name, Kind.ROWS_AT_LEAST, bound=least, closed_days_only=True))
    if most is not None:
        found.append(RowRule(f"rows_at_most_{most}", Kind.ROWS_AT_MOST, bound=most))
    found += [RowRule(kind.value, kind) for kind in Kind if kind in ALWAYS_REFUSES]
    for feature in features:
        found += _of_feature(feature)
    _require_named_apart(found)
    _require_may_warn(found, warn_only)
    return tuple(replace(one, warns=one.name in warn_only) for one in found)


def _of_feature(feature: Feature) -> list[RowRule]:
    name, found = feature.name, []
    if feature.nullable:
        found.append(RowRule(f"{name}_not_all_null", Kind.NOT_ALL_NULL, name, closed_days_only=True))
    else:
        found.append(RowRule(f"{name}_not_null", Kind.NOT_NULL, name))
    if feature.null_budget is not None:
        found.append(RowRule(f"{name}_null_budget", Kind.NULL_BUDGET, name, feature.null_budget, closed_days_only=True))
    if (element(feature.dtype) if is_list(feature.dtype) else feature.dtype) in FLOAT_DTYPES:
        found.append(RowRule(f"{name}_is_a_number", Kind.IS_A_NUMBER, name, dtype=feature.dtype))
    if feature.minimum is not None:
        found.append(RowRule(f"{name}_at_least_{shown(feature.minimum)}", Kind.AT_LEAST, name, _as_held(feature.minimum, feature.dtype)))
    if feature.maximum is not None:
        found.append(RowRule(f"{name}_at_most_{shown(feature.maximum)}", Kind.AT_MOST, name, _as_held(feature.maximum, feature.dtype)))
    if feature.allowed:
        found.append(RowRule(f"{name}_allowed", Kind.ALLOWED, name, allowed=tuple(feature.allowed)))
    return found


def shown(number: float) -> str:
    """A number in full: two that differ are never one text."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def _as_held(bound: float, dtype: str) -> float:
    """A bound as rows hold it: 0.1 of 32 bits is a little more than 0.1, and is not above it."""
    if dtype != "float32":
        return bound
    try:
        return float(struct.unpack("f", struct.pack("f", bound))[0])
    except OverflowError:  # no value of 32 bits is that large
        return bound


def _require_named_apart(rules: Sequence[RowRule]) -> None:
    for name, count in Counter(rule.name for rule in rules).items():
        if count > 1:
            of = ", ".join(repr(rule.feature) for rule in rules if rule.name == name and rule.feature)
            raise ContractError(f"{count} rules would be called '{name}'; give feature {of} another name")


def _require_may_warn(rules: Sequence[RowRule], warn_only: Sequence[str]) -> None:
    known = {rule.name: rule for rule in rules}
    for name in warn_only:
        if name not in known:
            others = ", ".join(repr(rule.name) for rule in rules if rule.kind not in ALWAYS_REFUSES)
            raise ContractError(f"warn_only names '{name}', which is no rule of this view; its rules that may warn are {others}")
        if known[name].kind in ALWAYS_REFUSES:
            raise ContractError(f"warn_only names '{name}', which always refuses: rows that break it have no place in time or no key")
