"""What somebody should look at: conditions there are now, and the alerts they make, each kept from its opening to its end.

    skew, freshness, refused partitions, failed runs ──► conditions ──► follow ──► events ──► sinks, log/alerts
                                                    log/alerts ──► open alerts ──┘

An alert is a fold over its events. A critical condition opens one at once. A warning of a window opens one if two of the last three
windows with a verdict warned, and closes once fewer do: one bad hour is no trend. Windows with too few rows change nothing. What could
not be looked at is a condition, too, and while it is there the alerts it hides stay as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal

import msgspec
import pyarrow as pa

from penstock.clock import MICROSECOND
from penstock.offline.lake import Lake
from penstock.offline.logs import append_rows, read_rows
from penstock.quality.skew import Level
from penstock.quality.skew_log import HOUR, SkewEntry

ALERTS = "log/alerts"
"""One row per event."""

REMIND_AFTER = timedelta(hours=1)
"""How long after it was last told a critical alert that nobody acknowledged is told again."""

What = Literal["opened", "worse", "better", "resolved", "acknowledged", "reminded"]
_RANK = {Level.PASSED: 0, Level.WARNING: 1, Level.CRITICAL: 2}
_OF_THE_LAST, _THAT_WARN = 3, 2
_TIME = pa.timestamp("us", tz="UTC")
_SCHEMA = pa.schema([("at", _TIME), *((name, pa.string()) for name in ("key", "what", "level", "said", "by"))])


@dataclass(frozen=True)
class Condition:
    """Something that is not as it should be.

    Args:
        key: what it is about; one alert at a time is open of a key, e.g. `skew:route_delays@1:staleness`.
        level: WARNING or CRITICAL.
        said: in a sentence.
        hides: of which keys nothing is known while it is there, as `fnmatch` takes them, e.g. `canary:*`; empty: of none.
    """

    key: str
    level: Level
    said: str
    hides: str = ""


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to an alert.

    Args:
        at: when.
        key, level, said: as the condition had them then; of an end, as they were before.
        what: what happened.
        by: who acknowledged it.
    """

    at: datetime
    key: str
    what: What
    level: Level
    said: str
    by: str = ""


@dataclass(frozen=True)
class Alert:
    """An alert that is open.

    Args:
        key, level, said: its condition, as it was last told.
        since, told_at: when it was opened, and last told.
        acknowledged_by: who has it; empty: nobody.
    """

    key: str
    level: Level
    said: str
    since: datetime
    told_at: datetime
    acknowledged_by: str = ""


def open_alerts(events: Iterable[AlertEvent]) -> dict[str, Alert]:
    """Key → the alert that is open of it."""
    found: dict[str, Alert] = {}
    for event in sorted(events, key=lambda event: event.at):
        known = found.get(event.key)
        if event.what == "resolved":
            found.pop(event.key, None)
        elif event.what == "acknowledged":
            if known is not None:
                found[event.key] = Alert(known.key, known.level, known.said, known.since, known.told_at, event.by)
        else:
            # What got worse is news, whoever had it before.
            by = known.acknowledged_by if known is not None and event.what != "worse" else ""
            found[event.key] = Alert(event.key, event.level, event.said, known.since if known else event.at, event.at, by)
    return found


def follow(known: Mapping[str, Alert], conditions: Iterable[Condition], now: datetime) -> list[AlertEvent]:
    """What happens to alerts, with the conditions there are now; one ends where its condition is gone, and nothing hides its key.

    Args:
        known: those that are open.
        conditions: of each key one at most.
        now: the Clock's now.
    """
    there = {condition.key: condition for condition in conditions}
    events = []
    for condition in there.values():
        alert = known.get(condition.key)
        what: What | None = None
        if alert is None:
            what = "opened"
        elif condition.level is not alert.level:
            what = "worse" if _RANK[condition.level] > _RANK[alert.level] else "better"
        elif condition.level is Level.CRITICAL and not alert.acknowledged_by and now - alert.told_at >= REMIND_AFTER:
            what = "reminded"
        if what is not None:
            events.append(AlertEvent(at=now, key=condition.key, what=what, level=condition.level, said=condition.said))
    hidden = [condition.hides for condition in there.values()]
    ended = [alert for key, alert in known.items() if key not in there and not any(fnmatchcase(key, keys) for keys in hidden)]
    return [*events, *(AlertEvent(at=now, key=alert.key, what="resolved", level=alert.level, said=alert.said) for alert in ended)]


