"""A training set: a spine joined point-in-time under one mode, as a Delta table with a manifest."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import numpy as np
import pyarrow as pa

from penstock.as_of import Mode
from penstock.clock import Clock, require_utc
from penstock.contract.fingerprint import digest, transformation_fingerprint
from penstock.contract.rules import require_name
from penstock.contract.service import FeatureService
from penstock.errors import CommitError, SpineError
from penstock.offline.content import Content, content_of
from penstock.offline.feature_files import FeatureFile
from penstock.offline.lake import RETENTION, Lake, feature_table
from penstock.offline.logs import LogVersions, log_versions
from penstock.point_in_time.columnar_engine import write_frame
from penstock.point_in_time.joined import Joined, Resources, join
from penstock.point_in_time.on_demand import check_on_demand, on_demand_joins
from penstock.point_in_time.sinks import as_delta
from penstock.point_in_time.spine import DeltaRows, FrameRows, Spine, TableRows, check, column_types
from penstock.point_in_time.view_join import ViewJoin, view_joins
from penstock.registry.snapshot import contract_fingerprint
from penstock.training_set.finish import Condition, Finish, Summary, check_where, summed
from penstock.training_set.inputs import partition_digests
from penstock.training_set.labels import Label, check_labels, parse_label, unknown_labels
from penstock.training_set.manifest import (
    FORMAT,
    WITH_ON_DEMAND,
    Input,
    Manifest,
    OnDemandInput,
    manifests,
    package_versions,
    write_manifest,
)
from penstock.training_set.split import COLUMN, Stratified, check_split, parse_split, thresholds

_BESIDE = "__under_event"


@dataclass(frozen=True)
class Recipe:
    """What a training set is to be, besides its spine and its features.

    Args:
        mode: what counts as known.
        overrides: view's name in the service → another mode for it.
        split: see `training_set.split`; it adds a column `split`.
        seed: of the split.
        labels: `<column>:<column that says when its value was known>`; rows with a label not known by the cut-off are
            left out and counted.
        cutoff: by when labels had to be known; None: now.
        where: conditions as in pyarrow's `filters`, (column, operator, value); rows that do not meet all are left out.
        leakage: whether to look what mode `event` would have given; the tables are read once for both.
        spine_text: where the spine came from, for the manifest.
    """

    mode: Mode = "observed"
    overrides: Mapping[str, Mode] = field(default_factory=dict)
    split: str = ""
    seed: int = 0
    labels: Sequence[str] = ()
    cutoff: datetime | None = None
    where: Sequence[Condition] = ()
    leakage: bool = True
    spine_text: str = ""


def build(
    lake: Lake,
    service: FeatureService,
    spine: Spine,
    resources: Resources,
    *,
    name: str,
    clock: Clock,
    recipe: Recipe,
    registry: str = "",
) -> Manifest:
    """Join a spine with a service's features and keep the result.

    Args:
        lake: where.
        service: the features.
        spine: join keys, `event_time`, any labels.
        resources: what may be used.
        name: the training set's name; each build has an id of its own below it.
        clock: tells when it was built.
        recipe: what it is to be.
        registry: fingerprint of the definitions.

    Returns:
        The manifest, also written as `training/<name>/<id>/manifest.json`.

    Raises:
        SpineError: the spine lacks a key, a request field or a label, or has no rows; mode, split or a condition is none; a view was
            never computed; or no row is left.
        CommitError: what was written has not the rows of the spine.
    """
    require_name(name, "training set")
    now = clock.now()
    cutoff = now if recipe.cutoff is None else require_utc(recipe.cutoff, "cutoff")
    logs = log_versions(lake)
    joins = view_joins(lake, service.selection, recipe.mode, recipe.overrides, logs=logs)
    on_demand = on_demand_joins(service.on_demand, joins)
    check(spine, joins)
    check_on_demand(column_types(spine.schema), joins, on_demand)
    with _readable(lake, spine, resources) as rows:
        joined = join(lake, rows, [*joins, *_under_event(joins, recipe)], resources, on_demand=on_demand)
        finish = _finish(joined, joins, recipe, cutoff)
        whole = Content()
        for part in rows.batches():
            whole += content_of(part)
        if isinstance(finish.split, Stratified):
            known = (_with_labels(part, finish.labels, cutoff) for part in rows.batches())
            strata = thresholds(known, finish.split, finish.spine_columns, finish.seed)
            finish = replace(finish, strata=strata)
        made = _manifest(lake, service, joined, joins, name, now, cutoff, recipe, registry, logs, whole)
        done = manifests(lake, f"{name}/{made.id}")
        if done:
            return done[0]  # the same of the same at the same time
        content, kept, summary = _written(lake, joined, made, finish)
    if not summary.rows:
        lake.remove_folder(made.table)
        raise SpineError(f"no row of the spine is left: {summary.excluded}", hint="look at the filters, the labels and the cut-off")
    made = _completed(made, joins, content, kept, summary)
    write_manifest(lake, made, summary.statistics)
    return made


def _with_labels(rows: pa.Table, labels: tuple[Label, ...], cutoff: datetime) -> pa.Table:
    unknown = unknown_labels(rows, labels, cutoff)
    return rows.filter(pa.array(~np.logical_or.reduce(list(unknown.values())))) if unknown else rows


@contextmanager
def _readable(lake: Lake, spine: Spine, resources: Resources) -> Iterator[TableRows | DeltaRows]:
    """The spine as rows that can be read again and again: what Spark computes is kept until the set is built."""
    if not isinstance(spine, FrameRows):
        yield spine
        return
    resources.spark()
    folder = f"staging/{uuid4()}"
    try:
        as_delta(lake.location(folder), spine.schema, lambda where: write_frame(spine.rows, spine.schema, where), {})
        yield DeltaRows(lake.location(folder), 0)
    finally:
        lake.remove_folder(folder)


def _under_event(joins: Sequence[ViewJoin], recipe: Recipe) -> list[ViewJoin]:
    """The same views under mode `event`, to be compared."""
    if not recipe.leakage:
        return []
    return [replace(one, mode="event", name=f"{one.name}{_BESIDE}", full_names=True) for one in joins if one.mode != "event"]


def _schema(joined: Joined) -> pa.Schema:
    """The columns that are kept."""
    beside = {column for one in joined.plan.joins if one.name.endswith(_BESIDE) for column in one.columns}
    return pa.schema([field for field in joined.schema if field.name not in beside])


def _finish(joined: Joined, joins: Sequence[ViewJoin], recipe: Recipe, cutoff: datetime) -> Finish:
    schema, labels = _schema(joined), tuple(parse_label(text) for text in recipe.labels)
    check_labels(joined.spine.schema, labels)
    check_where(schema, recipe.where)
    split = parse_split(recipe.split) if recipe.split else None
    if split is not None:
        check_split(joined.spine.schema, split)
    under_event = {one.name.removesuffix(_BESIDE): one for one in joined.plan.joins[len(joins) :]}
    return Finish(
        spine_columns=tuple(joined.spine.schema.names),
        features=(*(column for one in joins for column in one.columns), *(name for one in joined.on_demand for name in one.names)),
        labels=labels,
        cutoff=cutoff,
        where=tuple(recipe.where),
        split=split,
        seed=recipe.seed,
        strata={},
        live_since={one.name: one.history.live_since for one in joins if one.mode == "observed" and one.history.live_since is not None},
        beside={
            column: other
            for one in joins
            if one.name in under_event
            for column, other in zip(one.columns, under_event[one.name].columns, strict=True)
        },
    )


def _manifest(
    lake: Lake,
    service: FeatureService,
    joined: Joined,
    joins: Sequence[ViewJoin],
    name: str,
    now: datetime,
    cutoff: datetime,
    recipe: Recipe,
    registry: str,
    logs: LogVersions,
    spine: Content,
) -> Manifest:
    """All that is known before the join is computed; what is not is empty."""
    contract = contract_fingerprint(service)
    inputs = [_input(lake, one, pruned.files) for one, pruned in zip(joins, joined.plan.pruned, strict=False)]
    labels = {label.column: label.known_at for label in map(parse_label, recipe.labels)}
    made = Manifest(
        format=WITH_ON_DEMAND if service.on_demand else FORMAT,
        name=name,
        id="",
        created_at=now,
        mode=recipe.mode,
        service=service.name,
        contract=contract,
        registry=registry,
        split=recipe.split,
        seed=recipe.seed,
        labels=labels,
        cutoff=cutoff if labels else None,
        where=list(recipe.where),
        spine=recipe.spine_text,
        spine_content=spine.text,
        spine_rows=spine.rows,
        spine_columns=joined.spine.schema.names,
        excluded={},
        kept_content="",
        leakage={},
        rows=0,
        table="",
        columns=[(one.name, str(one.type)) for one in _schema(joined)] + ([(COLUMN, "string")] if recipe.split else []),
        content="",
        inputs=inputs,
        logs=logs,
        packages=package_versions(),
        on_demand=[
            OnDemandInput(
                view=view.name,
                version=view.version,
                features=[feature.name for feature in view.features],
                request=list(view.request),
                function=view.function.name,
                code=view.function.fingerprint,
            )
            for view in service.on_demand
        ],
    )
    fingerprint = digest(repr(made))
    identity = f"{now.astimezone(UTC):%Y%m%dT%H%M%S}-{recipe.mode}-{fingerprint[:8]}"
    return msgspec.structs.replace(made, id=identity, table=f"training/{name}/{identity}")


def _input(lake: Lake, join: ViewJoin, files: Sequence[FeatureFile]) -> Input:
    return Input(
        name=join.name,
        view=join.view.name,
        version=join.view.version,
        features=list(join.features),
        on=dict(join.on),
        mode=join.mode,
        table=feature_table(join.view),
        delta_version=join.version,
        code=transformation_fingerprint(join.view),
        attempts=len(join.history.attempts),
        publications=len(join.history.ledger),
        live_since=join.history.live_since,
        rows_by_rule={},
        partitions=partition_digests(lake, feature_table(join.view), files),
    )


def _written(lake: Lake, joined: Joined, made: Manifest, finish: Finish) -> tuple[Content, Content, Summary]:
    lake.remove_folder(made.table)  # of a build that was ended before it had a manifest
    schema = _schema(joined).append(pa.field(COLUMN, pa.string())) if made.split else _schema(joined)
    written = as_delta(lake.location(made.table), schema, lambda folder: joined.write_files(folder, finish), RETENTION)
    content, kept, summary = summed([one.told for one in written])
    if summary.seen != made.spine_rows or sum(one.rows for one in written) != summary.rows:
        lake.remove_folder(made.table)
        raise CommitError(
            f"{made.table}: {summary.seen} rows were joined for a spine of {made.spine_rows}; nothing is kept",
            hint="the spine changed while it was joined: write it to a table first, and give that",
        )
    return content, kept, summary


def _completed(made: Manifest, joins: Sequence[ViewJoin], content: Content, kept: Content, summary: Summary) -> Manifest:
    inputs = []
    for one, of_view in zip(made.inputs, joins, strict=True):
        by_rule: dict[str, int] = {one.mode: summary.rows}
        if of_view.mode == "observed":
            live = summary.live.get(one.name, 0)
            by_rule = {"ledger": live, "assumed": summary.rows - live}
        inputs.append(msgspec.structs.replace(one, rows_by_rule=by_rule))
    return msgspec.structs.replace(
        made,
        excluded=summary.excluded,
        rows=summary.rows,
        content=content.text,
        kept_content=kept.text,
        leakage={name: n / summary.rows for name, n in summary.leaks.items()},
        inputs=inputs,
    )
