"""A feature service: the features one model asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from penstock.contract.named_view import NamedView
from penstock.contract.rules import require_name, require_unique
from penstock.contract.view import FeatureView
from penstock.errors import ContractError

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
        owner: team or person to ask.
        description: one sentence for people.

    Raises:
        ContractError: two views of one name, a feature its view does not have, a join key of two types.
    """

    name: str
    views: Sequence[AnyView] | Mapping[AnyView, Sequence[str]] = field(kw_only=True)
    owner: str = field(kw_only=True)
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        where = f"feature service '{self.name}'"
        require_name(self.name, "feature service")
        if not list(self.views):
            raise ContractError(f"{where}: no views")
        object.__setattr__(self, "_selection", select(self.views, where))

    @property
    def selection(self) -> tuple[Selection, ...]:
        """What it takes of each view, in order."""
        chosen: tuple[Selection, ...] = self.__dict__["_selection"]
        return chosen

    @property
    def join_keys(self) -> dict[str, str]:
        """Join key → dtype over all its views, in order of first use."""
        return {part.on[key]: dtype for part in self.selection for key, dtype in part.view.entity.join_keys.items()}


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
