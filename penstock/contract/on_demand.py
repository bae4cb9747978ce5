"""An on-demand view: features computed at the request, of what other views hold and of what only the caller knows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from penstock.contract.function import Columns, FunctionSource, source_of
from penstock.contract.rules import require_name, require_not_reserved, require_unique
from penstock.contract.service import AnyView, Selection, select
from penstock.contract.view_parts import Feature
from penstock.dtypes import FEATURE_DTYPES, is_list, require_dtype
from penstock.errors import ContractError


@dataclass(frozen=True, eq=False)
class OnDemandView:
    """Features computed by a function of numpy columns, the same in the gateway and in joins.

    Args:
        name: e.g. `schedule_slack`; its features are `<name>__<feature>`.
        version: raised when the logic changes; from 1.
        owner: team or person to ask.
        inputs: the views, all of whose features the function takes, or view → the features it takes; the columns are called
            `<view>__<feature>`. A service that has this view has these features too.
        request: field → dtype, given by the caller beside the join keys of each row, and by a spine as columns; it may be a join key.
        features: what the function gives.
        compute: a function at the top of a module that imports numpy and `penstock.contract` alone: columns → columns, row by row.
        handles_nulls: False: a row with a null among the columns gets null features, and the function does not see it. True: it
            sees all rows, each column as a masked array whose mask says where it is null.
        description: one sentence for people.

    Raises:
        ContractError: a rule is broken; names view, field, value and rule.
    """

    name: str = field(kw_only=True)
    version: int = field(kw_only=True)
    owner: str = field(kw_only=True)
    inputs: Sequence[AnyView] | Mapping[AnyView, Sequence[str]] = field(default=(), kw_only=True)
    request: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    features: tuple[Feature, ...] | list[Feature] = field(kw_only=True)
    compute: Callable[[Columns], Columns] = field(kw_only=True)
    handles_nulls: bool = field(default=False, kw_only=True)
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        where = f"on-demand view '{self.name}'"
        require_name(self.name, "on-demand view")
        if not isinstance(self.version, int) or self.version < 1:
            raise ContractError(f"{where}: version {self.version!r}; versions are whole numbers from 1")
        object.__setattr__(self, "_selection", select(self.inputs, where))
        object.__setattr__(self, "request", MappingProxyType(dict(self.request)))
        object.__setattr__(self, "features", tuple(self.features))
        for name, dtype in self.request.items():
            require_name(name, f"{where}: request field")
            require_dtype(dtype, f"{where}: request field '{name}'")
        require_not_reserved(self.request, where)
        if not self.columns or not self.features:
            raise ContractError(f"{where}: it needs inputs= or request=, and features=[Feature(...), ...] that say what its function gives")
        require_unique((f.name for f in self.features), f"{where}: features")
        require_not_reserved((f.name for f in self.features), where)
        for name, dtype in [*self.columns, *((f.name, f.dtype) for f in self.features)]:
            if is_list(dtype) or dtype not in FEATURE_DTYPES:
                raise ContractError(f"{where}: '{name}' is {dtype}; a column is one of {', '.join(sorted(FEATURE_DTYPES))}")
        for f in self.features:
            if (f.default, f.minimum, f.maximum, f.null_budget, f.allowed, f.nullable) != (None, None, None, None, (), True):
                raise ContractError(
                    f"{where}: feature '{f.name}' has a default, a range, a set, a null budget or nullable=False; those are for stored"
                    " values: what is computed at the request follows from its inputs"
                )
        object.__setattr__(self, "_function", source_of(self.compute, where))

    @property
    def selection(self) -> tuple[Selection, ...]:
        """What it takes of each view."""
        chosen: tuple[Selection, ...] = self.__dict__["_selection"]
        return chosen

    @property
    def function(self) -> FunctionSource:
        """Its function, as the text of its module was when the view was defined."""
        source: FunctionSource = self.__dict__["_function"]
        return source

    @property
    def taken(self) -> tuple[tuple[str, str], ...]:
        """Name and dtype of the features it takes, in order."""
        return tuple(
            (f"{part.name}__{feature.name}", feature.dtype)
            for part in self.selection
            for name in part.features
            for feature in part.view.features
            if feature.name == name
        )

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Name and dtype of all that its function takes: features, then request fields."""
        return (*self.taken, *self.request.items())

    @property
    def ref(self) -> str:
        """Name and version as people write them: `schedule_slack@1`."""
        return f"{self.name}@{self.version}"
