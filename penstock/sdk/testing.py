"""A client without a gateway, for the tests of code that asks for features."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

import msgspec

from penstock.clock import EPOCH
from penstock.errors import RequestError, UnknownFeature, UnknownService
from penstock.sdk.result import FeatureResult, ViewRead
from penstock.sdk.wire import Entity, request_body


class FakeFeatureClient:
    """Answers with what it was given, in the place of a `FeatureClient`; its answers have the same form.

        client = FakeFeatureClient()
        client.put("arrival_delay", {"carrier": "UA", "origin": "EWR"}, {"carrier_origin_delays__arrivals_3h": 23})
        client.features("arrival_delay", [{"carrier": "UA", "origin": "EWR"}]).to_dicts()

    An entity that was not put is `NOT_FOUND`, as it is for a gateway. `fail(Unavailable("down"))` makes every request raise,
    `fail(None)` ends that. `asked` holds what was asked for, in order.

    Args:
        now: what answers are said to be of.
    """

    def __init__(self, now: datetime = EPOCH) -> None:
        self.asked: list[tuple[str, list[Entity]]] = []
        self._now = now
        self._rows: dict[str, dict[bytes, tuple[Mapping[str, Any], str, timedelta]]] = {}
        self._features: dict[str, dict[str, None]] = {}
        self._error: RequestError | None = None

    def put(
        self, service: str, entity: Entity, values: Mapping[str, Any], *, status: str = "PRESENT", age: timedelta = timedelta(0)
    ) -> Self:
        """What one entity has: `<view>__<feature>` → value; None has the status NULL.

        Args:
            status: of its values, e.g. `STALE`.
            age: of its values.
        """
        self._rows.setdefault(service, {})[_key(entity)] = (dict(values), status, age)
        self._features.setdefault(service, {}).update(dict.fromkeys(values))
        return self

    def fail(self, error: RequestError | None) -> None:
        """Raise this instead of answering; None: answer again."""
        self._error = error

    def features(
        self, service: str, entities: Sequence[Entity], *, features: Sequence[str] | None = None, contract: str | None = None
    ) -> FeatureResult:
        """See `FeatureClient.features`.

        Raises:
            UnknownService, UnknownFeature: nothing was put of it.
            InvalidEntity: a join key of a type that none can have.
        """
        request_body(service, entities, features, contract)  # refuses what a client refuses
        self.asked.append((service, list(entities)))
        if self._error is not None:
            raise self._error
        if service not in self._rows:
            raise UnknownService(f"no feature service '{service}' was put", hint=f"there are: {', '.join(sorted(self._rows)) or 'none'}")
        names = tuple(self._features[service] if features is None else features)
        unknown = [name for name in names if name not in self._features[service]]
        if unknown:
            raise UnknownFeature(f"feature service '{service}' was put no feature {', '.join(unknown)}")
        rows = [self._rows[service].get(_key(entity)) for entity in entities]
        return FeatureResult(
            service=service,
            contract=contract or "",
            snapshot="",
            token="",
            now=self._now,
            features=names,
            dtypes=tuple(_dtype([row[0].get(name) for row in rows if row is not None]) for name in names),
            columns=tuple(tuple(None if row is None else row[0].get(name) for row in rows) for name in names),
            statuses=tuple(tuple(_status(row, name) for row in rows) for name in names),
            views=tuple(
                ViewRead(view, 1, 1, self._now, None, tuple(places), tuple(None if row is None else self._now - row[2] for row in rows))
                for view, places in _views(names).items()
            ),
        )

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class AsyncFakeFeatureClient:
    """The same in the place of an `AsyncFeatureClient`; what it answers is put into `fake`."""

    def __init__(self, now: datetime = EPOCH) -> None:
        self.fake = FakeFeatureClient(now)

    async def features(
        self, service: str, entities: Sequence[Entity], *, features: Sequence[str] | None = None, contract: str | None = None
    ) -> FeatureResult:
        """See `FakeFeatureClient.features`."""
        return self.fake.features(service, entities, features=features, contract=contract)

    async def aclose(self) -> None:
        """Nothing to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


def _key(entity: Entity) -> bytes:
    return msgspec.msgpack.encode(dict(entity), order="sorted")


def _status(row: tuple[Mapping[str, Any], str, timedelta] | None, name: str) -> str:
    if row is None or name not in row[0]:
        return "NOT_FOUND"
    return "NULL" if row[0][name] is None and row[1] == "PRESENT" else row[1]


def _views(names: Sequence[str]) -> dict[str, list[int]]:
    views: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        views.setdefault(name.partition("__")[0], []).append(place)
    return views


def _dtype(values: Sequence[Any]) -> str:
    """The dtype of Python values; of none, a number."""
    names: dict[type, str] = {bool: "bool", int: "int64", float: "float64", str: "string", datetime: "timestamp", list: "list[float64]"}
    return next((names[type(value)] for value in values if type(value) in names), "float64")
