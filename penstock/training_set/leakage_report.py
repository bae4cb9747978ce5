"""The leakage of a training set as a page: which features know too early, by how much, and why."""

from collections.abc import Sequence
from datetime import datetime

from penstock.report.charts import lines
from penstock.report.page import Heading, Numbers, Part, Picture, Table, Text, page
from penstock.training_set.leakage import Ages, Example, FeatureDelta, Leakage

_HOURS = (0, 0.25, 1, 3, 6, 12, 24, 72, 168, 336, 720, 2160, 8760)
_MEANS = {
    "event": "as if every value had been known at its event time",
    "assumed": "from when each value was available, corrections from when they were made",
    "observed": "as readers could see it, by the ledger of publications",
    "restated": "from when each value was available, with every correction made since",
}


def leakage_page(found: Leakage, title: str, subtitle: str) -> str:
    """The page as HTML."""
    first, second = found.modes
    leaking = sorted(found.features, key=lambda feature: feature.share, reverse=True)
    differ = [feature for feature in leaking if feature.differ]
    worst = f"{leaking[0].share:.1%}" if leaking else "-"
    parts: list[Part] = [
        Text(f"One spine, joined twice. Mode '{first}': {_MEANS[first]}. Mode '{second}': {_MEANS[second]}."),
        Numbers(
            [
                (f"{found.rows:,}", "rows compared"),
                (f"{len(differ)} of {len(leaking)}", "features that differ"),
                (worst, "rows that differ, of the worst feature"),
            ]
        ),
        Heading("How often, and by how much"),
        Text(
            "A row differs if one mode has a value and the other has none, or if the values are not equal. The distance is "
            f"the mean absolute difference where both have a number, in standard deviations of the values under '{second}'."
        ),
        Table(
            ["feature", "rows that differ", "share", f"present, {first}", f"present, {second}", "mean difference", "in deviations"],
            [_row(feature) for feature in leaking],
            left=(2,),
            bars={2: [feature.share for feature in leaking]},
        ),
        Heading("How old the values were"),
        Text(
            "The age of the value a row used: its time less the value's event time. Where a mode knows too early, its values are younger."
        ),
        *[_ages(ages, found.modes) for ages in found.ages if ages.first or ages.second],
        Heading("Examples"),
        Text(
            "Rows that differ, with the event time of the value each mode used and from when it counted there. What counts later than the "
            "row's time could not be had."
        ),
        Table(
            ["feature", "row", "row's time", *[f"{mode}: {what}" for mode in found.modes for what in ("value", "of", "known")]],
            [_example(feature.feature, example) for feature in differ for example in feature.examples[:2]],
            left=(1, 2, 4, 5, 7, 8),
        ),
    ]
    return page(title, subtitle, parts)


def _row(feature: FeatureDelta) -> list[str]:
    numbers = [feature.mean_difference, feature.in_deviations]
    return [
        feature.feature,
        f"{feature.differ:,}",
        f"{feature.share:.1%}",
        *[f"{n:,}" for n in feature.present],
        *["-" if n is None else f"{n:,.3g}" for n in numbers],
    ]


def _ages(ages: Ages, modes: Sequence[str]) -> Picture:
    series = {mode: ([age / 3600 for age in of], list(ages.ranks)) for mode, of in zip(modes, (ages.first, ages.second), strict=True) if of}
    return Picture(
        lines(series, x="age in hours", y="share of rows below it", title=ages.view, ticks=_HOURS), f"ages of the values of {ages.view}"
    )


def _example(feature: str, example: Example) -> list[str]:
    keys = ", ".join(str(value) for name, value in example.row.items() if name != "event_time")
    sides = [
        cell
        for value, event, known in zip(example.values, example.event_times, example.known_at, strict=True)
        for cell in (_value(value), _time(event), _time(known))
    ]
    return [feature, keys, _time(example.row["event_time"]), *sides]


def _value(value: object) -> str:
    return "null" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)


def _time(time: datetime | str | None) -> str:
    if time is None:
        return "-"
    at = datetime.fromisoformat(time) if isinstance(time, str) else time
    return f"{at:%Y-%m-%d %H:%M}" if at.second == at.microsecond == 0 else f"{at:%Y-%m-%d %H:%M:%S}"
