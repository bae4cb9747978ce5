"""What windows of the feature log came to, as a page: which features differed when, how late rows were, and examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby
from types import MappingProxyType

from penstock.contract.view import FeatureView
from penstock.offline.logs import AttemptEntry
from penstock.offline.statistics import ColumnStatistics, Reference
from penstock.online.ledger import Publication
from penstock.quality.cases import Example
from penstock.quality.distribution_pictures import distribution_parts
from penstock.quality.findings import SAME, Finding
from penstock.quality.skew import CHECKS, ENOUGH, Level
from penstock.quality.skew_log import HOUR, SkewEntry, newest_windows
from penstock.quality.time_lines import freshness_line, null_map
from penstock.report.charts import READABLE, heat, lines
from penstock.report.page import Heading, Numbers, Part, Picture, Table, Text, page

_EXAMPLES = 20


@dataclass(frozen=True)
class Beside:
    """What is shown of a view beside its windows.

    Args:
        references: what its newest settled day, as it was served, is drawn beside; the first is what it is compared with.
        days: day → feature → what the lake's rows of it are like.
        publications: its ledger rows.
        attempts: day → its newest attempt.
    """

    references: Sequence[Reference] = ()
    days: Mapping[date, Mapping[str, ColumnStatistics]] = field(default_factory=dict)
    publications: Sequence[Publication] = ()
    attempts: Mapping[date, AttemptEntry] = field(default_factory=dict)


def skew_page(entries: Sequence[SkewEntry], title: str, subtitle: str, beside: Mapping[FeatureView, Beside] = MappingProxyType({})) -> str:
    """The page as HTML.

    Args:
        entries: of some views, in any order.
        title, subtitle: above all.
        beside: view → what else is shown of it.
    """
    views = {(view.name, view.version): view for view in beside}
    entries = sorted(entries, key=lambda entry: (entry.view, entry.version, entry.generation, entry.until, entry.since))
    levels = [entry.level for entry in entries]
    parts: list[Part] = [
        Text(
            "What gateways served is compared, row by row, with what a training set is given for the same keys at the same times. A window "
            f"has passed only if {ENOUGH} different rows of the view's table were served in it and none of its limits is met."
        ),
        Numbers(
            [
                (f"{len({(e.since, e.until) for e in entries})}", "windows judged"),
                (f"{levels.count(Level.CRITICAL)}", "critical"),
                (f"{levels.count(Level.WARNING)}", "warnings"),
                (f"{levels.count(Level.INSUFFICIENT_DATA)}", "with too few rows to tell"),
                (f"{sum(entry.rows for entry in entries):,}", "rows compared"),
            ]
        ),
        Heading("How it is now"),
        Text("The newest window of an hour, and the newest of a day."),
        Table(
            ["feature view", "window (UTC)", "rows", "different", *CHECKS],
            [_verdicts(entry) for entry in newest_windows(entries)],
            left=(1,),
        ),
    ]
    of_all = [entry for entry in entries if not entry.service]
    for _, of_view in groupby(of_all, key=lambda entry: (entry.view, entry.version, entry.generation)):
        windows = list(of_view)
        parts += _of_view(windows)
        view = views.get((windows[0].view, windows[0].version))
        if view is not None:
            parts += _more(view, windows, beside[view])
    return page(title, subtitle, parts)


def _verdicts(entry: SkewEntry) -> list[str]:
    of = {check.name: check for check in entry.checks}
    levels = [of[name].verdict if name in of else "-" for name in CHECKS]
    return [entry.ref, _window(entry), f"{entry.rows:,}", f"{entry.changes:,}", *levels]


def _of_view(entries: Sequence[SkewEntry]) -> list[Part]:
    hours = [entry for entry in entries if entry.until - entry.since == HOUR] or list(entries)
    features = sorted({name for entry in hours for name in entry.compared})
    parts: list[Part] = [Heading(f"{hours[-1].view}@{hours[-1].version}")]
    if not features:
        return [*parts, Text("Nothing of it was served.")]
    ever = [name for name in features if any(entry.differing.get(name) for entry in hours)]
    shown = features if len(features) <= READABLE else ever[:READABLE]  # of too many those that differed
    if len(features) > len(shown):
        others = len(ever) - len(shown) if ever else 0
        equal = f"{len(features) - len(ever)} of {len(features)} features were never another than training is given."
        parts.append(Text(f"{equal} {others} more differed and are left out of the picture." if others else equal))
    if shown:
        shares = [[_share(entry.differing.get(name, 0), entry.compared.get(name, 0)) for entry in hours] for name in shown]
        parts.append(
            Picture(
                heat(shown, [_time(entry.since, hours) for entry in hours], shares),
                "Share of a feature's served values that are not what training is given, by window; grey: none was served.",
            )
        )
    parts.append(Picture(_time_lines(hours), "Rows that were late, older than what was readable, or missing, by window, in percent."))
    lines_of = [_example(one) for entry in reversed(entries) for one in entry.examples if one.finding not in SAME][:_EXAMPLES]
    if lines_of:
        parts.append(Table(["at (UTC)", "key", "finding", "served", "by the lake", "event times"], lines_of, left=(1, 2, 3, 4, 5)))
    return parts


def _more(view: FeatureView, windows: Sequence[SkewEntry], beside: Beside) -> list[Part]:
    mine = [row for row in beside.publications if row.generation == windows[-1].generation]
    parts = freshness_line(view, mine, min(entry.since for entry in windows), windows[-1].until)
    parts += [*_contract(beside.attempts), *null_map(beside.days, view.feature_names)]
    day = next((entry for entry in reversed(windows) if entry.served), None)
    if day is not None:
        parts += distribution_parts(view, Reference(f"served on {day.since:%Y-%m-%d}", day.served), beside.references)
    return parts


def _contract(attempts: Mapping[date, AttemptEntry]) -> list[Part]:
    """The days that were refused or warned of, and why."""
    odd = {day: entry for day, entry in attempts.items() if entry.reasons or entry.warnings}
    if not odd:
        return [Text(f"All {len(attempts)} day(s) that were computed kept the view's contract.")] if attempts else []
    told = [
        [f"{day}", "refused" if entry.reasons else "committed, with a warning", "; ".join([*entry.reasons, *entry.warnings])]
        for day, entry in odd.items()
    ]
    return [Table(["day", "contract", "why"], told, left=(1, 2)), Text(f"The other {len(attempts) - len(odd)} day(s) kept it.")]


def _time_lines(hours: Sequence[SkewEntry]) -> str:
    begin = hours[0].since
    at = [(entry.since - begin) / timedelta(hours=1) for entry in hours]
    kinds = {
        "late": [entry.late for entry in hours],
        "stale": [entry.findings.get(Finding.STALE, 0) for entry in hours],
        "missing or extra": [entry.findings.get(Finding.MISSING, 0) + entry.findings.get(Finding.EXTRA, 0) for entry in hours],
    }
    series = {name: (at, [100 * (_share(n, e.rows) or 0) for n, e in zip(counts, hours, strict=True)]) for name, counts in kinds.items()}
    return lines(series, x=f"hours from {begin:%Y-%m-%d %H:%M} UTC", y="% of rows")


def _share(bad: int, of: int) -> float | None:
    return bad / of if of else None


def _time(at: datetime, hours: Sequence[SkewEntry]) -> str:
    return f"{at:%H:%M}" if hours[-1].until - hours[0].since <= timedelta(days=1) else f"{at:%d %H:%M}"


def _window(entry: SkewEntry) -> str:
    return f"{entry.since:%Y-%m-%d %H:%M} to {entry.until:%H:%M}" if entry.until - entry.since == HOUR else f"{entry.since:%Y-%m-%d}"


def _example(one: Example) -> list[str]:
    served = ", ".join(f"{name} = {value}" for name, (value, _) in one.values.items()) or "-"
    expected = ", ".join(f"{name} = {value}" for name, (_, value) in one.values.items()) or "-"
    times = [None if one.served is None else one.served[0], one.expected]
    key = ", ".join(f"{name}={value}" for name, value in one.key.items())
    return [
        f"{one.at:%Y-%m-%d %H:%M:%S}",
        key,
        str(one.finding),
        served,
        expected,
        " / ".join("-" if t is None else f"{t:%m-%d %H:%M}" for t in times),
    ]
