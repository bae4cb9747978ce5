"""The gateway over HTTP: who is let in, what is answered, and that every refusal says why."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.clock import FixedClock
from penstock.config import Settings
from penstock.errors import REQUEST_ERRORS, StoreUnavailable
from penstock.online.memory import MemoryStore
from penstock.online.store import OnlineStore
from penstock.serving.app import Gateway
from penstock.serving.http import STATUS
from penstock.serving.replay_token import read_token
from tests.serving.running import Running, running_gateway
from tests.serving.world import NOON, SERVICES, SNAPSHOT, point, serve_everything

BODY: dict[str, Any] = {"service": "carriers", "entities": [{"carrier": "UA"}]}

Check = Callable[[Running, httpx.AsyncClient], Awaitable[None]]


def serve(folder: Path, check: Check, store: MemoryStore | None = None) -> None:
    async def run() -> None:
        async with running_gateway(folder, store) as running, httpx.AsyncClient(base_url=running.url, timeout=10) as http:
            await check(running, http)

    asyncio.run(run())


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an answer with an error, whose shape is checked."""
    error = response.json()["error"]
    assert set(error) == {"code", "message", "hint", "request_id"}
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["message"]
    return response.status_code, error["code"]


def test_features_are_answered_as_documented(tmp_path: Path) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        response = await http.post("/v1/features", json=BODY, headers=bearer(running.key))
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        body = response.json()
        assert read_token(body.pop("token")).service == "carriers"
        assert body == {
            "service": "carriers",
            "contract": next(s.contract for s in SNAPSHOT.services if s.name == "carriers"),
            "snapshot": SNAPSHOT.fingerprint,
            "now": "2013-06-01T12:00:00Z",
            "features": ["fleet__hubs", "fleet__since", "delays__mean", "delays__flights"],
            "dtypes": ["list[string]", "timestamp", "float64", "int64"],
            "views": [
                {
                    "view": "fleet",
                    "version": 1,
                    "generation": 3,
                    "complete_until": "2013-06-01T12:00:00Z",
                    "ttl_s": None,
                    "features": [0, 1],
                },
                {
                    "view": "delays",
                    "version": 1,
                    "generation": 3,
                    "complete_until": "2013-06-01T12:00:00Z",
                    "ttl_s": 7200.0,
                    "features": [2, 3],
                },
            ],
            "rows": [
                {
                    "values": [["EWR", "ORD"], "1926-04-06T00:00:00Z", 12.25, 4],
                    "statuses": ["PRESENT"] * 4,
                    "event_times": ["2013-06-01T11:00:00Z", "2013-06-01T11:45:00Z"],
                    "ages_s": [3600.0, 900.0],
                }
            ],
        }

    serve(tmp_path, check)


def test_a_key_that_is_nobodys_is_of_its_types_all_the_same(tmp_path: Path) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        for departs, status in [("2013-06-01T12:00:00Z", 200), (None, 200), ("", 400), ("2013-06-01T12:00:00", 400), (7, 400)]:
            asked = {"service": "all_features", "entities": [{"carrier": None, "number": 1, "departs": departs}]}
            response = await http.post("/v1/features", json=asked, headers=bearer(running.key))
            assert response.status_code == status
            if status == 400:
                assert refusal(response)[1] == "invalid_entity"
                assert "entity 0: join key 'departs' is timestamp" in response.json()["error"]["message"]

    serve(tmp_path, check)


def deep(levels: int) -> str:
    return '{"service": "carriers", "entities": [{"carrier": ' + "[" * levels + "]" * levels + "}]}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"service": "carriers"}',
        b'{"service": 1, "entities": []}',
        b'{"service": "carriers", "entities": {}}',
        b'{"service": "carriers", "entities": [[]]}',
        b'{"service": "carriers", "entities": [], "feature": []}',
        b'{"service": "carriers", "entities": [], "features": []}',
        b'{"service": "carriers", "entities": [{"carrier": {"a": 1}}]}',
        b'{"service": "carriers", "entities": [{"carrier": NaN}]}',
        b'{"service": "carriers", "entities": [{"carrier": "\xff"}]}',
        b'{"service": "carriers", "entities": [{"carrier": "\\ud800"}]}',
        deep(40_000).encode(),
        b'{"x": ' + b'{"x": ' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    ],
)
def test_what_is_not_the_documented_json_is_malformed(tmp_path: Path, content: bytes) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        response = await http.post("/v1/features", content=content, headers=bearer(running.key))
        assert refusal(response) == (400, "malformed_request")
        assert len(response.content) < 2_000

    serve(tmp_path, check)


def test_endless_digits_are_refused(tmp_path: Path) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        content = '{"service": "carriers", "entities": [{"carrier": %s}]}' % ("9" * 50_000)
        response = await http.post("/v1/features", content=content, headers=bearer(running.key))
        assert refusal(response)[0] == 400
        assert len(response.content) < 2_000

    serve(tmp_path, check)


