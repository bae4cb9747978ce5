"""What a caller gets: values with what they are worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

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


@dataclass(frozen=True)
class FeatureResult:
    """The answer to one request: n rows, one per entity, in the order asked.

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

    @cached_property
    def rows(self) -> tuple[dict[str, FeatureValue], ...]:
        """Per entity: feature → value with status and age."""
        event_times: dict[int, Sequence[datetime | None]] = {n: view.event_times for view in self.views for n in view.features}
        unknown = (None,) * (len(self.columns[0]) if self.columns else 0)
        by_feature = []
        for n, (values, statuses) in enumerate(zip(self.columns, self.statuses, strict=True)):
            times = event_times.get(n, unknown)
            ages = (None if time is None else self.now - time for time in times)
            by_feature.append([FeatureValue(*one) for one in zip(values, statuses, times, ages, strict=True)])
        return tuple(dict(zip(self.features, row, strict=True)) for row in zip(*by_feature, strict=True))

    def to_dicts(self) -> list[dict[str, Any]]:
        """The plain values: one dict per entity, feature → value; None is what training has as null."""
        return [dict(zip(self.features, row, strict=True)) for row in zip(*self.columns, strict=True)]

    def to_dict(self) -> dict[str, list[Any]]:
        """The plain values: feature → its n values."""
        return {name: list(column) for name, column in zip(self.features, self.columns, strict=True)}

    def to_numpy(self, features: Sequence[str] | None = None) -> "npt.NDArray[np.float64]":
        """A matrix of n rows by features, null as NaN.

        Args:
            features: which, in the order of the columns; default: all.

        Raises:
            KeyError: a feature the result does not have.
            TypeError: one is neither a number nor a bool; name the others.
        """
        import numpy as np  # noqa: PLC0415  # the client itself does without it

        wanted = self.features if features is None else features
        place = {name: n for n, name in enumerate(self.features)}
        words = [name for name in wanted if self.dtypes[place[name]] not in _NUMBERS]
        if words:
            raise TypeError(f"no numbers: {', '.join(f'{name} ({self.dtypes[place[name]]})' for name in words)}; name the features wanted")
        matrix = [[np.nan if value is None else value for value in self.columns[place[name]]] for name in wanted]
        return np.array(matrix, dtype=np.float64).reshape(len(matrix), -1).T

    def to_pandas(self) -> "pd.DataFrame":
        """A frame of n rows, a column per feature; integers and booleans keep their nulls (`Int64`, `boolean`)."""
        import pandas as pd  # noqa: PLC0415  # the client itself does without it

        columns = {
            name: pd.Series(list(values), dtype=_PANDAS.get(dtype, "object"))
            for name, dtype, values in zip(self.features, self.dtypes, self.columns, strict=True)
        }
        return pd.DataFrame(columns)


_NUMBERS = {"bool", "int32", "int64", "float32", "float64"}
_PANDAS = {
    "bool": "boolean",
    "int32": "Int32",
    "int64": "Int64",
    "float32": "float32",
    "float64": "float64",
    "timestamp": "datetime64[us, UTC]",
}
