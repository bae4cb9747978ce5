"""What time it is, as an argument: nothing in Penstock asks the machine directly."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Tells now, in UTC."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class FixedClock:
    """A clock that stands still until it is advanced: for tests, replays and `--now`."""

    at: datetime

    def __post_init__(self) -> None:
        self.at = require_utc(self.at, "FixedClock.at")

    def now(self) -> datetime:
        return self.at

    def advance(self, by: timedelta) -> None:
        if by < timedelta(0):
            raise ValueError(f"a clock does not go back: advance({by})")
        self.at += by


def require_utc(value: datetime, what: str) -> datetime:
    """The same instant in UTC.

    Raises:
        ValueError: `value` is naive; a naive datetime could mean any instant.
    """
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError(f"{what} is naive ({value.isoformat()}); give it a time zone, e.g. datetime(..., tzinfo=UTC)")
    return value.astimezone(UTC)


def to_micros(value: datetime) -> int:
    """Microseconds since 1970-01-01T00:00Z; exact, unlike `timestamp()`."""
    return (require_utc(value, "time") - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """The instant `micros` microseconds after 1970-01-01T00:00Z."""
    return EPOCH + timedelta(microseconds=micros)


def parse_instant(text: str) -> datetime:
    """An ISO 8601 instant with an explicit offset, in UTC.

    Raises:
        ValueError: not ISO 8601, or without an offset.
    """
    return require_utc(datetime.fromisoformat(text), f"'{text}'")