@pytest.mark.parametrize("size", [100_001, 3_000_000])  # the limit of these tests is 100,000 bytes
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(tmp_path: Path, size: int, chunked: bool) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        async def chunks() -> Any:
            for start in range(0, size, 50_000):
                yield b" " * min(50_000, size - start)

        if chunked and size > 100_000 * 8:
            # far over the limit the gateway stops reading; the client is told, or cut off
            try:
                response = await http.post("/v1/features", content=chunks(), headers=bearer(running.key))
            except httpx.TransportError:
                return
        else:
            response = await http.post("/v1/features", content=chunks() if chunked else b" " * size, headers=bearer(running.key))
        assert refusal(response) == (413, "request_too_large")

    serve(tmp_path, check)


def test_a_body_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        body = json.dumps(BODY).encode().ljust(100_000)
        assert (await http.post("/v1/features", content=body, headers=bearer(running.key))).status_code == 200

    serve(tmp_path, check)


def test_access_is_denied_by_default(tmp_path: Path) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        everything = {**BODY, "service": "all_features"}
        unknown = {**BODY, "service": "no_such_service"}
        expected: list[tuple[dict[str, str], dict[str, Any], tuple[int, str]]] = [
            ({}, BODY, (401, "not_authenticated")),
            (bearer("wrong"), BODY, (401, "not_authenticated")),
            (bearer(running.carriers_key), everything, (403, "not_authorized")),
            (bearer(running.carriers_key), unknown, (403, "not_authorized")),  # does not tell which services there are
            (bearer(running.key), unknown, (404, "unknown_service")),
        ]
        for headers, body, code in expected:
            response = await http.post("/v1/features", json=body, headers=headers)
            assert refusal(response) == code
            assert ("www-authenticate" in response.headers) == (code[0] == 401)
        assert (await http.post("/v1/features", json=BODY, headers=bearer(running.carriers_key))).status_code == 200
        for path in ("/v1/services", "/v1/services/carriers"):
            assert refusal(await http.get(path)) == (401, "not_authenticated")
        assert refusal(await http.get("/v1/services/all_features", headers=bearer(running.carriers_key))) == (403, "not_authorized")
        twice = [("authorization", f"Bearer {running.key}"), ("authorization", "Bearer wrong")]
        assert refusal(await http.post("/v1/features", json=BODY, headers=twice)) == (401, "not_authenticated")

    serve(tmp_path, check)


def test_a_revoked_key_is_refused_after_the_next_look_and_a_broken_file_revokes_nothing(tmp_path: Path) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        path = running.settings.path(running.settings.gateway.keys_file)
        path.write_text("{")
        await running.gateway.refresh()
        assert (await http.get("/v1/services", headers=bearer(running.key))).status_code == 200
        path.write_text('{"format": 1, "keys": []}')
        await running.gateway.refresh()
        assert refusal(await http.get("/v1/services", headers=bearer(running.key))) == (401, "not_authenticated")

    serve(tmp_path, check)


def test_services_are_listed_and_described_to_those_who_may_read_them(tmp_path: Path) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        def names(response: httpx.Response) -> list[str]:
            return [service["name"] for service in response.json()["services"]]

        assert names(await http.get("/v1/services", headers=bearer(running.key))) == ["all_features", "carriers"]
        assert names(await http.get("/v1/services", headers=bearer(running.carriers_key))) == ["carriers"]
        described = (await http.get("/v1/services/all_features", headers=bearer(running.key))).json()
        assert described["join_keys"] == {"carrier": "string", "number": "int64", "departs": "timestamp"}
        assert [feature["name"] for feature in described["features"]][:2] == ["delays__mean", "delays__flights"]
        assert described["features"][0] | {"description": ""} == {
            "name": "delays__mean",
            "dtype": "float64",
            "unit": "",
            "default": 0.5,
            "ttl_s": 7200.0,
            "description": "",
        }
        assert refusal(await http.get("/v1/services/nothing", headers=bearer(running.key))) == (404, "unknown_service")

    serve(tmp_path, check)


def test_other_paths_and_methods_are_refused(tmp_path: Path) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        assert refusal(await http.get("/")) == (404, "unknown_path")
        for method, path, allowed in [("GET", "/v1/features", "POST"), ("POST", "/metrics", "GET"), ("PUT", "/v1/services/x", "GET")]:
            response = await http.request(method, path)
            assert refusal(response) == (405, "method_not_allowed")
            assert response.headers["allow"] == allowed

    serve(tmp_path, check)


