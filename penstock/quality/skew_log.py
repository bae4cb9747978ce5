"""Windows of the feature log and what was found in them: judged once each, and kept in `log/skew`.

    the hours since the last one judged, and each day once it has settled ──► replay ──► checks ──► log/skew

A window is judged once its log is in the lake. An hour is soon told; a day, of more rows, tells what is too rare for an hour.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import TableNotFoundError

from penstock.contract.service import FeatureService
from penstock.contract.skew import BUDGETS, Budget
from penstock.contract.view import FeatureView
from penstock.offline.lake import Lake, rows_where
from penstock.offline.logs import append_rows, read_rows
from penstock.offline.statistics import ColumnStatistics, Reference
from penstock.online.ledger import FIRST_GENERATION
from penstock.point_in_time.joined import Resources
from penstock.quality.beside_training import training_check
from penstock.quality.cases import Example
from penstock.quality.log_replay import ViewReplay, replay_log
from penstock.quality.served_log import COUNTS, SERVED, in_days, served_within
from penstock.quality.skew import A_RATE, Completeness, Level, SkewCheck, skew_checks, worst
from penstock.serving.feature_log import ALIVE

SKEW = "log/skew"
"""One row per window and fill of a view."""

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SETTLED = {HOUR: timedelta(minutes=5), DAY: timedelta(hours=1)}
"""How long after its end a window's log is all in the lake, corrections of the minutes before included."""

_HEARD_OF = ALIVE + SETTLED[HOUR]  # what a living gateway told last is no older, even if the segment of it is still open
_AT_MOST = {HOUR: 24, DAY: 7}  # windows back from now; older ones are in those of a day, or stay unjudged
_TIME = pa.timestamp("us", tz="UTC")
_SCHEMA = pa.schema(
    [
        ("since", _TIME),
        ("until", _TIME),
        ("judged_at", _TIME),
        ("view", pa.string()),
        ("version", pa.int64()),
        ("generation", pa.int64()),
        ("rows", pa.int64()),
        ("changes", pa.int64()),
        ("unserved", pa.int64()),
        ("late", pa.int64()),
        ("service", pa.string()),
        *((name, pa.string()) for name in ("findings", "differing", "compared", "attempts", "checks", "examples", "served")),
    ]
)


class SkewEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a window of the feature log says of one fill of a view version.

    Args:
        since, until: the window, by the time that values were judged at.
        judged_at: when.
        view, version, generation: which fill.
        service: of what this service was served alone, judged by its budgets; empty: of all that was served.
        rows, changes, unserved, late, findings, differing, compared, attempts, examples, served: see `log_replay.ViewReplay`;
            `served` of days alone.
        checks: what it came to.
    """

    since: datetime
    until: datetime
    judged_at: datetime
    view: str
    version: int
    generation: int
    rows: int
    changes: int
    unserved: int
    late: int
    findings: dict[str, int]
    differing: dict[str, int]
    compared: dict[str, int]
    attempts: dict[int, tuple[int, int]]
    checks: list[SkewCheck]
    examples: list[Example]
    served: dict[str, ColumnStatistics]
    service: str = ""

    @property
    def ref(self) -> str:
        """What was judged: a view as `name@version`, of a service alone after the service's name."""
        return f"{self.service}/{self.view}@{self.version}" if self.service else f"{self.view}@{self.version}"

    def is_of(self, view: FeatureView) -> bool:
        """Whether it is of all that was served of a view."""
        return (self.service, self.view, self.version) == ("", view.name, view.version)

    @property
    def level(self) -> Level:
        """What stands for all of its checks."""
        return worst(self.checks)


Window: TypeAlias = tuple[datetime, datetime]
"""Since and until."""

_JSON: dict[str, Any] = {
    "findings": dict[str, int],
    "differing": dict[str, int],
    "compared": dict[str, int],
    "attempts": dict[int, tuple[int, int]],
    "checks": list[SkewCheck],
    "examples": list[Example],
    "served": dict[str, ColumnStatistics],
}


