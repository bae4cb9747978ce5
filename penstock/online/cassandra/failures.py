"""The driver's failures as ours: what did not answer may answer later, what was refused will be again."""

from collections.abc import Iterator
from contextlib import contextmanager

from acsylla import errors as driver

from penstock.errors import StoreError, StoreUnavailable

_NO_ANSWER = (
    driver.CassErrorLibHostResolution,
    driver.CassErrorLibNoAvailableIoThread,
    driver.CassErrorLibNoHostsAvailable,
    driver.CassErrorLibNoStreams,
    driver.CassErrorLibRequestQueueFull,
    driver.CassErrorLibRequestTimedOut,
    driver.CassErrorLibUnableToConnect,
    driver.CassErrorLibUnableToDetermineProtocol,
    driver.CassErrorLibWriteError,
    driver.CassErrorServerIsBootstrapping,
    driver.CassErrorServerOverloaded,
    driver.CassErrorServerReadFailure,
    driver.CassErrorServerReadTimeout,
    driver.CassErrorServerUnavailable,
    driver.CassErrorServerWriteFailure,
    driver.CassErrorServerWriteTimeout,
)


@contextmanager
def typed_errors(doing: str) -> Iterator[None]:
    """Raise a driver's failure in the block as `StoreUnavailable` or `StoreError`; `doing` begins the message."""
    try:
        yield
    except _NO_ANSWER as error:
        raise StoreUnavailable(f"{doing}: Cassandra did not answer: {error}") from error
    except TimeoutError as error:  # ours, not the driver's
        raise StoreUnavailable(f"{doing}: Cassandra did not answer in time") from error
    except (driver.CassException, OverflowError) as error:  # OverflowError: a number that does not fit its column
        raise StoreError(f"{doing}: Cassandra refused: {error}") from error
