"""The gateway as a process of its own, on a real Cassandra: starts, serves, and ends when told to."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import httpx
import psutil
import pytest

from penstock.config import ClockSettings, GatewaySettings, Settings
from penstock.errors import Unavailable
from penstock.online.cassandra import CassandraStore
from penstock.runtime.node_status import node_status
from penstock.runtime.nodes import node_up
from penstock.sdk import FeatureClient
from penstock.serving.access import mint_key
from tests.project import free_port
from tests.serving.world import NOON, serve_everything

Endpoint = tuple[list[str], int]

RUN = """
import json, sys
from penstock.config import Settings
from penstock.serving.gateway import run_gateway
settings, contact_points, port = json.loads(sys.argv[1])
run_gateway(Settings(**settings), contact_points, port)
"""


pytestmark = pytest.mark.real


@pytest.fixture
def gateway_settings(cassandra_settings: Settings, tmp_path: Path) -> Settings:
    return Settings(
        root=tmp_path,
        cassandra=cassandra_settings.cassandra.model_copy(update={"keyspace": "gateway_test"}),
        gateway=GatewaySettings(port=free_port(), refresh_s=0.05, log="json"),
        clock=ClockSettings(now=NOON),
    )


@contextmanager
def gateway_process(gateway_settings: Settings, endpoint: Endpoint) -> Iterator[str]:
    arguments = json.dumps([gateway_settings.model_dump(mode="json"), *endpoint])
    with subprocess.Popen([sys.executable, "-W", "error", "-c", RUN, arguments], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{gateway_settings.gateway.port}"
        finally:
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=30)
    # uvicorn ends in order, then lets the signal end the process
    assert process.returncode == -signal.SIGTERM
    lines = [json.loads(line) for line in log.splitlines()]
    said = [line["message"] for line in lines if line["level"] == "info"]
    assert (len([text for text in said if "it knows 2 feature service(s)" in text]), said.count("the gateway has ended")) == (1, 1)
    others = [line["message"] for line in lines if line["level"] != "info"]
    assert all(text.startswith(("keeping the serving state: ", "the online store ")) for text in others), log


def wait_until(url: str, status: int) -> None:
    """Ask for readiness until it is as expected; each attempt waits for the process, none sleeps."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as http:  # retries with a growing pause
        for _ in range(2000):
            if http.get(f"{url}/readyz").status_code == status:
                return
    raise AssertionError(f"{url}/readyz never was {status}")


def publish(gateway_settings: Settings, endpoint: Endpoint) -> None:
    async def run() -> None:
        store = await CassandraStore.connect(*endpoint, gateway_settings)
        try:
            await serve_everything(store)
        finally:
            await store.close()

    asyncio.run(run())


def test_a_gateway_process_serves_what_was_published_and_ends_in_order(gateway_settings: Settings, endpoint: Endpoint) -> None:
    publish(gateway_settings, endpoint)
    key = mint_key(gateway_settings, "test", ["*"])
    with gateway_process(gateway_settings, endpoint) as url:
        wait_until(url, 200)
        with FeatureClient(url, api_key=key, timeout_s=10) as client:
            result = client.features(
                "all_features", [{"carrier": "UA", "number": 1, "departs": NOON}] * 3 + [{"carrier": "XX", "number": 1, "departs": NOON}]
            )
            assert [row["load__seats"] for row in result.to_dicts()] == [151, 151, 151, None]
            assert result.rows[0]["delays__mean"][:2] == (12.25, "PRESENT")
            many = [{"carrier": f"C{n}", "number": n, "departs": NOON} for n in range(500)]
            assert {value.status for row in client.features("all_features", many).rows for value in row.values()} == {"NOT_FOUND"}


def test_a_killed_node_is_degraded_to_what_contracts_allow_and_its_return_is_noticed(
    gateway_settings: Settings, cassandra_settings: Settings, endpoint: Endpoint
) -> None:
    publish(gateway_settings, endpoint)
    key = mint_key(gateway_settings, "test", ["*"])
    with gateway_process(gateway_settings, endpoint) as url, FeatureClient(url, api_key=key, timeout_s=10) as client:

        def mean() -> tuple[object, str]:
            value = client.features("carriers", [{"carrier": "UA"}]).rows[0]["delays__mean"]
            return value.value, value.status

        def of_nobody_asked_before() -> tuple[object, str]:
            value = client.features("carriers", [{"carrier": "XX"}]).rows[0]["delays__mean"]
            return value.value, value.status

        wait_until(url, 200)
        assert mean() == (12.25, "PRESENT")
        pid = node_status(cassandra_settings).pid
        assert pid is not None
        psutil.Process(pid).kill()
        try:
            until(mean, (12.25, "STALE"))
            assert of_nobody_asked_before() == (0.5, "DEFAULT")
            with pytest.raises(Unavailable, match="'load@1' allows no substitute"):
                client.features("all_features", [{"carrier": "UA", "number": 1, "departs": NOON}])
            with httpx.Client() as http:
                assert http.get(f"{url}/readyz").status_code == 200
        finally:
            node_up(cassandra_settings)
        until(mean, (12.25, "PRESENT"))  # never anything else on the way
        assert of_nobody_asked_before() == (None, "NOT_FOUND")


def until(mean: Callable[[], tuple[object, str]], expected: tuple[object, str]) -> None:
    """Ask until the answer is as expected; until then it is one of the two it may be."""
    deadline = monotonic() + 60
    while (seen := mean()) != expected:
        assert seen in ((12.25, "PRESENT"), (12.25, "STALE"))
        assert monotonic() < deadline
