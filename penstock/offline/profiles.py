"""What the values of each day of a view are like, kept per attempt in `log/profiles`: statistics and sketches, feature by feature."""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from penstock.contract.view import FeatureView
from penstock.offline.lake import Lake
from penstock.offline.logs import append_rows, read_rows
from penstock.offline.statistics import ColumnStatistics

PROFILES = "log/profiles"
"""One row per attempt and closed day of a view."""

_SCHEMA = pa.schema(
    [
        ("view", pa.string()),
        ("version", pa.int64()),
        ("partition", pa.date32()),
        ("attempt", pa.int64()),
        ("statistics", pa.string()),
        ("remarks", pa.list_(pa.string())),
    ]
)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What one closed day of a view is like under one attempt.

    Args:
        view, version, partition, attempt: which.
        statistics: feature → what its values are like.
        remarks: what is otherwise than on the days it was compared with, a sentence each; None: there was too little to compare with.
    """

    view: str
    version: int
    partition: date
    attempt: int
    statistics: dict[str, ColumnStatistics]
    remarks: list[str] | None


def log_profiles(lake: Lake, profiles: Sequence[Profile]) -> None:
    """Append profiles, all in one commit."""
    if profiles:
        rows = [{**msgspec.structs.asdict(profile), "statistics": msgspec.json.encode(profile.statistics).decode()} for profile in profiles]
        append_rows(lake, PROFILES, pa.Table.from_pylist(rows, schema=_SCHEMA))


def profiles_of(lake: Lake, view: FeatureView, days: Collection[date]) -> dict[date, Profile]:
    """Of each of some days the profile of its newest attempt; days without one are left out."""
    return {
        day: Profile(**{**row, "statistics": msgspec.json.decode(row["statistics"], type=dict[str, ColumnStatistics])})
        for day, row in _newest(lake, view, days, _SCHEMA.names).items()
    }


def remarks_of(lake: Lake, view: FeatureView, days: Collection[date]) -> dict[date, list[str] | None]:
    """The remarks of these profiles alone."""
    return {day: row["remarks"] for day, row in _newest(lake, view, days, ["partition", "attempt", "remarks"]).items()}


def _newest(lake: Lake, view: FeatureView, days: Collection[date], columns: Sequence[str]) -> dict[date, dict[str, Any]]:
    where = (pc.field("view") == view.name) & (pc.field("version") == view.version) & pc.field("partition").isin(sorted(days))
    rows = read_rows(lake, PROFILES, where, columns=columns)
    return {row["partition"]: row for row in sorted(rows, key=lambda row: row["attempt"])}
