"""What a point-in-time join will read, in which tiles, and by which engine: decided before anything is computed.

A tile is some rows of the spine; its task reads, of every view, the row groups that may hold what these rows ask
for. Cut by time, tiles read each feature file once, and again what lies within the ttl before their first row.
Cut by a join key, they read only the row groups of their keys, if the files have several, of the views that have
this key first; all of the others. Whichever order costs less is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from penstock.clock import MICROSECOND, from_micros
from penstock.errors import SourceError
from penstock.offline.feature_files import Asked, FeatureFile, feature_files
from penstock.offline.lake import Lake, feature_table, why_not_plain
from penstock.point_in_time.known import Committed
from penstock.point_in_time.spine import EVENT_TIME, Extent
from penstock.point_in_time.tile import ROW_BYTES, Attached, ViewFiles
from penstock.point_in_time.view_join import ViewJoin

_EARLIEST = -(2**63)
_VALUE_BYTES = 14  # what one value of a spine's row takes in a task: as read, as attached, as written
_WORTH_A_TASK = 50_000  # spine rows below which another task costs more than it saves


@dataclass(frozen=True)
class Pruned:
    """What is read of one view.

    Args:
        files: those that may hold what the spine asks for.
        of: how many there are.
        rows, bytes: what the files hold.
        of_bytes: what all files hold.
        groups: row groups of the largest file.
    """

    files: tuple[FeatureFile, ...]
    of: int
    rows: int
    bytes: int
    of_bytes: int
    groups: int


@dataclass(frozen=True)
class Plan:
    """How a join is computed by the columnar engine, or why it is not.

    Args:
        joins: the views.
        extent: what the spine asks.
        pruned: what is read, a view each.
        columns: the order the spine is cut in.
        tiles: into how many.
        tasks: how many of them are done side by side.
        reads: how often, on average, a row of the tables is read.
        why_sql: why the SQL engine has to compute it; None: it has not.
    """

    joins: tuple[ViewJoin, ...]
    extent: Extent
    pruned: tuple[Pruned, ...]
    columns: tuple[str, ...]
    tiles: int
    tasks: int
    reads: float
    why_sql: str | None

    @property
    def engine(self) -> str:
        return "columnar" if self.why_sql is None else "sql"

    @property
    def spine_keys(self) -> tuple[str, ...]:
        """The columns of the spine that hold join keys."""
        return tuple(dict.fromkeys(column for join in self.joins for column in join.on.values()))

    @property
    def bytes(self) -> int:
        """Bytes of all files that are read."""
        return sum(one.bytes for one in self.pruned)


def plan(lake: Lake, joins: Sequence[ViewJoin], extent: Extent, width: int, *, tasks: int, task_bytes: int, engine: str | None) -> Plan:
    """Decide how some views are joined to a spine.

    Args:
        lake: where their tables are.
        joins: the views, at pinned versions.
        extent: what the spine asks.
        width: its columns.
        tasks: how many tasks run side by side.
        task_bytes: how much memory one of them may take.
        engine: `sql` or `columnar` if the caller asks for one; None: the columnar engine unless there is a reason.

    Raises:
        SourceError: a table no longer has its version.
    """
    why = "asked for" if engine == "sql" else None
    pruned = []
    for join in joins:
        table = lake.open_version(feature_table(join.view), join.version)
        first_key = next(iter(join.on), None)
        not_plain = why_not_plain(table)
        if not_plain is not None and why is None:
            why = f"{feature_table(join.view)}: {not_plain}"
        pruned.append(_pruned(lake, join, feature_files(table, first_key), extent))
    columns, tiles, reads = _cut(joins, pruned, extent, width, tasks, task_bytes)
    return Plan(tuple(joins), extent, tuple(pruned), columns, tiles, tasks, reads, why)


def files_of(lake: Lake, plan: Plan, types: Mapping[str, pa.DataType], task_bytes: int) -> list[ViewFiles]:
    """What tasks need to know of each table; joins of one view at one version for the same columns share its reading.

    Args:
        lake: where the tables are.
        plan: it is done by the columnar engine.
        types: column of the result → type.
        task_bytes: how much memory a task may take.
    """
    found: dict[tuple[object, ...], ViewFiles] = {}
    for join, pruned in zip(plan.joins, plan.pruned, strict=True):
        same = (join.view, join.ttl, join.version, tuple(join.on.items()), id(join.history))
        columns = pa.schema([(column, types[column]) for column in join.columns])
        one = Attached(join.mode, join.features, columns, join.with_times)
        if same in found:
            found[same] = replace(found[same], attached=(*found[same].attached, one))
            continue
        found[same] = ViewFiles(
            location=lake.location(feature_table(join.view)),
            files=pruned.files,
            keys=dict(join.on),
            ttl=None if join.ttl is None else join.ttl // MICROSECOND,
            committed=Committed.of(join.history),
            attached=(one,),
            task_bytes=task_bytes,
        )
    return list(found.values())


def _pruned(lake: Lake, join: ViewJoin, files: Sequence[FeatureFile], extent: Extent) -> Pruned:
    kept: tuple[FeatureFile, ...] = ()
    if extent.first is not None and extent.last is not None:
        first = _EARLIEST if join.ttl is None else extent.first - join.ttl // MICROSECOND
        asked = Asked(first, extent.last)
        kept = tuple(file for file in files if asked.may_be_in(file.first, file.last, None, None))
    return Pruned(
        files=kept,
        of=len(files),
        rows=sum(file.rows for file in kept),
        bytes=sum(file.bytes for file in kept),
        of_bytes=sum(file.bytes for file in files),
        groups=_row_groups(lake, join, kept),
    )


def _row_groups(lake: Lake, join: ViewJoin, files: Sequence[FeatureFile]) -> int:
    if not files:
        return 1
    largest = max(files, key=lambda file: file.bytes)
    system, root = FileSystem.from_uri(lake.location(feature_table(join.view)))
    try:
        return max(1, int(pq.read_metadata(f"{root}/{largest.path}", filesystem=system).num_row_groups))
    except (OSError, pa.ArrowException) as error:
        raise SourceError(
            f"{feature_table(join.view)}: the file {largest.path} cannot be read: {str(error).partition(chr(10))[0]}",
            hint="restore it, or compute its partition again",
        ) from None


def _cut(
    joins: Sequence[ViewJoin], pruned: Sequence[Pruned], extent: Extent, width: int, tasks: int, task_bytes: int
) -> tuple[tuple[str, ...], int, float]:
    """The order to cut the spine in, into how many tiles, and how often a row is then read."""
    width += sum(len(join.features) for join in joins)
    for_memory = ceil(extent.rows * width * _VALUE_BYTES / task_bytes)
    held = max((one.rows for one in pruned), default=0) * ROW_BYTES
    for_tasks = min(tasks, ceil((extent.rows + sum(one.rows for one in pruned) / 10) / _WORTH_A_TASK))
    tiles = max(1, for_memory, for_tasks)
    tiles = ceil(tiles / tasks) * tasks if tiles > tasks else tiles
    orders = [(EVENT_TIME,), *dict.fromkeys((first, EVENT_TIME) for join in joins if (first := next(iter(join.on.values()), None)))]
    costs = {order: _reads(joins, pruned, extent, order, tiles, max(1.0, held / task_bytes)) for order in orders}
    cheapest = min(costs, key=lambda order: costs[order])
    # Rows of one moment, as in scoring, are told apart by their keys.
    ties = tuple(dict.fromkeys(column for join in joins for column in join.on.values() if column not in cheapest))
    return (*cheapest, *ties), tiles, costs[cheapest]


def _reads(joins: Sequence[ViewJoin], pruned: Sequence[Pruned], extent: Extent, order: tuple[str, ...], tiles: int, passes: float) -> float:
    """How often a row of the tables is read, on average over their rows."""
    rows = sum(one.rows for one in pruned)
    if not rows or extent.first is None or extent.last is None:
        return 1.0
    span = extent.last - extent.first + 1
    total = 0.0
    for join, one in zip(joins, pruned, strict=True):
        ttl = span if join.ttl is None else join.ttl // MICROSECOND
        if order[0] == EVENT_TIME:
            each = (span / tiles + ttl) / (span + ttl) if join.ttl is not None else 1.0
            again = min(1 + (passes - 1) / one.groups, passes)
        else:
            each = min(1.0, 1 / tiles + 1 / one.groups) if next(iter(join.on.values()), None) == order[0] else 1.0
            again = 1.0
        total += one.rows * max(1.0, each * tiles) * again
    return total / rows


def explained(plan: Plan) -> list[str]:
    """A plan in sentences, for people."""
    extent = plan.extent
    asks = "no event times"
    if extent.first is not None and extent.last is not None:
        asks = f"event times {from_micros(extent.first).isoformat()} to {from_micros(extent.last).isoformat()}"
    lines = [f"spine     {extent.rows:,} rows, {asks}"]
    if plan.why_sql is None:
        order = ", ".join(plan.columns)
        lines.append("engine    columnar: every table is plain files at its version")
        lines.append(f"tiles     {plan.tiles}, in order of {order}; a row of the tables is read {plan.reads:.2f} times")
    else:
        lines.append(f"engine    sql: {plan.why_sql}")
    for join, one in zip(plan.joins, plan.pruned, strict=True):
        ttl = "unlimited" if join.ttl is None else str(join.ttl)
        name = join.view.ref if join.name == join.view.name else f"{join.view.ref} as {join.name}"
        lines.append(
            f"view      {name}: version {join.version}, mode {join.mode}, ttl {ttl}, {len(join.features)} features; "
            f"{len(one.files)} of {one.of} files, {_megabytes(one.bytes)} of {_megabytes(one.of_bytes)}, {one.rows:,} rows"
        )
    return lines


def _megabytes(n: int) -> str:
    return f"{n / 1e6:,.1f} MB"
