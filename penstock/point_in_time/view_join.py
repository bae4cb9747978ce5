"""One view as it is joined: which of its features, at which version of its table, under which mode and name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import get_args

from penstock.as_of import History, Mode
from penstock.contract.service import Selection
from penstock.contract.view import FeatureView
from penstock.errors import SpineError
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import LogVersions
from penstock.point_in_time.history import history_of


@dataclass(frozen=True)
class ViewJoin:
    """What is attached of one view.

    Args:
        view: which.
        features: which of its features, in order.
        mode: what counts as known.
        ttl: how old a row may be at most, or None: the view's, or the one that answers were served by.
        history: attempts, ledger and live_since.
        version: of its table.
        name: what its columns begin with.
        on: join key → the spine's column that holds it.
        full_names: whether its columns begin with `name`.
        with_times: whether two more columns tell, of the row that was used, its event time and from when it was known:
            `<name>__event_time` and `<name>__known_at`.
    """

    view: FeatureView
    features: tuple[str, ...]
    mode: Mode
    ttl: timedelta | None
    history: History
    version: int
    name: str
    on: Mapping[str, str]
    full_names: bool = True
    with_times: bool = False

    def column(self, feature: str) -> str:
        """The name of a joined feature: `<name>__<feature>`, or the feature's own."""
        return f"{self.name}__{feature}" if self.full_names else feature

    @property
    def columns(self) -> list[str]:
        """The names of all columns it adds, in order."""
        return [*(self.column(feature) for feature in self.features), *self.times]

    @property
    def times(self) -> list[str]:
        """The names of the columns that tell of times."""
        return [f"{self.name}__event_time", f"{self.name}__known_at"] if self.with_times else []


def view_joins(
    lake: Lake,
    selection: Sequence[Selection],
    mode: Mode,
    overrides: Mapping[str, Mode] | None = None,
    *,
    full_feature_names: bool = True,
    logs: LogVersions | None = None,
    versions: Mapping[str, int] | None = None,
) -> list[ViewJoin]:
    """What is attached of some views: at the newest version of each table and log, or at those that are given.

    Args:
        lake: where the tables are.
        selection: the views.
        mode: what counts as known.
        overrides: view's name → another mode for it.
        full_feature_names: whether columns begin with the view's name; else a feature that two views have is refused.
        logs, versions: of both logs, and view's name → of its table: what a manifest pins.

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
            found[part.view] = _read(lake, part.view, logs, (versions or {}).get(part.name))
        history, version = found[part.view]
        of_view = (overrides or {}).get(part.name, mode)
        joins.append(ViewJoin(part.view, part.features, of_view, part.view.ttl, history, version, part.name, part.on, full_feature_names))
    return joins


def _read(lake: Lake, view: FeatureView, logs: LogVersions | None, pinned: int | None) -> tuple[History, int]:
    # History before version: every attempt and publication in it has its rows there, and rows of later ones do not count.
    history = history_of(lake, view, logs)
    version = lake.version(feature_table(view)) if pinned is None else pinned
    if version is None:
        raise SpineError(f"feature view {view.ref} has no table yet", hint="compute it first: backfill its asset")
    return history, version
