"""The gateway: `POST /v1/features` and what stands around it, as one ASGI application.

    POST /v1/features           values of a feature service; see `messages`
    GET  /v1/services[/{name}]  what the caller may ask
    GET  /healthz               the process lives
    GET  /readyz                it knows what to serve; 503 until the control plane was read once
    GET  /metrics               Prometheus

The first two need an API key. Everything is served under the state of the last look at the control
plane, and goes on under it while the store is down.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import perf_counter

import msgspec
import uvicorn

from penstock.clock import Clock, to_micros
from penstock.config import Settings
from penstock.errors import ConfigError, MalformedRequest, RequestError, StoreError, Unavailable
from penstock.online.cassandra import CassandraStore
from penstock.online.store import OnlineStore
from penstock.registry.serving_state import ServingState
from penstock.serving.access import Grant, authenticate, load_grants
from penstock.serving.catalogue import describe_service, list_services
from penstock.serving.http import (
    INTERNAL_ERROR,
    Disconnected,
    Receive,
    Reply,
    Scope,
    Send,
    failure,
    header,
    read_body,
    refusal,
    request_id_of,
    send_reply,
)
from penstock.serving.lookup import look_up
from penstock.serving.messages import FeatureRequest
from penstock.serving.metrics import UNKNOWN, GatewayMetrics
from penstock.serving.state import StateKeeper

logger = logging.getLogger(__name__)

_decode_request = msgspec.json.Decoder(FeatureRequest).decode
_PLAIN = b"text/plain; version=0.0.4; charset=utf-8"
_SHUTDOWN_S = 10


class Gateway:
    """The ASGI application.

    Args:
        settings: its `gateway` section: limits, refresh, keys file.
        connect: makes the online store; called again until it succeeds, so that a gateway may start before its store.
        clock: what values are judged by; default: the settings' own.
    """

    def __init__(self, settings: Settings, connect: Callable[[], Awaitable[OnlineStore]], clock: Clock | None = None) -> None:
        self._settings = settings.gateway
        self._keys_file = settings.path(settings.gateway.keys_file)
        self._clock = clock if clock is not None else settings.make_clock()
        self._connect = connect
        self._metrics = GatewayMetrics()
        self._grants = load_grants(self._keys_file)
        self._store: OnlineStore | None = None
        self._keeper: StateKeeper | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def refresh(self) -> None:
        """Look once at the store's control plane and at the keys file; what cannot be read stays as it was."""
        try:
            self._grants = load_grants(self._keys_file)
        except ConfigError as error:
            logger.error("keeping the API keys known so far: %s", error.message)
        try:
            if self._keeper is None:
                self._store = await self._connect()
                self._keeper = StateKeeper(self._store, self._metrics.refresh_failed)
        except StoreError as error:
            self._metrics.refresh_failed()
            logger.warning("not connected to the online store: %s", error.message)
            return
        if await self._keeper.refresh() and self._keeper.state is not None:
            self._metrics.refreshed(self._keeper.state, self._clock.now().timestamp())

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.refresh()
        except Exception as error:
            logger.exception("the gateway cannot start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        refresher = asyncio.create_task(self._refresh_forever())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        refresher.cancel()
        with suppress(asyncio.CancelledError):
            await refresher
        if self._store is not None:
            await self._store.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh_s)
            try:
                await self.refresh()
            except Exception:
                # Whatever it is, serving goes on under the last state, and the next look may succeed.
                self._metrics.refresh_failed()
                logger.exception("looking at the control plane failed")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = perf_counter()
        request_id = request_id_of(scope)
        asked = _Asked()
        try:
            reply = await self._reply(scope, receive, asked, request_id)
        except Disconnected:
            return
        except RequestError as error:
            reply = refusal(error, request_id)
        except Exception:
            logger.exception("request %s failed", request_id)
            reply = failure(500, INTERNAL_ERROR, "an unexpected error; the gateway's log has it under this request id", "", request_id)
        await send_reply(send, reply, request_id)
        if asked.service is not None:
            self._metrics.request(self._label(asked.service), reply.code, perf_counter() - start)

    async def _reply(self, scope: Scope, receive: Receive, asked: "_Asked", request_id: str) -> Reply:
        match (scope["method"], scope["path"]):
            case ("POST", "/v1/features"):
                asked.service = UNKNOWN
                return await self._features(self._authenticate(scope), await_body(scope, receive, self._settings.max_body_bytes), asked)
            case ("GET", "/v1/services"):
                return _json(list_services(self._state(), self._authenticate(scope)))
            case ("GET", path) if path.startswith("/v1/services/"):
                name = path.removeprefix("/v1/services/")
                self._authenticate(scope).require(name)
                return _json(describe_service(self._state(), name))
            case ("GET", "/healthz"):
                return _json({"status": "alive"})
            case ("GET", "/readyz"):
                self._state()
                return _json({"status": "ready"})
            case ("GET", "/metrics"):
                return Reply(200, self._metrics.render(), content_type=_PLAIN)
            case (_, "/v1/features" | "/v1/services" | "/healthz" | "/readyz" | "/metrics"):
                return failure(405, "method_not_allowed", f"{scope['method']} is not what this path answers to", "", request_id)
        return failure(404, "unknown_path", "nothing is served at this path", "see POST /v1/features, GET /v1/services", request_id)