def judged_windows(lake: Lake) -> list[Window]:
    """The windows that were judged, in order of time."""
    try:
        rows = rows_where(lake.dataset(SKEW), pc.scalar(True), ["since", "until"])
    except TableNotFoundError:
        return []
    different = rows.group_by(["since", "until"]).aggregate([]).to_pylist()  # each is there once for every view
    return sorted((row["since"].astimezone(UTC), row["until"].astimezone(UTC)) for row in different)


def due_windows(judged: Sequence[Window], now: datetime) -> list[Window]:
    """The windows that have settled and were not judged yet, oldest first: since and until.

    Those of an hour of the last day, those of a day of the last week; none before the first that was ever judged of its length. Where
    none was judged yet the newest is the first.

    Args:
        judged: those that were.
        now: the Clock's now.
    """
    found = [window for length in (HOUR, DAY) for window in _lacking(judged, now, length)]
    return sorted(found, key=lambda window: (window[1], window[0]))


def on_time(judged: Sequence[Window], now: datetime) -> Level:
    """Whether hours are judged at all: a warning where the oldest that lacks is an hour late, critical from two hours on."""
    if not any(until - since == HOUR for since, until in judged):
        return Level.INSUFFICIENT_DATA
    settled = _floor(now - SETTLED[HOUR], HOUR)
    behind = max((settled - since for since, _ in _lacking(judged, now, HOUR)), default=timedelta(0))
    return Level.CRITICAL if behind >= 3 * HOUR else Level.WARNING if behind >= 2 * HOUR else Level.PASSED


def _lacking(judged: Iterable[Window], now: datetime, length: timedelta) -> list[Window]:
    settled = _floor(now - SETTLED[length], length)
    known = {since for since, until in judged if until - since == length}
    first = min(known, default=settled - length)
    back = [settled - n * length for n in range(_AT_MOST[length], 0, -1)]
    return [(since, since + length) for since in back if since >= first and since not in known]


def judge_window(
    lake: Lake,
    views: Sequence[FeatureView],
    since: datetime,
    until: datetime,
    resources: Resources,
    now: datetime,
    trained: Mapping[FeatureView, Reference] = MappingProxyType({}),
    services: Sequence[FeatureService] = (),
) -> list[SkewEntry]:
    """What was served in `[since, until)`, judged view by view; a view of which nothing was served has an entry that says so.

    Args:
        services: those that have budgets of their own are judged by them, too.
        trained: view → the training set that it is compared with, where the window is of a day or more.
    """
    logged, is_day = completeness(lake, since, until), until - since >= DAY
    found = []
    for view in views:
        for seen in replay_log(lake, view, since, until, resources, statistics=is_day) or [_nothing(view)]:
            checks = skew_checks(seen, logged, view.skew.budgets)
            if is_day and view in trained:
                checks.append(training_check(view, trained[view], seen.served))
            found.append(_entry(seen, view, (since, until), checks, now))
    for service in services:
        for view in dict.fromkeys(part.view for part in service.selection if service.budgets and part.view in views):
            for seen in replay_log(lake, view, since, until, resources, service=service.name):
                checks = skew_checks(seen, logged, {**BUDGETS, **service.budgets})
                mine = [check for check in checks if check.name in service.budgets]
                found.append(_entry(seen, view, (since, until), mine, now, service.name))
    return found


def bad_attempts(entry: SkewEntry, budget: Budget) -> list[int]:
    """The attempts of which critically many served rows hold what the lake does not have."""
    return [attempt for attempt, (rows, bad) in entry.attempts.items() if bad >= A_RATE and bad / rows >= budget.critical]


def log_skew(lake: Lake, entries: Sequence[SkewEntry]) -> None:
    """Append entries, all in one commit."""
    rows = [
        {**msgspec.structs.asdict(entry), **{name: msgspec.json.encode(getattr(entry, name)).decode() for name in _JSON}}
        for entry in entries
    ]
    append_rows(lake, SKEW, pa.Table.from_pylist(rows, schema=_SCHEMA))


