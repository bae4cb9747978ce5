"""Where a join is kept: a new Delta table or a folder of Parquet files, there whole or not at all."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import create_table_with_add_actions
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from penstock.clock import from_micros
from penstock.errors import CommitError
from penstock.offline.delta_files import added
from penstock.point_in_time.columnar_engine import Written

Write = Callable[[str], Sequence[Written]]
"""Writes files with names of their own into a folder that is there."""


def as_delta(location: str, schema: pa.Schema, write: Write, configuration: Mapping[str, str | None]) -> list[Written]:
    """A new Delta table of what `write` writes; its commit is what makes the rows readable.

    Raises:
        CommitError: there is a table already.
    """
    files, root = FileSystem.from_uri(location)
    if DeltaTable.is_deltatable(location):
        raise CommitError(f"there is a Delta table at {location} already", hint="give another place, or remove it first")
    files.create_dir(root, recursive=True)
    written = list(write(location))
    try:
        actions = [added(files, f"{root}/{one.path}", one.path, one.rows, _bounds(one), {}) for one in written if one.path]
        create_table_with_add_actions(
            location, Schema.from_arrow(schema), actions, mode="error", partition_by=[], configuration=configuration
        )
    except BaseException as error:
        for one in (one for one in written if one.path):
            with suppress(OSError):
                files.delete_file(f"{root}/{one.path}")
        if isinstance(error, CommitFailedError):
            raise CommitError(f"another writer made a Delta table at {location} meanwhile", hint="give another place") from None
        raise
    return written


def as_parquet(folder: str, write: Write) -> list[Written]:
    """A folder of Parquet files of what `write` writes: written beside it, and moved there when all is done.

    Raises:
        CommitError: there is something in the folder already.
    """
    files, root = FileSystem.from_uri(folder)
    root = root.rstrip("/")
    if files.get_file_info(FileSelector(root, allow_not_found=True)) or files.get_file_info(root).type == FileType.File:
        raise CommitError(f"there is something at {folder} already", hint="give an empty or a new folder, or remove it first")
    beside = f"{root}.{uuid4().hex[:8]}.part"
    files.create_dir(beside, recursive=True)
    try:
        written = list(write(folder.rstrip("/").removesuffix(root) + beside))
        if isinstance(files, LocalFileSystem):
            with suppress(OSError):
                Path(root).rmdir()  # an empty one: a folder cannot be moved onto it
        files.move(beside, root)
    finally:
        with suppress(OSError):
            files.delete_dir(beside)
    return written


def _bounds(written: Written) -> dict[str, tuple[datetime, datetime]]:
    if written.first is None or written.last is None:
        return {}
    return {"event_time": (from_micros(written.first), from_micros(written.last))}
