"""A view under another name and for other columns: the weather at a flight's destination, beside that at its origin."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from penstock.contract.rules import require_name
from penstock.errors import ContractError

if TYPE_CHECKING:
    from penstock.contract.view import FeatureView


@dataclass(frozen=True, eq=False)
class NamedView:
    """A view as a service takes it; made by `FeatureView.named`.

    Args:
        view: which.
        name: what its features' names begin with.
        on: the view's join key → the service's join key that holds it; keys left out keep their name.

    Raises:
        ContractError: a bad name, or `on` names what is no join key of the view.
    """

    view: "FeatureView"
    name: str
    on: Mapping[str, str]

    def __post_init__(self) -> None:
        where = f"feature view '{self.view.name}' named '{self.name}'"
        require_name(self.name, "feature view")
        unknown = [key for key in self.on if key not in self.view.entity.join_keys]
        if unknown:
            keys = ", ".join(map(repr, self.view.entity.join_keys)) or "none"
            raise ContractError(f"{where}: on= names {', '.join(map(repr, unknown))}; the view's join keys are {keys}")
        for column in self.on.values():
            require_name(column, f"{where}: join key")
        object.__setattr__(self, "on", MappingProxyType(dict(self.on)))
