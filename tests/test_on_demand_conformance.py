"""What the gateway computes at a request is what a join computes for the same row, to the bit."""

import asyncio
import struct
from datetime import datetime, timedelta
from math import nan
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from penstock.offline.lake import Lake
from penstock.point_in_time.joined import Joined, Resources, join
from penstock.point_in_time.on_demand import on_demand_joins
from penstock.point_in_time.spine import table_rows
from penstock.point_in_time.view_join import view_joins
from penstock.sdk import AsyncFeatureClient
from tests.on_demand_world import NOON, SERVICE, Row, offline, online, with_functions
from tests.serving.running import running_gateway

UTC_MICROS = pa.timestamp("us", tz="UTC")
REQUEST = {"carrier": pa.string(), "planned": pa.float64(), "departs": UTC_MICROS, "base": pa.string()}


def generated(random: Random) -> tuple[list[Row], list[dict[str, Any]]]:
    """Carriers, some with nulls, NaN or no flights, some expired; and requests for them and for some that nobody knows."""

    def maybe(value: Any, share: float = 0.07) -> Any:
        return None if random.random() < share else value

    def instant() -> datetime:
        return NOON + timedelta(microseconds=random.randrange(-(10**12), 10**12))

    rows: list[Row] = []
    for n in range(40):
        ratio = struct.unpack("f", struct.pack("f", random.uniform(-5, 5)))[0]
        mean = random.choice([random.uniform(-30, 90), random.uniform(-30, 90), nan, 0.0])
        values = [maybe(mean), maybe(random.randrange(5)), maybe(random.randrange(3)), maybe(instant()), maybe("EWR"), maybe(ratio)]
        rows.append((f"c{n}", NOON - timedelta(minutes=random.choice([0, 15, 119, 120, 121])), values))
    asked = [
        {
            "carrier": maybe(f"c{random.randrange(45)}", 0.05),
            "planned": maybe(random.choice([random.uniform(0, 600), 60])),
            "departs": maybe(instant()),
            "base": maybe(random.choice(["EWR", "Ünï", ""])),
        }
        for _ in range(400)
    ]
    return rows, asked


def joined_with(lake: Lake, asked: list[dict[str, Any]], resources: Resources, engine: Any = None) -> Joined:
    columns = {name: pa.array([row[name] for row in asked], kind) for name, kind in REQUEST.items()}
    numbered = pa.table({"n": range(len(asked)), **columns, "event_time": pa.array([NOON] * len(asked), UTC_MICROS)})
    joins = view_joins(lake, SERVICE.selection, "event")
    return join(lake, table_rows(numbered), joins, resources, engine, on_demand_joins(SERVICE.on_demand, joins))


@pytest.mark.parametrize("seed", range(4))
def test_the_same_rows_are_equal_online_and_offline(tmp_path: Path, seed: int) -> None:
    rows, asked = generated(Random(seed))

    async def served() -> list[dict[str, Any]]:
        async with running_gateway(with_functions(tmp_path), await online(rows)) as running:
            running.clock.at = NOON
            async with AsyncFeatureClient(running.url, api_key=running.key, timeout_s=30) as client:
                alone = (await client.features("trips", asked[:1])).to_dicts()
                found = (await client.features("trips", asked)).to_dicts()
        assert repr(alone) == repr(found[:1])
        return found

    online_rows = asyncio.run(served())
    lake = Lake(str(tmp_path / "lake"))
    offline(lake, rows)
    table = joined_with(lake, asked, Resources(no_spark, 2, 10**8)).to_arrow().sort_by("n")
    names = [*(f"trip__{f.name}" for f in SERVICE.on_demand[0].features), "best__minutes", "best__from_history"]
    for name in names:
        expected = [row[name] for row in online_rows]
        assert [repr(utc(value)) for value in table[name].to_pylist()] == [repr(value) for value in expected], name
        assert 40 < sum(value is not None for value in expected) < 400, name  # of either enough to tell


@pytest.mark.real
def test_the_sql_engine_and_tasks_of_spark_compute_the_same(tmp_path: Path, spark: Any) -> None:
    rows, asked = generated(Random(7))
    lake = Lake(str(tmp_path / "lake"))
    offline(lake, rows)
    here = joined_with(lake, asked, Resources(no_spark, 2, 10**8)).to_arrow().sort_by("n")
    by_sql = joined_with(lake, asked, Resources(lambda: spark, 2, 10**8), "sql")
    in_tasks = joined_with(lake, asked, Resources(lambda: spark, 2, 10**8))
    for other in (by_sql.to_arrow(), in_tasks.to_spark().toArrow()):
        again = other.sort_by("n")
        assert again.schema.names == here.schema.names
        for name in here.schema.names:
            values = [repr(utc(value)) for value in again[name].to_pylist()]
            assert values == [repr(utc(value)) for value in here[name].to_pylist()], name


def utc(value: Any) -> Any:
    return value.astimezone(NOON.tzinfo) if isinstance(value, datetime) else value


def no_spark() -> Any:
    raise AssertionError("this needs no Spark")
