"""The bytes a training set was made from: a digest for each day of each table, so that what was altered can be named."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from hashlib import blake2b

from pyarrow.fs import FileSystem

from penstock.clock import EPOCH
from penstock.errors import SourceError
from penstock.offline.feature_files import FeatureFile
from penstock.offline.lake import Lake

_CHUNK = 1 << 20
_READERS = 4  # hashing leaves Python's lock, and storage answers several at once


def partition_digests(lake: Lake, table: str, files: Sequence[FeatureFile]) -> dict[str, str]:
    """Day → digest of the names and bytes of its files.

    Raises:
        SourceError: a file is gone.
    """
    system, root = FileSystem.from_uri(lake.location(table))

    def of_file(file: FeatureFile) -> bytes:
        found = blake2b(file.path.encode(), digest_size=16)
        try:
            with system.open_input_stream(f"{root}/{file.path}") as stream:
                while chunk := stream.read(_CHUNK):
                    found.update(chunk)
        except FileNotFoundError:
            raise SourceError(
                f"{table}, partition {day_of(file)}: the file {file.path} is gone, although the table's log names it",
                hint="it was removed behind the table's back; restore it",
            ) from None
        return found.digest()

    with ThreadPoolExecutor(_READERS) as readers:
        digests = list(readers.map(of_file, files))
    by_day: dict[str, list[bytes]] = {}
    for file, found in zip(files, digests, strict=True):
        by_day.setdefault(day_of(file).isoformat(), []).append(found)
    return {day: blake2b(b"".join(sorted(parts)), digest_size=16).hexdigest() for day, parts in sorted(by_day.items())}


def day_of(file: FeatureFile) -> date:
    """The partition a file belongs to."""
    return EPOCH.date() + timedelta(days=file.day)
