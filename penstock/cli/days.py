"""Days and times as commands take them: `[NAME]... [FROM [TO]]`, and ISO 8601."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

from penstock.clock import parse_instant
from penstock.errors import BackfillError, PenstockError
from penstock.store import Store


def instant(text: str, refused: type[PenstockError]) -> datetime:
    """A time.

    Raises:
        PenstockError: `refused`, where the text is none, or has no offset.
    """
    try:
        return parse_instant(text)
    except ValueError as error:
        raise refused(f"no time: {error}", hint="write it as 2026-06-30T00:00Z") from None


def names_and_days(what: Sequence[str], store: Store, command: str) -> tuple[list[str], date, date]:
    """The names, the first and the last day: by default `dagster.first_day` and today.

    Args:
        command: what was asked for, as an example for people.

    Raises:
        BackfillError: days that are none, or that no partition has.
    """
    example = f"{command} 2026-01-01 2026-01-31"
    days = [text for text in what if text[:1].isdigit()]
    names = [text for text in what if text not in days]
    if len(days) > 2 or list(what) != [*names, *days]:
        raise BackfillError(f"expected names, then a first and a last day, got: {' '.join(what)}", hint=f"e.g. {example}")
    opens, today = store.settings.dagster.first_day, store.clock.now().astimezone(UTC).date()
    first, last = (*map(_day, days), *(opens, today)[len(days) :])
    if last < first:
        raise BackfillError(f"the last day, {last}, is before the first, {first}", hint=f"both are included, e.g. {example}")
    if first < opens or last > today:
        raise BackfillError(
            f"partitions are from {opens} to {today}, got {first} to {last}",
            hint=f"{today} is the last day there is"
            if first >= opens
            else "days before dagster.first_day have no partition: set it earlier in conf/ and start the instance again",
        )
    return names, first, last


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BackfillError(f"'{text}' is no day", hint="write days as 2026-01-31") from None
