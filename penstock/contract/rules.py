"""The rules every definition must keep, said once with one wording."""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from penstock.errors import ContractError

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,47}$")

RESERVED_COLUMNS = frozenset({"event_time", "available_time", "created_time", "attempt", "event_date", "retracted", "row_digest"})


def require_name(name: str, what: str) -> str:
    """`name` if it may name a table: lower case, digits and `_`, at most 48 characters, no `__`."""
    if not _NAME.match(name) or "__" in name:
        raise ContractError(
            f"{what} '{name}': a name is lower-case letters, digits and single '_', starts with a letter, has at most 48 characters"
        )
    return name


def require_unique(names: Iterable[str], what: str) -> None:
    """Every name once."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ContractError(f"{what}: {len(twice)} duplicate name(s): {', '.join(map(repr, twice))}")


def require_not_reserved(names: Iterable[str], what: str) -> None:
    """No column of ours is taken."""
    taken = sorted(set(names) & RESERVED_COLUMNS)
    if taken:
        raise ContractError(f"{what}: {', '.join(map(repr, taken))} is a column Penstock writes itself; choose another name")


def require_positive(value: timedelta, what: str) -> timedelta:
    """A duration above zero, in whole microseconds."""
    if not isinstance(value, timedelta):
        raise ContractError(f"{what}: expected a duration such as hours(3), got {value!r}")
    if value <= timedelta(0):
        raise ContractError(f"{what}: expected a duration above zero, got {value}")
    return value
