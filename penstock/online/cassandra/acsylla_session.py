"""A session of `acsylla`: the C++ driver, a tenth of the CPU per read of the other one."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

import acsylla
from acsylla import errors as driver

from penstock.config import CassandraSettings, Settings
from penstock.contract.view_parts import Consistency
from penstock.errors import ConfigError
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
from penstock.online.cassandra.tls import Tls, tls_of

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


class _Verify(Enum):
    """The C++ driver's own bits: acsylla 1.2's PEER_IDENTITY is PEER_CERT by another name, and compares no address."""

    CERTIFICATE = 1
    ADDRESS = 1 | 2  # the second alone takes a certificate of anybody


class AcsyllaSession:
    """See `Session`."""

    def __init__(self, cluster: acsylla.Cluster, session: acsylla.Session) -> None:
        self._cluster, self._session = cluster, session

    async def query(self, cql: str) -> list[Row]:
        statement = acsylla.create_statement(cql, timeout=SCHEMA_TIMEOUT_S)
        return [row.as_tuple() for row in await self._session.execute(statement)]

    async def prepare(self, cql: str) -> acsylla.PreparedStatement:
        return await self._session.create_prepared(cql)

    async def execute(self, statement: acsylla.PreparedStatement, values: Sequence[Any], *, paged: bool = False) -> list[Row]:
        bound = statement.bind(list(values), page_size=PAGE_ROWS if paged else None)
        bound.set_is_idempotent(True)
        rows: list[Row] = []
        while True:
            page = await self._session.execute(bound)
            rows += [row.as_tuple() for row in page]
            if not page.has_more_pages():
                return rows
            bound.set_page_state(page.page_state())

    async def read(self, statement: acsylla.PreparedStatement, values: Sequence[Any], consistency: Consistency) -> list[Row]:
        bound = statement.bind(list(values), execution_profile=consistency.value)
        bound.set_is_idempotent(True)
        return [row.as_tuple() for row in await self._session.execute(bound)]

    async def execute_batch(self, statements: Sequence[tuple[acsylla.PreparedStatement, Sequence[Any]]]) -> None:
        batch = acsylla.create_batch_unlogged()  # what is of one partition is atomic without a batch log
        batch.set_is_idempotent(True)
        for statement, values in statements:
            bound = statement.bind(list(values))
            bound.set_is_idempotent(True)
            batch.add_statement(bound)
        await self._session.execute_batch(batch)

    def failure(self, error: Exception) -> Failure | None:
        return failure_of(error)

    async def close(self) -> None:
        await self._session.close()
        self._cluster.destroy()  # else two pairs of sockets stay open in the event loop


def failure_of(error: Exception) -> Failure | None:
    """What an error of acsylla means; None: it is none."""
    if isinstance(error, _NO_ANSWER):
        return Failure.NO_ANSWER
    if isinstance(error, driver.CassErrorServerUnauthorized):
        return Failure.FORBIDDEN
    return Failure.REFUSED if isinstance(error, driver.CassException) else None


async def open_session(contact_points: Sequence[str], port: int, settings: Settings) -> AcsyllaSession:
    """Connected; see `session.open_session`."""
    cassandra, tls = settings.cassandra, tls_of(settings)
    doing = f"connecting to {', '.join(contact_points)} port {port}"
    if cassandra.secure_connect_bundle is not None:
        raise ConfigError(
            "cassandra.secure_connect_bundle: the driver 'acsylla' does not open bundles: it takes nothing from their metadata service",
            hint="set cassandra.driver to 'cassandra-driver'",
        )
    with typed_errors(failure_of, doing):
        cluster = acsylla.create_cluster(
            list(contact_points),
            port=port,
            username=cassandra.username,
            password=None if cassandra.password is None else cassandra.password.reveal(),
            connect_timeout=min(CONNECT_S, cassandra.request_timeout_s),
            request_timeout=cassandra.request_timeout_s,
            consistency="LOCAL_QUORUM",
            speculative_execution_policy=acsylla.SpeculativeExecutionPolicy(int(HEDGE_OTHERS_S * 1000), HEDGES),
            heartbeat_interval_sec=HEARTBEAT_S,
            idle_timeout_sec=HANGS_AFTER_S,
            load_balance_dc_aware=cassandra.local_datacenter,
            exponential_reconnect_base_delay_ms=int(RECONNECT_FIRST_S * 1000),
            exponential_reconnect_max_delay_ms=int(RECONNECT_LAST_S * 1000),
            # The driver logs through a global pointer to its newest cluster object, freed or not;
            # our callers learn of failures by errors, so it has nothing to say.
            log_level="critical",
            application_name="penstock",
            **({} if tls is None else _encrypted(tls)),
        )
    try:
        with typed_errors(failure_of, doing):
            for consistency in Consistency:
                _reading_profile(cluster, cassandra, consistency)
            return AcsyllaSession(cluster, await cluster.create_session())
    except BaseException:
        cluster.destroy()
        raise


def _reading_profile(cluster: acsylla.Cluster, cassandra: CassandraSettings, consistency: Consistency) -> None:
    cluster.create_execution_profile(
        consistency.value,
        request_timeout=int(cassandra.read_timeout_s * 1000),
        consistency=acsylla.Consistency[consistency.name],  # not taken over from the cluster's: reads were LOCAL_ONE without it
        speculative_execution_policy=acsylla.SpeculativeExecutionPolicy(cassandra.hedge_ms, HEDGES) if cassandra.hedge_ms else None,
    )


def _encrypted(tls: Tls) -> dict[str, Any]:
    return {
        "ssl_enabled": True,
        "ssl_trusted_cert": tls.authority,
        "ssl_cert": tls.certificate,
        "ssl_private_key": tls.key,
        "ssl_verify_flags": _Verify.ADDRESS if tls.verify_host else _Verify.CERTIFICATE,
    }
