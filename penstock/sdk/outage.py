"""What a client does when the gateway cannot answer: ask again within a budget, then what it knew last, then the caller's baseline."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from time import monotonic
from typing import Any, TypeAlias

import msgspec

from penstock.clock import SystemClock
from penstock.errors import ConfigError, Unavailable
from penstock.sdk.result import FeatureResult
from penstock.sdk.wire import Entity

Baseline: TypeAlias = Callable[[str, Sequence[Entity]], Sequence[Mapping[str, Any]]]
"""Given a service and entities, values for each: `<view>__<feature>` → value; what it leaves out is null."""

_SERVED = ("PRESENT", "NULL", "STALE")
_DTYPES: dict[type, str] = {bool: "bool", int: "int64", float: "float64", str: "string", datetime: "timestamp", list: "list[float64]"}


class RetryBudget:
    """How many requests may be asked again: one in ten, and a few at the start.

    An outage makes every request fail; asked again without a limit they would keep the gateway down.
    """

    def __init__(self, share: float = 0.1, most: float = 10.0) -> None:
        self._share, self._most, self._left, self._lock = share, most, most, Lock()

    def earn(self) -> None:
        """A request was made."""
        with self._lock:
            self._left = min(self._most, self._left + self._share)

    def spend(self) -> bool:
        """Whether another request may be asked again."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


@dataclass(frozen=True)
class _Row:
    """One entity's part of an answer, and when it came."""

    answer: FeatureResult
    position: int
    came_at: float


class LastKnown:
    """The newest row a client got of each entity, up to a number of rows; thread-safe.

    Args:
        rows: how many; 0: none. The one that was used longest ago goes first.
        now: seconds that never go back.
    """

    def __init__(self, rows: int, now: Callable[[], float] = monotonic) -> None:
        if rows < 0:
            raise ConfigError(f"last_known={rows}: expected a number of rows, 0 for none")
        self._most, self._now, self._lock = rows, now, Lock()
        self._rows: OrderedDict[tuple[str, tuple[str, ...] | None, bytes], _Row] = OrderedDict()
        self._contracts: dict[str, str] = {}

    def keep(self, entities: Sequence[Entity], features: Sequence[str] | None, answer: FeatureResult) -> None:
        """Remember an answer."""
        if not self._most:
            return
        came_at = self._now()
        with self._lock:
            self._contracts[answer.service] = answer.contract
            for position, entity in enumerate(entities):
                address = _address(answer.service, features, entity)
                self._rows[address] = _Row(answer, position, came_at)
                self._rows.move_to_end(address)
            while len(self._rows) > self._most:
                self._rows.popitem(last=False)

    def find(self, service: str, entity: Entity, features: Sequence[str] | None) -> FeatureResult | None:
        """The row of one entity, a result of its own, of the contract seen last; a value that has passed its `ttl` since is null."""
        address = _address(service, features, entity)
        with self._lock:
            row = self._rows.get(address)
            if row is None or row.answer.contract != self._contracts[service]:
                return None
            self._rows.move_to_end(address)
        return _aged(row, timedelta(seconds=self._now() - row.came_at))


def answer_anyway(
    error: Unavailable,
    service: str,
    entities: Sequence[Entity],
    features: Sequence[str] | None,
    last_known: LastKnown,
    baseline: Baseline | None,
) -> FeatureResult:
    """An answer without the gateway: of each entity what was known last, else what the baseline gives.

    Raises:
        Unavailable: the one given, if some entity has neither.
        ConfigError: the baseline does not give one mapping per entity.
    """
    known = {n: row for n, entity in enumerate(entities) if (row := last_known.find(service, entity, features)) is not None}
    unknown = [n for n in range(len(entities)) if n not in known]
    if (unknown and baseline is None) or not entities:
        raise error
    parts = dict(known)
    if unknown:
        assert baseline is not None
        given = baseline(service, [entities[n] for n in unknown])
        if len(given) != len(unknown):
            raise ConfigError(
                f"baseline gave {len(given)} row(s) for {len(unknown)} entities of service '{service}'; expected one for each"
            )
        names = next(iter(known.values())).features if known else tuple(features or dict.fromkeys(name for row in given for name in row))
        like = next(iter(known.values()), None)
        parts |= {n: _of_baseline(service, names, row, like) for n, row in zip(unknown, given, strict=True)}
    return _together([parts[n] for n in range(len(entities))], "baseline" if unknown else "last_known")


def _address(service: str, features: Sequence[str] | None, entity: Entity) -> tuple[str, tuple[str, ...] | None, bytes]:
    return service, None if features is None else tuple(features), msgspec.msgpack.encode(dict(entity), order="sorted")


def _aged(row: _Row, since: timedelta) -> FeatureResult:
    answer, n = row.answer, row.position
    now = answer.now + since
    expired = {
        feature
        for view in answer.views
        if view.ttl is not None and (time := view.event_times[n]) is not None and now - time > view.ttl
        for feature in view.features
    }
    values = [None if feature in expired else column[n] for feature, column in enumerate(answer.columns)]
    statuses = [
        "NOT_FOUND" if feature in expired else "STALE" if words[n] in _SERVED else words[n] for feature, words in enumerate(answer.statuses)
    ]
    return replace(
        answer,
        now=now,
        token="",
        columns=tuple((value,) for value in values),
        statuses=tuple((status,) for status in statuses),
        views=tuple(replace(view, event_times=(view.event_times[n],)) for view in answer.views),
        degraded="last_known",
    )


def _of_baseline(service: str, names: Sequence[str], row: Mapping[str, Any], like: FeatureResult | None) -> FeatureResult:
    values = [row.get(name) for name in names]
    return FeatureResult(
        service=service,
        contract="" if like is None else like.contract,
        snapshot="" if like is None else like.snapshot,
        token="",
        now=SystemClock().now() if like is None else like.now,
        features=tuple(names),
        dtypes=tuple(_DTYPES.get(type(value), "float64") for value in values) if like is None else like.dtypes,
        columns=tuple((value,) for value in values),
        statuses=tuple(("DEFAULT",) for _ in values),
        views=() if like is None else tuple(replace(view, event_times=(None,)) for view in like.views),
        degraded="baseline",
    )


def _together(parts: Sequence[FeatureResult], degraded: str) -> FeatureResult:
    """Rows of results of one each, of the same features, as one result."""
    first = parts[0]
    return replace(
        first,
        now=max(part.now for part in parts),
        columns=tuple(tuple(part.columns[n][0] for part in parts) for n in range(len(first.features))),
        statuses=tuple(tuple(part.statuses[n][0] for part in parts) for n in range(len(first.features))),
        views=tuple(replace(view, event_times=tuple(part.views[n].event_times[0] for part in parts)) for n, view in enumerate(first.views)),
        degraded=degraded,
    )
