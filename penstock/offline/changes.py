"""What each commit changed in a source: which rows came, went or are others, by day. No JVM.

    commit ──► its files that came and went, or its change data ──► rows on one side only ──► by day, with their times

A commit that writes the same rows into other files changed nothing. What was found is kept in `log/changes`, so a commit is
looked at once; which days of which views it reaches is judged in `publication/repair.py`.
"""

import logging
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import zip_longest
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from penstock.clock import MICROSECOND
from penstock.contract.fingerprint import digest
from penstock.contract.source import Source
from penstock.offline.arrow import plain
from penstock.offline.lake import Lake, dataset_of_files, listed_files, why_not_plain
from penstock.offline.logs import append_rows, read_rows
from penstock.offline.sources import location, open_table, table_name

CHANGES = "log/changes"
COMMITS_AT_ONCE = 200  # looked at by one call: the rest waits for the next
_ROWS_AT_ONCE = 2_000_000  # compared in memory, or those of one day if they are more
_TIME = pa.timestamp("us", tz="UTC")
_FIRST, _LAST = -(2**62), 2**62
logger = logging.getLogger(__name__)


class Change(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Rows of one day that a commit changed: of those that came, went or are others.

    Args:
        table, version: the source's table, and its version since the commit.
        day: of their event times, UTC; None: the commit changed nothing, or what it changed cannot be told.
        first_event_us, last_event_us: between which event times they are.
        first_known_us: the earliest of their available times.
        rows: how many; -1: it cannot be told, all rows may have changed.
    """

    table: str
    version: int
    day: date | None
    first_event_us: int
    last_event_us: int
    first_known_us: int
    rows: int

    @property
    def mends(self) -> bool:
        """Whether it altered no row that counts, but may have mended what a day was refused for."""
        return self.first_event_us > self.last_event_us


_SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("looked_at", pa.string()),
        ("version", pa.int64()),
        ("day", pa.date32()),
        ("first_event_us", pa.int64()),
        ("last_event_us", pa.int64()),
        ("first_known_us", pa.int64()),
        ("rows", pa.int64()),
    ]
)


def note_changes(lake: Lake, source: Source, since: int) -> int:
    """Look at the commits of a source that were not looked at yet, and keep what they changed.

    Args:
        lake, source: a Delta table, ours or external.
        since: the version after which commits matter: the oldest that some partition was computed from. It can be an older one
            than before: of a view that was left out for a time.

    Returns:
        The version up to which all commits after `since` have been looked at now. One call looks at `COMMITS_AT_ONCE` at most.

    Raises:
        SourceError: there is no such table.
    """
    table = open_table(lake, source)
    newest, looked_at = table.version(), _looked_at(table, source)
    # Of each stretch that was looked at, the version it starts after is kept too: between the least and the greatest nothing is left out.
    kept = [row["version"] for row in read_rows(lake, CHANGES, _of(source, looked_at), columns=["version"])]
    first, last = (min(kept), max(kept)) if kept else (since, since)
    if since < first:
        begin = max(since, first - COMMITS_AT_ONCE)
        _look_at(lake, source, looked_at, begin, first)
        return last if begin == since else since
    end = min(newest, last + COMMITS_AT_ONCE)
    if end <= last:
        return last
    _look_at(lake, source, looked_at, last, end)
    return end


def _look_at(lake: Lake, source: Source, looked_at: str, after: int, last: int) -> None:
    found = [_nothing(source, after), *_of_commits(lake, source, after, last)]
    if found[-1].version != last:
        found.append(_nothing(source, last))
    rows = [{**msgspec.structs.asdict(change), "looked_at": looked_at} for change in found]
    append_rows(lake, CHANGES, pa.Table.from_pylist(rows, schema=_SCHEMA))


def changes(lake: Lake, source: Source, after: int) -> list[Change]:
    """What was found of the commits of a source after a version, sorted."""
    where = _of(source, _looked_at(open_table(lake, source), source)) & (pc.field("version") > after) & (pc.field("rows") != 0)
    return sorted({Change(**{name: row[name] for name in Change.__struct_fields__}) for row in read_rows(lake, CHANGES, where)})


def _looked_at(table: DeltaTable, source: Source) -> str:
    """What is looked at: which columns and times, of which table. Sources over one table may be declared otherwise, and a table that is
    dropped and made anew counts its versions from zero."""
    rule = source.availability
    return digest([str(table.metadata().id), sorted(source.schema.items()), source.event_time, rule.column, str(rule.at_most)])[:16]


def _of(source: Source, looked_at: str) -> Any:
    return (pc.field("table") == table_name(source)) & (pc.field("looked_at") == looked_at)


def _change(source: Source, at: int, rows: int, events: tuple[int, int] = (0, 0), known: int = 0, day: date | None = None) -> Change:
    table, (first, last) = table_name(source), events
    return Change(table=table, version=at, day=day, first_event_us=first, last_event_us=last, first_known_us=known, rows=rows)


def _nothing(source: Source, at: int) -> Change:
    return _change(source, at, 0)


def anything(source: Source, at: int) -> Change:
    """What is to be thought of a version of which it cannot be told what it changed: any row may be another."""
    return _change(source, at, -1, (_FIRST, _LAST), _FIRST)


def mended(source: Source, at: int) -> Change:
    """Rows without a time are gone, or columns are of another type: no row that counts is another, and yet a day that was refused for
    it may pass now."""
    return _change(source, at, -1, (_LAST, _FIRST), _LAST)


def _of_commits(lake: Lake, source: Source, seen: int, last: int) -> Iterator[Change]:
    before = _opened(lake, source, seen)
    for at in range(seen + 1, last + 1):
        after = _opened(lake, source, at)
        if before is None or after is None or why_not_plain(after) is not None:
            yield anything(source, at)
        else:
            try:
                yield from _of_commit(before, after, source)
            except (pa.ArrowException, DeltaError, OSError, ValueError, KeyError) as error:  # files removed since, or no longer as declared
                logger.warning(
                    "source '%s': what version %d of %s changed cannot be told, all rows are taken for changed: %s",
                    source.name,
                    at,
                    table_name(source),
                    error,
                )
                yield anything(source, at)
        before = after


def _of_commit(before: DeltaTable, after: DeltaTable, source: Source) -> list[Change]:
    had, files = _files(before), _files(after)
    came = [file for path, file in files.items() if path not in had]
    went = [file for path, file in had.items() if path not in files]
    found = _summed(source, after.version(), _changed(after, source, came, went)) if came or went else []
    if _types(before, source) != _types(after, source) and not any(change.mends for change in found):
        found.append(mended(source, after.version()))
    return found


def _types(table: DeltaTable, source: Source) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema().fields if field.name in source.schema}


def _opened(lake: Lake, source: Source, at: int) -> DeltaTable | None:
    """A source's table at a version; None: its log no longer goes back so far."""
    try:
        return DeltaTable(location(lake, source), version=at)
    except DeltaError:
        return None


def _files(table: DeltaTable) -> dict[str, dict[str, Any]]:
    return {file["path"]: file for file in listed_files(table)}


def _changed(table: DeltaTable, source: Source, came: Sequence[Any], went: Sequence[Any]) -> Iterator[pa.Table]:
    """The declared columns of the rows that a commit changed, in pieces, with `_event`, `_known` (null: it has no such time) and `_sign`:
    how many more (or, negative, fewer) of them there are."""
    added = dataset_of_files(table, came)
    if not went:  # nothing to compare with: only the times are needed
        for batch in added.to_batches(columns=_times(source)):
            yield _with_times(source, pa.Table.from_batches([batch]), 1)
        return
    if table.metadata().configuration.get("delta.enableChangeDataFeed") == "true":
        yield _net(source, [_fed(table, source)])
        return
    removed = dataset_of_files(table, went)
    for piece in _pieces(source, [added, removed]):
        yield _net(
            source,
            [
                _with_times(source, data.to_table(columns=list(source.schema), filter=piece), sign)
                for data, sign in ((added, 1), (removed, -1))
            ],
        )


def _fed(table: DeltaTable, source: Source) -> pa.Table:
    at = table.version()
    rows = plain(pa.table(table.load_cdf(starting_version=at, ending_version=at, columns=[*source.schema, "_change_type"])))
    gone = pc.is_in(rows["_change_type"], pa.array(["delete", "update_preimage"]))
    return _with_times(source, rows.select(list(source.schema)), pc.if_else(gone, -1, 1))


def _net(source: Source, tables: Sequence[pa.Table]) -> pa.Table:
    """Signed rows, equal ones as one: those that cancel each other out are left out."""
    rows = pa.concat_tables([table.cast(tables[0].schema) for table in tables])
    for place, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type):  # Arrow groups by none: by their text, then
            rows = rows.set_column(place, field.name, pa.array([repr(value) for value in rows[field.name].to_pylist()], pa.string()))
    counted = rows.group_by([*source.schema, "_event", "_known"]).aggregate([("_sign", "sum")]).rename_columns({"_sign_sum": "_sign"})
    return counted.filter(pc.not_equal(counted["_sign"], 0))


