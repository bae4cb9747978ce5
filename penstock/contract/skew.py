"""How far what is served may be from what training is given before somebody is told, and what is done then."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from penstock.errors import ContractError


@dataclass(frozen=True)
class Budget:
    """From which share of the rows on a check warns, and is critical.

    Raises:
        ContractError: not 0 <= warning <= critical <= 1.
    """

    warning: float
    critical: float

    def __post_init__(self) -> None:
        if not 0 <= self.warning <= self.critical <= 1:
            raise ContractError(f"a budget is of two shares, 0 <= warning <= critical <= 1; got {self.warning} and {self.critical}")


BUDGETS: Mapping[str, Budget] = MappingProxyType(
    {
        "fidelity": Budget(0.0, 0.0),
        "staleness": Budget(0.005, 0.01),
        "presence": Budget(0.001, 0.01),
        "values": Budget(0.005, 0.01),
        "age": Budget(0.001, 0.01),
        "log": Budget(0.001, 0.01),
    }
)
"""Check → its budget where a view says nothing else; `quality.skew` says what each counts."""


@dataclass(frozen=True)
class SkewPolicy:
    """What skew a view may have.

    Args:
        budgets: check → its budget, of those that are to differ from `BUDGETS`.
        invalidate: whether an attempt whose served values are critically often not what the lake has is taken back at once, by an
            invalidation mark; once, so that whoever lifts the mark is not overruled.
        hold_back: whether a closed day on which a feature's values are largely otherwise than on the same weekday of the weeks before
            is refused, as one that breaks its contract is.

    Raises:
        ContractError: there is no such check.
    """

    budgets: Mapping[str, Budget] = field(default_factory=dict)
    invalidate: bool = False
    hold_back: bool = False

    def __post_init__(self) -> None:
        require_checks(self.budgets, "skew")
        object.__setattr__(self, "budgets", MappingProxyType({**BUDGETS, **self.budgets}))


def require_checks(budgets: Mapping[str, Budget], where: str) -> None:
    """Nothing, if each is a budget of a check that there is.

    Raises:
        ContractError: there is no such check.
    """
    unknown = sorted(set(budgets) - set(BUDGETS))
    if unknown:
        raise ContractError(f"{where}: there is no check {', '.join(map(repr, unknown))}; they are {', '.join(BUDGETS)}")