def next_time(events: Sequence[AlertEvent], now: datetime) -> datetime:
    """When something happens that follows these events: now, and after them also where the Clock stands still."""
    return max([now, *(event.at + MICROSECOND for event in events[-1:])])


@dataclass(frozen=True)
class _Verdict:
    since: datetime
    until: datetime
    level: Level
    said: str


def skew_conditions(entries: Sequence[SkewEntry]) -> list[Condition]:
    """What windows of the feature log say that should be looked at, by view, check and length of the window.

    A day holds the rows of its hours. So where an hour of it was told at the same level or a worse one, the day says nothing of that check:
    hours say when it is over, and a fault that was mended by day would be news again at night. A day that is worse than they were counts.

    Args:
        entries: of each day all the hours that were judged, too.
    """
    verdicts: dict[tuple[str, int], dict[timedelta, list[_Verdict]]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.ref, entry.generation, entry.until)):
        for check in entry.checks:
            if check.level is not Level.INSUFFICIENT_DATA:
                of = verdicts.setdefault((f"skew:{entry.ref}:{check.name}", entry.generation), {})
                verdict = _Verdict(entry.since, entry.until, check.level, _said(entry, check.said))
                of.setdefault(entry.until - entry.since, []).append(verdict)
    found: dict[str, Condition] = {}
    for (key, _), of in verdicts.items():
        told = _told(key, of.get(HOUR, []))
        for length, windows in sorted(of.items()):
            news = windows if length <= HOUR else [window for window in windows if not _was_told(window, told)]
            condition = _condition(key, news)
            if condition is not None and (key not in found or _RANK[condition.level] > _RANK[found[key].level]):
                found[key] = condition
    return list(found.values())


def _told(key: str, hours: Sequence[_Verdict]) -> list[_Verdict]:
    """The bad hours that an alert told: a warning alone makes none."""
    bad = [(n, hour) for n, hour in enumerate(hours, start=1) if hour.level is not Level.PASSED]
    return [hour for n, hour in bad if _condition(key, hours[max(0, n - _OF_THE_LAST) : n]) is not None]


def _was_told(day: _Verdict, told: Iterable[_Verdict]) -> bool:
    within = [hour for hour in told if day.since <= hour.since and hour.until <= day.until]
    return day.level is not Level.PASSED and any(_RANK[hour.level] >= _RANK[day.level] for hour in within)


def _condition(key: str, verdicts: Sequence[_Verdict]) -> Condition | None:
    if not verdicts:
        return None
    last = verdicts[-1]
    if last.level is Level.CRITICAL:
        return Condition(key, last.level, last.said)
    bad = [verdict for verdict in verdicts[-_OF_THE_LAST:] if verdict.level is not Level.PASSED]
    return Condition(key, Level.WARNING, bad[-1].said) if len(bad) >= _THAT_WARN else None


def _said(entry: SkewEntry, said: str) -> str:
    return f"{said}; {entry.since:%Y-%m-%d %H:%M} to {entry.until:%H:%M} UTC"


def log_alerts(lake: Lake, events: Sequence[AlertEvent]) -> None:
    """Append events, all in one commit."""
    append_rows(lake, ALERTS, pa.Table.from_pylist([msgspec.structs.asdict(event) for event in events], schema=_SCHEMA))


def alert_events(lake: Lake) -> list[AlertEvent]:
    """All that happened to alerts, in order."""
    rows = read_rows(lake, ALERTS, None)
    found = [AlertEvent(**{**row, "at": row["at"].astimezone(UTC), "level": Level(row["level"])}) for row in rows]
    return sorted(found, key=lambda event: (event.at, event.key))
