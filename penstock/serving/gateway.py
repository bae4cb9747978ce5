"""The gateway as processes: the application under uvicorn, on Cassandra. The only import of an HTTP server.

one worker      this process serves
several         a supervisor binds the port; its workers share it, each with an event loop, a store session and a cache of
                its own. One that ends or hangs is replaced; SIGHUP replaces all, one after the other, the new one first.
"""

import asyncio
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from penstock.clock import Clock
from penstock.config import Settings
from penstock.errors import ConfigError, RuntimeSetupError
from penstock.online.cassandra import CassandraStore
from penstock.serving.access import load_grants
from penstock.serving.app import Gateway
from penstock.serving.http import Reply, headers_of
from penstock.serving.logs import log_as_set
from penstock.serving.metrics import SHARED_FOLDER

if TYPE_CHECKING:
    from penstock.serving.traces import Traces

_GRACE_S = 10  # for requests that are being answered when the process is told to end
_LINGER_S = 1.0  # for the next request on a connection that is idle then

# Longer than clients keep idle connections (httpx: 5 s), so that none is closed as a request is sent on it.
_KEEP_ALIVE_S = 75
_BACKLOG = 2048


def run_gateway(settings: Settings, contact_points: Sequence[str], port: int, clock: Clock | None = None) -> None:
    """Serve until the process is told to end (SIGTERM, SIGINT); requests being answered are finished first.

    Args:
        contact_points, port: where Cassandra listens for CQL.

    Raises:
        ConfigError: the keys file is not one of ours; traces are on and OpenTelemetry is not installed.
        RuntimeSetupError: several workers: the address cannot be listened on, or a worker did not start.
    """
    app = _App(settings, tuple(contact_points), port, clock)
    log_as_set(settings.gateway)
    if settings.gateway.workers == 1:
        make_server(settings, app()).run()
        return
    load_grants(settings.path(settings.gateway.keys_file))  # what a worker cannot read either, said once
    if settings.gateway.traces:
        _import_traces()
    with TemporaryDirectory(prefix="penstock-gateway-") as shared, _listen(settings) as listening:
        os.environ[SHARED_FOLDER] = shared
        supervisor = Multiprocess(_config(settings, _Worker(app), factory=True), [listening])
        supervisor.run()
        if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
            raise RuntimeSetupError("a worker of the gateway did not start", hint="its message is in the log above")


def make_server(settings: Settings, gateway: Gateway) -> uvicorn.Server:
    """A server of one process for `gateway`, on `gateway.host` and `gateway.port`; not started."""
    return uvicorn.Server(_config(settings, gateway))


@dataclass(frozen=True)
class _App:
    """Makes the application, in whichever process is to serve it."""

    settings: Settings
    contact_points: tuple[str, ...]
    port: int
    clock: Clock | None

    def __call__(self) -> Gateway:
        async def connect() -> CassandraStore:
            return await CassandraStore.connect(self.contact_points, self.port, self.settings)

        return Gateway(self.settings, connect, self.clock, _import_traces()() if self.settings.gateway.traces else None)


def _import_traces() -> "Callable[[], Traces]":
    try:
        from penstock.serving.traces import exported_traces  # noqa: PLC0415  # OpenTelemetry, only where it is asked for
    except ModuleNotFoundError as error:
        message = f"gateway.traces needs the package '{error.name}', which is not installed"
        raise ConfigError(message, hint="pip install 'penstock[otel]'; or set gateway.traces: false") from None
    return exported_traces


@dataclass(frozen=True)
class _Worker:
    """Makes the application in a worker, which ends with its supervisor, however that ends."""

    app: _App

    def __call__(self) -> Gateway:
        log_as_set(self.app.settings.gateway)
        supervisor = multiprocessing.parent_process()
        assert supervisor is not None

        def follow() -> None:
            wait([supervisor.sentinel])
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=follow, name="supervisor", daemon=True).start()
        return self.app()


class _TurnedAway:
    """What uvicorn has in place of the cycle of a request that was answered before it got one."""

    response_complete = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


class _Connection(HttpToolsProtocol):
    """A connection that turns away at once what there is no room for, and whose end loses no request.

    Told to end while it is idle, it waits for one more request and says in its answer that it ends: a client may be sending on
    it at that moment, and closed at once, the request would be lost.
    """

    _ending = _closing = False

    def shutdown(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
        elif not self._ending:
            self._ending = True
            self.loop.call_later(_LINGER_S, super().shutdown)

    def on_headers_complete(self) -> None:
        pipelined = self.cycle is not None and not self.cycle.response_complete  # its answer has to wait for another
        refused = None if pipelined else self.app.turn_away(self.url, self.scope)
        if refused is not None:
            self._refuse(*refused)
            return
        super().on_headers_complete()
        if self._ending:
            self.cycle.keep_alive = False

    def _refuse(self, reply: Reply, request_id: str) -> None:
        self._closing = self._ending or not self.parser.should_keep_alive()
        headers = [*self.server_state.default_headers, *headers_of(reply, request_id)]
        if self._closing:
            headers.append((b"connection", b"close"))
        lines = [STATUS_LINE[reply.status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n", reply.body]
        self.transport.write(b"".join(lines))
        self.cycle = _TurnedAway()  # type: ignore[assignment]  # uvicorn asks no more of it
        self.on_response_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._closing:  # not before it was read: a client that is still sending could not read our answer
            self.transport.close()


def _config(settings: Settings, app: Gateway | _Worker, *, factory: bool = False) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=factory,
        host=settings.gateway.host,
        port=settings.gateway.port,
        workers=settings.gateway.workers,
        loop="uvloop",
        http=_Connection,
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,  # nothing depends on where a caller is
        log_config=None,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.gateway.host, settings.gateway.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RuntimeSetupError(f"the gateway cannot listen on {host}:{port}: {reason}", hint="set gateway.host and gateway.port") from None
