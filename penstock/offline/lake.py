"""Where each Delta table of a lake is, and what can be learnt of it without a JVM."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyarrow.fs import FileSelector, FileSystem, LocalFileSystem

from penstock.contract.source import Source
from penstock.contract.view import FeatureView
from penstock.errors import SourceError
from penstock.offline.arrow import plain_schema

# Delta 4.1 and later refuse time travel beyond the deleted-file retention even where nothing was vacuumed,
# so both are set when a table is created.
RETENTION = {
    "delta.deletedFileRetentionDuration": "interval 400 days",
    "delta.logRetentionDuration": "interval 400 days",
    "delta.enableDeletionVectors": "false",
}


@dataclass(frozen=True)
class Lake:
    """The folder or URI that holds all Delta tables; names below it are relative and stand in logs and manifests.

    Args:
        uri: the folder or URI.
        project: the folder from which relative locations of external tables start.
    """

    uri: str
    project: str = "."

    def location(self, table: str) -> str:
        """The full location of a table, e.g. of `raw/arrivals`."""
        return f"{self.uri.rstrip('/')}/{table}"

    def version(self, table: str) -> int | None:
        """The newest version of a table; None: there is no such table."""
        try:
            return DeltaTable(self.location(table)).version()
        except TableNotFoundError:
            return None

    def open(self, table: str, version: int | None = None) -> DeltaTable:
        """A table for reading without a JVM, at a version or the newest."""
        return DeltaTable(self.location(table), version=version)

    def open_version(self, table: str, version: int) -> DeltaTable:
        """A table at a version that somebody named.

        Raises:
            SourceError: there is no such table, or it no longer has this version.
        """
        try:
            return self.open(table, version)
        except TableNotFoundError:
            raise SourceError(f"there is no table {table} in the lake {self.uri}", hint="name a table of this lake") from None
        except DeltaError as error:
            newest = self.version(table)
            raise SourceError(
                f"{table} has no version {version}: {str(error).partition(chr(10))[0]}; its newest is {newest}",
                hint="its log was cleaned up past this version, or the table was made anew; take a version that is there",
            ) from None

    def dataset(self, table: str, version: int | None = None) -> Any:
        """The rows of a table as a pyarrow dataset."""
        return dataset_of(self.open(table, version))

    def commits(self, table: str) -> Iterator[dict[str, Any]]:
        """What a table's log says of each of its commits, newest first; of a long one no more is read than is asked for."""
        opened, seen, limit = self.open(table), 0, 20
        while True:
            page = opened.history(limit)
            yield from page[seen:]
            if len(page) < limit:
                return
            seen, limit = limit, 10 * limit

    def write_text(self, path: str, text: str) -> None:
        """Write a file below the lake, e.g. a manifest: all of it or nothing."""
        files, root = FileSystem.from_uri(self.uri)
        where = f"{root.rstrip('/')}/{path}"
        if not isinstance(files, LocalFileSystem):
            with files.open_output_stream(where) as out:  # an object is there whole or not at all
                out.write(text.encode())
            return
        with files.open_output_stream(f"{where}.part") as out:
            out.write(text.encode())
        files.move(f"{where}.part", where)

    def read_texts(self, folder: str, name: str) -> list[str]:
        """The contents of the files called `name` anywhere below `folder`, in order of their paths; none: no such folder."""
        files, root = FileSystem.from_uri(self.uri)
        found = files.get_file_info(FileSelector(f"{root.rstrip('/')}/{folder}", allow_not_found=True, recursive=True))
        paths = sorted(info.path for info in found if info.base_name == name)
        return [files.open_input_stream(path).read().decode() for path in paths]

    def make_folder(self, path: str) -> str:
        """The location of a folder below the lake, made if it is not there."""
        files, root = FileSystem.from_uri(self.uri)
        files.create_dir(f"{root.rstrip('/')}/{path}", recursive=True)
        return self.location(path)

    def remove_folder(self, path: str) -> None:
        """Remove a folder below the lake and all that is in it; not there: nothing."""
        files, root = FileSystem.from_uri(self.uri)
        with suppress(FileNotFoundError):
            files.delete_dir(f"{root.rstrip('/')}/{path}")

    def prepare(self, table: str) -> str:
        """The location of a table about to be written; makes the folder where the lake is a folder."""
        location = self.location(table)
        if "://" not in location:
            Path(location).mkdir(parents=True, exist_ok=True)
        return location


