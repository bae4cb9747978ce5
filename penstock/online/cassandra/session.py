"""What the store needs of a Cassandra driver, and the choice of one.

Both drivers do the same: token-aware in the local data centre, statements at LOCAL_QUORUM, every statement idempotent
and sent to another node when one hangs, connections watched by heartbeats. What differs is what they cost and need.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeVar

from penstock.config import Settings
from penstock.contract.view_parts import Consistency
from penstock.errors import ConfigError
from penstock.online.cassandra.failures import Failure

# A read of values waits for one node as little as it can. Everything else is sent to another one only when a node hangs:
# writing the same twice costs what writing costs.
HEDGES, HEDGE_OTHERS_S = 2, 1.0

# The drivers' own seconds, doubling up to minutes, would let a node that is back wait for a minute.
RECONNECT_FIRST_S, RECONNECT_LAST_S = 0.2, 2.0
CONNECT_S = 2.0

# A node that hangs keeps its connections: only a heartbeat tells that they are dead.
HEARTBEAT_S, HANGS_AFTER_S = 1, 3

# A schema change waits for all nodes to agree; seconds on a busy cluster.
SCHEMA_TIMEOUT_S = 60.0

PAGE_ROWS = 5000

Row = tuple[Any, ...]
P = TypeVar("P")  # what a driver makes of a statement that is prepared


class Session(Protocol[P]):
    """Connections to a cluster, bound to the event loop they were made in.

    Methods raise the driver's own errors, which `failure` tells apart; a number that does not fit its column is an
    OverflowError. Values are plain: bytes, str, int, `datetime.date`.
    """

    async def query(self, cql: str) -> list[Row]:
        """The rows of a statement without values that is sent once; a change of schema may take a minute."""

    async def prepare(self, cql: str) -> P:
        """A statement, prepared."""

    async def execute(self, statement: P, values: Sequence[Any], *, paged: bool = False) -> list[Row]:
        """All rows of a statement at LOCAL_QUORUM; `paged`: of all its pages."""

    async def read(self, statement: P, values: Sequence[Any], consistency: Consistency) -> list[Row]:
        """All rows of a statement that reads values: hedged sooner, and given up sooner."""

    async def execute_batch(self, statements: Sequence[tuple[P, Sequence[Any]]]) -> None:
        """Apply statements at LOCAL_QUORUM in one round trip; those on one partition all or none."""

    def failure(self, error: Exception) -> Failure | None:
        """What an error of the driver means; None: it is none of the driver's."""

    async def close(self) -> None:
        """Release the connections."""


async def open_session(contact_points: Sequence[str], port: int, settings: Settings) -> Session[Any]:
    """A session of the driver that `cassandra.driver` names.

    Raises:
        StoreUnavailable: no contact point answered.
        StoreError: Cassandra refused the credentials, or is not who its certificate should say.
        ConfigError: the driver cannot be imported, or cannot do what the settings ask for.
    """
    opened: Any = await _opener(settings.cassandra.driver)(contact_points, port, settings)
    return opened  # type: ignore[no-any-return]


def _opener(driver: str) -> Callable[..., Any]:
    other = {"acsylla": "cassandra-driver", "cassandra-driver": "acsylla"}[driver]
    try:
        # Only the one that is chosen need be installed.
        module = import_module(f"penstock.online.cassandra.{driver.replace('-', '_')}_session")
    except ImportError as error:
        raise ConfigError(
            f"cassandra.driver is '{driver}', which cannot be imported here: {error}",
            hint=f"pip install 'penstock[gateway]', or set cassandra.driver to '{other}'",
        ) from None
    return module.open_session  # type: ignore[no-any-return]
