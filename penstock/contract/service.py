"""A feature service: the features one model asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from penstock.contract.rules import require_name, require_unique
from penstock.contract.view import FeatureView
from penstock.errors import ContractError


@dataclass(frozen=True, eq=False)
class FeatureService:
    """The features one model asks for, view versions included.

    Args:
        name: e.g. `arrival_delay`.
        views: the views, all of whose features are served, or view → the features wanted.
        owner: team or person to ask.
        description: one sentence for people.

    Raises:
        ContractError: a view twice, a feature its view does not have.
    """

    name: str
    views: Sequence[FeatureView] | Mapping[FeatureView, Sequence[str]] = field(kw_only=True)
    owner: str = field(kw_only=True)
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        where = f"feature service '{self.name}'"
        require_name(self.name, "feature service")
        views = list(self.views)
        if not views:
            raise ContractError(f"{where}: no views")
        require_unique((view.name for view in views), f"{where}: views")
        chosen = self.views if isinstance(self.views, Mapping) else {view: view.feature_names for view in views}
        for view, names in chosen.items():
            unknown = [name for name in names if name not in view.feature_names]
            if unknown:
                raise ContractError(
                    f"{where}: {view.ref} has no feature {', '.join(map(repr, unknown))}; it has {', '.join(map(repr, view.feature_names))}"
                )
        object.__setattr__(self, "views", MappingProxyType({view: tuple(names) for view, names in chosen.items()}))

    @property
    def selection(self) -> Mapping[FeatureView, tuple[str, ...]]:
        """View → the features wanted of it, in order."""
        assert isinstance(self.views, Mapping)
        return self.views  # type: ignore[return-value]

    @property
    def join_keys(self) -> dict[str, str]:
        """Join key → dtype over all its entities, in order of first use."""
        keys: dict[str, str] = {}
        for view in self.selection:
            keys.update(view.entity.join_keys)
        return keys
