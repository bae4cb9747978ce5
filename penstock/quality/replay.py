"""Replay: what an answer's token names, computed again from the lake, and whether it is what was served.

The checksum of every stored value stands in the token. Here the rule of time gives the row that should have been online
at that time; encoded as a publication encodes it, its checksum must be the one served.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from penstock.clock import from_micros
from penstock.errors import InvalidEntity, RegistryError, ReplayError
from penstock.offline.lake import Lake
from penstock.offline.registry_log import find_snapshot, snapshots
from penstock.online.codec import decode_key
from penstock.quality.findings import SAME, Finding, Judge, Records, rows_of
from penstock.registry.snapshot import Snapshot
from penstock.serving.judgement import Outcome
from penstock.serving.replay_token import Token, TokenView, held_rows, read_token


@dataclass(frozen=True)
class Replayed:
    """One view of one row.

    Args:
        row: its place in the answer.
        name, view: the view's name in the service, and which version it is.
        key: join key → value; None: nobody's.
        outcome: what came of reading it.
        finding: what the lake says of it.
        served: event time and attempt of what was served; None: nothing was found.
        expected: event time and attempt of what the rule gives; None: nothing.
        values: what the rule gives, feature → value; None where there is none, or it is past its ttl.
    """

    row: int
    name: str
    view: str
    key: Mapping[str, Any] | None
    outcome: Outcome
    finding: Finding
    served: tuple[datetime, int] | None
    expected: tuple[datetime, int] | None
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Replay:
    """What the lake says of an answer.

    Args:
        service, snapshot: of the answer.
        now: the time its values were judged at.
        parts: per row and view.
        on_demand: the service's on-demand views, of which nothing is computed again: a token names what was read, and not what
            the caller gave. What they took from the views is in `parts`, and what was given in the feature log.
    """

    service: str
    snapshot: str
    now: datetime
    parts: tuple[Replayed, ...]
    on_demand: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether what was served is what the lake gives."""
        return all(part.finding in SAME for part in self.parts)

    def rows(self) -> list[dict[str, Any]]:
        """Per row of the answer, the values the lake gives: `<view>__<feature>` → value."""
        rows: dict[int, dict[str, Any]] = {}
        for part in self.parts:
            rows.setdefault(part.row, {}).update({f"{part.name}__{feature}": value for feature, value in part.values.items()})
        return [rows[n] for n in sorted(rows)]


def replay(lake: Lake, text: str) -> Replay:
    """The values an answer's token names, computed again.

    Args:
        lake: where its rows and the definitions of then are.
        text: the token.

    Raises:
        ReplayError: no token, or of definitions or a view that the lake does not know.
    """
    token = read_token(text)
    try:
        snapshot = find_snapshot(snapshots(lake), token.snapshot)
    except RegistryError as error:
        raise ReplayError(
            f"the token was made under snapshot '{token.snapshot}': {error.message}", hint="replay it in the project it was served by"
        ) from None
    parts = [part for view in token.views for part in _replay_view(lake, snapshot, token, view)]
    on_demand = (f"{name}@{version}" for one in snapshot.services if one.name == token.service for name, version in one.on_demand)
    in_order = sorted(parts, key=lambda part: part.row)
    return Replay(token.service, token.snapshot, from_micros(token.now_us), tuple(in_order), tuple(on_demand))


def _replay_view(lake: Lake, snapshot: Snapshot, token: Token, view: TokenView) -> list[Replayed]:
    try:
        entry = snapshot.view(view.view, view.version)
        join_keys = snapshot.entity(token.reads[view.read].entity).join_keys
        keys = [None if key is None else decode_key(join_keys, key) for key in token.reads[view.read].keys.rows()]
    except (StopIteration, InvalidEntity):
        raise ReplayError(
            f"the token names {view.view}@{view.version} of entity '{token.reads[view.read].entity}', its snapshot has no such view"
        ) from None
    asked = {key for key in keys if key is not None}
    rows = rows_of(lake, entry, join_keys, asked)
    judge = Judge(Records.of(lake, entry, view.generation), from_micros(token.now_us), entry.ttl_us)
    found = []
    for n, (key, letter, held) in enumerate(zip(keys, view.outcomes, held_rows(view), strict=True)):
        outcome = Outcome(letter)
        expected = judge.expected(rows.get(key, ())) if key is not None else None
        usable = expected if expected is not None and judge.within_ttl(expected) else None
        found.append(
            Replayed(
                row=n,
                name=view.name,
                view=entry.ref,
                key=None if key is None else {name: value for (name, _), value in zip(join_keys, key, strict=True)},
                outcome=outcome,
                finding=judge.finding(rows.get(key, ()) if key is not None else (), outcome, held, expected),
                served=None if held is None else (from_micros(held[0]), held[1]),
                expected=None if expected is None else (expected.event_time, expected.attempt),
                values={
                    feature.name: None if usable is None else value
                    for feature, value in zip(entry.features, usable.values if usable else [None] * len(entry.features), strict=True)
                },
            )
        )
    return found
