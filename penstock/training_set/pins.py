"""What training sets still need: every version of a table that a manifest names is pinned, and VACUUM keeps its files.

The manifests themselves are the pins. What no pin can keep is the table's log: Delta cleans it up past its retention, and
from then on refuses the versions in it. `verify` tells before.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from penstock.clock import EPOCH
from penstock.errors import SourceError
from penstock.offline.lake import Lake
from penstock.offline.logs import ATTEMPTS, MARKS, PUBLICATIONS
from penstock.training_set.manifest import Manifest, manifests
from penstock.training_set.rebuild import altered_partitions

_WARN_BEFORE = timedelta(days=30)
_RETENTION = re.compile(r"interval (\d+) (week|day|hour|minute|second)s?")


@dataclass(frozen=True)
class Finding:
    """What `verify` found of one thing a training set needs."""

    state: Literal["good", "expires soon", "gone", "altered"]
    what: str
    detail: str


def pinned(lake: Lake) -> dict[str, set[int]]:
    """Table → the versions that training sets name."""
    found: dict[str, set[int]] = {}
    for manifest in manifests(lake):
        for table, version in _needs(manifest):
            found.setdefault(table, set()).add(version)
    return found


def verify(lake: Lake, manifest: Manifest, now: datetime, *, deep: bool = False) -> list[Finding]:
    """Whether a training set could be made again: each table at its version, and until when it can be read.

    Args:
        lake, manifest: where and what.
        now: to judge expiry by.
        deep: read all files, to see whether they are what they were.
    """
    findings = [_state(lake, table, version, now) for table, version in _needs(manifest)]
    if deep and all(finding.state != "gone" for finding in findings):
        altered = _altered(lake, manifest)
        findings += [Finding("altered", manifest.table, problem) for problem in altered]
    return findings


def _altered(lake: Lake, manifest: Manifest) -> Sequence[str]:
    try:
        return altered_partitions(lake, manifest)
    except SourceError as error:
        return [error.message]


def _needs(manifest: Manifest) -> list[tuple[str, int]]:
    logs = [(ATTEMPTS, manifest.logs.attempts), (PUBLICATIONS, manifest.logs.publications), (MARKS, manifest.logs.marks)]
    tables = [*((one.table, one.delta_version) for one in manifest.inputs), *logs, (manifest.table, 0)]
    return [(table, version) for table, version in dict.fromkeys(tables) if version is not None]


def _state(lake: Lake, table: str, version: int, now: datetime) -> Finding:
    what = f"{table} at version {version}"
    try:
        opened = lake.open_version(table, version)
    except SourceError as error:
        return Finding("gone", what, error.message)
    if lake.version(table) == version:
        return Finding("good", what, "it is the newest: it does not expire")
    committed = next((entry["timestamp"] for entry in lake.commits(table) if entry["version"] == version), None)
    keeps = _retention(opened.metadata().configuration.get("delta.deletedFileRetentionDuration", "interval 1 week"))
    if committed is None or keeps is None:
        return Finding("good", what, "until when it can be read is not known: its log does not say")
    until = EPOCH + timedelta(milliseconds=committed) + keeps
    if until <= now:
        return Finding("gone", what, f"Delta has refused it since {until:%Y-%m-%d}")
    state: Literal["good", "expires soon"] = "expires soon" if until - now < _WARN_BEFORE else "good"
    return Finding(state, what, f"can be read until {until:%Y-%m-%d}")


def _retention(text: str) -> timedelta | None:
    found = _RETENTION.fullmatch(text.strip().lower())
    return None if found is None else timedelta(**{f"{found.group(2)}s": int(found.group(1))})