# What a reader of plain Parquet files would get wrong.
_NOT_PLAIN = {"deletionVectors": "deletion vectors", "columnMapping": "column mapping"}


def why_not_plain(table: DeltaTable) -> str | None:
    """Why the files of a table do not say themselves what its rows are; None: they do."""
    used = [name for feature, name in _NOT_PLAIN.items() if feature in (table.protocol().reader_features or ())]
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") == "none":
        used = [name for name in used if name != "column mapping"]
    return f"the table has {' and '.join(used)}" if used else None


def dataset_of(table: DeltaTable) -> Any:
    """The rows of a Delta table as a pyarrow dataset.

    Its files are read by Arrow itself: through deltalake's own files, which are Python objects, a thread of Arrow's that
    is still at it when the process ends aborts it. And a filter is judged by the files' own statistics: deltalake's
    dataset takes a column without statistics in the log for one of nulls, and leaves out its rows.

    Raises:
        SourceError: its files do not say themselves what its rows are.
    """
    why = why_not_plain(table)
    if why is not None:
        raise SourceError(
            f"{table.table_uri}: {why}; it cannot be read without Spark", hint="read it with Spark, or copy it to a plain table"
        )
    return dataset_of_files(table, listed_files(table))


def listed_files(table: DeltaTable) -> list[dict[str, Any]]:
    """The files of a Delta table as its log lists them: `path` as it is encoded there, `partition.<column>`, sizes and statistics."""
    files: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return files


def dataset_of_files(table: DeltaTable, listed: Sequence[Mapping[str, Any]]) -> Any:
    """The rows of some files of a Delta table, as its log lists them, as a pyarrow dataset."""
    schema = pa.schema(table.schema().to_arrow())
    files, root = FileSystem.from_uri(table.table_uri)
    format_ = ds.ParquetFileFormat()
    partitions = table.metadata().partition_columns
    fragments = [
        format_.make_fragment(
            f"{root.rstrip('/')}/{unquote(row['path'])}",
            files,
            partition_expression=_partition({name: row[f"partition.{name}"] for name in partitions}, schema),
        )
        for row in listed
    ]
    return ds.FileSystemDataset(fragments, schema, format_, files)


def rows_where(dataset: Any, where: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a dataset that meet a condition, of whichever writer its files are.

    Files that delta-rs altered in place (`delete`, `update`, `merge`) hold views of strings, with which Arrow compares nothing: of a table
    that has such, these are read whole.
    """
    try:
        return dataset.to_table(filter=where, columns=columns)
    except pa.ArrowNotImplementedError:
        parts = []
        for fragment in dataset.get_fragments():
            if plain_schema(fragment.physical_schema).types == fragment.physical_schema.types:
                parts.append(fragment.to_table(schema=dataset.schema, filter=where, columns=columns))
            else:
                rows = fragment.to_table(schema=dataset.schema).filter(where)
                parts.append(rows if columns is None else rows.select(list(columns)))
        return pa.concat_tables(parts)


def _partition(values: Mapping[str, Any], schema: pa.Schema) -> Any:
    """What is true of all rows of a file by its partition; None: the table has none."""
    whole = None
    for name, value in values.items():
        column = pc.field(name)
        this = column.is_null() if value is None else column == pa.scalar(value, schema.field(name).type)
        whole = this if whole is None else whole & this
    return whole


def raw_table(source: Source) -> str:
    """The table of an ingested source."""
    return f"raw/{source.name}"


def feature_table(view: FeatureView) -> str:
    """The table of a view version."""
    return f"features/{view.name}/v{view.version}"


def tile_table(view: FeatureView) -> str:
    """Where the tiles of a view version are."""
    return f"tiles/{view.name}/v{view.version}"


def quarantine_table(view: FeatureView) -> str:
    """Where a view version's refused rows are kept."""
    return f"quarantine/{view.name}/v{view.version}"
