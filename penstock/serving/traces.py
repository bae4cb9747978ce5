"""Traces of requests by OpenTelemetry. Imported only where `gateway.traces` is on, so that it costs nothing where it is off.

    POST /v1/features      a span per request; a caller's `traceparent` (W3C) is taken over
    └── online read        a span per read of the store that a request waited for; what the cache knew has none

Where spans go and how many are kept, the OTEL_* variables say: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME.
No attribute holds a join key or a value, and none a path or a name that a caller made up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from penstock.contract.view_parts import Consistency
from penstock.online.store import Held, Slot
from penstock.serving.breaker import Store
from penstock.serving.http import Receive, Scope, Send, header
from penstock.serving.openapi import route_of

Handle = Callable[[Scope, Receive, Send], Awaitable[None]]
Count = Callable[[str, str, float], None]

_SERVICE = {"service.name": "penstock-gateway"}  # where OTEL_SERVICE_NAME does not say another
_PROPAGATED = TraceContextTextMapPropagator()


def exported_traces() -> "Traces":
    """Traces whose spans are sent by OTLP over HTTP, in the background, as the OTEL_* variables say."""
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource(_SERVICE))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Traces(provider)


class Traces:
    """What a gateway does, seen as spans.

    Args:
        provider: where they go.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("penstock.serving")

    def requests(self, handle: Handle) -> Handle:
        """`handle`, with a span around each request."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            route = route_of(scope["path"]) or ""
            context = _PROPAGATED.extract({name: _text(scope, name) for name in ("traceparent", "tracestate")})
            with self._tracer.start_as_current_span(
                f"{scope['method']} {route}".rstrip(), context, SpanKind.SERVER, record_exception=False
            ) as span:
                span.set_attributes({"http.request.method": scope["method"], "http.route": route})

                async def noting(message: Any) -> None:
                    if message["type"] == "http.response.start":
                        span.set_attribute("http.response.status_code", message["status"])
                        span.set_attribute("penstock.request_id", dict(message["headers"])[b"x-request-id"].decode())
                        if message["status"] >= 500:
                            span.set_status(StatusCode.ERROR)
                    await send(message)

                await handle(scope, receive, noting)

        return traced

    def outcomes(self, count: Count) -> Count:
        """`count`, with the service and the outcome noted at the request's span."""

        def noted(service: str, code: str, seconds: float) -> None:
            trace.get_current_span().set_attributes({"penstock.service": service, "penstock.code": code})
            count(service, code, seconds)

        return noted

    def reads(self, store: Store) -> Store:
        """`store`, with a span around each read that a request waits for."""
        return _Traced(store, self._tracer)

    async def close(self) -> None:
        """Send what is left."""
        await asyncio.to_thread(self._provider.shutdown)


class _Traced:
    def __init__(self, store: Store, tracer: trace.Tracer) -> None:
        self._store, self._tracer = store, tracer

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], consistency: Consistency) -> list[Held]:
        if not trace.get_current_span().is_recording():  # a value read again in the background, a try of the breaker
            return await self._store.read(entity, keys, slots, consistency)
        with self._tracer.start_as_current_span(
            "online read", kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        ) as span:
            span.set_attributes({"penstock.entity": entity, "penstock.keys": len(keys), "penstock.views": len(slots)})
            try:
                return await self._store.read(entity, keys, slots, consistency)
            except Exception as error:
                span.set_status(StatusCode.ERROR, type(error).__name__)
                raise


def _text(scope: Scope, name: str) -> str:
    return (header(scope, name.encode()) or b"").decode("latin-1")
