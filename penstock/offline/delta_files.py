"""Files for a Delta log: what an `add` action says of one that is written already."""

import json
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from deltalake.transaction import AddAction
from pyarrow.fs import FileSystem

from penstock.clock import EPOCH, MICROSECOND

_TEXT = 32  # characters of a text that statistics keep


def added(
    files: FileSystem,
    path: str,
    name: str,
    rows: int,
    bounds: Mapping[str, tuple[Any, Any]],
    partition: Mapping[str, str],
    *,
    data_change: bool = True,
) -> AddAction:
    """The action that adds a file.

    Args:
        files, path: the file.
        name: its path below the table.
        rows: how many it has.
        bounds: column → its least and its greatest value; of columns worth pruning by.
        partition: partition column → value.
        data_change: whether it brings rows that were not there.
    """
    known = {column: ends for column, ends in bounds.items() if ends[0] is not None}
    lows = {column: _bound(low, up=False) for column, (low, _) in known.items()}
    highs = {column: _bound(high, up=True) for column, (_, high) in known.items()}
    kept = [column for column in known if lows[column] is not None and highs[column] is not None]
    stats = {
        "numRecords": rows,
        "minValues": {column: lows[column] for column in kept},
        "maxValues": {column: highs[column] for column in kept},
        "nullCount": {},
    }
    size = files.get_file_info(path).size
    return AddAction(name, size, dict(partition), now_ms(), data_change, json.dumps(stats))


def bounded(keys: Iterable[str]) -> list[str]:
    """The columns of a feature table whose least and greatest values of each file stand in its log: those that readers prune by."""
    return [*keys, "event_time", "available_time", "created_time", "attempt"]


def now_ms() -> int:
    """The time a log entry was written, in milliseconds: of the machine, not of the data."""
    return time.time_ns() // 1_000_000


def _bound(value: Any, *, up: bool) -> Any:
    """A bound as Delta's statistics hold it: milliseconds and short texts, rounded away from what it bounds; None: none."""
    if isinstance(value, datetime):
        micros = (value - EPOCH) // MICROSECOND
        rounded = EPOCH + timedelta(milliseconds=-(-micros // 1000) if up else micros // 1000)
        return rounded.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        if len(value) <= _TEXT:
            return value
        return None if up else value[:_TEXT]  # what is greater than all that begin so is not a text to write down
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
