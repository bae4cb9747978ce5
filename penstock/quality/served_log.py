"""The feature log in the lake: segments that gateways wrote, brought to `log/served`, each once.

A segment's rows, its counts and the note that it was brought are one commit per table, so that whoever brings it again,
after an end halfway or beside another, adds nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from penstock.clock import from_micros
from penstock.contract.view import FeatureView
from penstock.offline.lake import RETENTION, Lake, rows_where
from penstock.serving.feature_log import Batch, name_of, read_segment, shippable
from penstock.serving.judgement import Outcome

SERVED = "log/served"
"""One row per request, row of its answer and view, for entities within the sample."""

COUNTS = "log/served_counts"
"""One row per gateway process and second with requests, or quarter of an hour without: how many rows were answered, sampled and dropped;
and one of no length when it ends."""

_FILES = 32  # small files of a day, before they are folded into one
_AT_ONCE_BYTES = 32_000_000
_TIME = pa.timestamp("us", tz="UTC")
_SERVED = pa.schema(
    [
        ("event_date", pa.date32()),
        ("at", _TIME),
        ("request_id", pa.string()),
        ("principal", pa.string()),
        ("service", pa.string()),
        ("contract", pa.string()),
        ("snapshot", pa.string()),
        ("row", pa.int32()),
        ("name", pa.string()),
        ("view", pa.string()),
        ("version", pa.int32()),
        ("generation", pa.int32()),
        ("complete_until", _TIME),
        ("entity", pa.string()),
        ("columns", pa.list_(pa.string())),
        ("key", pa.binary()),
        ("outcome", pa.string()),
        ("event_time", _TIME),
        ("attempt", pa.int64()),
        ("checksum", pa.int64()),
        ("features", pa.list_(pa.string())),
        ("values", pa.string()),
        ("statuses", pa.list_(pa.string())),
    ]
)
_COUNTS = pa.schema(
    [
        ("event_date", pa.date32()),
        ("from", _TIME),
        ("until", _TIME),
        ("writer", pa.string()),
        ("requests", pa.int64()),
        ("served", pa.int64()),
        ("sampled", pa.int64()),
        ("dropped", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Shipped:
    """What was brought to the lake.

    Args:
        segments: how many files.
        rows: how many were new to the lake, one per row of an answer and view.
        dropped: rows within the sample that gateways had dropped.
    """

    segments: int
    rows: int
    dropped: int


def ship(lake: Lake, folder: Path) -> Shipped:
    """Bring the segments of a folder to the lake and remove them; what a living gateway is still writing stays."""
    segments = rows = dropped = 0
    for group in _groups(shippable(folder)):
        held = {name_of(path): list(read_segment(path)) for path in group}
        rows += _append(lake, SERVED, _SERVED, held, _served)
        _append(lake, COUNTS, _COUNTS, held, lambda batch: [_counts(batch)])
        dropped += sum(batch.dropped for batches in held.values() for batch in batches)
        for path in group:
            path.unlink(missing_ok=True)
        segments += len(group)
    return Shipped(segments, rows, dropped)


@dataclass(frozen=True)
class Ages:
    """How old what was served of a view was when it was.

    Args:
        rows: of how many rows; those without a value are left out.
        p50, p95: half of them, and 95 in a hundred, were no older.
    """

    rows: int
    p50: timedelta
    p95: timedelta


def served_ages(lake: Lake, view: FeatureView, since: datetime, until: datetime) -> Ages | None:
    """The ages of what the log in the lake has of `[since, until)`; None: it has nothing."""
    try:
        rows = rows_where(lake.dataset(SERVED), served_of(view, since, until) & pc.field("event_time").is_valid(), ["at", "event_time"])
    except TableNotFoundError:
        return None
    if not rows.num_rows:
        return None
    ages = pc.subtract(rows["at"].cast(pa.int64()), rows["event_time"].cast(pa.int64()))
    p50, p95 = (timedelta(microseconds=age) for age in pc.quantile(ages, q=[0.5, 0.95], interpolation="higher").to_pylist())
    return Ages(rows.num_rows, p50, p95)


def in_days(since: datetime, until: datetime) -> Any:
    """The condition for rows of the days that `[since, until)` touches, in either table of the log."""
    return (pc.field("event_date") >= pa.scalar(since.date())) & (pc.field("event_date") <= pa.scalar(until.date()))


def served_within(since: datetime, until: datetime) -> Any:
    """The condition for rows of `SERVED` whose values were judged in `[since, until)`."""
    return in_days(since, until) & (pc.field("at") >= pa.scalar(since)) & (pc.field("at") < pa.scalar(until))


def served_of(view: FeatureView, since: datetime, until: datetime) -> Any:
    """The condition for those of one view version."""
    return served_within(since, until) & (pc.field("view") == view.name) & (pc.field("version") == view.version)


def _groups(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Segments that are read at once: as many as fit the memory for it, at least one."""
    group: list[Path] = []
    size = 0
    for path in paths:
        size += path.stat().st_size
        if group and size > _AT_ONCE_BYTES:
            yield group
            group, size = [], path.stat().st_size
        group.append(path)
    if group:
        yield group


