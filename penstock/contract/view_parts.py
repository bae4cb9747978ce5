"""The parts a feature view is made of: a feature, a freshness SLA, a degradation, a readiness, a consistency."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Literal

from penstock.contract.rules import require_name, require_positive
from penstock.contract.source import Pii
from penstock.dtypes import FEATURE_DTYPES, FLOAT_DTYPES, NUMERIC_DTYPES, accepts, element, is_list, require_dtype
from penstock.errors import ContractError

_WHOLE, _VALUES = 2**63, 1_000

Value = bool | int | float | str | list[bool] | list[int] | list[float] | list[str] | None


@dataclass(frozen=True)
class Feature:
    """One named value of a feature view.

    Args:
        name: column name.
        dtype: see `penstock.dtypes`.
        unit: e.g. `minutes`; empty where there is none.
        nullable: whether null is a value the contract check accepts.
        null_budget: largest share of a closed day's rows that may be null, e.g. 0.05; None: any but all.
        minimum, maximum: bounds the check accepts, ends included; numeric features only.
        allowed: the values the check accepts beside null; empty: any. Of strings, whole numbers and bools.
        default: served, labelled DEFAULT, when the store cannot answer and the view's degradation says so.
        owner: where it differs from the view's.
        pii: `direct` is refused: it must never be online.
        description: one sentence for people.
    """

    name: str
    dtype: str
    unit: str = field(default="", kw_only=True)
    nullable: bool = field(default=True, kw_only=True)
    null_budget: float | None = field(default=None, kw_only=True)
    minimum: float | None = field(default=None, kw_only=True)
    maximum: float | None = field(default=None, kw_only=True)
    allowed: Sequence[bool | int | str] = field(default=(), kw_only=True)
    default: Value = field(default=None, kw_only=True)
    owner: str = field(default="", kw_only=True)
    pii: Pii = field(default=Pii.NONE, kw_only=True)
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        where = f"feature '{self.name}'"
        require_name(self.name, "feature")
        require_dtype(self.dtype, where)
        if (element(self.dtype) if is_list(self.dtype) else self.dtype) not in FEATURE_DTYPES:
            allowed = ", ".join(sorted(FEATURE_DTYPES))
            raise ContractError(f"{where}: dtype '{self.dtype}' is for join keys and sources; a feature is one of {allowed}")
        self._check_range(where)
        self._check_null_budget(where)
        object.__setattr__(self, "allowed", self._set(where))
        if self.default is not None and not accepts(self.dtype, self.default):
            raise ContractError(f"{where}: default {self.default!r} is not a {self.dtype}")
        if self.pii is Pii.DIRECT:
            raise ContractError(f"{where}: pii 'direct' must not be online; pseudonymise it or leave it out")

    def _check_range(self, where: str) -> None:
        bounds = [(name, bound) for name, bound in (("minimum", self.minimum), ("maximum", self.maximum)) if bound is not None]
        if bounds and self.dtype not in NUMERIC_DTYPES:
            raise ContractError(f"{where}: a range is given but its dtype is {self.dtype}; ranges are for numbers")
        for name, bound in bounds:
            is_whole = type(bound) is int and -_WHOLE <= bound < _WHOLE
            if not is_whole and not (isinstance(bound, float) and math.isfinite(bound)):
                raise ContractError(f"{where}: {name}={bound!r}; a bound is a finite number, whole ones of 64 bits")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ContractError(f"{where}: minimum {self.minimum} is above maximum {self.maximum}")

    def _check_null_budget(self, where: str) -> None:
        share = self.null_budget
        if share is None:
            return
        if not self.nullable or type(share) not in (int, float) or not 0 <= share < 1:
            said = f"null_budget={share!r}" if self.nullable else "null_budget with nullable=False"
            raise ContractError(f"{where}: {said}; it is a share of rows, 0 <= share < 1, of a feature that may be null")

    def _set(self, where: str) -> tuple[bool | int | str, ...]:
        """The values of `allowed`, in order, so that a set is one document however it is written."""
        if not isinstance(self.allowed, tuple | list):
            raise ContractError(f"{where}: allowed={self.allowed!r}; it is a list of values, e.g. allowed=['a', 'b']")
        if not self.allowed:
            return ()
        if is_list(self.dtype) or self.dtype in {*FLOAT_DTYPES, "timestamp"}:
            raise ContractError(f"{where}: allowed= is given but its dtype is {self.dtype}; sets are of strings, whole numbers and bools")
        if len(self.allowed) > _VALUES:
            raise ContractError(f"{where}: allowed= holds {len(self.allowed):,} values; a set is of {_VALUES:,} at most")
        for value in self.allowed:
            if value is None or not accepts(self.dtype, value) or not _is_text(value):
                raise ContractError(f"{where}: allowed= holds {value!r}, which is not a {self.dtype}")
        if len({*self.allowed}) < len(self.allowed):
            raise ContractError(f"{where}: allowed= holds a value twice: {list(self.allowed)!r}")
        return tuple(sorted(self.allowed))


def _is_text(value: object) -> bool:
    """Whether a value, if it is text, can be written: half of a surrogate pair cannot."""
    return not isinstance(value, str) or value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


@dataclass(frozen=True)
class FreshnessSla:
    """How old, against now, the newest complete data of a view may be, and how that time is spent.

    Args:
        total: of the whole way from the event to the reader.
        ingest, compute, publish, read: budgets of the stages; `read` is the age a cache may add.

    Raises:
        ContractError: the budgets add up to more than the total.
    """

    total: timedelta
    ingest: timedelta = timedelta(0)
    compute: timedelta = timedelta(0)
    publish: timedelta = timedelta(0)
    read: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        require_positive(self.total, "freshness: total")
        parts = self.ingest + self.compute + self.publish + self.read
        if parts > self.total:
            raise ContractError(f"freshness: ingest + compute + publish + read is {parts}, above the total of {self.total}")


@dataclass(frozen=True)
class Degradation:
    """What a reader gets when the store cannot answer: each step is tried in turn, the last one is an error.

    Args:
        stale_up_to: a cached value may be served until it is this old (event time), labelled STALE; None: never.
        then: `default`: the declared defaults, labelled DEFAULT; `drop`: the view's features are left out,
            labelled ERROR; `fail`: the request fails with a typed error.
    """

    stale_up_to: timedelta | None = None
    then: Literal["default", "drop", "fail"] = "fail"

    def then_default(self) -> "Degradation":
        return Degradation(self.stale_up_to, "default")

    def then_drop(self) -> "Degradation":
        return Degradation(self.stale_up_to, "drop")


def serve_stale(*, up_to: timedelta) -> Degradation:
    """Serve a cached value while it is at most `up_to` old; then fail, unless `.then_default()` or `.then_drop()`."""
    return Degradation(require_positive(up_to, "serve_stale: up_to"))


def fail() -> Degradation:
    """Fail the request with a typed error."""
    return Degradation()


class Readiness(StrEnum):
    """How far a view is: whether a model in production should use it."""

    EXPERIMENTAL = "experimental"
    SHADOW = "shadow"
    CANARY = "canary"
    PRODUCTION = "production"
    DEPRECATED = "deprecated"


class Consistency(StrEnum):
    """How many replicas of a value a reader hears, strongest first."""

    LOCAL_QUORUM = "local_quorum"
    """Most of the replicas in the reader's data centre: what was published is read."""
    LOCAL_ONE = "local_one"
    """One: answered while one replica is there, and with an older value if it missed a publication."""
