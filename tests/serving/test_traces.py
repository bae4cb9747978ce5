"""Spans of requests, as OpenTelemetry's own exporter for tests sees them."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from penstock.contract.view_parts import Consistency
from penstock.errors import StoreUnavailable
from penstock.online.memory import MemoryStore
from penstock.serving.traces import Traces, exported_traces
from tests.serving.running import ROOT, Running, running_gateway
from tests.serving.world import serve_everything

BODY: dict[str, Any] = {"service": "carriers", "entities": [{"carrier": "UA"}, {"carrier": "XX"}]}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

Check = Callable[[Running, httpx.AsyncClient], Awaitable[None]]


def spans_of(folder: Path, check: Check, store: MemoryStore | None = None) -> Sequence[ReadableSpan]:
    """What was traced while `check` asked a gateway, in the order it ended."""
    seen = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(seen))

    async def run() -> None:
        async with running_gateway(folder, store, traces=Traces(provider)) as running:
            headers = {"authorization": f"Bearer {running.key}"}
            async with httpx.AsyncClient(base_url=running.url, headers=headers) as http:
                await check(running, http)

    asyncio.run(run())
    return seen.get_finished_spans()


def test_a_request_is_a_span_of_its_callers_trace_and_the_read_of_the_store_one_within(tmp_path: Path) -> None:
    async def check(_: Running, http: httpx.AsyncClient) -> None:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "abc"}
        assert (await http.post("/v1/features", json=BODY, headers=headers)).status_code == 200

    read, request = spans_of(tmp_path, check)
    assert request.parent is not None
    assert read.parent is not None
    assert (format(request.context.trace_id, "032x"), format(request.parent.span_id, "016x")) == (TRACE, PARENT)
    assert (read.context.trace_id, read.parent.span_id) == (request.context.trace_id, request.context.span_id)
    assert (request.name, request.kind) == ("POST /v1/features", SpanKind.SERVER)
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/features",
        "http.response.status_code": 200,
        "penstock.request_id": "abc",
        "penstock.service": "carriers",
        "penstock.code": "ok",
    }
    assert (read.name, read.kind) == ("online read", SpanKind.CLIENT)
    assert dict(read.attributes or {}) == {"penstock.entity": "carrier", "penstock.keys": 2, "penstock.views": 2}


def test_a_caller_that_does_not_want_its_trace_kept_is_heard(tmp_path: Path) -> None:
    async def check(_: Running, http: httpx.AsyncClient) -> None:
        await http.post("/v1/features", json=BODY, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})

    assert spans_of(tmp_path, check) == ()


def test_a_request_without_a_trace_or_with_a_wrong_one_begins_its_own(tmp_path: Path) -> None:
    async def check(_: Running, http: httpx.AsyncClient) -> None:
        for headers in ({}, {"traceparent": b"\xff"}, {"traceparent": "00-0-0-0"}):
            assert (await http.get("/v1/services/carriers", headers=headers)).status_code == 200
        assert (await http.get("/made/up/by/a/caller")).status_code == 404

    *described, other = spans_of(tmp_path, check)
    assert [(span.name, span.parent) for span in described] == [("GET /v1/services/{name}", None)] * 3
    assert len({span.context.trace_id for span in described}) == 3
    assert (other.name, dict(other.attributes or {})["http.route"]) == ("GET", "")


class Broken(MemoryStore):
    how: type[Exception] = StoreUnavailable

    async def read(self, *_: object) -> Any:
        raise self.how("a secret")


def test_what_fails_is_marked_and_says_no_more_than_its_kind(tmp_path: Path) -> None:
    store = Broken()

    async def check(_: Running, http: httpx.AsyncClient) -> None:
        assert (await http.post("/v1/features", json=BODY)).status_code == 200  # both views have a substitute
        store.how = ZeroDivisionError
        assert (await http.post("/v1/features", json=BODY)).status_code == 500
        assert (await http.post("/v1/features", json={**BODY, "service": "nobody"})).status_code == 404

    asyncio.run(serve_everything(store))
    spans = spans_of(tmp_path, check, store)
    assert [(span.name, span.status.status_code, span.status.description) for span in spans] == [
        ("online read", StatusCode.ERROR, "StoreUnavailable"),
        ("POST /v1/features", StatusCode.UNSET, None),
        ("online read", StatusCode.ERROR, "ZeroDivisionError"),
        ("POST /v1/features", StatusCode.ERROR, None),
        ("POST /v1/features", StatusCode.UNSET, None),
    ]
    assert dict(spans[4].attributes or {})["penstock.service"] == "unknown"
    assert not [event for span in spans for event in span.events]


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The URL of a collector, and what was sent to it: path and body."""
    sent: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["penstock-gateway", "another"])
def test_spans_are_sent_as_the_variables_say(
    collector: tuple[str, list[tuple[str, bytes]]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, sent = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    if name == "another":
        monkeypatch.setenv("OTEL_SERVICE_NAME", name)

    async def run() -> None:
        traces = exported_traces()
        store = MemoryStore()
        await store.prepare(["carrier"])

        async def handle(*_: object) -> None:
            await traces.reads(store).read("carrier", [b"key"], [], Consistency.LOCAL_QUORUM)

        async def nothing(*_: object) -> Any:
            raise AssertionError

        await traces.requests(handle)({"method": "GET", "path": "/healthz", "headers": []}, nothing, nothing)
        await traces.close()

    asyncio.run(run())
    ((path, body),) = sent
    assert path == "/v1/traces"
    assert b"GET /healthz" in body
    assert b"online read" in body
    assert name.encode() in body


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from penstock.config import GatewaySettings, Settings
from penstock.serving.gateway import run_gateway
from penstock.errors import ConfigError
try:
    run_gateway(Settings(gateway=GatewaySettings(port=0, traces=True, workers=int(sys.argv[1]))), [], 0)
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_traces_without_opentelemetry_say_what_to_install(tmp_path: Path, workers: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(workers)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("gateway.traces needs the package 'opentelemetry'")
    assert "pip install 'penstock[otel]'" in done.stdout
