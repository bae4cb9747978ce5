"""The data of the point-in-time benchmark: a spine and three feature tables, the same files for every engine.

    spine      spine_id, user_id, event_time          1 M rows over 150 days
    view_0..2  user_id, event_time, available_time, created_time, attempt, retracted, row_digest, f0 .. f9, event_date
               5 M rows each over 181 days, of 100 k users; 3 % of them are corrected: the same event time, created later

Tables are Delta, partitioned by day, in the layout Penstock commits: sorted by key and time, small row groups. Peers read
the same Parquet files. With `retractions`, 1 % of the event times are taken back later (Penstock only: no peer knows them).
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import WriterProperties, write_deltalake

import penstock.runtime.spark
from benchmarks.point_in_time.views import DAYS, FLIGHTS, SPINE_FROM_DAY, START, VIEWS, described, service_of, view_of
from jobs.ingest import FETCH
from penstock.clock import FixedClock
from penstock.config import ROWS_PER_GROUP, Settings, SparkSettings
from penstock.offline.attempt import run_attempt
from penstock.offline.ingest import ingest_days
from penstock.offline.lake import RETENTION, Lake, feature_table
from penstock.offline.logs import AttemptEntry, copy_publications, log_attempts
from penstock.offline.watermark import days_between
from penstock.online.ledger import Publication
from penstock.quality.contracts import audit

_UTC = pa.timestamp("us", tz="UTC")
_DAY_US = 86_400_000_000
_FLIGHTS_UNTIL = datetime(2026, 11, 20, tzinfo=UTC)
_START_US = int(START.timestamp()) * 1_000_000


@dataclass(frozen=True)
class Size:
    """What is generated.

    Args:
        scale: times 1 M spine rows, 5 M rows a view and 100 k users.
        key: `int` or `string`.
        hot: share of all rows that are of one user.
        retractions: share of the event times that are taken back.
    """

    scale: float = 1.0
    key: str = "int"
    hot: float = 0.0
    retractions: float = 0.0

    @property
    def name(self) -> str:
        parts = [f"{self.scale:g}x", self.key]
        parts += [f"hot{self.hot:g}"] if self.hot else []
        parts += [f"retracted{self.retractions:g}"] if self.retractions else []
        return "-".join(parts)

    @property
    def users(self) -> int:
        return int(100_000 * self.scale)


def generate(folder: Path, size: Size) -> Path:
    """The folder of the data, made if it is not there yet."""
    root = folder / size.name
    if (root / "done.json").exists():
        return root
    random = np.random.default_rng(20130101)
    root.mkdir(parents=True, exist_ok=True)
    _write_spine(root, size, random)
    lake = Lake(str(root / "lake"))
    for number in range(VIEWS):
        _write_view(lake, size, number, random)
    _describe(root)
    (root / "done.json").write_text(json.dumps(asdict(size)))
    return root


def _describe(root: Path) -> None:
    (root / "views.json").write_text(json.dumps(described(root.name)))


def flights(folder: Path) -> Path:
    """The folder of the flights project: thirty days of its six views, and its flights as a spine; computed if not there yet."""
    root = folder / FLIGHTS
    if (root / "done.json").exists():
        return root
    shutil.rmtree(root, ignore_errors=True)
    lake, clock = Lake(str(root / "lake"), str(Path.cwd())), FixedClock(_FLIGHTS_UNTIL)
    session = penstock.runtime.spark.spark_session(Settings(spark=SparkSettings(master="local[2]", driver_memory="2g")))
    last = _FLIGHTS_UNTIL.date() - timedelta(days=1)
    views = [one.view for one in service_of(FLIGHTS)]
    for source in {source.name: source for view in views for source in view.sources}.values():
        if source.table is None:
            ingest_days(
                lake, source, days_between(last - timedelta(days=37), last), fetch=FETCH[source.name], clock=clock, run_id="benchmark"
            )
    wanted = days_between(last - timedelta(days=29), last)
    for view in views:
        run_attempt(session, lake, view, wanted, clock=clock, run_id="benchmark", audit=audit)
    spine = lake.dataset("raw/arrivals").to_table(columns=["carrier", "origin", "dest", "tailnum", "sched_dep_time"])
    spine = spine.rename_columns(["carrier", "origin", "dest", "tailnum", "event_time"])
    spine = spine.filter(pc.greater_equal(spine["event_time"], pa.scalar(_FLIGHTS_UNTIL - timedelta(days=30), _UTC)))
    spine = spine.append_column("spine_id", pa.array(np.arange(spine.num_rows)))
    write_deltalake(root / "spine", spine)
    (root / "spine_parquet").mkdir()
    pq.write_table(spine, root / "spine_parquet" / "spine.parquet")
    _describe(root)
    (root / "done.json").write_text("{}")
    return root


def _write_spine(root: Path, size: Size, random: np.random.Generator) -> None:
    rows = int(1_000_000 * size.scale)
    at = _START_US + SPINE_FROM_DAY * _DAY_US + random.integers(0, (DAYS - SPINE_FROM_DAY) * _DAY_US, rows)
    table = pa.table(
        {
            "spine_id": pa.array(np.arange(rows)),
            "user_id": _keys(_users(size, rows, random), size),
            "event_time": pa.array(at, _UTC),
        }
    )
    write_deltalake(root / "spine", table, writer_properties=WriterProperties(max_row_group_size=250_000))
    (root / "spine_parquet").mkdir()
    pq.write_table(table, root / "spine_parquet" / "spine.parquet", row_group_size=250_000)


def _users(size: Size, rows: int, random: np.random.Generator) -> np.ndarray:
    users = random.integers(1, size.users, rows)
    users[random.random(rows) < size.hot] = 0
    return users


def _keys(users: np.ndarray, size: Size) -> pa.Array:
    return pa.array(users) if size.key == "int" else pa.array(np.char.add("user-", users.astype("U")).tolist(), pa.string())


def _write_view(lake: Lake, size: Size, number: int, random: np.random.Generator) -> None:
    view = view_of(number, size.key)
    entries, ledger = [], []
    all_days = _days(size, random)
    while some := list(islice(all_days, max(1, int(30 / size.scale)))):
        write_deltalake(
            lake.prepare(feature_table(view)),
            pa.concat_tables([rows for _, rows in some]),
            mode="append",
            partition_by=["event_date"],
            configuration=RETENTION,
            writer_properties=WriterProperties(compression="SNAPPY", max_row_group_size=ROWS_PER_GROUP),
        )
        for day, _ in some:
            for attempt in _attempts(day):
                entries.append(_entry(feature_table(view), day, attempt))
                ledger.append(_publication(view.name, day, attempt))
    log_attempts(lake, entries)
    copy_publications(lake, ledger)


def _attempts(day: date) -> tuple[int, int]:
    """A day is computed when it is over, and again with its corrections two days later."""
    end = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000 + _DAY_US
    return end, end + 2 * _DAY_US


def _days(size: Size, random: np.random.Generator) -> Iterator[tuple[date, pa.Table]]:
    total = int(5_000_000 * size.scale)
    for n in range(DAYS):
        rows = total * (n + 1) // DAYS - total * n // DAYS
        day = (START + timedelta(days=n)).date()
        first, second = _attempts(day)
        users = _users(size, rows, random)
        at = _START_US + n * _DAY_US + random.integers(0, _DAY_US, rows)
        corrected = np.flatnonzero(random.random(rows) < 0.03)
        taken = np.flatnonzero(random.random(rows) < size.retractions)
        taken = np.setdiff1d(taken, corrected)
        users = np.concatenate([users, users[corrected], users[taken]])
        at = np.concatenate([at, at[corrected], at[taken]])
        attempt = np.repeat([first, second], [rows, len(corrected) + len(taken)])
        retracted = np.repeat([False, True], [rows + len(corrected), len(taken)])
        order = np.lexsort([attempt, at, users])
        yield day, _table(size, random, day, users[order], at[order], attempt[order], retracted[order])


def _table(size: Size, random: np.random.Generator, day: date, users, at, attempt, retracted) -> pa.Table:  # type: ignore[no-untyped-def]
    n = len(users)
    columns = {
        "user_id": _keys(users, size),
        "event_time": pa.array(at, _UTC),
        "available_time": pa.array(at, _UTC),
        "created_time": pa.array(attempt, _UTC),
        "attempt": pa.array(attempt),
        "retracted": pa.array(retracted),
        "row_digest": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), n, [None, pa.py_buffer(random.bytes(16 * n))]).cast(pa.binary()),
    }
    for f in range(6):
        columns[f"f{f}"] = pa.array(random.random(n), mask=retracted)
    for f in range(6, 9):
        columns[f"f{f}"] = pa.array(random.integers(0, 10**6, n), mask=retracted)
    words = pa.array([f"category-{k}" for k in range(50)])
    columns["f9"] = words.take(pa.array(random.integers(0, 50, n), mask=retracted))
    columns["event_date"] = pa.array(np.full(n, np.datetime64(day)), pa.date32())
    return pa.table(columns)


def _entry(table: str, day: date, attempt: int) -> AttemptEntry:
    return AttemptEntry(
        table=table,
        partition=day,
        attempt=attempt,
        state="passed",
        complete_until=datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1) - timedelta(microseconds=1),
        delta_version=0,
        rows=0,
        changed=0,
        retracted=0,
        run_id="benchmark",
        code="",
        inputs={},
        gates={},
        reasons=[],
    )


def _publication(view: str, day: date, attempt: int) -> Publication:
    return Publication(
        view=view,
        version=1,
        generation=1,
        partition=day,
        attempt=attempt,
        complete_until_us=_attempts(day)[0] - 1,
        readable_at_us=attempt + 600_000_000,
        run_id="benchmark",
        keys=0,
    )
