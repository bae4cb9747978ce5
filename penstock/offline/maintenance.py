"""Keeping a lake's tables small and fast: folding small files, and removing those nobody can ask for any more.

Neither changes a row. A folded day keeps its old files until they are past the table's retention and no pin names a
version that has them, so every version that could be read before can be read after.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction
from pyarrow.fs import FileSystem

from penstock.config import ROWS_PER_GROUP
from penstock.contract.view import FeatureView
from penstock.errors import CommitError
from penstock.offline.delta_files import added, bounded, now_ms
from penstock.offline.lake import Lake, feature_table, listed_files

_SORTED_WITHIN = ("event_time", "created_time")
_FOLDED_BYTES = (250_000, 16_000_000)  # small and middling files are smaller than this; a large one is left as it is


@dataclass(frozen=True)
class Compacted:
    """What folding did: of these days, so many files became one each."""

    days: tuple[date, ...]
    files: int


def compact(lake: Lake, view: FeatureView, *, before: date) -> Compacted:
    """Fold each closed day of a view's table into one file, sorted by key and time, in small row groups; one commit.

    A day's rows are held in memory while it is folded.

    Args:
        lake, view: where and what.
        before: the first day that is left alone: it is still being written.

    Raises:
        CommitError: another writer removed one of the files meanwhile; nothing was changed.
    """
    table = lake.open(feature_table(view))
    schema = pa.schema([field for field in pa.schema(table.schema().to_arrow()) if field.name != "event_date"])
    files, root = FileSystem.from_uri(lake.location(feature_table(view)))
    by_day: dict[date, list[dict[str, Any]]] = {}
    for one in listed_files(table):
        by_day.setdefault(one["partition.event_date"], []).append(one)
    small = {day: parts for day, parts in sorted(by_day.items()) if day < before and len(parts) > 1}
    actions: list[AddAction | RemoveAction] = []
    written: list[str] = []
    try:
        for day, parts in small.items():
            add, remove = _folded(files, root, view, day, parts, schema)
            written.append(f"{root}/{add.path}")
            actions += [add, *remove]
        if actions:
            table.create_write_transaction(actions, "append", table.schema(), ["event_date"])
    except BaseException as error:
        for path in written:
            files.delete_file(path)
        if isinstance(error, CommitFailedError):
            raise CommitError(
                f"{feature_table(view)}: another writer changed it while days were folded; nothing was changed",
                hint="run it again; runs that write one table share a Dagster pool, so look for a writer outside it",
            ) from None
        raise
    return Compacted(tuple(small), sum(map(len, small.values())))


def _folded(
    files: FileSystem, root: str, view: FeatureView, day: date, parts: Sequence[Mapping[str, Any]], schema: pa.Schema
) -> tuple[AddAction, list[RemoveAction]]:
    paths = [unquote(part["path"]) for part in parts]
    # What wrote a file decides what it says of nulls and which of several types for text it has: the table says which is meant.
    tables = [pq.read_table(f"{root}/{path}", filesystem=files, partitioning=None) for path in paths]
    rows = pa.concat_tables([table.select(schema.names).cast(schema) for table in tables])
    keys = list(view.entity.join_keys)
    rows = rows.sort_by([(name, "ascending") for name in (*keys, *_SORTED_WITHIN)])
    name = f"{PurePosixPath(paths[0]).parent}/part-{uuid4()}.snappy.parquet"
    pq.write_table(rows, f"{root}/{name}", filesystem=files, row_group_size=ROWS_PER_GROUP)
    partition: dict[str, str | None] = {"event_date": day.isoformat()}
    bounds = {column: _ends(rows[column]) for column in bounded(keys)}
    add = added(files, f"{root}/{name}", name, rows.num_rows, bounds, {"event_date": day.isoformat()}, data_change=False)
    removed = [RemoveAction(path, False, now_ms(), part["size_bytes"], partition) for path, part in zip(paths, parts, strict=True)]
    return add, removed


def _ends(column: pa.ChunkedArray) -> tuple[Any, Any]:
    ends = pc.min_max(column)
    return ends["min"].as_py(), ends["max"].as_py()


def fold(lake: Lake, table: str, *, at_most: int) -> None:
    """Fold files of a table without partitions, of one size: where there are more than `at_most` small ones they become one, else the
    same of middling ones. So a row is written anew a few times in all, however long the table grows, and what is replaced, and stays on
    disk for as long as old versions do, is a few times the table.

    Raises:
        CommitFailedError: another process has folded some of them meanwhile; nothing was changed.
    """
    opened = lake.open(table)
    listed = pa.table(opened.get_add_actions(flatten=True)).select(["path", "size_bytes"]).to_pylist()
    for bound in _FOLDED_BYTES:
        parts = [part for part in listed if part["size_bytes"] < bound]
        if len(parts) > at_most:
            break
    else:
        return
    files, root = FileSystem.from_uri(lake.location(table))
    paths = [unquote(part["path"]) for part in parts]
    rows = ds.dataset([f"{root}/{path}" for path in paths], pa.schema(opened.schema().to_arrow()), filesystem=files).to_table()
    name = f"part-{uuid4()}.zstd.parquet"
    pq.write_table(rows, f"{root}/{name}", filesystem=files, compression="zstd")
    try:
        add = added(files, f"{root}/{name}", name, rows.num_rows, {}, {}, data_change=False)
        gone = [RemoveAction(path, False, now_ms(), part["size_bytes"], {}) for path, part in zip(paths, parts, strict=True)]
        opened.create_write_transaction([add, *gone], "append", opened.schema(), [])
    except BaseException:
        files.delete_file(f"{root}/{name}")
        raise


def vacuum(lake: Lake, table: str, *, pinned: Collection[int], dry_run: bool) -> list[str]:
    """Remove the files of a table that left it longer ago than its retention and that no pinned version has.

    Args:
        lake, table: where and what.
        pinned: versions that stay readable whatever their age.
        dry_run: only tell which.

    Returns:
        The files, below the table.
    """
    opened: DeltaTable = lake.open(table)
    newest = opened.version()
    return list(opened.vacuum(dry_run=dry_run, keep_versions=sorted(version for version in pinned if version <= newest) or None))
