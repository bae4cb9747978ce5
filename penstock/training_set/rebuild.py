"""Making a training set again from its manifest, and telling whether it is the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import msgspec
import pyarrow as pa

from penstock.contract.on_demand import OnDemandView
from penstock.contract.service import AnyView, FeatureService, Selection
from penstock.contract.view import FeatureView
from penstock.errors import TrainingSetError
from penstock.offline.content import Content, content_of
from penstock.offline.feature_files import FeatureFile, feature_files
from penstock.offline.lake import Lake
from penstock.point_in_time.joined import Resources, join
from penstock.point_in_time.on_demand import on_demand_joins
from penstock.point_in_time.spine import DeltaRows
from penstock.point_in_time.view_join import ViewJoin, view_joins
from penstock.registry.project import Project
from penstock.registry.snapshot import contract_fingerprint
from penstock.training_set.inputs import day_of, partition_digests
from penstock.training_set.manifest import Input, Manifest
from penstock.training_set.split import COLUMN


@dataclass(frozen=True)
class Rebuilt:
    """What making it again gave.

    Args:
        rows, content: of what was made; equal to the manifest's.
    """

    rows: int
    content: str


def rebuild(lake: Lake, manifest: Manifest, project: Project, resources: Resources) -> Rebuilt:
    """Join the rows of a training set again with the tables at the versions its manifest names, and compare.

    The spine is taken from the training set itself, whose manifest holds the hash of it.

    Returns:
        What it gave, equal to what the manifest says.

    Raises:
        TrainingSetError: it is not equal; a file of a table, or the training set itself, was altered, which the message
            names; or the definitions are others than they were.
        SourceError: a table, a version of it or one of its files is gone.
    """
    joins = pinned_joins(lake, manifest, project)
    problems = altered_partitions(lake, manifest)
    if problems:
        raise TrainingSetError(
            f"training set '{manifest.name}' ({manifest.id}) cannot be made again: {'; '.join(problems)}",
            hint="these files are not those it was built from: somebody wrote to them behind the table's back; restore them from a copy",
        )
    kept = _require_unaltered(lake, manifest)
    of_spine = (*manifest.spine_columns, *([COLUMN] if manifest.split else []))
    folder = f"staging/{uuid4()}"
    try:
        computed = on_demand_joins(pinned_on_demand(manifest, project), joins)
        joined = join(lake, replace(kept, columns=of_spine), joins, resources, on_demand=computed)
        told = joined.write_files(lake.make_folder(folder), _Tell(tuple(name for name, _ in manifest.columns)))
    finally:
        lake.remove_folder(folder)
    parts = [msgspec.json.decode(one.told, type=dict[str, tuple[int, int, int]]) for one in told]
    content = _sum(parts, "")
    if content.text != manifest.content:
        columns = [*(column for one in joins for column in one.columns), *(name for one in computed for name in one.names)]
        differ = _columns_that_differ(kept, parts, columns)
        raise TrainingSetError(
            f"training set '{manifest.name}' ({manifest.id}): made again its content is {content.text}, expected {manifest.content}; "
            f"columns that differ: {', '.join(differ) or 'none by itself, only together'}",
            hint=f"it was built with {_packages(manifest.packages)}; compare with what is installed now",
        )
    return Rebuilt(content.rows, content.text)


def altered_partitions(lake: Lake, manifest: Manifest) -> list[str]:
    """The days of its inputs whose files are not those it was built from, a sentence each.

    Raises:
        SourceError: a table, a version of it or one of its files is gone.
    """
    problems = []
    for one in manifest.inputs:
        files = _files(lake, one)
        now = partition_digests(lake, one.table, files)
        problems += [
            f"{one.table}, partition {day}: its files at version {one.delta_version} were altered"
            for day, digest in one.partitions.items()
            if now.get(day) != digest
        ]
    return list(dict.fromkeys(problems))


def _files(lake: Lake, one: Input) -> list[FeatureFile]:
    listed = feature_files(lake.open_version(one.table, one.delta_version))
    return [file for file in listed if day_of(file).isoformat() in one.partitions]


def pinned_joins(lake: Lake, manifest: Manifest, project: Project) -> list[ViewJoin]:
    """The views of a training set, at the versions of tables and logs its manifest names.

    Raises:
        TrainingSetError: the definitions are others than they were.
    """
    views: dict[str, FeatureView] = {view.ref: view for view in project.views}
    missing = [f"{one.view}@{one.version}" for one in manifest.inputs if f"{one.view}@{one.version}" not in views]
    if missing:
        raise TrainingSetError(
            f"training set '{manifest.name}' ({manifest.id}) was built from {', '.join(missing)}, which this project no longer defines",
            hint=f"check out the definitions of registry {manifest.registry}",
        )
    selection = [Selection(views[f"{one.view}@{one.version}"], tuple(one.features), one.name, one.on) for one in manifest.inputs]
    of_inputs: dict[AnyView, tuple[str, ...]] = {part.view.named(part.name, on=part.on): part.features for part in selection}
    on_demand = pinned_on_demand(manifest, project)
    contract = contract_fingerprint(FeatureService(manifest.service, views=of_inputs, on_demand=on_demand, owner="manifest"))
    if contract != manifest.contract:
        raise TrainingSetError(
            f"training set '{manifest.name}' ({manifest.id}) was built under contract {manifest.contract}; "
            f"by today's definitions it is {contract}: a key, a type, a default, a ttl or what an on-demand view takes was changed",
            hint=f"check out the definitions of registry {manifest.registry}",
        )
    return view_joins(
        lake,
        selection,
        manifest.mode,
        {one.name: one.mode for one in manifest.inputs},
        logs=manifest.logs,
        versions={one.name: one.delta_version for one in manifest.inputs},
    )


def pinned_on_demand(manifest: Manifest, project: Project) -> list[OnDemandView]:
    """The on-demand views of a training set, whose functions are those that computed it.

    Raises:
        TrainingSetError: one is not defined any more, or its function is another.
    """
    views = {(view.name, view.version): view for view in project.on_demand}
    what = f"training set '{manifest.name}' ({manifest.id})"
    hint = f"check out the definitions of registry {manifest.registry}"
    found = []
    for one in manifest.on_demand:
        view = views.get((one.view, one.version))
        if view is None:
            raise TrainingSetError(f"{what} was computed by {one.view}@{one.version}, which this project no longer defines", hint=hint)
        if (view.function.name, view.function.fingerprint) != (one.function, one.code):
            raise TrainingSetError(
                f"{what}: {view.ref} was computed by {one.function} ({one.code}); its function is now {view.function.name}"
                f" ({view.function.fingerprint})",
                hint=hint,
            )
        found.append(view)
    return found


def _require_unaltered(lake: Lake, manifest: Manifest) -> DeltaRows:
    kept = DeltaRows(lake.location(manifest.table), 0)
    whole, of_spine = Content(), Content()
    for part in kept.batches():
        whole, of_spine = whole + content_of(part), of_spine + content_of(part, manifest.spine_columns)
    if of_spine.text != manifest.kept_content or whole.text != manifest.content:
        what = "the rows of its spine" if of_spine.text != manifest.kept_content else "features"
        raise TrainingSetError(
            f"training set '{manifest.name}' ({manifest.id}): {what} in {manifest.table} are not those that were built",
            hint="its own files were altered or are incomplete; restore them, or build it anew",
        )
    return kept


@dataclass(frozen=True)
class _Tell:
    """Tells of a joined tile the content of all its columns and of each by itself, and keeps none of its rows."""

    columns: tuple[str, ...]

    def __call__(self, rows: pa.Table) -> tuple[pa.Table, str]:
        """No rows, and what is known of them, as JSON."""
        told = {"": content_of(rows, self.columns), **{name: content_of(rows, [name]) for name in self.columns}}
        return rows.slice(0, 0), msgspec.json.encode({name: (one.rows, *one.sums) for name, one in told.items()}).decode()


def _sum(parts: Sequence[Mapping[str, tuple[int, int, int]]], name: str) -> Content:
    whole = Content()
    for part in parts:
        rows, first, second = part[name]
        whole += Content(rows, (first, second))
    return whole


def _columns_that_differ(kept: DeltaRows, parts: Sequence[Mapping[str, tuple[int, int, int]]], columns: Sequence[str]) -> list[str]:
    found = dict.fromkeys(columns, Content())
    for part in kept.batches():
        for name in columns:
            found[name] += content_of(part, [name])
    return [name for name in columns if found[name] != _sum(parts, name)]


def _packages(packages: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())
