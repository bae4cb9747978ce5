"""Daily partitions, UTC, from the project's first day to the open day of its Clock."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from penstock.config import Settings


def daily_partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Every day from `dagster.first_day` to today, the open day included.

    Dagster asks the machine for today. Where the Clock stands still, the last day is the Clock's instead.
    """
    first = settings.dagster.first_day.isoformat()
    fixed = settings.clock.now
    if fixed is None:
        return dg.DailyPartitionsDefinition(start_date=first, end_offset=1)
    today = fixed.astimezone(UTC).date()
    ahead = max(0, (today - datetime.now(UTC).date()).days)
    return dg.DailyPartitionsDefinition(start_date=first, end_date=(today + timedelta(days=1)).isoformat(), end_offset=1 + ahead)


def days_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[date]:
    """The days a run is about."""
    return [date.fromisoformat(key) for key in context.partition_keys]


def range_tags(first: date, last: date) -> dict[str, str]:
    """Tags that make one run of all days from `first` to `last`, both included."""
    return {"dagster/asset_partition_range_start": first.isoformat(), "dagster/asset_partition_range_end": last.isoformat()}


def keys_of(days: Iterable[date]) -> list[str]:
    """Partition keys of days."""
    return [day.isoformat() for day in days]
