"""What it costs to replay the feature log: a million logged rows of a view of ten features.

    python -m benchmarks.skew.replay [--rows 1000000] [--entities 50000] [--wrong 0.01] [--folder var/bench/replay]

The rows are as gateways log them, of entities drawn at random, over five hours after the view was published; of a share of them the
value is another, with its checksum. CPU is that of this process and all below it, from the log in the lake to the findings.
"""

import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import typer
from deltalake import write_deltalake
from rich.console import Console

from benchmarks.point_in_time.engines.common import cpu_seconds
from benchmarks.publish.data import NOW, USER, evaluated, make_lake, view
from benchmarks.serving.run import project
from penstock.clock import from_micros, to_micros
from penstock.contract.fingerprint import schema_id
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts, copy_publications, passed
from penstock.online.codec import decode_value, encode_key, encode_value
from penstock.online.ledger import Publication
from penstock.point_in_time.joined import Resources
from penstock.quality.findings import Finding
from penstock.quality.log_replay import replay_log
from penstock.quality.served_log import SERVED
from penstock.runtime.spark import spark_session, stop_session

PUBLISHED = NOW + timedelta(minutes=2)
HOURS = 5
screen = Console(stderr=True)


def publish(lake: Lake) -> int:
    """Say that the view's one attempt is readable; returns the attempt."""
    (entry,) = [entry for entry in attempts(lake, feature_table(view(0))) if passed(entry)]
    row = Publication(
        view=view(0).name,
        version=1,
        generation=1,
        partition=entry.partition,
        attempt=entry.attempt,
        complete_until_us=to_micros(entry.complete_until),
        readable_at_us=to_micros(PUBLISHED),
        run_id="bench",
        keys=0,
    )
    copy_publications(lake, [row])
    return entry.attempt


def log(lake: Lake, entities: int, rows: int, wrong: float, attempt: int) -> int:
    """Write the log; returns how many of its rows are wrong."""
    numbers, held = np.random.default_rng(rows), evaluated(entities, 0).to_pylist()
    who, bad = numbers.integers(0, entities, rows), numbers.random(rows) < wrong
    at = to_micros(PUBLISHED) + numbers.integers(1, HOURS * 3_600_000_000, rows)
    names = [f"{view(0).name}__{feature}" for feature in view(0).feature_names]
    right, altered = [_stored(row, attempt, 0.0) for row in held], [_stored(row, attempt, 1.0) for row in held]
    pick = [(altered if is_bad else right)[n] for n, is_bad in zip(who.tolist(), bad.tolist(), strict=True)]
    event, checksum, values = zip(*pick, strict=True)
    keys = [encode_key([("user_id", "int64")], [n]) for n in range(entities)]
    times = pa.array(at, pa.timestamp("us", tz="UTC"))
    same: dict[str, Any] = {
        "principal": "bench", "service": "bench", "contract": "", "snapshot": "", "name": view(0).name, "view": view(0).name,
        "entity": USER.name, "outcome": "fresh",
    }  # fmt: skip
    columns = {
        "event_date": times.cast(pa.date32()),
        "at": times,
        "request_id": pa.array([f"request {n}" for n in range(rows)]),
        "row": pa.array(np.zeros(rows, np.int32)),
        "version": pa.array(np.ones(rows, np.int32)),
        "generation": pa.array(np.ones(rows, np.int32)),
        "complete_until": pa.array([PUBLISHED] * rows, pa.timestamp("us", tz="UTC")),
        "columns": pa.array([["user_id"]] * rows),
        "key": pa.array([keys[n] for n in who.tolist()]),
        "event_time": pa.array(event, pa.timestamp("us", tz="UTC")),
        "attempt": pa.array(np.full(rows, attempt)),
        "checksum": pa.array(checksum, pa.int64()),
        "features": pa.array([names] * rows),
        "values": pa.array(values),
        "statuses": pa.array([["PRESENT"] * len(names)] * rows),
    }
    columns |= {name: pa.array([value] * rows) for name, value in same.items()}
    write_deltalake(lake.prepare(SERVED), pa.table(columns), partition_by=["event_date"])
    return int(bad.sum())


def _stored(row: dict[str, Any], attempt: int, add: float) -> tuple[int, int, str]:
    """Event time and checksum of what is online of a row, and its values as the log has them."""
    values = [value + add for value in row["_values"].values()]
    stored = decode_value(encode_value(schema_id(view(0)), row["event_time_us"], attempt, values))
    return row["event_time_us"], stored.checksum, msgspec.json.encode(stored.values).decode()


def main(
    rows: Annotated[int, typer.Option(help="logged rows")] = 1_000_000,
    entities: Annotated[int, typer.Option(help="of how many entities")] = 50_000,
    wrong: Annotated[float, typer.Option(help="share of them whose value is another")] = 0.01,
    folder: Annotated[Path, typer.Option(help="where the lake is made anew")] = Path("var/bench/replay"),
) -> None:
    """Make a log and replay it."""
    folder = folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    lake, settings = Lake(str(folder / "lake")), project(folder / "project")
    with screen.status("computing the lake, and writing the log"):
        make_lake(spark_session(settings, "bench"), lake, entities, 1)
        stop_session()
        planned = log(lake, entities, rows, wrong, publish(lake))
    cpu, begun = cpu_seconds(), time.monotonic()
    resources = Resources(lambda: spark_session(settings, "bench"), 2, 256_000_000)
    (found,) = replay_log(lake, view(0), from_micros(0), PUBLISHED + timedelta(days=1), resources)
    cpu, wall = cpu_seconds() - cpu, time.monotonic() - begun
    assert (found.rows, found.findings.get(Finding.VALUE, 0)) == (rows, planned), found.findings
    print(f"{rows:,} rows in {wall:.1f} s, {cpu:.1f} CPU-s: {cpu / rows * 1e6:.1f} µs each; {planned:,} wrong, all found")
    stop_session()


if __name__ == "__main__":
    typer.run(main)
