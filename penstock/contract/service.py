"""A feature service: the features one model asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from penstock.contract.named_view import NamedView
from penstock.contract.rules import require_name, require_unique
from penstock.contract.skew import Budget, require_checks
from penstock.contract.view import FeatureView
from penstock.errors import ContractError

if TYPE_CHECKING:
    from penstock.contract.on_demand import OnDemandView

AnyView: TypeAlias = FeatureView | NamedView


@dataclass(frozen=True)
class Selection:
    """What a service takes of one view.

    Args:
        view: which.
        features: which of its features, in order.
        name: what the features' names begin with, `<name>__<feature>`.
        on: the view's join key → the service's join key that holds it.
    """

    view: FeatureView
    features: tuple[str, ...]
    name: str
    on: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class FeatureService:
    """The features one model asks for, view versions included.

    Args:
        name: e.g. `arrival_delay`.
        views: the views, all of whose features are served, or view → the features wanted. A view that is wanted twice,
            as of origin and of destination, is given names: `weather.named("dest_weather", on={"airport": "dest"})`.
        on_demand: views computed at the request; what they take of other views is among the features wanted.
        owner: team or person to ask.
        description: one sentence for people.
        budgets: check → from which share of the rows that it is served it warns and is critical, beside the budgets of its views: how far
            this model's inputs may be from what it was trained on, and how old they may be.

    Raises:
        ContractError: two views of one name, a feature its view does not have, a join key or request field of two types, an
            on-demand view whose inputs are not there, or a budget of no check.
    """

    name: str
    views: Sequence[AnyView] | Mapping[AnyView, Sequence[str]] = field(kw_only=True)
    on_demand: "Sequence[OnDemandView]" = field(default=(), kw_only=True)
    owner: str = field(kw_only=True)
    description: str = field(default="", kw_only=True)
    budgets: Mapping[str, Budget] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        where = f"feature service '{self.name}'"
        require_name(self.name, "feature service")
        require_checks(self.budgets, where)
        if not list(self.views):
            raise ContractError(f"{where}: no views")
        object.__setattr__(self, "_selection", select(self.views, where))
        object.__setattr__(self, "on_demand", tuple(self.on_demand))
        require_unique([*(part.name for part in self.selection), *(view.name for view in self.on_demand)], f"{where}: views")
        for view in self.on_demand:
            self._check_on_demand(view, where)

    def _check_on_demand(self, view: "OnDemandView", where: str) -> None:
        had = {(part.name, part.view): part.features for part in self.selection}
        lacking = [
            f"{part.name}__{feature}"
            for part in view.selection
            for feature in part.features
            if feature not in had.get((part.name, part.view), ())
        ]
        if lacking:
            raise ContractError(
                f"{where}: {view.ref} takes {', '.join(lacking)}, which the service does not have",
                hint="add them to views=: what a value was computed from is served, logged and trained on beside it",
            )
        kinds = {**self.request, **self.join_keys}
        for name, dtype in view.request.items():
            if kinds[name] != dtype:
                raise ContractError(f"{where}: '{name}' is {kinds[name]} for one view or join key and {dtype} for '{view.name}'")

    @property
    def selection(self) -> tuple[Selection, ...]:
        """What it takes of each view, in order."""
        chosen: tuple[Selection, ...] = self.__dict__["_selection"]
        return chosen

    @property
    def join_keys(self) -> dict[str, str]:
        """Join key → dtype over all its views, in order of first use."""
        return {part.on[key]: dtype for part in self.selection for key, dtype in part.view.entity.join_keys.items()}

    @property
    def request(self) -> dict[str, str]:
        """Request field → dtype over all its on-demand views, in order of first use."""
        fields: dict[str, str] = {}
        for name, dtype in (one for view in self.on_demand for one in view.request.items()):
            fields.setdefault(name, dtype)
        return fields


def select(views: Sequence[AnyView] | Mapping[AnyView, Sequence[str]], where: str) -> tuple[Selection, ...]:
    """What is taken of some views.

    Raises:
        ContractError: two views of one name, a feature its view does not have, a join key of two types.
    """
    chosen = views if isinstance(views, Mapping) else dict.fromkeys(views, None)
    parts = []
    for given, names in chosen.items():
        named = given if isinstance(given, NamedView) else NamedView(given, given.name, {})
        view = named.view
        unknown = [name for name in names or () if name not in view.feature_names]
        if unknown:
            raise ContractError(
                f"{where}: {view.ref} has no feature {', '.join(map(repr, unknown))}; it has {', '.join(map(repr, view.feature_names))}"
            )
        features = view.feature_names if names is None else tuple(names)
        parts.append(
            Selection(view, features, named.name, MappingProxyType({key: named.on.get(key, key) for key in view.entity.join_keys}))
        )
    require_unique((part.name for part in parts), f"{where}: views")
    if not isinstance(views, Mapping) and len(chosen) != len(views):
        require_unique((view.name for view in views), f"{where}: views")
    kinds: dict[str, str] = {}
    for part in parts:
        for key, dtype in part.view.entity.join_keys.items():
            if kinds.setdefault(part.on[key], dtype) != dtype:
                column = part.on[key]
                raise ContractError(f"{where}: join key '{column}' is {kinds[column]} for one view and {dtype} for '{part.name}'")
    return tuple(parts)
