"""Skew: what the replay of a stretch of the feature log says, check by check, each with a level of its own.

| check | counts, of the rows that were served | warning | critical |
| --- | --- | --- | --- |
| `fidelity` | the stored value is of no row of the lake, or of another type | any row | 5 rows |
| `staleness` | the key had a newer value, readable before | 0.5 % | 1 % |
| `presence` | nothing was found where the lake has a value, or a value where it has none | 0.1 % | 1 % |
| `values` | of one feature, the worst: another value than training would be given | 0.5 % | 1 % |
| `age` | served as later than the view's freshness SLA | 0.1 % | 1 % |
| `log` | within the log's sample, and not in the log: what the other checks cannot see | 0.1 % | 1 % |

A share is of rows, and critical only from five rows on: one row of a hundred is no rate. Where no limit is met, it takes 459 different
rows of the table to say `passed`: with fewer, a fault on one row in a hundred stays unseen more than once in a hundred times
(n = ln 0.01 / ln 0.99), which is `insufficient_data` and never passed. `log` warns as well where a gateway process has fallen silent
without having ended: its rows lack, and nobody knows how many.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from penstock.contract.skew import BUDGETS, Budget
from penstock.quality.findings import Finding
from penstock.quality.log_replay import ViewReplay

TRAINING = "training"
"""One more check, of settled days alone: what `beside_training` says of the view's features."""

CHECKS = (*BUDGETS, TRAINING)
"""All checks there may be of a window, in the order they are shown in."""

ENOUGH = 459
"""Different rows of a table that must have been served before their being right says something of the others."""

A_RATE = 5
"""Rows from which on a share of them can be critical."""

_NAMED = 3  # gateway processes, in a sentence


class Level(StrEnum):
    """What a check came to."""

    PASSED = "passed"
    WARNING = "warning"
    CRITICAL = "critical"
    INSUFFICIENT_DATA = "insufficient_data"
    """Too few rows to say anything: neither passed nor failed."""


@dataclass(frozen=True)
class Completeness:
    """How much of what was to be logged in a stretch is in the log.

    Args:
        sampled: rows of answers within the log's sample, as gateways counted them.
        lacking: how many of these are not in the log: dropped by a gateway, or lost since.
        silent: gateway processes that have not ended and of which the log has nothing up to the stretch's end, with the time up to
            which it has.
    """

    sampled: int
    lacking: int
    silent: tuple[tuple[str, datetime], ...] = ()


@dataclass(frozen=True)
class SkewCheck:
    """One check of one stretch of the log.

    Args:
        name, level: which, and what it came to.
        bad, rows: how many rows are bad, of how many.
        said: in a sentence.
    """

    name: str
    level: Level
    bad: int
    rows: int
    said: str

    @property
    def verdict(self) -> str:
        """The level for people, with how many rows are bad, if any is."""
        return self.level.replace("_", " ") + (f" ({self.bad:,})" if self.bad else "")


_COUNTS: Mapping[str, tuple[str, Callable[[ViewReplay], int]]] = {
    "fidelity": ("hold a value that the lake does not have", lambda seen: _of(seen, Finding.VALUE, Finding.TYPE)),
    "staleness": ("are older than what was readable", lambda seen: _of(seen, Finding.STALE)),
    "presence": ("are missing, or should not be there", lambda seen: _of(seen, Finding.MISSING, Finding.EXTRA)),
    "age": ("were later than the view's freshness SLA", lambda seen: seen.late),
}


def skew_checks(seen: ViewReplay, logged: Completeness, budgets: Mapping[str, Budget] = BUDGETS) -> list[SkewCheck]:
    """The checks on one fill of a view in a stretch of the log, in the order of the table above.

    Args:
        seen: its replay.
        logged: how much of what was to be logged is in the log.
        budgets: check → its limits.
    """
    found = [_judged(name, what, count(seen), seen, budgets[name]) for name, (what, count) in _COUNTS.items()]
    if seen.unjudged and found[0].level is Level.PASSED:
        few = f"{found[0].said}, and {seen.unjudged:,} that differ were not looked at one by one: too many do"
        found[0] = replace(found[0], level=Level.INSUFFICIENT_DATA, said=few)
    found.insert(3, _values(seen, budgets["values"]))
    return [*found, _log(seen.view, logged, budgets["log"])]


def worst(checks: Iterable[SkewCheck]) -> Level:
    """The level that stands for all of them: what is critical, else what warns, else what cannot be told."""
    levels = {check.level for check in checks}
    order = (Level.CRITICAL, Level.WARNING, Level.INSUFFICIENT_DATA, Level.PASSED)
    return next((level for level in order if level in levels), Level.INSUFFICIENT_DATA)


def _values(seen: ViewReplay, budget: Budget) -> SkewCheck:
    shares = {name: (seen.differing.get(name, 0) / rows, name) for name, rows in seen.compared.items() if rows}
    _, name = max(shares.values(), default=(0.0, ""))
    bad, rows = seen.differing.get(name, 0), seen.compared.get(name, 0)
    what = f"{seen.view}.{name}: {bad:,} of {rows:,} values are not what training is given"
    return _level("values", bad, rows, what if name else f"{seen.view}: no feature was served", seen.changes, budget)


def _judged(name: str, what: str, bad: int, seen: ViewReplay, budget: Budget) -> SkewCheck:
    return _level(name, bad, seen.rows, f"{seen.view}: {bad:,} of {seen.rows:,} rows {what}", seen.changes, budget)


def _log(view: str, logged: Completeness, budget: Budget) -> SkewCheck:
    said = f"{view}: {logged.lacking:,} of {logged.sampled:,} rows of all views that were to be logged are not in the log"
    found = _level("log", logged.lacking, logged.sampled, said, ENOUGH if logged.sampled else 0, budget)
    if not logged.silent:
        return found
    some = ", ".join(f"{writer} since {heard:%Y-%m-%d %H:%M} UTC" for writer, heard in logged.silent[:_NAMED])
    more = f" and {len(logged.silent) - _NAMED} more" if len(logged.silent) > _NAMED else ""
    silent = f"{found.said}; of gateway processes that have not ended nothing was brought to the lake: {some}{more}"
    return replace(found, level=Level.CRITICAL if found.level is Level.CRITICAL else Level.WARNING, said=silent)


def _level(name: str, bad: int, rows: int, said: str, changes: int, budget: Budget) -> SkewCheck:
    share = bad / rows if rows else 0.0
    if bad >= A_RATE and share >= budget.critical:
        return SkewCheck(name, Level.CRITICAL, bad, rows, f"{said} ({share:.2%}; critical from {budget.critical:.2%})")
    if bad and share >= budget.warning:
        return SkewCheck(name, Level.WARNING, bad, rows, f"{said} ({share:.2%}; a warning from {budget.warning:.2%})")
    if changes < ENOUGH:
        few = f"{said}, of {changes:,} different ones; {ENOUGH} are needed to say that it is in order"
        return SkewCheck(name, Level.INSUFFICIENT_DATA, bad, rows, few)
    return SkewCheck(name, Level.PASSED, bad, rows, said)


def _of(seen: ViewReplay, *findings: Finding) -> int:
    return sum(seen.findings.get(finding, 0) for finding in findings)