def _append(
    lake: Lake,
    table: str,
    schema: pa.Schema,
    held: Mapping[tuple[str, int], Sequence[Batch]],
    rows_of: Callable[[Batch], list[dict[str, Any]]],
) -> int:
    """Add what a table lacks of some segments, in one commit that says so; returns how many rows that is."""
    where = lake.prepare(table)
    try:
        known = DeltaTable(where)
        new = {name: batches for name, batches in held.items() if (known.transaction_version(name[0]) or 0) < name[1]}
    except TableNotFoundError:
        new = dict(held)
    if not new:
        return 0
    rows = [row for batches in new.values() for batch in batches for row in rows_of(batch)]
    newest = {writer: max(begun for other, begun in new if other == writer) for writer, _ in new}
    write_deltalake(
        where,
        pa.Table.from_pylist(rows, schema=schema),
        mode="append",
        partition_by=["event_date"],
        configuration=RETENTION,
        commit_properties=CommitProperties(app_transactions=[Transaction(writer, begun) for writer, begun in newest.items()]),
    )
    _fold(DeltaTable(where), {row["event_date"] for row in rows})
    return len(rows)


def _fold(table: DeltaTable, days: Iterable[date]) -> None:
    listed = pa.table(table.get_add_actions(flatten=True))["partition.event_date"].to_pylist()
    for day in sorted(days):
        if listed.count(day) > _FILES:
            with suppress(CommitFailedError):  # another process is just doing so
                table.optimize.compact(partition_filters=[("event_date", "=", day.isoformat())])


def _served(batch: Batch) -> list[dict[str, Any]]:
    return [
        {
            "event_date": _day(row.at_us),
            "at": from_micros(row.at_us),
            "request_id": row.request_id,
            "principal": row.principal,
            "service": row.service,
            "contract": row.contract,
            "snapshot": row.snapshot,
            "row": row.row,
            "name": view.name,
            "view": view.view,
            "version": view.version,
            "generation": view.generation,
            "complete_until": None if view.complete_until_us is None else from_micros(view.complete_until_us),
            "entity": view.entity,
            "columns": view.columns,
            "key": view.key,
            "outcome": Outcome(view.outcome).name.lower(),
            "event_time": None if view.event_time_us is None else from_micros(view.event_time_us),
            "attempt": view.attempt,
            "checksum": view.checksum,
            "features": view.features,
            "values": msgspec.json.encode(view.values).decode(),
            "statuses": view.statuses,
        }
        for row in batch.rows
        for view in row.views
    ]


def _counts(batch: Batch) -> dict[str, Any]:
    return {
        "event_date": _day(batch.until_us),
        "from": from_micros(batch.from_us),
        "until": from_micros(batch.until_us),
        "writer": batch.writer,
        "requests": batch.requests,
        "served": batch.served,
        "sampled": batch.sampled,
        "dropped": batch.dropped,
    }


def _day(micros: int) -> date:
    return from_micros(micros).date()
