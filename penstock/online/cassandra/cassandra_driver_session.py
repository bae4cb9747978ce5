"""A session of `cassandra-driver`, brought into asyncio: where acsylla has no wheel, or a cluster wants what only this one can."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    CoordinationFailure,
    DependencyException,
    DriverException,
    OperationTimedOut,
    Timeout,
    Unauthorized,
    Unavailable,
    UnresolvableContactPoints,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, ResponseFuture, ResultSet
from cassandra.cluster import Session as DriverSession
from cassandra.connection import ConnectionBusy, ConnectionException
from cassandra.cqltypes import SimpleDateType
from cassandra.policies import (
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    HostDistance,
    NoSpeculativeExecutionPolicy,
    TokenAwarePolicy,
)
from cassandra.pool import Host, NoConnectionsAvailable
from cassandra.protocol import ErrorMessage, IsBootstrappingErrorMessage, OverloadedErrorMessage
from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement, SimpleStatement, Statement, tuple_factory

from penstock.config import CassandraSettings, Settings
from penstock.contract.view_parts import Consistency
from penstock.online.cassandra.failures import Failure, typed_errors
from penstock.online.cassandra.session import (
    CONNECT_S,
    HANGS_AFTER_S,
    HEARTBEAT_S,
    HEDGE_OTHERS_S,
    HEDGES,
    PAGE_ROWS,
    RECONNECT_FIRST_S,
    RECONNECT_LAST_S,
    SCHEMA_TIMEOUT_S,
    Row,
)
from penstock.online.cassandra.tls import bundle_context, ssl_context, tls_of

try:
    # The one reactor that is sound on every Python: asyncore is gone from 3.12, and AsyncioConnection loses its connection
    # under protocol v5. It is part of the driver's wheels.
    from cassandra.io.libevreactor import LibevConnection
except DependencyException as error:
    raise ImportError(f"its libev connection is missing: {str(error).partition('.')[0]}") from None

_PROTOCOL = 5  # with what to begin; an older server says which it takes

_NO_ANSWER = (
    ConnectionBusy,
    ConnectionException,
    CoordinationFailure,
    IsBootstrappingErrorMessage,
    NoConnectionsAvailable,
    OperationTimedOut,
    OverloadedErrorMessage,
    Timeout,
    Unavailable,
    UnresolvableContactPoints,
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared statement, and the columns of its rows that hold dates, which the driver has a class of its own for."""

    statement: PreparedStatement
    dates: tuple[int, ...]


