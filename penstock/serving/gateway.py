"""The gateway as a process: the application under uvicorn, on Cassandra. The only import of an HTTP server."""

from collections.abc import Sequence

import uvicorn

from penstock.clock import Clock
from penstock.config import Settings
from penstock.online.cassandra import CassandraStore
from penstock.serving.app import Gateway

_GRACE_S = 10  # for requests that are being answered when the process is told to end

# Longer than clients keep idle connections (httpx: 5 s), so that none is closed as a request is sent on it.
_KEEP_ALIVE_S = 75


def run_gateway(settings: Settings, contact_points: Sequence[str], port: int, clock: Clock | None = None) -> None:
    """Serve until the process is told to end (SIGTERM, SIGINT); requests being answered are finished first.

    Args:
        contact_points, port: where Cassandra listens for CQL.

    Raises:
        ConfigError: the keys file is not one of ours.
    """

    async def connect() -> CassandraStore:
        return await CassandraStore.connect(contact_points, port, settings)

    make_server(settings, Gateway(settings, connect, clock)).run()


def make_server(settings: Settings, gateway: Gateway) -> uvicorn.Server:
    """A server of one process for `gateway`, on `gateway.host` and `gateway.port`; not started."""
    config = uvicorn.Config(
        gateway,
        host=settings.gateway.host,
        port=settings.gateway.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return uvicorn.Server(config)