def _times(source: Source) -> list[str]:
    return list(dict.fromkeys([source.event_time, source.availability.column or source.event_time]))


def _with_times(source: Source, rows: pa.Table, sign: Any) -> pa.Table:
    event = _micros(rows[source.event_time])
    rule = source.availability
    known = pc.add(event, rule.at_most // MICROSECOND) if rule.column is None else _micros(rows[rule.column])
    signs = pa.array([sign] * rows.num_rows, pa.int64()) if isinstance(sign, int) else sign.cast(pa.int64())
    return rows.append_column("_event", event).append_column("_known", known).append_column("_sign", signs)


def _micros(times: Any) -> Any:
    return times.cast(_TIME, safe=False).cast(pa.int64())


def _pieces(source: Source, data: Sequence[Any]) -> Iterator[Any]:
    """Conditions on the event time that cut all rows into pieces of whole days that fit into memory, and one of those without a time."""
    counts: dict[date, int] = {}
    yield pc.field(source.event_time).is_null()
    for one in data:
        for batch in one.to_batches(columns=[source.event_time]):
            days = batch[source.event_time].cast(_TIME, safe=False).cast(pa.date32())
            for found in pc.value_counts(days).to_pylist():
                if found["values"] is not None:
                    counts[found["values"]] = counts.get(found["values"], 0) + found["counts"]
    column, first, held = pc.field(source.event_time).cast(_TIME, safe=False).cast(pa.date32()), None, 0
    ordered = sorted(counts)
    for day, following in zip_longest(ordered, ordered[1:]):
        first, held = first or day, held + counts[day]
        if following is None or held + counts[following] > _ROWS_AT_ONCE:
            yield (column >= pa.scalar(first)) & (column <= pa.scalar(day))
            first, held = None, 0


def _summed(source: Source, at: int, pieces: Iterator[pa.Table]) -> list[Change]:
    """Changed rows by the day of their event time, and, apart, by the day on which they became known. Rows that lack either time are no
    facts yet; that some of them are gone is told."""
    parts, some_went = [], False
    for piece in pieces:
        counts = pc.and_(piece["_event"].is_valid(), piece["_known"].is_valid())
        some_went = some_went or pc.any(pc.less(piece.filter(pc.invert(counts))["_sign"], 0)).as_py() is True
        rows = piece.filter(counts)
        columns = {"_event": rows["_event"], "_known": rows["_known"], "_rows": pc.abs(rows["_sign"])}
        columns |= {name: rows[of].cast(_TIME).cast(pa.date32()) for name, of in (("_day", "_event"), ("_known_day", "_known"))}
        wanted = [("_event", "min"), ("_event", "max"), ("_known", "min"), ("_rows", "sum")]
        parts.append(pa.table(columns).group_by(["_day", "_known_day"]).aggregate(wanted))
    found = [mended(source, at)] if some_went else []
    if not parts:
        return found
    whole = pa.concat_tables(parts).group_by(["_day", "_known_day"])
    for row in whole.aggregate([("_event_min", "min"), ("_event_max", "max"), ("_known_min", "min"), ("_rows_sum", "sum")]).to_pylist():
        events = (row["_event_min_min"], row["_event_max_max"])
        found.append(_change(source, at, row["_rows_sum_sum"], events, row["_known_min_min"], row["_day"]))
    return found
