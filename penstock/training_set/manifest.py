"""What a training set was made of: everything that is needed to make it again, and to tell whether it is the same."""

import json
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from penstock.as_of import Mode
from penstock.errors import SpineError, TrainingSetError
from penstock.offline.lake import Lake
from penstock.offline.logs import LogVersions
from penstock.offline.statistics import ColumnStatistics

FORMAT, WITH_ON_DEMAND = 2, 3
_FILE, _STATISTICS = "manifest.json", "statistics.json"
_PACKAGES = ("penstock", "pyspark", "delta-spark", "deltalake", "pyarrow", "numpy")


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """One view as a training set read it.

    Args:
        name: what its columns begin with.
        view, version: which.
        features: those that were attached, in order.
        on: join key → the spine's column that held it.
        mode: what counted as known.
        table, delta_version: what was read.
        code: fingerprint of what computes it now.
        attempts, publications: how many entries of the logs were known.
        live_since: when the view went live, or None.
        rows_by_rule: under `observed`, how many spine rows were judged by the ledger and how many, before
            `live_since`, as in `assumed`; under another mode all by that.
        partitions: day → digest of the names and bytes of its files, of the days that could be asked for.
    """

    name: str
    view: str
    version: int
    features: list[str]
    on: dict[str, str]
    mode: Mode
    table: str
    delta_version: int
    code: str
    attempts: int
    publications: int
    live_since: datetime | None
    rows_by_rule: dict[str, int]
    partitions: dict[str, str]


class OnDemandInput(msgspec.Struct, frozen=True, kw_only=True):
    """An on-demand view as a training set computed it.

    Args:
        view, version: which.
        features: its features, in order.
        request: the columns of the spine its function took.
        function, code: what computed it, and the fingerprint of that.
    """

    view: str
    version: int
    features: list[str]
    request: list[str]
    function: str
    code: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a training set was made of.

    Args:
        name, id, created_at: the training set, the build, and when.
        mode: what counted as known, but for views that say otherwise.
        service, contract, registry: the features: by name, and the fingerprints of contract and registry snapshot.
        split, seed: how its rows are split, see `training_set.split`; empty: they are not.
        labels, cutoff: label column → the column that says when it was known, and by when it had to be.
        where: conditions that its rows meet.
        spine: where the spine came from, for people.
        spine_content, spine_rows, spine_columns: the spine's, all of it.
        excluded: reason → rows of the spine that were left out; one may be counted under several.
        kept_content: of the spine's columns of the rows that were kept.
        leakage: feature → share of those rows in which mode `event` would have given another value; empty: not looked at.
        rows: how many those are.
        table, columns, content: where they are, their types as Arrow names them, and the hash of all values.
        inputs, logs: what was read: tables and logs at their versions.
        packages: name → version of what computed it.
        on_demand: what was computed of the joined rows.
    """

    format: int
    name: str
    id: str
    created_at: datetime
    mode: Mode
    service: str
    contract: str
    registry: str
    split: str
    seed: int
    labels: dict[str, str]
    cutoff: datetime | None
    where: list[tuple[str, str, Any]]
    spine: str
    spine_content: str
    spine_rows: int
    spine_columns: list[str]
    excluded: dict[str, int]
    kept_content: str
    leakage: dict[str, float]
    rows: int
    table: str
    columns: list[tuple[str, str]]
    content: str
    inputs: list[Input]
    logs: LogVersions
    packages: dict[str, str]
    on_demand: list[OnDemandInput] = []


def write_manifest(lake: Lake, manifest: Manifest, statistics: Mapping[str, ColumnStatistics]) -> None:
    """Keep a manifest and the statistics beside it; the manifest comes last, and is what makes it a training set."""
    lake.write_text(f"{manifest.table}/{_STATISTICS}", msgspec.json.encode(statistics).decode() + "\n")
    lake.write_text(f"{manifest.table}/{_FILE}", json.dumps(msgspec.to_builtins(manifest), indent=2) + "\n")


def manifests(lake: Lake, name: str | None = None) -> list[Manifest]:
    """The manifests of all builds of a training set, or of all, oldest first.

    Raises:
        TrainingSetError: one is damaged, or of a format this Penstock does not know.
    """
    texts = lake.read_texts("training" if name is None else f"training/{name}", _FILE)
    return sorted((_decoded(text) for text in texts), key=lambda one: (one.created_at, one.id))


def find_manifest(lake: Lake, name: str, build: str | None = None) -> Manifest:
    """The manifest of one build of a training set, by its id; without one, of the newest.

    Raises:
        SpineError: there is none.
    """
    found = manifests(lake, name)
    if not found:
        raise SpineError(f"no training set '{name}' in the lake", hint="build it: penstock training-set build --help")
    if build is None:
        return found[-1]
    for one in found:
        if one.id == build:
            return one
    raise SpineError(f"training set '{name}' has no build '{build}'; it has {', '.join(one.id for one in found)}")


def statistics_kept(lake: Lake, manifest: Manifest) -> dict[str, ColumnStatistics]:
    """Column → what its values are like, as it was found at the build."""
    (text,) = lake.read_texts(manifest.table, _STATISTICS)
    return msgspec.json.decode(text, type=dict[str, ColumnStatistics])


def package_versions() -> dict[str, str]:
    """Name → version of what computes a join."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _decoded(text: str) -> Manifest:
    try:
        found: Any = json.loads(text)
        if found.get("format") in (FORMAT, WITH_ON_DEMAND):
            return msgspec.convert(found, Manifest)
    except (ValueError, AttributeError, msgspec.ValidationError) as error:
        raise TrainingSetError(
            f"a manifest below training/ in the lake is not one: {error}; it begins with {text[:120]!r}",
            hint="it was altered by hand, or is of another Penstock; nothing is removed from the lake while it is there",
        ) from None
    raise TrainingSetError(
        f"manifest of training set '{found.get('name')}' ({found.get('id')}) is of format {found.get('format')},"
        f" expected {FORMAT} or {WITH_ON_DEMAND}",
        hint="it was built by another version of Penstock: read it with that, or build it again",
    )