def skew_entries(lake: Lake, view: FeatureView | None = None, since: datetime | None = None) -> list[SkewEntry]:
    """What was found, of a view version or of all, by end of the window, then by view; from windows that end after `since`."""
    where = pc.scalar(True) if view is None else (pc.field("view") == view.name) & (pc.field("version") == view.version)
    if since is not None:
        where = where & (pc.field("until") > pa.scalar(since))
    found = [
        SkewEntry(
            **{
                **row,
                "service": row["service"] or "",
                **{name: row[name].astimezone(UTC) for name in ("since", "until", "judged_at")},
                **{name: msgspec.json.decode(row[name] or b"{}", type=kind) for name, kind in _JSON.items()},
            }
        )
        for row in read_rows(lake, SKEW, where)
    ]
    newest = {(e.since, e.until, e.service, e.view, e.version, e.generation): e for e in sorted(found, key=lambda e: e.judged_at)}
    return sorted(newest.values(), key=lambda e: (e.until, e.view, e.version, e.generation, e.service, e.since))


def newest_windows(entries: Iterable[SkewEntry]) -> list[SkewEntry]:
    """Of each fill of a view and each length of window the last, of entries in order of time."""
    return list({(e.ref, e.generation, e.until - e.since): e for e in entries}.values())


def completeness(lake: Lake, since: datetime, until: datetime) -> Completeness:
    """How much of what gateways counted as within the sample is in the log, and of which gateways nothing more is.

    A gateway counts by the second: of one that reaches over an end of the window nothing is expected. Of one that was heard of in the
    window, or in the one before, and has not ended, something is expected up to the window's end: what nobody counted cannot be missed.
    """
    before = since - (until - since)
    try:
        counts = lake.dataset(COUNTS).to_table(
            columns=["writer", "from", "until", "sampled"],
            filter=in_days(before, until) & (pc.field("until") > pa.scalar(before)) & (pc.field("from") < pa.scalar(until)),
        )
        rows = rows_where(lake.dataset(SERVED), served_within(since, until), ["request_id", "at", "row"])
    except TableNotFoundError:
        return Completeness(0, 0)
    within = counts.filter((pc.field("from") >= pa.scalar(since)) & (pc.field("until") <= pa.scalar(until)))
    sampled = pc.sum(within["sampled"]).as_py() or 0
    lacking = max(0, sampled - rows.group_by(["request_id", "at", "row"]).aggregate([]).num_rows)
    last = counts.group_by("writer").aggregate([("from", "max"), ("until", "max")]).to_pylist()
    silent = [
        (row["writer"], row["until_max"].astimezone(UTC))
        for row in last
        if row["from_max"] != row["until_max"] and row["until_max"] < until - _HEARD_OF  # a batch of no length is the writer's last
    ]
    return Completeness(sampled, lacking, tuple(sorted(silent)))


def _entry(
    seen: ViewReplay, view: FeatureView, window: tuple[datetime, datetime], checks: list[SkewCheck], now: datetime, service: str = ""
) -> SkewEntry:
    return SkewEntry(
        since=window[0],
        until=window[1],
        judged_at=now,
        view=view.name,
        version=view.version,
        generation=seen.generation,
        rows=seen.rows,
        changes=seen.changes,
        unserved=seen.unserved,
        late=seen.late,
        findings={str(finding): count for finding, count in seen.findings.items()},
        differing=dict(seen.differing),
        compared=dict(seen.compared),
        attempts=dict(seen.attempts),
        checks=checks,
        examples=list(seen.examples),
        served=dict(seen.served),
        service=service,
    )


def _nothing(view: FeatureView) -> ViewReplay:
    return ViewReplay(view.ref, FIRST_GENERATION, 0, 0, 0, 0, {}, {}, {}, 0)


def _floor(time: datetime, length: timedelta) -> datetime:
    return time - (time - datetime(1970, 1, 1, tzinfo=UTC)) % length
