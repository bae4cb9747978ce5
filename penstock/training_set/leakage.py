"""What a mode leaks: one spine under two modes, compared feature by feature, in one pass over the tables.

delta      rows whose values differ, null against a value included, and by how much
examples   some of them: keys, time, both values, and of the row behind each its event time and when it was known
ages       how old, in event time, the values were that each mode used
"""

from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import datasketches
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.as_of import Mode
from penstock.offline.content import differ
from penstock.offline.lake import Lake
from penstock.offline.statistics import ColumnStatistics, merged, statistics_of
from penstock.point_in_time.joined import Resources, join
from penstock.point_in_time.spine import Spine
from penstock.point_in_time.view_join import ViewJoin

_OTHER = "__other"
_EXAMPLES = 3
_RANKS = tuple(n / 20 for n in range(1, 20))


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A row that differs.

    Args:
        row: the join keys and event time of the spine's row.
        values: under the first and the second mode.
        event_times: of the feature rows behind them; None: there is none.
        known_at: from when those were known, each under its mode.
    """

    row: dict[str, Any]
    values: tuple[Any, Any]
    event_times: tuple[datetime | None, datetime | None]
    known_at: tuple[datetime | None, datetime | None]


class FeatureDelta(msgspec.Struct, frozen=True, kw_only=True):
    """How far one feature differs between two modes.

    Args:
        feature: `<view>__<feature>`.
        rows: spine rows compared.
        differ: rows whose values differ, null against a value included.
        share: differ / rows, 0 to 1.
        present: rows with a value under the first and the second mode.
        mean_difference: mean absolute difference over rows with a number under both; None: no such rows.
        in_deviations: the same in standard deviations of the second mode's values.
        examples: some rows that differ.
    """

    feature: str
    rows: int
    differ: int
    share: float
    present: tuple[int, int]
    mean_difference: float | None = None
    in_deviations: float | None = None
    examples: list[Example] = []


class Ages(msgspec.Struct, frozen=True, kw_only=True):
    """How old the values of one view were that two modes used, in seconds.

    Args:
        view: its name.
        ranks: shares of the rows with a value, e.g. 0.5 for the median.
        first, second: under each mode, the age that this share stays below; empty: no row had a value.
    """

    view: str
    ranks: list[float]
    first: list[float]
    second: list[float]


class Leakage(msgspec.Struct, frozen=True, kw_only=True):
    """One spine under two modes.

    Args:
        modes: which two; the first is said to leak against the second.
        rows: of the spine.
        features, ages: what was found.
    """

    modes: tuple[Mode, Mode]
    rows: int
    features: list[FeatureDelta]
    ages: list[Ages]


def leakage(lake: Lake, spine: Spine, joins: Sequence[ViewJoin], resources: Resources, against: Mode, mode: Mode | None = None) -> Leakage:
    """Compare two modes on a spine.

    Args:
        lake, resources: with what.
        spine: the rows.
        joins: the views, at their versions.
        against, mode: the first mode and the second; None: each view's own.

    Raises:
        SpineError: the spine is not as the views need it.
    """
    first = [replace(one, mode=against, with_times=True) for one in joins]
    # The same tables under the other mode, joined beside: one version of each, read once.
    second = [replace(one, mode=mode or one.mode, name=one.name + _OTHER, full_names=True, with_times=True) for one in joins]
    compare = _Compare(tuple(zip(map(_columns, first), map(_columns, second), strict=True)))
    folder = f"staging/{uuid4()}"
    try:
        told = join(lake, spine, [*first, *second], resources).write_files(lake.make_folder(folder), compare)
    finally:
        lake.remove_folder(folder)
    parts = [msgspec.json.decode(one.told, type=_Part) for one in told]
    features = [_delta(name, [part.features[name] for part in parts]) for one in first for name in map(one.column, one.features)]
    ages = [_ages(one.name, [part.ages[one.name] for part in parts]) for one in first]
    own = Counter(one.mode for one in joins).most_common(1)[0][0]
    return Leakage(modes=(against, mode or own), rows=sum(part.rows for part in parts), features=features, ages=ages)


@dataclass(frozen=True)
class _Columns:
    """The columns of one view under one mode."""

    view: str
    keys: tuple[str, ...]
    features: tuple[str, ...]
    times: tuple[str, ...]


def _columns(one: ViewJoin) -> _Columns:
    return _Columns(one.name, tuple(one.on.values()), tuple(one.column(feature) for feature in one.features), tuple(one.times))


class _FeaturePart(msgspec.Struct, kw_only=True):
    differ: int
    present: tuple[int, int]
    both: int
    difference: float
    second: ColumnStatistics
    examples: list[Example]


class _Part(msgspec.Struct, kw_only=True):
    rows: int
    features: dict[str, _FeaturePart]
    ages: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class _Compare:
    """Tells of a joined tile how the two modes differ, and keeps none of its rows; it crosses to workers."""

    views: tuple[tuple[_Columns, _Columns], ...]

    def __call__(self, rows: pa.Table) -> tuple[pa.Table, str]:
        """No rows, and what is known of them, as JSON."""
        features, ages = {}, {}
        for one, other in self.views:
            for name, beside in zip(one.features, other.features, strict=True):
                features[name] = _feature(rows, one.keys, (name, beside), (one.times, other.times))
            ages[one.view] = (_sketched(rows, one.times[0]), _sketched(rows, other.times[0]))
        part = _Part(rows=rows.num_rows, features=features, ages=ages)
        return rows.slice(0, 0), msgspec.json.encode(part).decode()


def _feature(rows: pa.Table, keys: Sequence[str], names: tuple[str, str], times: tuple[tuple[str, ...], tuple[str, ...]]) -> _FeaturePart:
    first, second = rows[names[0]], rows[names[1]]
    differs = differ(first, second)
    both, difference = _distance(first, second)
    some = rows.take(pa.array(np.flatnonzero(differs)[:_EXAMPLES])).to_pylist()
    return _FeaturePart(
        differ=int(differs.sum()),
        present=(len(first) - first.null_count, len(second) - second.null_count),
        both=both,
        difference=difference,
        second=statistics_of(rows, [names[1]])[names[1]],
        examples=[
            Example(
                row={name: row[name] for name in (*keys, "event_time")},
                values=(row[names[0]], row[names[1]]),
                event_times=(row[times[0][0]], row[times[1][0]]),
                known_at=(row[times[0][1]], row[times[1][1]]),
            )
            for row in some
        ],
    )


def _distance(first: pa.ChunkedArray, second: pa.ChunkedArray) -> tuple[int, float]:
    """Of rows with a finite number on both sides, how many there are, and the sum of their absolute differences."""
    kind = first.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return 0, 0.0
    numbers = [pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy() for column in (first, second)]
    distance = np.abs(numbers[0] - numbers[1])
    distance = distance[np.isfinite(distance)]
    return len(distance), float(distance.sum())


def _sketched(rows: pa.Table, event_time: str) -> str:
    ages = pc.subtract(rows["event_time"], rows[event_time]).cast(pa.int64()).drop_null().to_numpy() / 1e6
    sketch = datasketches.kll_doubles_sketch(200)
    sketch.update(np.ascontiguousarray(ages))
    return b64encode(sketch.serialize()).decode()


def _delta(name: str, parts: Sequence[_FeaturePart]) -> FeatureDelta:
    rows, differ, both = (sum(values) for values in zip(*((p.second.rows, p.differ, p.both) for p in parts), strict=True))
    mean = sum(part.difference for part in parts) / both if both else None
    deviation = merged([{name: part.second} for part in parts])[name].deviation
    return FeatureDelta(
        feature=name,
        rows=rows,
        differ=differ,
        share=differ / rows if rows else 0.0,
        present=(sum(part.present[0] for part in parts), sum(part.present[1] for part in parts)),
        mean_difference=mean,
        in_deviations=mean / deviation if mean is not None and deviation else None,
        examples=[example for part in parts for example in part.examples][:_EXAMPLES],
    )


def _ages(view: str, parts: Sequence[tuple[str, str]]) -> Ages:
    quantiles = []
    for texts in zip(*parts, strict=True):
        whole = datasketches.kll_doubles_sketch(200)
        for text in texts:
            whole.merge(datasketches.kll_doubles_sketch.deserialize(b64decode(text)))
        quantiles.append([] if whole.is_empty() else [float(whole.get_quantile(rank)) for rank in _RANKS])
    return Ages(view=view, ranks=list(_RANKS), first=quantiles[0], second=quantiles[1])
