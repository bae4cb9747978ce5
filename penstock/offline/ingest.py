"""Raw facts of whole days, written so that doing it again changes nothing. No JVM."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake

from penstock.clock import Clock, to_micros
from penstock.contract.fingerprint import digest
from penstock.contract.source import Source
from penstock.errors import CommitError, SourceError
from penstock.offline.lake import RETENTION, Lake, raw_table
from penstock.offline.logs import AttemptEntry, last_attempts, log_attempts, newest
from penstock.offline.watermark import DAY, require_time_goes_on, start_of

Fetch: TypeAlias = Callable[[str, datetime, datetime, datetime], Any]
"""Source name, start, end, known_by → an Arrow table of the facts with `start <= event_time < end` that were
known at `known_by`, in a stable order."""

_ARROW = {
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def ingest_days(lake: Lake, source: Source, days: Sequence[date], *, fetch: Fetch, clock: Clock, run_id: str) -> list[AttemptEntry]:
    """Bring some days of a source to what is known now; days that have it already are not written.

    Returns:
        One entry per day: how many rows it has, and up to which available time they are in.

    Raises:
        SourceError: the facts are not as the source declares.
        CommitError: the Clock has gone back, or another writer came in between.
    """
    table = raw_table(source)
    known, now = last_attempts(lake, table), clock.now()
    require_time_goes_on(table, known, now)
    last = newest(known)
    days = sorted(days)
    found = lake.version(table)
    facts = _as_declared(source, fetch(source.name, start_of(days[0]), start_of(days[-1]) + DAY, now))
    held = _held(lake, table, days)
    changed = [day for day in days if not _of_day(facts, day).equals(_of_day(held, day) if held is not None else None)]
    if lake.version(table) != found:
        raise CommitError(
            f"{table}: another writer came to version {lake.version(table)} while facts were fetched beside version {found}",
            hint="ingest these days again; runs that ingest a source share a Dagster pool, so look for a writer outside it",
        )
    if held is None:
        write_deltalake(lake.prepare(table), facts, mode="append", partition_by=["event_date"], configuration=RETENTION)
    elif changed:
        which = " OR ".join(f"event_date = '{day}'" for day in changed)
        rows = pa.concat_tables([_of_day(facts, day) for day in changed])
        write_deltalake(lake.location(table), rows, mode="overwrite", predicate=which)
    version = lake.version(table)
    assert version is not None
    attempt = max([to_micros(now), *(entry.attempt + 1 for entry in known)])
    code = digest([sorted(source.schema.items())])[:16]
    entries = [
        AttemptEntry(
            table=table,
            partition=day,
            attempt=attempt,
            state="passed",
            complete_until=now,
            delta_version=version,
            rows=_of_day(facts, day).num_rows,
            changed=_of_day(facts, day).num_rows if day in changed else 0,
            retracted=0,
            run_id=run_id,
            code=code,
            inputs={},
            gates={},
            reasons=[],
        )
        for day in days
    ]
    news = [e for e in entries if e.partition in changed or e.partition not in last or last[e.partition].complete_until < now]
    if news:
        log_attempts(lake, news)
    return entries


def _as_declared(source: Source, facts: Any) -> Any:
    seen = {field.name: field.type for field in facts.schema}
    wrong = [
        f"'{name}' {seen.get(name, 'missing')}, expected {_ARROW[dtype]}"
        for name, dtype in source.schema.items()
        if seen.get(name) != _ARROW[dtype]
    ]
    if wrong:
        raise SourceError(f"source '{source.name}': {len(wrong)} column(s) not as declared: {'; '.join(wrong)}")
    facts = facts.select(list(source.schema))
    if facts[source.event_time].null_count:
        raise SourceError(f"source '{source.name}': {facts[source.event_time].null_count} row(s) have no {source.event_time}")
    return facts.append_column("event_date", pc.cast(facts[source.event_time], pa.date32())).combine_chunks()


def _held(lake: Lake, table: str, days: Sequence[date]) -> Any:
    if lake.version(table) is None:
        return None
    return lake.dataset(table).to_table(filter=pc.field("event_date").isin(list(days)))


def _of_day(facts: Any, day: date) -> Any:
    rows = facts.filter(pc.equal(facts["event_date"], pa.scalar(day, pa.date32())))
    return rows.sort_by([(name, "ascending") for name in rows.column_names if not pa.types.is_nested(rows.schema.field(name).type)])
