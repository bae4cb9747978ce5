"""What goes wrong with stored values, through a real store and a gateway: each is an answer that says so, and is counted."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.clock import to_micros
from penstock.config import Settings
from penstock.contract import hours
from penstock.online.cassandra import CassandraStore
from penstock.online.codec import encode_value
from tests.serving.running import running_gateway
from tests.serving.world import DELAYS, NOON, carrier_key, put, put_bytes, schema_of, serve_everything

pytestmark = pytest.mark.real

VALUES = [12.25, 4, [60.0]]


@pytest.mark.parametrize("driver", ["acsylla", "cassandra-driver"])
def test_damage_another_schema_and_a_clock_ahead_are_labelled_and_counted(
    cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path: Path, driver: str
) -> None:
    changes = {"keyspace": f"faults_by_{driver[:7]}", "driver": driver}
    settings = cassandra_settings.model_copy(update={"cassandra": cassandra_settings.cassandra.model_copy(update=changes)})
    noon_us = to_micros(NOON)
    whole = encode_value(schema_of(DELAYS), noon_us, 7, VALUES)

    async def run() -> None:
        store = await CassandraStore.connect(*endpoint, settings)
        await serve_everything(store)
        damaged = {
            "flipped": whole[:-1] + bytes((whole[-1] ^ 1,)),
            "short": whole[:-3],
            "empty": b"",
            "foreign": b"{}",
            "newer format": b"\x09" + whole[1:],
        }
        for name, blob in damaged.items():
            await put_bytes(store, DELAYS, carrier_key(name), blob, noon_us)
        await put_bytes(store, DELAYS, carrier_key("other schema"), encode_value(schema_of(DELAYS) ^ 1, noon_us, 7, VALUES), noon_us)
        await put_bytes(store, DELAYS, carrier_key("too few"), encode_value(schema_of(DELAYS), noon_us, 7, VALUES[:2]), noon_us)
        # The publisher's clock is an hour ahead of the gateway's.
        await put(store, DELAYS, carrier_key("ahead"), NOON + hours(1), VALUES)
        asked = [*damaged, "other schema", "too few", "ahead", "UA"]
        body = {"service": "carriers", "entities": [{"carrier": name} for name in asked], "features": ["delays__mean"]}
        async with running_gateway(tmp_path, store) as running, httpx.AsyncClient(base_url=running.url, timeout=10) as http:

            async def answers() -> dict[str, tuple[Any, str]]:
                response = await http.post("/v1/features", json=body, headers={"authorization": f"Bearer {running.key}"})
                rows = response.raise_for_status().json()["rows"]
                return {name: (row["values"][0], row["statuses"][0]) for name, row in zip(asked, rows, strict=True)}

            unreadable = dict.fromkeys([*damaged, "other schema", "too few"], (None, "ERROR"))
            assert await answers() == {**unreadable, "ahead": (None, "NOT_FOUND"), "UA": (12.25, "PRESENT")}
            metrics = (await http.get("/metrics")).text.splitlines()
            assert {line for line in metrics if line.startswith("penstock_value_problems_total") and not line.endswith(" 0.0")} == {
                'penstock_value_problems_total{problem="corrupt",view="delays"} 5.0',
                'penstock_value_problems_total{problem="unknown_schema",view="delays"} 2.0',
                'penstock_value_problems_total{problem="future",view="delays"} 1.0',
            }
            running.clock.advance(hours(1))  # now it is as late here as it was there
            assert await answers() == {**unreadable, "ahead": (12.25, "STALE"), "UA": (12.25, "STALE")}
            # Publishing the partition again mends what was damaged.
            await put_bytes(store, DELAYS, carrier_key("short"), whole, noon_us + 1)
            assert (await answers())["short"] == (12.25, "STALE")

    asyncio.run(run())
