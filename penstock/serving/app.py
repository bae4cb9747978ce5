"""The gateway as one ASGI application.

    POST /v1/features           values of a feature service; see `messages`
    POST /get-online-features   the same as Feast's feature server has it; see `feast`
    GET  /v1/services[/{name}]  what the caller may ask
    GET  /healthz               the process lives
    GET  /readyz                it knows what to serve; 503 until the control plane was read once
    GET  /metrics               Prometheus
    GET  /openapi.json          this surface for machines; see `openapi`

What serves values needs an API key or a token, the others are open. A request may say with `X-Deadline-Ms` how long it can wait: what
the store has not answered by then is answered as if it had failed. Everything is served under the state of the last look
at the control plane that succeeded, and goes on under it while the store is down.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from penstock.clock import Clock, to_micros
from penstock.config import Settings
from penstock.errors import ConfigError, MalformedRequest, Overloaded, RequestError, StoreError, Unavailable, error_code
from penstock.online.store import OnlineStore
from penstock.registry.serving_state import ServingState
from penstock.serving import feast
from penstock.serving.access import Grant, authenticate, load_grants
from penstock.serving.admission import Admission
from penstock.serving.breaker import Breaker
from penstock.serving.cache import NearCache
from penstock.serving.catalogue import describe_service, list_services
from penstock.serving.feature_log import FeatureLog
from penstock.serving.functions import Functions
from penstock.serving.http import (
    INTERNAL_ERROR,
    MSGPACK,
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
    store_until,
)
from penstock.serving.logs import Complaints, without_values
from penstock.serving.lookup import Answer, look_up
from penstock.serving.messages import FeatureRequest, Health, Layout
from penstock.serving.metrics import UNKNOWN, GatewayMetrics
from penstock.serving.openapi import METHODS, SERVICE_PREFIX, describe_api, route_of
from penstock.serving.plan import Planner
from penstock.serving.replay_token import token_of
from penstock.serving.responses import in_columns, in_rows
from penstock.serving.state import StateKeeper

if TYPE_CHECKING:  # imported where they are on
    from penstock.serving.jwt_access import TokenAccess
    from penstock.serving.traces import Traces

logger = logging.getLogger(__name__)

Render: TypeAlias = Callable[[Answer, str], Reply]
"""Makes the reply of an answer and its token."""

Dialect: TypeAlias = Callable[[bytes, ServingState, Grant, Scope], tuple[FeatureRequest, Render]]
"""Reads a body, and tells how its answer is said."""

_decode = msgspec.json.Decoder(FeatureRequest).decode
_KEYS, _STORE = "keeping the API keys known so far", "not connected to the online store"
_ADMITTED = frozenset((b"/v1/features", feast.PATH.encode()))
_PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"


class Gateway:
    """The ASGI application.

    Args:
        settings: its `gateway` section: limits, refresh, keys file.
        connect: makes the online store; tried again at every refresh until it answers, so that a
            gateway may start before its store.
        clock: what values are judged by; default: the one the settings ask for.
        traces: where spans go; default: nowhere.
    """

    def __init__(
        self,
        settings: Settings,
        connect: Callable[[], Awaitable[OnlineStore]],
        clock: Clock | None = None,
        traces: "Traces | None" = None,
    ) -> None:
        self._settings = settings.gateway
        self._keys_file = settings.path(settings.gateway.keys_file)
        self._connect = connect
        self._clock = clock if clock is not None else settings.make_clock()
        self._metrics = GatewayMetrics()
        self._functions = Functions(settings.path(settings.gateway.functions))
        self._planner = Planner()
        self._admission = Admission(settings.gateway.max_in_progress)
        self._log = FeatureLog(settings.path(settings.feature_log.folder), settings.feature_log, self._clock, self._metrics.log_dropped)
        self._grants = load_grants(self._keys_file)
        self._tokens = _token_access(settings)
        self._complaints = Complaints(logger)
        self._traces = traces
        self._handle = self._answer if traces is None else traces.requests(self._answer)
        self._count = self._metrics.request if traces is None else traces.outcomes(self._metrics.request)
        self._described: bytes | None = None
        self._store: OnlineStore | None = None
        self._breaker: Breaker | None = None
        self._cache: NearCache | None = None
        self._keeper: StateKeeper | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._handle(scope, receive, send)

    def turn_away(self, url: bytes, scope: Scope) -> tuple[Reply, str] | None:
        """The answer to a request for values that there is no room for, and its id; None: it is to be answered.

        The server asks with the head of each request, before it makes a task of it: in an overload there is no time for one.
        """
        if url.partition(b"?")[0] not in _ADMITTED:
            return None
        try:
            self._admission.let_in()
        except Overloaded as error:
            self._count(UNKNOWN, error_code(Overloaded), 0.0)
            request_id = request_id_of(scope)
            return refusal(error, request_id), request_id
        asyncio.get_running_loop().call_soon(self._admission.begin)
        return None

    async def refresh(self) -> None:
        """Look once at the keys file, the issuer's keys and the control plane; what cannot be read stays as it was."""
        await self._refresh_access()
        await self._refresh_state()

    async def _refresh_access(self) -> None:
        try:
            self._grants = load_grants(self._keys_file)
            self._complaints.over(_KEYS)
        except ConfigError as error:
            self._complaints.say(_KEYS, error.message)
        if self._tokens is not None:
            await self._tokens.refresh()

    async def _refresh_state(self) -> None:
        try:
            if self._store is None:
                self._store = await self._connect()
                reader = self._metrics.timed(self._store)
                self._breaker = Breaker(reader if self._traces is None else self._traces.reads(reader), self._metrics.store_unanswering)
                self._cache = NearCache(self._breaker, self._settings.cache_mb * 1_000_000, self._metrics.looked_up)
                self._keeper = StateKeeper(self._store, self._metrics.refresh_failed, self._functions)
                self._complaints.over(_STORE)
        except StoreError as error:
            self._metrics.refresh_failed()
            self._complaints.say(_STORE, error.message)
        if self._keeper is not None and await self._keeper.refresh() and self._keeper.state is not None:
            self._metrics.refreshed(self._keeper.state, self._clock.now().timestamp())

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.refresh()
        except Exception as error:
            logger.exception("the gateway cannot start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        background = [
            asyncio.create_task(self._forever(self._refresh_state)),
            asyncio.create_task(self._forever(self._refresh_access)),  # beside it: an issuer may take its time
            asyncio.create_task(self._log.write_forever()),
        ]
        services = 0 if self._keeper is None or self._keeper.state is None else len(self._keeper.state.services)
        logger.info("the gateway of penstock %s starts; it knows %d feature service(s)", version("penstock"), services)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in background:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._log.close()
        if self._breaker is not None:
            await self._breaker.close()
        if self._store is not None:
            await self._store.close()
        if self._traces is not None:
            await self._traces.close()
        logger.info("the gateway has ended")
        await send({"type": "lifespan.shutdown.complete"})

    async def _forever(self, refresh: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh_s)
            try:
                await refresh()
            except Exception:
                # Whatever it is, serving goes on under the last state, and the next look may succeed.
                self._metrics.refresh_failed()
                logger.exception("looking at keys and the control plane failed")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = request_id_of(scope)
        try:
            reply = await self._route(scope, receive, request_id)
        except Disconnected:
            return
        except RequestError as error:
            logger.debug("request %s refused: %s", request_id, error_code(type(error)), extra={"request_id": request_id})
            reply = refusal(error, request_id)
        except Exception as error:
            logger.error("request %s failed at\n%s", request_id, without_values(error), extra={"request_id": request_id})
            reply = failure(500, INTERNAL_ERROR, "an unexpected error; the gateway's log has it under this request id", request_id)
        await send_reply(send, reply, request_id)

    async def _route(self, scope: Scope, receive: Receive, request_id: str) -> Reply:
        match (scope["method"], scope["path"]):
            case ("POST", "/v1/features"):
                return await self._features(scope, receive, request_id, self._own)
            case ("POST", feast.PATH):
                return await self._features(scope, receive, request_id, self._feast)
            case ("GET", "/v1/services"):
                grant = self._authenticate(scope)
                return _json(list_services(self._state(), grant))
            case ("GET", str(path)) if path.startswith(SERVICE_PREFIX):
                name = path.removeprefix(SERVICE_PREFIX)
                self._authenticate(scope).require(name)
                return _json(describe_service(self._state(), name))
            case ("GET", "/healthz"):
                return _json(Health(status="alive"))
            case ("GET", "/readyz"):
                self._state()
                return _json(Health(status="ready"))
            case ("GET", "/metrics"):
                return Reply(200, self._metrics.render(), _PROMETHEUS)
            case ("GET", "/openapi.json"):
                return Reply(200, self._description())
            case (method, str(path)) if (route := route_of(path)) is not None:
                return failure(
                    405,
                    "method_not_allowed",
                    f"{path} does not answer to {method}",
                    request_id,
                    headers=((b"allow", METHODS[route].encode()),),
                )
        hint = "see POST /v1/features and GET /v1/services"
        return failure(404, "unknown_path", "nothing is served at this path", request_id, hint=hint)

    async def _features(self, scope: Scope, receive: Receive, request_id: str, dialect: Dialect) -> Reply:
        start, service, code = perf_counter(), UNKNOWN, INTERNAL_ERROR
        try:
            until = store_until(scope, asyncio.get_running_loop().time(), self._settings.deadline_ms)
            grant = self._authenticate(scope)
            body = await read_body(scope, receive, self._settings.max_body_bytes)
            state = self._state()
            request, render = dialect(body, state, grant, scope)
            grant.require(request.service)
            if request.service in state.services:  # a label must not be whatever a caller sends
                service = request.service
            assert self._cache is not None  # there is no state without it
            plan = self._planner.plan(state, request.service, request.features, request.contract)
            with self._admission.doing(len(request.entities)):
                answer = await look_up(plan, self._cache, to_micros(self._clock.now()), request.entities, self._settings, until)
            reply = render(answer, token_of(answer))
            self._log.take(answer, request_id, grant.principal)
            self._metrics.answer(answer)
            code = "ok"
            return reply
        except Disconnected:
            code = "disconnected"
            raise
        except RequestError as error:
            code = error_code(type(error))
            raise
        finally:
            self._count(service, code, perf_counter() - start)

    def _own(self, body: bytes, _: ServingState, __: Grant, scope: Scope) -> tuple[FeatureRequest, Render]:
        request = parse_request(body)
        lay_out = in_rows if request.layout is Layout.ROWS else in_columns
        send = _msgpack if header(scope, b"accept") == MSGPACK else _json
        return request, lambda answer, token: send(lay_out(answer, token))

    def _feast(self, body: bytes, state: ServingState, grant: Grant, _: Scope) -> tuple[FeatureRequest, Render]:
        asked = feast.parse_feast(body)
        return feast.native(asked, state, grant), lambda answer, token: Reply(200, feast.as_feast(answer, token, asked))

    def _authenticate(self, scope: Scope) -> Grant:
        return authenticate(self._grants, header(scope, b"authorization"), self._tokens)

    def _state(self) -> ServingState:
        if self._keeper is None or self._keeper.state is None:
            raise Unavailable("the gateway has not read yet what to serve", hint="try again; its log says what it waits for")
        return self._keeper.state

    def _description(self) -> bytes:
        if self._described is None:
            self._described = msgspec.json.encode(describe_api(self._settings))
        return self._described


def _token_access(settings: Settings) -> "TokenAccess | None":
    asked = settings.gateway.jwt
    if asked.issuer is None or asked.jwks is None:
        return None
    from penstock.serving.jwt_access import TokenAccess  # noqa: PLC0415  # cryptography, which most gateways have no use for

    return TokenAccess(asked, asked.jwks if "://" in asked.jwks else settings.path(asked.jwks))


def parse_request(body: bytes) -> FeatureRequest:
    """The request in a body.

    Raises:
        MalformedRequest: not JSON, an unknown field, a value of the wrong type, nested too deep.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: bytes that are not UTF-8, endless digits
        raise MalformedRequest(f"the request is not as documented: {error}", hint="see POST /v1/features") from None


_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode


def _json(body: object) -> Reply:
    return Reply(200, _encode_json(body))


def _msgpack(body: object) -> Reply:
    return Reply(200, _encode_msgpack(body), MSGPACK)
