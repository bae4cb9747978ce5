"""What a change of definitions means: two snapshots compared, field by field, with what follows from each."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from penstock.registry.snapshot import ServiceEntry, Snapshot, ViewEntry


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between two snapshots.

    Args:
        what: e.g. `feature view route_delays@1`.
        kind: whether it came, went or is another.
        field: which of its fields, with a path for nested ones, e.g. `freshness.total_us`; empty: all of it.
        before, after: the field's values as in the snapshot.
        means: what follows, one sentence; empty: no value and no answer changes.
    """

    what: str
    kind: Literal["added", "removed", "changed"]
    field: str = ""
    before: Any = None
    after: Any = None
    means: str = ""


_COMPUTED = "its partitions are outdated: compute them again"
_JUDGED = "days computed from now on are held to it; those that are committed stay"
_REFUSED = "refused: the features of a version do not change; raise its version"
_OF_ROWS = {"nullable", "null_budget", "minimum", "maximum", "allowed"}
_MEANS = {
    "fingerprint": _COMPUTED,
    "schema_id": _REFUSED,
    "ttl_us": "values expire at another age, online and in training",
    "consistency": "reads hear another number of replicas: at local_one they may give an older value after a node failed",
    "skew.invalidate": "attempts that are served altered are taken back by themselves, or no longer",
    "skew.hold_back": "days that are largely otherwise are refused, or no longer",
    "row_count": _JUDGED,
    "warn_only": _JUDGED,
    "contract": "clients that pinned the old contract get ContractMismatch",
}
_MEANS_ON_DEMAND = {"fingerprint": "gateways serve it once they have this code; training sets made with the other are not made again"}


def diff(before: Snapshot, after: Snapshot) -> list[Change]:
    """What differs from one snapshot to another, by kind of thing and name."""
    found: list[Change] = []
    for kind, ones, others in (
        ("entity", {e.name: e for e in before.entities}, {e.name: e for e in after.entities}),
        ("source", {s.name: s for s in before.sources}, {s.name: s for s in after.sources}),
        ("feature view", _views(before), _views(after)),
        ("on-demand view", {v.ref: v for v in before.on_demand}, {v.ref: v for v in after.on_demand}),
        ("feature service", _services(before), _services(after)),
    ):
        found += _compared(kind, ones, others)
    return found


def _views(snapshot: Snapshot) -> dict[str, ViewEntry]:
    return {view.ref: view for view in snapshot.views}


def _services(snapshot: Snapshot) -> dict[str, ServiceEntry]:
    return {service.name: service for service in snapshot.services}


def _compared(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    means = _MEANS_ON_DEMAND if kind == "on-demand view" else _MEANS
    for name in sorted({*before, *after}):
        what = f"{kind} {name}"
        if name not in before:
            yield Change(what=what, kind="added")
        elif name not in after:
            yield Change(what=what, kind="removed")
        else:
            for field, one, other in _fields("", msgspec.to_builtins(before[name]), msgspec.to_builtins(after[name])):
                yield Change(what=what, kind="changed", field=field, before=one, after=other, means=_meaning(means, field))


def _meaning(means: Mapping[str, str], field: str) -> str:
    of, _, part = field.rpartition(".")
    return _JUDGED if of.startswith("features.") and part in _OF_ROWS else means.get(field, "")


def _fields(path: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if before == after:
        return
    ones, others = _parts(before), _parts(after)
    if ones is None or others is None:
        yield path, before, after
        return
    for name in [*ones, *(name for name in others if name not in ones)]:
        yield from _fields(f"{path}.{name}" if path else name, ones.get(name), others.get(name))


def _parts(value: Any) -> dict[str, Any] | None:
    """The named parts of a value: of an object, and of a list of objects or pairs that have names."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        return {item["name"]: item for item in value}
    if isinstance(value, list) and value and all(isinstance(item, list) and len(item) == 2 for item in value):
        return dict(value)
    return None
