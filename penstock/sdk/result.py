"""What a caller gets: values with what they are worth."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple


class FeatureValue(NamedTuple):
    """One value of one entity.

    Args:
        value: the value; None where there is none to use.
        status: PRESENT, NULL, STALE (of a view later than promised), DEFAULT (the store failed),
            NOT_FOUND (none known, or past its ttl) or ERROR.
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
        attempts: per row, the attempt that computed its values; None: no value was found.
    """

    view: str
    version: int
    generation: int
    complete_until: datetime | None
    attempts: tuple[int | None, ...]


@dataclass(frozen=True)
class FeatureResult:
    """The answer to one request.

    Args:
        service: the feature service.
        contract: fingerprint of the contract it was served under; pin it.
        snapshot: fingerprint of the definitions it was served under.
        now: the time the values were judged at.
        rows: one per entity, in the order asked: feature (`<view>__<feature>`) → value.
        views: what was read; with `rows` it says exactly what to replay.
    """

    service: str
    contract: str
    snapshot: str
    now: datetime
    rows: tuple[dict[str, FeatureValue], ...]
    views: tuple[ViewRead, ...]

    def to_dicts(self) -> list[dict[str, Any]]:
        """The plain values: one dict per entity, feature → value; None is what training has as null."""
        return [{name: value.value for name, value in row.items()} for row in self.rows]
