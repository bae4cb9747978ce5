"""What a caller gets: values with what they are worth."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, overload

if TYPE_CHECKING:  # neither is needed to use the client
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


class FeatureValue(NamedTuple):
    """One value of one entity.

    Args:
        value: the value; None where there is none to use.
        status: PRESENT, NULL, STALE (of a view later than promised, or the last one known), DEFAULT (the store failed, or the
            baseline's), NOT_FOUND (none known, or past its ttl) or ERROR.
        event_time: when it was true; None: no value was found.
        age: the gateway's now minus `event_time`.
    """

    value: Any
    status: str
    event_time: datetime | None
    age: timedelta | None


@dataclass(frozen=True)
class ViewRead:
    """A view version the values were read from.

    Args:
        generation: which fill of it.
        complete_until: up to which event time it was complete; None: nothing was published.
        ttl: the largest age at which its values may be used; None: any.
        features: the positions of its features in the result's `features`.
        event_times: per row, when its values were true; None: no value was found.
    """

    view: str
    version: int
    generation: int
    complete_until: datetime | None
    ttl: timedelta | None
    features: tuple[int, ...]
    event_times: tuple[datetime | None, ...]


@dataclass(frozen=True, repr=False)
class FeatureResult:
    """The answer to one request: n rows, one per entity, in the order asked.

    `result["<view>__<feature>"]` are a feature's values, `result[0]` is the first row; it has a length, and gives its rows one by one.

    Args:
        service: the feature service.
        contract: fingerprint of the contract it was served under; pin it.
        snapshot: fingerprint of the definitions it was served under.
        token: names what produced the values; keep it beside a prediction, and `penstock replay` computes them again; "" where
            this client answered itself.
        now: the time the values were judged at.
        features, dtypes: `<view>__<feature>` and its type.
        columns: per feature, its n values.
        statuses: per feature, its n statuses.
        views: what was read.
        degraded: "" if the gateway answered; `last_known`: it could not, and these are the values this client got last, labelled
            STALE; `baseline`: of some entities it had none, and the baseline gave theirs, labelled DEFAULT.
    """

    service: str
    contract: str
    snapshot: str
    token: str
    now: datetime
    features: tuple[str, ...]
    dtypes: tuple[str, ...]
    columns: tuple[tuple[Any, ...], ...]
    statuses: tuple[tuple[str, ...], ...]
    views: tuple[ViewRead, ...]
    degraded: str = ""

    def __len__(self) -> int:
        """How many rows it has."""
        return len(self.columns[0]) if self.columns else 0

    def __iter__(self) -> Iterator[dict[str, FeatureValue]]:
        return iter(self.rows)

    @overload
    def __getitem__(self, which: str) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, which: int) -> dict[str, FeatureValue]: ...
    def __getitem__(self, which: str | int) -> Any:
        """The n plain values of a feature, by its name; or a row, by its position."""
        return self.columns[self._place(which)] if isinstance(which, str) else self.rows[which]

    def value(self, row: int, feature: str) -> FeatureValue:
        """One value with its status, event time and age.

        Raises:
            KeyError, IndexError: the result has no such feature, or row.
        """
        place = self._place(feature)
        time = self._event_times[place][row]
        return FeatureValue(self.columns[place][row], self.statuses[place][row], time, None if time is None else self.now - time)

    @cached_property
    def rows(self) -> tuple[dict[str, FeatureValue], ...]:
        """Per entity: feature → value with status and age."""
        by_feature = []
        for values, statuses, times in zip(self.columns, self.statuses, self._event_times, strict=True):
            ages = (None if time is None else self.now - time for time in times)
            by_feature.append([FeatureValue(*one) for one in zip(values, statuses, times, ages, strict=True)])
        return tuple(dict(zip(self.features, row, strict=True)) for row in zip(*by_feature, strict=True))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: n for n, name in enumerate(self.features)}

    @cached_property
    def _event_times(self) -> Sequence[Sequence[datetime | None]]:
        by_feature = {n: view.event_times for view in self.views for n in view.features}
        return [by_feature.get(n, (None,) * len(self)) for n in range(len(self.features))]

    def _place(self, feature: str) -> int:
        if feature not in self._places:
            raise KeyError(f"no feature '{feature}' in the result; it has {', '.join(self.features) or 'none'}")
        return self._places[feature]

    def __repr__(self) -> str:
        words = Counter(word for column in self.statuses for word in column)
        counted = ", ".join(f"{count} {word}" for word, count in words.most_common())
        degraded = f", {self.degraded}" if self.degraded else ""
        size = f"{len(self)} row(s) of {len(self.features)} feature(s)"
        return f"<FeatureResult of '{self.service}' at {self.now:%Y-%m-%d %H:%M:%S} UTC{degraded}: {size}: {counted or 'no values'}>"

    def _repr_html_(self) -> str:
        """For notebooks: a line per feature, a column for each of the first rows, what is less than PRESENT in words."""
        from html import escape  # noqa: PLC0415  # the client itself does without it

        rows = range(min(len(self), _SHOWN))
        head = "".join(f"<th>{n}</th>" for n in rows)
        lines = []
        for name, column, statuses in zip(self.features, self.columns, self.statuses, strict=True):
            cells = [
                escape("" if column[n] is None else str(column[n]))
                + ("" if statuses[n] == "PRESENT" else f" <small>{escape(statuses[n])}</small>")
                for n in rows
            ]
            lines.append(f"<tr><th>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
        return f"<p>{escape(repr(self)[1:-1])}</p><table><tr><th></th>{head}</tr>{''.join(lines)}</table>"

    def to_dicts(self) -> list[dict[str, Any]]:
        """The plain values: one dict per entity, feature → value; None is what training has as null."""
        return [dict(zip(self.features, row, strict=True)) for row in zip(*self.columns, strict=True)]

    def to_dict(self) -> dict[str, list[Any]]:
        """The plain values: feature → its n values."""
        return {name: list(column) for name, column in zip(self.features, self.columns, strict=True)}

    def to_numpy(self, features: Sequence[str] | None = None) -> "npt.NDArray[np.float64]":
        """A matrix of n rows by features, null as NaN, bool as 0 and 1; integers beyond 2**53 are rounded.

        Args:
            features: which, in the order of the columns; default: all.

        Raises:
            KeyError: a feature the result does not have.
            TypeError: one is neither a number nor a bool; name the others.
        """
        import numpy as np  # noqa: PLC0415  # the client itself does without it

        wanted = self.features if features is None else features
        places = [self._place(name) for name in wanted]
        words = [f"{self.features[n]} ({self.dtypes[n]})" for n in places if self.dtypes[n] not in _NUMBERS]
        if words:
            raise TypeError(f"no numbers: {', '.join(words)}; name the features wanted")
        matrix = np.empty((len(self), len(places)))
        for column, n in enumerate(places):
            matrix[:, column] = [np.nan if value is None else value for value in self.columns[n]]
        return matrix

    def to_pandas(self) -> "pd.DataFrame":
        """A frame of n rows, a column per feature, of one dtype whatever the values: integers and booleans keep their nulls
        (`Int64`, `boolean`), a timestamp is in UTC, text and lists are objects."""
        import pandas as pd  # noqa: PLC0415  # the client itself does without it

        columns = {
            name: pd.Series(list(values), dtype=_PANDAS.get(dtype, "object"))
            for name, dtype, values in zip(self.features, self.dtypes, self.columns, strict=True)
        }
        return pd.DataFrame(columns)


_SHOWN = 10
_NUMBERS = {"bool", "int32", "int64", "float32", "float64"}
_PANDAS = {
    "bool": "boolean",
    "int32": "Int32",
    "int64": "Int64",
    "float32": "float32",
    "float64": "float64",
    "timestamp": "datetime64[us, UTC]",
}
