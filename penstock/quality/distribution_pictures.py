"""What the values of features are like, drawn: as they were served, in a training set, in the lake."""

import json
from collections.abc import Mapping, Sequence

from penstock.contract.view import FeatureView
from penstock.dtypes import NUMERIC_DTYPES
from penstock.offline.statistics import ColumnStatistics, Reference
from penstock.quality.distributions import Size, distances
from penstock.report.charts import Panel, panels
from penstock.report.page import Part, Picture, Text

_PANELS, _VALUES, _LONG = 12, 6, 14
_RANKS = [n / 100 for n in range(1, 100)]


def distribution_parts(view: FeatureView, served: Reference, beside: Sequence[Reference]) -> list[Part]:
    """A picture of the features that are served most unlike the first of what they are compared with; nothing: none can be compared."""
    drawn = [
        feature
        for feature in view.features
        if feature.name in served.statistics
        and (feature.dtype in NUMERIC_DTYPES or feature.dtype in ("string", "bool"))
        and any(feature.name in one.statistics for one in beside)
    ]
    if not drawn:
        return []
    by_distance = sorted(drawn, key=lambda feature: -_apart(feature.name, feature.dtype, served, beside))
    shown = {}
    for feature in by_distance[:_PANELS]:
        of = {one.name: one.statistics[feature.name] for one in (served, *beside) if feature.name in one.statistics}
        shown[feature.name] = _numbers(of) if feature.dtype in NUMERIC_DTYPES else _categories(of)
    parts: list[Part] = []
    if len(drawn) > len(shown):
        parts.append(Text(f"Of {len(drawn)} features these {len(shown)} are served most unlike {beside[0].name}."))
    caption = "Numbers: the share of rows at or below a value. Text and flags: the share of each value."
    return [*parts, Picture(panels(shown), caption)]


def _apart(name: str, dtype: str, served: Reference, beside: Sequence[Reference]) -> float:
    first = next(one for one in beside if name in one.statistics)
    found = distances(first.statistics[name], served.statistics[name], dtype)
    return max((one.value for one in found if one.name in ("ks", "linf") and one.size is not Size.INSUFFICIENT_DATA), default=0.0)


def _numbers(of: Mapping[str, ColumnStatistics]) -> Panel:
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for name, statistics in of.items():
        sketch = statistics.sketch
        if sketch is not None and not sketch.is_empty():
            curves[name] = ([float(value) for value in sketch.get_quantiles(_RANKS)], _RANKS)
    return Panel(curves=curves)


def _categories(of: Mapping[str, ColumnStatistics]) -> Panel:
    first = next(iter(of.values()))
    values = list(first.top)[:_VALUES]
    shares = {name: [one.top.get(value, 0) / max(1, one.rows) for value in values] for name, one in of.items()}
    return Panel(groups=[_short(str(json.loads(value))) for value in values], shares=shares)


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