def test_health_needs_no_key_and_readiness_a_state(tmp_path: Path) -> None:
    store = MemoryStore()
    store.reachable = False

    async def check(running: Running, http: httpx.AsyncClient) -> None:
        assert (await http.get("/healthz")).status_code == 200
        assert refusal(await http.get("/readyz")) == (503, "unavailable")
        response = await http.post("/v1/features", json=BODY, headers=bearer(running.key))
        assert refusal(response) == (503, "unavailable")
        assert response.headers["retry-after"] == "1"

        store.reachable = True
        await running.gateway.refresh()
        assert (await http.get("/readyz")).status_code == 200
        assert refusal(await http.post("/v1/features", json=BODY, headers=bearer(running.key))) == (404, "unknown_service")

        await serve_everything(store)
        await running.gateway.refresh()
        assert (await http.post("/v1/features", json=BODY, headers=bearer(running.key))).status_code == 200

        store.reachable = False
        await running.gateway.refresh()
        assert (await http.get("/readyz")).status_code == 200  # it still knows what to serve
        asked = {"service": "carriers", "entities": [{"carrier": "UA"}, {"carrier": "XX"}]}
        known, unknown = (await http.post("/v1/features", json=asked, headers=bearer(running.key))).json()["rows"]
        assert known["statuses"] == ["ERROR", "ERROR", "STALE", "STALE"]  # read a moment ago, and `delays` may be stale
        assert known["values"][2:] == [12.25, 4]
        assert unknown["statuses"] == ["ERROR", "ERROR", "DEFAULT", "DEFAULT"]

    serve(tmp_path, check, store)


def test_a_gateway_may_start_before_its_store(tmp_path: Path) -> None:
    async def run() -> None:
        tries = []
        store = MemoryStore()
        await serve_everything(store)

        async def connect() -> OnlineStore:
            tries.append(1)
            if len(tries) == 1:
                raise StoreUnavailable("nobody listens")
            return store

        gateway = Gateway(Settings(root=tmp_path), connect, FixedClock(NOON))
        for ready in (503, 200, 200):
            await gateway.refresh()
            sent: list[Any] = []

            async def send(message: Any, sent: list[Any] = sent) -> None:
                sent.append(message)

            await gateway({"type": "http", "method": "GET", "path": "/readyz", "headers": []}, None, send)  # type: ignore[arg-type]
            assert sent[0]["status"] == ready
        assert len(tries) == 2

    asyncio.run(run())


def test_a_flipped_pointer_is_served_after_the_next_look(tmp_path: Path) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        await point(running.store, SERVICES[1], NOON.replace(minute=1), generation=4)
        for generation in (3, 4):
            response = await http.post("/v1/features", json=BODY, headers=bearer(running.key))
            assert {view["generation"] for view in response.json()["views"]} == {generation}
            await running.gateway.refresh()

    serve(tmp_path, check)


class Broken(MemoryStore):
    async def read(self, *_: object) -> Any:
        raise ZeroDivisionError("a secret of the inside")


def test_an_unexpected_error_is_logged_and_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Broken()

    async def check(running: Running, http: httpx.AsyncClient) -> None:
        with caplog.at_level(logging.ERROR):
            response = await http.post("/v1/features", json=BODY, headers=bearer(running.key) | {"x-request-id": "abc-1"})
        assert refusal(response) == (500, "internal_error")
        assert response.json()["error"]["request_id"] == "abc-1"
        assert "secret" not in response.text
        (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert line.getMessage().startswith("request abc-1 failed at\n")
        assert line.getMessage().endswith("\nZeroDivisionError")
        assert "raise ZeroDivisionError" in line.getMessage()
        assert "inside" not in line.getMessage().replace('raise ZeroDivisionError("a secret of the inside")', "")  # the source's line

    asyncio.run(serve_everything(store))
    serve(tmp_path, check, store)


def test_an_unsafe_request_id_is_replaced(tmp_path: Path) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        for unsafe in ("a b", "a" * 65, '"><'):
            assert (await http.get("/healthz", headers={"x-request-id": unsafe})).headers["x-request-id"] != unsafe

    serve(tmp_path, check)


def test_metrics_parse_and_their_labels_do_not_come_from_callers(tmp_path: Path) -> None:
    async def check(running: Running, http: httpx.AsyncClient) -> None:
        key = bearer(running.key)
        await http.post("/v1/features", json=BODY, headers=key)
        await http.post("/v1/features", json={**BODY, "entities": [{"carrier": "XX"}]}, headers=key)
        for n in range(5):
            await http.post("/v1/features", json={**BODY, "service": f"invented_{n}"}, headers=key)
        await http.post("/v1/features", json=BODY)
        response = await http.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        }
        assert all(name[0].startswith("penstock_") for name in samples)
        assert samples["penstock_gateway_requests_total", ("code", "ok"), ("service", "carriers")] == 2
        assert samples["penstock_gateway_requests_total", ("code", "unknown_service"), ("service", "unknown")] == 5
        assert samples["penstock_gateway_requests_total", ("code", "not_authenticated"), ("service", "unknown")] == 1
        assert samples["penstock_feature_values_total", ("status", "PRESENT"), ("view", "delays")] == 2
        assert samples["penstock_feature_values_total", ("status", "NOT_FOUND"), ("view", "delays")] == 2
        assert samples[("penstock_online_read_duration_seconds_count",)] == 2
        assert samples[("penstock_state_refreshed_timestamp_seconds",)] == NOON.timestamp()
        assert samples["penstock_complete_until_timestamp_seconds", ("view", "delays@1")] == NOON.timestamp()
        assert samples["penstock_freshness_sla_seconds", ("view", "delays@1")] == 1800
        assert "invented" not in response.text

    serve(tmp_path, check)


def test_every_request_error_has_a_status() -> None:
    assert set(STATUS) == set(REQUEST_ERRORS.values())