class CassandraDriverSession:
    """See `Session`."""

    def __init__(self, cluster: Cluster, session: DriverSession) -> None:
        self._cluster, self._session = cluster, session

    async def query(self, cql: str) -> list[Row]:
        return (await self._send(SimpleStatement(cql, fetch_size=None), timeout_s=SCHEMA_TIMEOUT_S))[0]

    async def prepare(self, cql: str) -> Prepared:
        statement = await asyncio.to_thread(self._session.prepare, cql)
        statement.is_idempotent = True
        columns = statement.result_metadata or ()
        return Prepared(statement, tuple(place for place, column in enumerate(columns) if issubclass(column[3], SimpleDateType)))

    async def execute(self, statement: Prepared, values: Sequence[Any], *, paged: bool = False) -> list[Row]:
        bound = _bind(statement, values)
        bound.fetch_size = PAGE_ROWS if paged else None
        rows, state = await self._send(bound)
        while state is not None:  # a request of its own: the driver's next page would take a late answer for the page before as its own
            more, state = await self._send(bound, state=state)
            rows += more
        return [_plain(row, statement.dates) for row in rows] if statement.dates else rows

    async def read(self, statement: Prepared, values: Sequence[Any], consistency: Consistency) -> list[Row]:
        bound = _bind(statement, values)
        bound.fetch_size = None
        return (await self._send(bound, consistency))[0]

    async def execute_batch(self, statements: Sequence[tuple[Prepared, Sequence[Any]]]) -> None:
        batch = BatchStatement(BatchType.UNLOGGED)  # what is of one partition is atomic without a batch log
        batch.is_idempotent = True
        for statement, values in statements:
            batch.add(_bind(statement, values))
        await self._send(batch)

    def failure(self, error: Exception) -> Failure | None:
        return failure_of(error)

    async def close(self) -> None:
        await asyncio.to_thread(self._cluster.shutdown)

    async def _send(
        self, statement: Statement, profile: Any = EXEC_PROFILE_DEFAULT, *, state: bytes | None = None, timeout_s: float | None = None
    ) -> tuple[list[Row], bytes | None]:
        """The rows of one page, and where the next one begins."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[list[Row], bytes | None]] = loop.create_future()

        def settle(result: tuple[list[Row], bytes | None] | None, error: Exception | None) -> None:
            # A hedged request is answered twice and calls back twice, the second time perhaps with an error.
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            elif result is not None:
                answer.set_result(result)

        def on_rows(rows: list[Row] | None) -> None:
            page = ResultSet(sent, rows).paging_state if rows is not None else None
            with suppress(RuntimeError):  # the loop is gone, and with it who asked
                loop.call_soon_threadsafe(settle, (rows or [], page), None)

        def on_error(error: Exception) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, None, error)

        extra = {} if timeout_s is None else {"timeout": timeout_s}
        sent: ResponseFuture = self._session.execute_async(statement, execution_profile=profile, paging_state=state, **extra)
        sent.add_callbacks(on_rows, on_error)
        return await answer


class ReplicasFirst(TokenAwarePolicy):  # type: ignore[misc]  # the driver has no types
    """The local replicas of a key in random order, then the other nodes of the data centre.

    The driver's own policy shuffles the list of replicas that all requests share while others go through it, so that under
    load one hedge in twenty-five went to the node that hung.
    """

    def make_query_plan(self, working_keyspace: str | None = None, query: Statement | None = None) -> Iterator[Host]:
        keyspace = query.keyspace if query is not None and query.keyspace else working_keyspace
        key = None if query is None else query.routing_key
        first: list[Host] = []
        if key is not None and keyspace is not None:
            first = [
                host
                for host in self._cluster_metadata.get_replicas(keyspace, key)
                if host.is_up and self._child_policy.distance(host) == HostDistance.LOCAL
            ]
            random.shuffle(first)
            yield from first
        for host in self._child_policy.make_query_plan(keyspace, query):
            if host not in first:
                yield host


def failure_of(error: Exception) -> Failure | None:
    """What an error of the driver means; None: it is none."""
    if isinstance(error, NoHostAvailable):
        causes = list(error.errors.values()) if isinstance(error.errors, dict) else []
        refused = [cause for cause in causes if isinstance(cause, AuthenticationFailed) or "certificate" in str(cause).lower()]
        return Failure.REFUSED if refused else Failure.NO_ANSWER
    if isinstance(error, _NO_ANSWER):
        return Failure.NO_ANSWER
    if isinstance(error, Unauthorized):
        return Failure.FORBIDDEN
    return Failure.REFUSED if isinstance(error, DriverException | ErrorMessage) else None


async def open_session(contact_points: Sequence[str], port: int, settings: Settings) -> CassandraDriverSession:
    """Connected; see `session.open_session`."""
    where = settings.cassandra.secure_connect_bundle or f"{', '.join(contact_points)} port {port}"
    with typed_errors(failure_of, f"connecting to {where}"):
        return await asyncio.to_thread(_open, contact_points, port, settings)


def _open(contact_points: Sequence[str], port: int, settings: Settings) -> CassandraDriverSession:
    cassandra = settings.cassandra
    auth = None
    if cassandra.username is not None:
        auth = PlainTextAuthProvider(cassandra.username, "" if cassandra.password is None else cassandra.password.reveal())
    cluster = Cluster(
        connection_class=LibevConnection,
        auth_provider=auth,
        execution_profiles=_profiles(cassandra),
        reconnection_policy=ExponentialReconnectionPolicy(RECONNECT_FIRST_S, RECONNECT_LAST_S),
        connect_timeout=min(CONNECT_S, cassandra.request_timeout_s),
        control_connection_timeout=cassandra.request_timeout_s,
        idle_heartbeat_interval=HEARTBEAT_S,
        idle_heartbeat_timeout=HANGS_AFTER_S,
        compression=False,  # values are small, and packed
        monitor_reporting_enabled=False,
        application_name="penstock",
        **_place(contact_points, port, settings),
    )
    try:
        cluster.protocol_version = _PROTOCOL  # as an argument it would not be negotiated
        return CassandraDriverSession(cluster, cluster.connect(wait_for_all_pools=True))
    except BaseException:
        cluster.shutdown()
        raise


def _place(contact_points: Sequence[str], port: int, settings: Settings) -> dict[str, Any]:
    if settings.cassandra.secure_connect_bundle is not None:
        bundle = settings.path(settings.cassandra.secure_connect_bundle)
        # The driver would unpack the keys beside the bundle.
        return {"cloud": {"secure_connect_bundle": str(bundle), "ssl_context": bundle_context(bundle), "use_default_tempdir": True}}
    tls = tls_of(settings)
    return {"contact_points": list(contact_points), "port": port, "ssl_context": None if tls is None else ssl_context(tls)}


def _profiles(cassandra: CassandraSettings) -> dict[Any, ExecutionProfile]:
    # Policies have state and are told of nodes once each: one for all profiles.
    nodes = ReplicasFirst(DCAwareRoundRobinPolicy(cassandra.local_datacenter))
    profile = partial(ExecutionProfile, nodes, row_factory=tuple_factory)
    sooner = ConstantSpeculativeExecutionPolicy(cassandra.hedge_ms / 1000, HEDGES) if cassandra.hedge_ms else NoSpeculativeExecutionPolicy()
    profiles = {
        consistency: profile(
            consistency_level=getattr(ConsistencyLevel, consistency.name),
            request_timeout=cassandra.read_timeout_s,
            speculative_execution_policy=sooner,
        )
        for consistency in Consistency
    }
    others = profile(
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=cassandra.request_timeout_s,
        speculative_execution_policy=ConstantSpeculativeExecutionPolicy(HEDGE_OTHERS_S, HEDGES),
    )
    return {EXEC_PROFILE_DEFAULT: others, **profiles}


def _bind(statement: Prepared, values: Sequence[Any]) -> BoundStatement:
    try:
        return statement.statement.bind(values)
    except TypeError as error:  # so it says of a number that does not fit its column
        raise OverflowError(str(error)) from None


def _plain(row: Row, dates: tuple[int, ...]) -> Row:
    return tuple(_day(value) if place in dates else value for place, value in enumerate(row))


def _day(value: Any) -> date | None:
    return None if value is None else value.date()
