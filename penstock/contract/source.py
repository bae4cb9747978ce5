"""Where raw facts come from, and when each could first have been known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from penstock.clock import MICROSECOND
from penstock.contract.rules import require_name
from penstock.dtypes import require_dtype
from penstock.errors import ContractError


class Pii(StrEnum):
    """How personal a column is. `direct` is refused online."""

    NONE = "none"
    PSEUDONYMOUS = "pseudonymous"
    DIRECT = "direct"


@dataclass(frozen=True)
class Availability:
    """When a row of a source could first have been known: a column that says so, or a delay after its event time.

    Args:
        column: the column that says so, a timestamp; None: `event_time + at_most`.
        at_most: the longest after its event time that a row may become known. A day is closed this long
            after its end; what comes even later is late data and needs a repair.
    """

    column: str | None = None
    at_most: timedelta = MICROSECOND

    def __post_init__(self) -> None:
        if self.at_most < timedelta(0):
            raise ContractError(f"availability: a delay is not negative, got {self.at_most}; nothing is known before it happened")


def available_after(delay: timedelta) -> Availability:
    """Rows are known `delay` after their event time."""
    return Availability(at_most=delay)


def available_at(column: str, *, at_most: timedelta) -> Availability:
    """Rows say themselves, in `column` (timestamp), when they became known, `at_most` after their event time."""
    return Availability(column, at_most)


@dataclass(frozen=True)
class External:
    """Where a table of somebody else's is: it is read, and never written to.

    Args:
        location: folder, file or URI; a relative one starts from the project's folder.
        format: a Delta table, read at a pinned version, or Parquet files, read as they are.
    """

    location: str
    format: Literal["delta", "parquet"]

    def __post_init__(self) -> None:
        if not self.location:
            raise ContractError("external table: no location; give a folder, a file or a URI")
        if "@" in urlsplit(self.location).netloc:
            # Not repeated: what stands before the @ is a secret, and a location goes into the registry, logs and manifests.
            raise ContractError("external table: its location holds credentials (…@…); give them by the environment of the processes")


def delta(location: str) -> External:
    """A Delta table of somebody else's."""
    return External(location, "delta")


def parquet(location: str) -> External:
    """A Parquet file, or a folder of them."""
    return External(location, "parquet")


@dataclass(frozen=True, eq=False)
class Source:
    """A table of facts with an event time and an availability rule; rows that lack either are no facts yet.

    Args:
        name: its name; ingested ones are stored at `raw/<name>`.
        schema: column → dtype, the event time and availability column included.
        event_time: the column that says when the fact was true.
        availability: when a row could first have been known; default: one microsecond after its event
            time, so that an event never sees itself.
        owner: team or person to ask.
        table: an external table that holds the rows; None: we ingest them.
        pii: column → how personal it is; columns not named are `none`.
        description: one sentence for people.

    Raises:
        ContractError: a bad name, an unknown dtype, a column the schema does not have.
    """

    name: str
    schema: Mapping[str, str] = field(kw_only=True)
    owner: str = field(kw_only=True)
    event_time: str = field(default="event_time", kw_only=True)
    availability: Availability = field(default=Availability(), kw_only=True)
    table: External | None = field(default=None, kw_only=True)
    pii: Mapping[str, Pii] = field(default_factory=dict, kw_only=True)
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        where = f"source '{self.name}'"
        require_name(self.name, "source")
        for column, dtype in self.schema.items():
            require_dtype(dtype, f"{where}: column '{column}'")
        times = [self.event_time, *([self.availability.column] if self.availability.column else [])]
        for column in times:
            if self.schema.get(column) != "timestamp":
                seen = self.schema.get(column, "missing")
                raise ContractError(f"{where}: '{column}' must be a timestamp column of its schema; it is {seen}")
        unknown = sorted(set(self.pii) - set(self.schema))
        if unknown:
            raise ContractError(f"{where}: pii names {', '.join(map(repr, unknown))}, not in its schema")
        object.__setattr__(self, "schema", MappingProxyType(dict(self.schema)))
        object.__setattr__(self, "pii", MappingProxyType(dict(self.pii)))
