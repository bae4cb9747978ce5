"""The logs of a lake, appended without a JVM: what was attempted, what became readable, and what was invalidated.

`log/attempts` says what is committed: one row per attempt and partition, of views and of ingested
sources. `log/publications` and `log/marks` are copies for joins of the ledger and of the invalidation marks; those in the
online store are the truth.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from penstock.clock import from_micros, to_micros
from penstock.offline.lake import RETENTION, Lake, dataset_of, rows_where
from penstock.offline.maintenance import fold
from penstock.online.ledger import Publication
from penstock.registry.marks import Mark, joined

_FILES = 64  # of a size; a log is read whole at every look, and each of its files costs 0.4 ms

ATTEMPTS, PUBLICATIONS, MARKS = "log/attempts", "log/publications", "log/marks"
_TIME = pa.timestamp("us", tz="UTC")


class AttemptEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt on one partition of a table.

    Args:
        table: e.g. `features/carrier_origin_delays/v1`, `raw/arrivals`.
        partition: the day, UTC.
        attempt: microseconds of the attempt's created time; greater is later.
        state: `passed`: committed; `quarantined`: refused, nothing changed.
        complete_until: of a view: the event time up to which it had all its inputs; of an ingested source:
            the available time up to which the day's rows are in.
        delta_version: version of the table that holds its rows.
        rows: rows the partition has under this attempt (for a view: that count, retractions left out).
        changed: rows it added, retractions included.
        retracted: retractions it added.
        run_id: the run.
        code: fingerprint of what computed it.
        inputs: table → Delta version read.
        gates: check → whether it passed.
        reasons: why it was refused, a sentence each.
        warnings: what was not as the contract has it, and refused nothing, a sentence each.
        rules: of a view, a fingerprint of what the day was held to; empty: logged before there was one.
    """

    table: str
    partition: date
    attempt: int
    state: Literal["passed", "quarantined"]
    complete_until: datetime
    delta_version: int
    rows: int
    changed: int
    retracted: int
    run_id: str
    code: str
    inputs: dict[str, int]
    gates: dict[str, bool]
    reasons: list[str]
    warnings: list[str] = []
    rules: str = ""


_ATTEMPT_SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("partition", pa.date32()),
        ("attempt", pa.int64()),
        ("state", pa.string()),
        ("complete_until", _TIME),
        ("delta_version", pa.int64()),
        ("rows", pa.int64()),
        ("changed", pa.int64()),
        ("retracted", pa.int64()),
        ("run_id", pa.string()),
        ("code", pa.string()),
        ("inputs", pa.string()),
        ("gates", pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("warnings", pa.list_(pa.string())),
        ("rules", pa.string()),
    ]
)
_PUBLICATION_SCHEMA = pa.schema(
    [
        ("view", pa.string()),
        ("version", pa.int64()),
        ("generation", pa.int64()),
        ("partition", pa.date32()),
        ("attempt", pa.int64()),
        ("complete_until", _TIME),
        ("readable_at", _TIME),
        ("run_id", pa.string()),
        ("keys", pa.int64()),
    ]
)
_MARK_SCHEMA = pa.schema(
    [
        ("view", pa.string()),
        ("version", pa.int64()),
        ("marked_at_us", pa.int64()),
        ("id", pa.string()),
        ("attempt", pa.int64()),
        ("since_us", pa.int64()),
        ("until_us", pa.int64()),
        ("reason", pa.string()),
        ("holds_code", pa.string()),
        ("lifted_at_us", pa.int64()),
        ("excluded_at_us", pa.int64()),
        ("restored_at_us", pa.int64()),
    ]
)


def log_attempts(lake: Lake, entries: Sequence[AttemptEntry]) -> None:
    """Append attempts, all in one commit."""
    rows = [
        {**msgspec.structs.asdict(e), "inputs": msgspec.json.encode(e.inputs).decode(), "gates": msgspec.json.encode(e.gates).decode()}
        for e in entries
    ]
    append_rows(lake, ATTEMPTS, pa.Table.from_pylist(rows, schema=_ATTEMPT_SCHEMA))


