"""What the values of a closed day are like, beside the same weekday of the four weeks before; in the pass of the contract.

    computed rows ──► contract ──► verdicts ──┐
         └──► statistics, by day and feature ─┴──► distances ──► remarks; where a view says so, a gate

Weeks differ by more than chance gives: rows of a window of seven days are nearly the same from day to day, and all of them rise in a
storm. So each of the weeks before is compared with the others too, and only what is twice as far from them as they are from each other
is remarked on: of a year of the flight views a day in six, in place of nearly every day.

What drifts may be right: a holiday, a new airport. So drift is a remark and refuses nothing, unless the view's policy is to hold back
a day on which a feature is largely otherwise, five times as far (`SkewPolicy.hold_back`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial

import msgspec
from pyspark.sql import DataFrame

from penstock.contract.view import FeatureView
from penstock.offline.attempt import Audit, Verdict
from penstock.offline.lake import Lake
from penstock.offline.profiles import profiles_of
from penstock.offline.stage import Look, Part, Seen, looked_at
from penstock.offline.statistics import ColumnStatistics, merged, statistics_of
from penstock.offline.watermark import DAY, closed_days, start_of
from penstock.quality.contracts import Count, Counted, verdicts
from penstock.quality.distributions import Distance, Size, distances

GATE = "distribution"
"""The gate of views that hold back what is largely otherwise."""

WEEKS, AT_LEAST = 4, 3
"""With the same weekday of how many weeks before a day is compared, and how many of these there must be."""

REMARKED, HELD_BACK = 2.0, 5.0
"""How many times as far from the weeks before as they are from each other is remarked on, and held back."""

COMPARED = 31 * DAY
"""How long before the newest day of an attempt a day is compared; of older ones nobody asks any more."""

Statistics = Mapping[str, ColumnStatistics]


def audit_and_profile(lake: Lake) -> Audit:
    """Holds partitions to their contract (`contracts.audit`), and says of closed days what they are like."""
    return Audit(_look, partial(_judge, lake))


class _Seen(msgspec.Struct):
    """Of some rows of one day."""

    counted: Counted
    statistics: dict[str, ColumnStatistics] | None


@dataclass(frozen=True)
class _Look:
    count: Count
    features: tuple[str, ...]
    closed: frozenset[date]

    def __call__(self, part: Part) -> bytes:
        described = statistics_of(part.rows, self.features, distinct=False) if part.day in self.closed else None
        return msgspec.json.encode(_Seen(self.count.of(part), described))


def _look(view: FeatureView, complete_until: Mapping[date, datetime]) -> Look:
    return _Look(Count(tuple(view.entity.join_keys), view.row_rules), tuple(view.feature_names), closed_days(complete_until))


def _judge(lake: Lake, view: FeatureView, seen: Seen, complete_until: Mapping[date, datetime]) -> Mapping[date, Verdict]:
    parts = {day: [msgspec.json.decode(one, type=_Seen) for one in of_day] for day, of_day in seen.items()}
    judged = dict(verdicts(view, {day: [one.counted for one in of_day] for day, of_day in parts.items()}, complete_until))
    found = {
        day: merged([one.statistics for one in of_day if one.statistics is not None])
        for day, of_day in parts.items()
        if day is not None and of_day[0].statistics is not None
    }
    recent = {day for day in found if is_compared(view, day, max(complete_until))}
    before = {day - weeks * 7 * DAY for day in recent for weeks in range(1, WEEKS + 1)} - set(found)
    known: dict[date, Statistics] = {**{day: profile.statistics for day, profile in profiles_of(lake, view, before).items()}, **found}
    for day, statistics in found.items():
        weeks = [known[day - n * 7 * DAY] for n in range(1, WEEKS + 1) if day - n * 7 * DAY in known] if day in recent else []
        judged[day] = _compared(view, replace(judged[day], statistics=statistics), weeks)
    return judged


def statistics_of_day(view: FeatureView, rows: DataFrame, day: date) -> Statistics:
    """Feature → what its values are like, of a day's rows in Spark; none: there are no rows."""
    whole = {day: start_of(day) + DAY}
    parts = [msgspec.json.decode(one, type=_Seen) for one in looked_at(view, rows, whole, _look(view, whole)).get(day, [])]
    return merged([one.statistics for one in parts if one.statistics is not None])


def is_compared(view: FeatureView, day: date, newest: date) -> bool:
    """Whether a day is compared with the weeks before, by an attempt whose newest day is another."""
    return view.skew.hold_back or newest - day < COMPARED


@dataclass(frozen=True)
class Drift:
    """One distance of a feature from the weeks before.

    Args:
        distance: how far.
        apart: how far, at most, one of these weeks is from the others.
    """

    distance: Distance
    apart: float

    def is_beyond(self, times: float, *sizes: Size) -> bool:
        return self.distance.size in sizes and self.distance.value > times * self.apart


def _compared(view: FeatureView, verdict: Verdict, weeks: Sequence[Statistics]) -> Verdict:
    if len(weeks) < AT_LEAST or verdict.statistics is None:
        return verdict
    found = drift(view, weeks, verdict.statistics)
    verdict = replace(verdict, remarks=sentences(found, REMARKED, Size.NOTABLE, Size.LARGE))
    if not view.skew.hold_back:
        return verdict
    large = sentences(found, HELD_BACK, Size.LARGE)
    reasons = [*verdict.reasons, *(f"{GATE}: {said}" for said in large)]
    return replace(verdict, gates={**verdict.gates, GATE: not large}, reasons=reasons)


def drift(view: FeatureView, weeks: Sequence[Statistics], seen: Statistics) -> dict[str, list[Drift]]:
    """Feature → how far it is from the weeks before; features that a week does not have are left out."""
    found = {}
    for feature in view.features:
        name = feature.name
        if any(name not in week for week in (*weeks, seen)):
            continue
        now = distances(_together(weeks, name), seen[name], feature.dtype)
        if all(one.size in (Size.NONE, Size.INSUFFICIENT_DATA) for one in now):
            found[name] = [Drift(one, 0.0) for one in now]
            continue
        apart: dict[str, float] = {}
        for n, week in enumerate(weeks):
            for one in distances(_together([*weeks[:n], *weeks[n + 1 :]], name), week[name], feature.dtype):
                apart[one.name] = max(one.value, apart.get(one.name, 0.0))
        found[name] = [Drift(one, apart.get(one.name, 0.0)) for one in now]
    return found


def sentences(found: Mapping[str, Sequence[Drift]], times: float, *sizes: Size) -> list[str]:
    """Of each feature what is of one of these sizes, and so many times as far as the weeks before are apart."""
    said = []
    for feature, of in found.items():
        beyond = [one for one in of if one.is_beyond(times, *sizes)]
        named = ", ".join(f"{one.distance.name} {one.distance.value:.3g} ({one.distance.size}; before {one.apart:.2g})" for one in beyond)
        if named:
            said.append(f"{feature}: {named}, beside the same weekday of the weeks before")
    return said


def _together(weeks: Sequence[Statistics], name: str) -> ColumnStatistics:
    return merged([{name: week[name]} for week in weeks])[name]
