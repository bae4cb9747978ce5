"""Which partitions late and corrected source rows reach, so that these are computed again and no others.

    commits since a partition was computed ──► changed rows ──► through its windows ──► (view, partition) to repair

A changed row at event time `e`, known from `k` on, is seen by rows of a view from `max(e, k - delay)` to `e + reach + every`: the
last window that holds it, and the step after, which is compared with it. A partition is stale where that meets what it holds, up to
its `complete_until`: what came after that was never in it, and is no repair but the next refresh.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType

import msgspec
import numpy as np
import pyarrow as pa
from deltalake.exceptions import DeltaError

from penstock.clock import MICROSECOND, to_micros
from penstock.contract.fingerprint import contract_fingerprint
from penstock.contract.source import Source
from penstock.contract.view import FeatureView
from penstock.errors import SourceError
from penstock.offline.changes import Change, anything, changes, note_changes
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import AttemptEntry, last_attempts, newest, passed
from penstock.offline.sources import table_name, version
from penstock.offline.watermark import DAY, start_of


class Stale(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that was computed from other source rows than there are now, or refused by other rules.

    Args:
        view, version, partition: which.
        because: source → how many of its changed rows may reach the partition; -1: it cannot be told which do.
        rules_changed: whether it was refused, and its contract has been changed since.
        automatic: whether it is repaired without being asked: it lies within the horizon.
    """

    view: str
    version: int
    partition: date
    because: dict[str, int]
    rules_changed: bool
    automatic: bool


class RepairPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to repair.

    Args:
        stale: the partitions, by view and day.
        late_rows: source → how many rows came late or were corrected, of those that reach a partition; -1: it cannot be told.
        unread: source → why its commits could not be looked at.
    """

    stale: list[Stale]
    late_rows: dict[str, int]
    unread: dict[str, str]

    def days(self, view: FeatureView, *, automatic_only: bool = False) -> list[date]:
        """The days of a view that are to be repaired."""
        mine = [one for one in self.stale if (one.view, one.version) == (view.name, view.version)]
        return [one.partition for one in mine if one.automatic or not automatic_only]

    def waiting(self, view: FeatureView) -> list[date]:
        """Those of them that are repaired only when asked: they lie before the horizon."""
        automatic = set(self.days(view, automatic_only=True))
        return [day for day in self.days(view) if day not in automatic]

    def problems(self, views: Iterable[FeatureView]) -> list[str]:
        """Which sources of some views could not be looked at and why, a sentence each: of them it is not known what they changed."""
        mine = {source.name for view in views for source in view.sources}
        return [f"source '{name}' cannot be looked at: {why}" for name, why in self.unread.items() if name in mine]


def repair_plan(lake: Lake, views: Sequence[FeatureView], now: datetime, horizon: timedelta) -> RepairPlan:
    """Look at the source commits nobody has looked at, and judge which partitions of some views they reach.

    Args:
        lake, views: where and of what.
        now: the Clock's now.
        horizon: how far before now partitions are repaired without being asked.
    """
    computed = {view: newest(last_attempts(lake, feature_table(view))) for view in views}
    unread: dict[str, str] = {}
    of_source: dict[str, list[Change]] = {}
    newest_version: dict[str, int] = {}
    for source in {source.name: source for view in views for source in view.sources}.values():
        table = table_name(source)
        read = [entry.inputs[table] for days in computed.values() for entry in days.values() if table in entry.inputs]
        if not read:
            continue
        try:
            newest_version[source.name] = version(lake, source)
            of_source[source.name] = _changes_of(lake, source, read, newest_version[source.name])
        except SourceError as error:
            unread[source.name] = error.message
        except (DeltaError, pa.ArrowException, OSError) as error:  # one table that cannot be read holds up no other
            unread[source.name] = f"{type(error).__name__}: {error}"
    since = (now - horizon).astimezone(UTC).date()
    stale: list[Stale] = []
    late: dict[str, set[Change]] = {}
    for view, days in computed.items():
        rules = contract_fingerprint(view)
        for day, because in stale_days(view, days, of_source, newest_version).items():
            stale.append(
                Stale(
                    view=view.name,
                    version=view.version,
                    partition=day,
                    because={name: _rows(changed) for name, changed in because.items()},
                    rules_changed=_was_refused_by_others(days[day], rules),
                    automatic=day >= since,
                )
            )
            for name, changed in because.items():
                late.setdefault(name, set()).update(changed)
    return RepairPlan(stale=stale, late_rows={name: _rows(changed) for name, changed in sorted(late.items())}, unread=unread)


def _rows(changed: Iterable[Change]) -> int:
    rows = [change.rows for change in changed]
    return -1 if min(rows) < 0 else sum(rows)


def _changes_of(lake: Lake, source: Source, read: Iterable[int], newest_version: int) -> list[Change]:
    """What its commits changed since the oldest version, of those that partitions were computed from."""
    if not _has_commits(source):
        return [anything(source, newest_version)]
    since = min((at for at in read if at <= newest_version), default=newest_version)
    note_changes(lake, source, since)
    return changes(lake, source, since)


def _has_commits(source: Source) -> bool:
    return source.table is None or source.table.format == "delta"


def stale_days(
    view: FeatureView,
    computed: Mapping[date, AttemptEntry],
    of_source: Mapping[str, Sequence[Change]],
    newest_version: Mapping[str, int] = MappingProxyType({}),
) -> dict[date, dict[str, list[Change]]]:
    """Day → source → the changes that may reach it, of the days of a view whose newest attempt read other rows than there are now, or
    was refused by other rules.

    Args:
        view: the view.
        computed: its newest attempt of each day, passed or refused: a refused day waits for just such a change.
        of_source: source name → what its commits changed.
        newest_version: source name → the version its table is at. Days computed from a later one read a table that was dropped since and
            made anew: any of their rows may be another.
    """
    rules = contract_fingerprint(view)
    found: dict[date, dict[str, list[Change]]] = {day: {} for day, entry in computed.items() if _was_refused_by_others(entry, rules)}
    for source in view.sources:
        for day, changed in _reached(view, source, computed, of_source.get(source.name, ())).items():
            found.setdefault(day, {})[source.name] = changed
        if _has_commits(source) and source.name in newest_version:
            at, table = newest_version[source.name], table_name(source)
            for day in [day for day, entry in computed.items() if entry.inputs.get(table, at) > at]:
                found.setdefault(day, {})[source.name] = [anything(source, at)]
    return dict(sorted(found.items()))


def _was_refused_by_others(entry: AttemptEntry, rules: str) -> bool:
    """Whether an attempt was refused, and by other rules than these."""
    return not passed(entry) and entry.rules != rules


def _reached(
    view: FeatureView, source: Source, computed: Mapping[date, AttemptEntry], changed: Sequence[Change]
) -> dict[date, list[Change]]:
    if not changed:
        return {}
    delay, after = view.delay // MICROSECOND, (view.reach + (view.every or timedelta(0))) // MICROSECOND
    at, mends = np.array([change.version for change in changed]), np.array([change.mends for change in changed])
    begin = np.array([change.first_known_us for change in changed]) - delay
    if view.compute is None:  # a function may use what is yet to happen; a window ends before
        begin = np.maximum(begin, [change.first_event_us for change in changed])
    end = np.array([change.last_event_us for change in changed]) + after
    found: dict[date, list[Change]] = {}
    for day, entry in computed.items():
        read = entry.inputs.get(table_name(source))
        if read is None:
            continue
        is_newer = at > read if _has_commits(source) else at != read  # the version of files is a digest
        held_until = min(to_micros(start_of(day) + DAY) - 1, to_micros(entry.complete_until))
        reach = is_newer & ((begin <= held_until) & (end >= to_micros(start_of(day))) | mends & (not passed(entry)))
        if reach.any():
            found[day] = [changed[n] for n in np.flatnonzero(reach).tolist()]
    return found