class LogVersions(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of the logs at one moment; None: the log is not there yet."""

    attempts: int | None
    publications: int | None
    marks: int | None = None


def log_versions(lake: Lake) -> LogVersions:
    """The newest versions of the logs."""
    return LogVersions(attempts=lake.version(ATTEMPTS), publications=lake.version(PUBLICATIONS), marks=lake.version(MARKS))


def attempts(lake: Lake, table: str | None = None, *, at: int | None = None) -> list[AttemptEntry]:
    """The attempts on a table, or on all, by (table, partition, attempt); as the log was at a version, or is now."""
    found = read_rows(lake, ATTEMPTS, None if table is None else pc.field("table") == table, at)
    return sorted(map(_attempt_of, found), key=lambda e: (e.table, e.partition, e.attempt))


def last_attempts(lake: Lake, table: str) -> list[AttemptEntry]:
    """Of each partition of a table the newest attempt, and the newest that passed, by (partition, attempt): all that `newest` tells of
    `attempts`, without making Python's objects of the hundred attempts there are of every day."""
    rows = read_table(lake, ATTEMPTS, pc.field("table") == table)
    if rows is None:
        return []
    partition, attempt = rows["partition"].cast(pa.int32()).to_numpy(), rows["attempt"].to_numpy()
    has_passed = pc.equal(rows["state"], "passed").to_numpy()
    chosen = {place for of in (np.arange(rows.num_rows), np.flatnonzero(has_passed)) for place in of[_last(partition[of], attempt[of])]}
    return sorted(map(_attempt_of, rows.take(pa.array(sorted(chosen), pa.int64())).to_pylist()), key=lambda e: (e.partition, e.attempt))


def logged_attempts(lake: Lake, table: str) -> set[int]:
    """The numbers of all attempts on a table."""
    rows = read_table(lake, ATTEMPTS, pc.field("table") == table, columns=["attempt"])
    return set() if rows is None else set(pc.unique(rows["attempt"]).to_pylist())


def _last(partition: npt.NDArray[Any], attempt: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """The place of the greatest attempt of each partition; of equal ones the first."""
    order = np.lexsort((-np.arange(len(partition)), attempt, partition))
    return order[np.append(np.flatnonzero(np.diff(partition[order])), len(order) - 1)] if len(order) else order


def _attempt_of(row: Mapping[str, Any]) -> AttemptEntry:
    return AttemptEntry(
        **{
            **row,
            "complete_until": row["complete_until"].astimezone(UTC),
            "inputs": msgspec.json.decode(row["inputs"], type=dict[str, int]),
            "gates": msgspec.json.decode(row["gates"], type=dict[str, bool]),
            "warnings": row.get("warnings") or [],  # null in rows of before there were any
            "rules": row.get("rules") or "",
        }
    )


def newest(entries: Iterable[AttemptEntry], accept: Callable[[AttemptEntry], bool] = lambda _: True) -> dict[date, AttemptEntry]:
    """Per partition of one table, the latest entry that `accept` accepts."""
    found: dict[date, AttemptEntry] = {}
    for entry in entries:
        if accept(entry) and (entry.partition not in found or entry.attempt > found[entry.partition].attempt):
            found[entry.partition] = entry
    return dict(sorted(found.items()))


def passed(entry: AttemptEntry) -> bool:
    """Whether the attempt is committed."""
    return entry.state == "passed"


def copy_publications(lake: Lake, ledger: Sequence[Publication]) -> int:
    """Append the ledger rows that the copy lacks; returns how many. Repeating it adds nothing."""
    have: set[tuple[Any, ...]] = set()
    for view, version in {(p.view, p.version) for p in ledger}:
        copied = read_table(lake, PUBLICATIONS, _of_view(view, version), columns=["generation", "partition", "attempt"])
        if copied is not None:
            have.update((view, version, *row) for row in zip(*(column.to_pylist() for column in copied.columns), strict=True))
    missing = [p for p in ledger if (p.view, p.version, p.generation, p.partition, p.attempt) not in have]
    rows = [
        {
            "view": p.view,
            "version": p.version,
            "generation": p.generation,
            "partition": p.partition,
            "attempt": p.attempt,
            "complete_until": from_micros(p.complete_until_us),
            "readable_at": from_micros(p.readable_at_us),
            "run_id": p.run_id,
            "keys": p.keys,
        }
        for p in missing
    ]
    if rows:
        append_rows(lake, PUBLICATIONS, pa.Table.from_pylist(rows, schema=_PUBLICATION_SCHEMA))
    return len(rows)


def publications(lake: Lake, view: str | None = None, version: int | None = None, *, at: int | None = None) -> list[Publication]:
    """The ledger rows that have been copied, of one view version or of all, sorted; as the log was at a version, or is now."""
    found = read_rows(lake, PUBLICATIONS, None if view is None else _of_view(view, version), at)
    return sorted(map(_publication_of, found))


def last_publications(lake: Lake, view: str, version: int, generation: int) -> list[Publication]:
    """Of a fill of a view version the publication that began it, and of each partition the newest attempt's, sorted: all that `latest`
    and `complete_until_us` tell of `publications`, without making Python's objects of the hundred rows there are of every day."""
    rows = read_table(lake, PUBLICATIONS, _of_view(view, version) & (pc.field("generation") == generation))
    if rows is None or not rows.num_rows:
        return []
    partition, readable = rows["partition"].cast(pa.int32()).to_numpy(), rows["readable_at"].cast(pa.int64()).to_numpy()
    chosen = {int(np.lexsort((partition, readable))[0]), *_last(partition, rows["attempt"].to_numpy()).tolist()}
    return sorted(map(_publication_of, rows.take(pa.array(sorted(chosen), pa.int64())).to_pylist()))


def _of_view(view: str, version: int | None) -> pc.Expression:
    return (pc.field("view") == view) & (pc.field("version") == version)


def _publication_of(row: Mapping[str, Any]) -> Publication:
    return Publication(
        view=row["view"],
        version=row["version"],
        generation=row["generation"],
        partition=row["partition"],
        attempt=row["attempt"],
        complete_until_us=to_micros(row["complete_until"]),
        readable_at_us=to_micros(row["readable_at"]),
        run_id=row["run_id"],
        keys=row["keys"],
    )


def copy_marks(lake: Lake, marks: Sequence[Mark]) -> None:
    """Append what the copy lacks of some marks: one that is new, or a time that was set since. Repeating it adds nothing."""
    have = {mark.id: mark for mark in copied_marks(lake)}
    news = [mark for mark in marks if joined(mark, have.get(mark.id)) != have.get(mark.id)]
    if news:
        append_rows(lake, MARKS, pa.Table.from_pylist([msgspec.structs.asdict(mark) for mark in news], schema=_MARK_SCHEMA))


def copied_marks(lake: Lake, *, at: int | None = None) -> list[Mark]:
    """The invalidation marks that have been copied, sorted; as the log was at a version, or is now."""
    found: dict[str, Mark] = {}
    for row in read_rows(lake, MARKS, None, at):
        found[row["id"]] = joined(Mark(**row), found.get(row["id"]))
    return sorted(found.values())


def append_rows(lake: Lake, table: str, rows: pa.Table) -> None:
    """Append rows to a log in one commit; a log of many small files is folded. One that an earlier Penstock began gets the columns that
    are new: null in its rows."""
    where = lake.prepare(table)
    write_deltalake(where, rows, mode="append", schema_mode="merge", configuration=RETENTION)
    with suppress(CommitFailedError):  # another process is just doing so
        fold(lake, table, at_most=_FILES)


def read_rows(lake: Lake, table: str, where: Any, at: int | None = None, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a log that meet a condition, as it was at a version, or is now, with all or some columns; none: it is not there yet."""
    found = read_table(lake, table, where, at, columns)
    rows: list[dict[str, Any]] = [] if found is None else found.to_pylist()
    return rows


def read_table(lake: Lake, table: str, where: Any, at: int | None = None, columns: Sequence[str] | None = None) -> pa.Table | None:
    """The same as a table; None: the log is not there yet."""
    try:
        dataset = lake.dataset(table) if at is None else dataset_of(lake.open_version(table, at))
    except TableNotFoundError:
        return None
    return rows_where(dataset, where, columns)
