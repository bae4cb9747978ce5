"""A training set: a spine joined point-in-time under one mode, as a Delta table with a manifest."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from penstock.as_of import Mode
from penstock.clock import Clock
from penstock.contract.fingerprint import digest
from penstock.contract.rules import require_name
from penstock.contract.service import FeatureService
from penstock.errors import CommitError
from penstock.offline.commit import EXACT_JSON
from penstock.offline.lake import RETENTION, Lake, feature_table
from penstock.point_in_time.joined import Resources, frame_of, join
from penstock.point_in_time.spine import FrameRows, Spine
from penstock.point_in_time.view_join import ViewJoin, view_joins
from penstock.registry.snapshot import contract_fingerprint
from penstock.training_set.split import parse_split, with_split

MANIFEST_FORMAT = 1
_MANIFEST = "manifest.json"


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """One view as a training set read it.

    Args:
        name: what its columns begin with.
        view, version: which.
        mode: what counted as known.
        table, delta_version: what was read.
        attempts, publications: how many entries of the logs were known.
        live_since: when the view went live, or None.
        rows_by_rule: under `observed`, how many spine rows were judged by the ledger and how many, before
            `live_since`, as in `assumed`; under another mode all by that.
    """

    name: str
    view: str
    version: int
    mode: Mode
    table: str
    delta_version: int
    attempts: int
    publications: int
    live_since: datetime | None
    rows_by_rule: dict[str, int]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a training set was made of.

    Args:
        rows, spine_rows: equal, always.
        split: how its rows are split, see `training_set.split`; empty: they are not.
        content: order-independent hash of all values.
    """

    format: int
    name: str
    id: str
    created_at: datetime
    mode: Mode
    service: str
    contract: str
    split: str
    spine: str
    spine_content: str
    spine_rows: int
    spine_columns: list[str]
    rows: int
    table: str
    columns: list[tuple[str, str]]
    content: str
    inputs: list[Input]


def build(
    lake: Lake,
    service: FeatureService,
    spine: Spine,
    resources: Resources,
    *,
    name: str,
    mode: Mode,
    overrides: Mapping[str, Mode] | None = None,
    clock: Clock,
    split: str = "",
    spine_text: str = "",
) -> Manifest:
    """Join a spine with a service's features and keep the result.

    Args:
        lake: where.
        service: the features.
        spine: join keys, `event_time`, any labels.
        resources: what may be used.
        name: the training set's name; each build has an id of its own below it.
        mode: what counts as known.
        overrides: view's name in the service → another mode for it.
        clock: tells when it was built.
        split: see `training_set.split`; it adds a column `split`.
        spine_text: where the spine came from, for the manifest.

    Returns:
        The manifest, also written as `training/<name>/<id>/manifest.json`.

    Raises:
        SpineError: the spine lacks a key, or has no rows; the mode or the split is none; or a view was never computed.
        CommitError: what was written has not the rows of the spine.
    """
    require_name(name, "training set")
    wanted_split = parse_split(split) if split else None
    joins = view_joins(lake, service.selection, mode, overrides)
    spark = resources.spark()
    frame = frame_of(spark, spine).cache()
    try:
        joined = join(lake, FrameRows(frame), joins, resources)
        spine_rows, spine_content = content(frame)
        rows_joined = joined.to_spark()
        if wanted_split is not None:
            rows_joined = with_split(rows_joined, wanted_split)
        inputs = [_input(frame, one, spine_rows) for one in joins]
        now = clock.now()
        contract = contract_fingerprint(service)
        fingerprint = digest(
            [
                name,
                mode,
                contract,
                split,
                spine_content,
                [[i.name, i.mode, i.table, i.delta_version, i.attempts, i.publications] for i in inputs],
            ]
        )
        identity = f"{now.astimezone(UTC):%Y%m%dT%H%M%S}-{mode}-{fingerprint[:8]}"
        table = f"training/{name}/{identity}"
        writer = rows_joined.write.format("delta").mode("overwrite")
        for key, value in RETENTION.items():
            writer = writer.option(key, value)
        writer.save(lake.location(table))
    finally:
        frame.unpersist()
    rows, hashed = content(spark.read.format("delta").load(lake.location(table)))
    if rows != spine_rows:
        raise CommitError(
            f"{table}: {rows} rows were written for a spine of {spine_rows}; it has no manifest, so nobody takes it for a training set",
            hint="the spine changed while it was joined: write it to a table first, and give that",
        )
    manifest = Manifest(
        format=MANIFEST_FORMAT,
        name=name,
        id=identity,
        created_at=now,
        mode=mode,
        service=service.name,
        contract=contract,
        split=split,
        spine=spine_text,
        spine_content=spine_content,
        spine_rows=spine_rows,
        spine_columns=frame.columns,
        rows=rows,
        table=table,
        columns=[(column, dtype) for column, dtype in rows_joined.dtypes],
        content=hashed,
        inputs=inputs,
    )
    lake.write_text(f"{table}/{_MANIFEST}", json.dumps(msgspec.to_builtins(manifest), indent=2) + "\n")
    return manifest


def content(frame: DataFrame) -> tuple[int, str]:
    """Number of rows, and a hash of all values that does not depend on the order of rows."""
    row = F.sha2(F.to_json(F.struct(*[F.col(f"`{name}`") for name in sorted(frame.columns)]), EXACT_JSON), 256)
    # 60 bits of each row's digest add up exactly in a decimal; equal rows add up too, unlike under xor.
    parts = [F.sum(F.conv(F.substring(row, start, 15), 16, 10).cast("decimal(38,0)")) for start in (1, 16)]
    counted = frame.agg(F.count(F.lit(1)), *parts).collect()[0]
    return int(counted[0]), digest([int(counted[0]), str(counted[1]), str(counted[2])])[:32]


def _input(spine: DataFrame, join: ViewJoin, spine_rows: int) -> Input:
    history = join.history
    by_rule: dict[str, int] = {join.mode: spine_rows}
    if join.mode == "observed":
        live = 0
        if history.live_since is not None:
            live = spine.where(F.col("event_time") >= F.lit(history.live_since)).count()
        by_rule = {"ledger": live, "assumed": spine_rows - live}
    return Input(
        name=join.name,
        view=join.view.name,
        version=join.view.version,
        mode=join.mode,
        table=feature_table(join.view),
        delta_version=join.version,
        attempts=len(history.attempts),
        publications=len(history.ledger),
        live_since=history.live_since,
        rows_by_rule=by_rule,
    )


def manifests(lake: Lake, name: str) -> Sequence[dict[str, Any]]:
    """The manifests of all builds of a training set, oldest first."""
    return [json.loads(text) for text in lake.read_texts(f"training/{name}", _MANIFEST)]
