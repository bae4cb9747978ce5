"""A generated history as a real feature table, and what the engines say of it."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
from deltalake import WriterProperties, write_deltalake

from penstock.as_of import Attempt, History, Mode, Readable, Row
from penstock.clock import to_micros
from penstock.contract import Entity, Feature, FeatureView, FreshnessSla, Source, hours
from penstock.offline.arrow import arrow_type
from penstock.offline.lake import Lake, feature_table
from penstock.point_in_time.joined import Resources, join
from penstock.point_in_time.spine import Spine, table_rows
from penstock.point_in_time.view_join import ViewJoin
from tests.point_in_time.histories import KEYS, START, STEP, Generated

UTC_MICROS = pa.timestamp("us", tz="UTC")


def nothing(frame: Any) -> Any:
    return frame


def view_of(kind: str, ttl: timedelta | None) -> FeatureView:
    return FeatureView(
        name="history",
        version=1,
        entity=Entity("thing", KEYS[kind][0]),
        source=Source("facts", schema={"event_time": "timestamp"}, owner="tests"),
        owner="tests",
        compute=nothing,
        features=[Feature("n", "int64"), Feature("s", "string")],
        ttl=ttl,
        freshness=FreshnessSla(total=hours(1)),
    )


def committed(case: Generated) -> Generated:
    """The same history with attempts numbered as commits number them: by the microsecond of their created time."""

    def number(attempt: int) -> int:
        return to_micros(START + attempt * STEP)

    def of_key(rows: list[Row]) -> list[Row]:
        return [replace(row, attempt=number(row.attempt)) for row in rows]

    history = History(
        tuple(Attempt(a.partition, number(a.attempt), a.complete_until) for a in case.history.attempts),
        tuple(Readable(r.partition, number(r.attempt), r.readable_at) for r in case.history.ledger),
        case.history.live_since,
        tuple(replace(mark, attempt=None if mark.attempt is None else number(mark.attempt)) for mark in case.history.marks),
    )
    return replace(case, rows={key: of_key(rows) for key, rows in case.rows.items()}, history=history)


def write_history(lake: Lake, case: Generated, kind: str, random: Random) -> ViewJoin:
    """The history's rows as a feature table, in several commits of small row groups; sorted or not."""
    view = view_of(kind, case.ttl)
    names = KEYS[kind][0]
    rows = [(key, row) for key, own in case.rows.items() for row in own]
    random.shuffle(rows)
    if random.random() < 0.7:
        rows.sort(key=lambda one: (one[1].partition, one[0]))
    columns: dict[str, Any] = {
        name: pa.array([key[n] for key, _ in rows], arrow_type(dtype)) for n, (name, dtype) in enumerate(names.items())
    }
    for name in ("event_time", "available_time", "created_time"):
        columns[name] = pa.array([getattr(row, name) for _, row in rows], UTC_MICROS)
    columns["attempt"] = pa.array([row.attempt for _, row in rows], pa.int64())
    columns["retracted"] = pa.array([row.retracted for _, row in rows], pa.bool_())
    columns["row_digest"] = pa.array([row.digest.encode() for _, row in rows], pa.binary())
    columns["n"] = pa.array([row.values[0] for _, row in rows], pa.int64())
    columns["s"] = pa.array([row.values[1] for _, row in rows], pa.string())
    columns["event_date"] = pa.array([row.partition for _, row in rows], pa.date32())
    table = pa.table(columns)
    cuts = [0, *sorted(random.sample(range(len(rows) + 1), 2)), len(rows)] if len(rows) > 2 else [0, len(rows)]
    for begin, end in pairwise(cuts):
        write_deltalake(
            lake.prepare(feature_table(view)),
            table.slice(begin, end - begin),
            mode="append",
            partition_by=["event_date"],
            writer_properties=WriterProperties(max_row_group_size=random.choice([3, 50]), write_batch_size=3),
        )
    version = lake.version(feature_table(view))
    assert version is not None
    return ViewJoin(view, ("n", "s"), "event", view.ttl, case.history, version, "history", {name: name for name in names})


def spine_of(case: Generated, kind: str) -> pa.Table:
    columns: dict[str, Any] = {
        name: pa.array([key[n] for key, _ in case.spine], arrow_type(dtype)) for n, (name, dtype) in enumerate(KEYS[kind][0].items())
    }
    return pa.table({**columns, "event_time": pa.array([t for _, t in case.spine], UTC_MICROS)})


def counted(rows: pa.Table, kind: str) -> Counter[tuple[object, ...]]:
    """Rows of keys, time and the two features, however often each is there."""
    names = [*KEYS[kind][0], "event_time", "history__n", "history__s"]
    assert rows.schema.names == names
    return Counter(zip(*(_values(rows[name]) for name in names), strict=True))


def _values(column: pa.ChunkedArray) -> list[object]:
    values: list[object] = column.to_pylist()
    return [value.astimezone(START.tzinfo) if isinstance(value, datetime) else value for value in values]


def columnar(lake: Lake, view: ViewJoin, spine: Spine | pa.Table, mode: Mode, *, tiles: int = 1, task_bytes: int = 10**9) -> pa.Table:
    """What the columnar engine says, in this process."""
    rows = table_rows(spine) if isinstance(spine, pa.Table) else spine
    joined = join(lake, rows, [replace(view, mode=mode)], Resources(no_spark, tiles, task_bytes), "columnar")
    return replace(joined, plan=replace(joined.plan, tiles=tiles)).to_arrow()


def no_spark() -> Any:
    raise AssertionError("this needs no Spark")


def lake_in(folder: Path, name: object) -> Lake:
    return Lake(str(folder / str(name)))
