"""A driver's failures as ours: what did not answer may answer later, what was refused will be again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto

from penstock.errors import StoreError, StoreUnavailable


class Failure(Enum):
    """What an error of a driver means."""

    NO_ANSWER = auto()
    """Too few nodes answered, or none in time."""
    REFUSED = auto()
    """Cassandra, or the driver, does not take the statement or the credentials."""
    FORBIDDEN = auto()
    """The role lacks a right."""


class NotAllowed(StoreError):
    """The role lacks a right on the keyspace.

    Operator action: grant it; docs/cassandra.md lists the rights that a gateway and a publisher need.
    """


@contextmanager
def typed_errors(failure: Callable[[Exception], Failure | None], doing: str) -> Iterator[None]:
    """Raise a driver's error in the block as `StoreUnavailable` or `StoreError`; `doing` begins the message.

    Args:
        failure: what an error of the driver means.
        doing: e.g. `reading carrier`.
    """
    try:
        yield
    except TimeoutError as error:  # ours, not the driver's
        raise StoreUnavailable(f"{doing}: Cassandra did not answer in time") from error
    except OverflowError as error:  # a number that does not fit its column
        raise StoreError(f"{doing}: Cassandra refused: {error}") from error
    except Exception as error:
        match failure(error):
            case None:
                raise
            case Failure.NO_ANSWER:
                raise StoreUnavailable(f"{doing}: Cassandra did not answer: {error}") from error
            case Failure.FORBIDDEN:
                hint = "grant the role what docs/cassandra.md lists for a gateway or a publisher"
                raise NotAllowed(f"{doing}: Cassandra refused: {error}", hint=hint) from error
        raise StoreError(f"{doing}: Cassandra refused: {error}") from error
