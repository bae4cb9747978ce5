"""What the values of a closed day are like, beside the same weekday of the four weeks before; in the pass of the contract.

    computed rows ──► contract ──► verdicts ──┐
         └──► statistics, by day and feature ─┴──► distances ──► remarks; where a view says so, a gate

Weeks differ by more than chance gives: rows of a window of seven days are nearly the same from day to day, and all of them rise in a
storm. So each of the weeks before is compared with the others too, and only what is twice as far from them as they are from each other
is remarked on: of a year of the flight views a day in six, in place of nearly every day.

What drifts may be right: a holiday, a new airport. So drift is a remark and refuses nothing, unless the view's policy is to hold back
a day on which a feature is largely otherwise, five times as far (`SkewPolicy.hold_back`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from penstock.contract.view import FeatureView
from penstock.offline.attempt import Verdict
from penstock.offline.compute import judged_day
from penstock.offline.lake import Lake
from penstock.offline.profiles import profiles_of
from penstock.offline.statistics import ColumnStatistics, merged, statistics_of
from penstock.offline.watermark import DAY, start_of
from penstock.quality.contracts import audit
from penstock.quality.distributions import Distance, Size, distances

GATE = "distribution"
"""The gate of views that hold back what is largely otherwise."""

WEEKS, AT_LEAST = 4, 3
"""With the same weekday of how many weeks before a day is compared, and how many of these there must be."""

REMARKED, HELD_BACK = 2.0, 5.0
"""How many times as far from the weeks before as they are from each other is remarked on, and held back."""

COMPARED = 31 * DAY
"""How long before the newest day of an attempt a day is compared; of older ones nobody asks any more."""

_ROWS_AT_ONCE = 1_000_000

Statistics = Mapping[str, ColumnStatistics]


def audit_and_profile(lake: Lake, view: FeatureView, rows: DataFrame, complete_until: Mapping[date, datetime]) -> Mapping[date, Verdict]:
    """A verdict on every partition of some computed rows, and of closed days what they are like; see `contracts.audit`."""
    verdicts = dict(audit(view, rows, complete_until))
    closed = {day for day, limit in complete_until.items() if limit >= start_of(day) + DAY and verdicts[day].rows}
    if not closed:
        return verdicts
    found = statistics_of_days(view, rows, closed)
    recent = {day for day in found if is_compared(view, day, max(complete_until))}
    before = {day - weeks * 7 * DAY for day in recent for weeks in range(1, WEEKS + 1)} - set(found)
    known: dict[date, Statistics] = {**{day: profile.statistics for day, profile in profiles_of(lake, view, before).items()}, **found}
    for day, statistics in found.items():
        weeks = [known[day - n * 7 * DAY] for n in range(1, WEEKS + 1) if day - n * 7 * DAY in known] if day in recent else []
        verdicts[day] = _judged(view, replace(verdicts[day], statistics=statistics), weeks)
    return verdicts


def is_compared(view: FeatureView, day: date, newest: date) -> bool:
    """Whether a day is compared with the weeks before, by an attempt whose newest day is another."""
    return view.skew.hold_back or newest - day < COMPARED


def statistics_of_days(view: FeatureView, rows: DataFrame, days: set[date]) -> dict[date, Statistics]:
    """Day → feature → what its values are like, of rows in Spark."""
    names = list(view.feature_names)
    of_days = rows.select(judged_day(days).alias("_day"), *names).where(F.col("_day").isNotNull())
    parts = of_days.mapInArrow(_Statistics(names), "day date, statistics string").collect()
    found: dict[date, list[dict[str, ColumnStatistics]]] = {}
    for day, text in parts:
        found.setdefault(day, []).append(msgspec.json.decode(text, type=dict[str, ColumnStatistics]))
    return {day: merged(of_day) for day, of_day in found.items()}


class _Statistics:
    """Batches of rows with their day → a row for each day of theirs, with the statistics as JSON."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held: list[pa.RecordBatch] = []
        for batch in batches:
            held.append(batch)
            if sum(one.num_rows for one in held) >= _ROWS_AT_ONCE:
                yield self._of(pa.Table.from_batches(held))
                held = []
        if held:
            yield self._of(pa.Table.from_batches(held))

    def _of(self, rows: pa.Table) -> pa.RecordBatch:
        days = pc.unique(rows["_day"]).to_pylist()
        texts = [msgspec.json.encode(self._of_day(rows, day)).decode() for day in days]
        return pa.RecordBatch.from_pydict({"day": pa.array(days, pa.date32()), "statistics": pa.array(texts, pa.string())})

    def _of_day(self, rows: pa.Table, day: date) -> dict[str, ColumnStatistics]:
        mine = rows.filter(pc.equal(rows["_day"], pa.scalar(day, pa.date32())))
        return statistics_of(mine, self._names, distinct=False)


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


def _judged(view: FeatureView, verdict: Verdict, weeks: Sequence[Statistics]) -> Verdict:
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
