"""One view as it is joined: which of its features, at which version of its table, under which mode and name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from penstock.as_of import History, Mode
from penstock.contract.service import Selection
from penstock.contract.view import FeatureView
from penstock.errors import SpineError
from penstock.offline.lake import Lake, feature_table
from penstock.point_in_time.history import history_of


@dataclass(frozen=True)
class ViewJoin:
    """What is attached of one view.

    Args:
        view: which.
        features: which of its features, in order.
        mode: what counts as known.
        history: attempts, ledger and live_since.
        version: of its table.
        name: what its columns begin with.
        on: join key → the spine's column that holds it.
    """

    view: FeatureView
    features: tuple[str, ...]
    mode: Mode
    history: History
    version: int
    name: str
    on: Mapping[str, str]

    def column(self, feature: str) -> str:
        """The name of a joined feature: `<name>__<feature>`."""
        return f"{self.name}__{feature}"

    @property
    def columns(self) -> list[str]:
        """The names of all columns it adds, in order."""
        return [self.column(feature) for feature in self.features]


def view_joins(lake: Lake, selection: Sequence[Selection], mode: Mode, overrides: Mapping[str, Mode] | None = None) -> list[ViewJoin]:
    """What is attached of some views, at the newest version of each table.

    Args:
        lake: where the tables are.
        selection: the views.
        mode: what counts as known.
        overrides: view's name → another mode for it.

    Raises:
        SpineError: a mode is none, an override is of no view that is joined, or a view was never computed.
    """
    names = [part.name for part in selection]
    for name, wanted in {"": mode, **(overrides or {})}.items():
        if wanted not in get_args(Mode):
            raise SpineError(f"mode '{wanted}'{f' of {name}' if name else ''}: expected one of {', '.join(get_args(Mode))}")
        if name and name not in names:
            raise SpineError(f"a mode is given for '{name}', which is not joined; joined are {', '.join(names)}")
    found: dict[FeatureView, tuple[History, int]] = {}
    joins = []
    for part in selection:
        if part.view not in found:
            found[part.view] = _read(lake, part.view)
        history, version = found[part.view]
        joins.append(ViewJoin(part.view, part.features, (overrides or {}).get(part.name, mode), history, version, part.name, part.on))
    return joins


def _read(lake: Lake, view: FeatureView) -> tuple[History, int]:
    # History before version: every attempt and publication in it has its rows there, and rows of later ones do not count.
    history = history_of(lake, view)
    version = lake.version(feature_table(view))
    if version is None:
        raise SpineError(f"feature view {view.ref} has no table yet", hint="compute it first: backfill its asset")
    return history, version
