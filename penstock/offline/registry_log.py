"""The history of a project's definitions in the lake: every snapshot that was published, with when."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from deltalake import write_deltalake
from deltalake.exceptions import TableNotFoundError

from penstock.errors import RegistryError
from penstock.offline.lake import RETENTION, Lake
from penstock.registry.snapshot import Snapshot, load_snapshot

SNAPSHOTS = "log/registry"
_SCHEMA = pa.schema(
    [("published_at", pa.timestamp("us", tz="UTC")), ("project", pa.string()), ("fingerprint", pa.string()), ("document", pa.binary())]
)


@dataclass(frozen=True)
class Published:
    """A snapshot as it was published."""

    at: datetime
    fingerprint: str
    snapshot: Snapshot


def log_snapshot(lake: Lake, snapshot: Snapshot, now: datetime) -> bool:
    """Append a snapshot, unless it is the newest already; returns whether it was appended."""
    known = snapshots(lake)
    if known and known[-1].fingerprint == snapshot.fingerprint:
        return False
    row = {"published_at": now, "project": snapshot.project, "fingerprint": snapshot.fingerprint, "document": snapshot.to_json()}
    write_deltalake(lake.prepare(SNAPSHOTS), pa.Table.from_pylist([row], schema=_SCHEMA), mode="append", configuration=RETENTION)
    return True


def snapshots(lake: Lake) -> list[Published]:
    """All snapshots that were published, oldest first."""
    try:
        rows = lake.dataset(SNAPSHOTS).to_table().sort_by("published_at").to_pylist()
    except TableNotFoundError:
        return []
    return [Published(row["published_at"].astimezone(UTC), row["fingerprint"], load_snapshot(row["document"])) for row in rows]


def find_snapshot(known: Sequence[Published], fingerprint: str) -> Snapshot:
    """The published snapshot whose fingerprint begins like this.

    Raises:
        RegistryError: there is none, or there are several.
    """
    found = {one.fingerprint: one.snapshot for one in known if one.fingerprint.startswith(fingerprint)}
    if len(found) != 1:
        listed = ", ".join(dict.fromkeys(one.fingerprint for one in known)) or "none"
        raise RegistryError(
            f"{len(found)} published snapshots have a fingerprint that begins with '{fingerprint}'; there are: {listed}",
            hint="`penstock registry history` lists them",
        )
    return next(iter(found.values()))
