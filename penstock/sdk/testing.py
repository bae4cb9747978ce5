"""A client without a gateway, for the tests of code that asks for features."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

import msgspec

from penstock.clock import EPOCH
from penstock.errors import RequestError, UnknownFeature, UnknownService
from penstock.sdk.result import FeatureResult, ViewRead
from penstock.sdk.service import Service, require_contract, require_entities, require_values
from penstock.sdk.wire import Entity, request_body


class FakeFeatureClient:
    """Answers with what it was given, in the place of a `FeatureClient`; its answers have the same form.

        client = FakeFeatureClient()
        client.put("arrival_delay", {"carrier": "UA", "origin": "EWR"}, {"carrier_origin_delays__arrivals_3h": 23})
        client.features("arrival_delay", [{"carrier": "UA", "origin": "EWR"}]).to_dicts()

    An entity that was not put is `NOT_FOUND`, as it is for a gateway. `fail(Unavailable("down"))` makes every request raise,
    `fail(None)` ends that. `asked` holds what was asked for, in order. Of a service that was declared it also refuses what the
    gateway would: another contract, a join key or a feature that there is not, a value of another type.

    Args:
        now: what answers are said to be of.
    """

    def __init__(self, now: datetime = EPOCH) -> None:
        self.asked: list[tuple[str, list[Entity]]] = []
        self._now = now
        self._declared: dict[str, Service] = {}
        self._rows: dict[str, dict[bytes, tuple[Mapping[str, Any], str, timedelta]]] = {}
        self._features: dict[str, dict[str, None]] = {}
        self._error: RequestError | None = None

    def declare(self, service: Service) -> Self:
        """Hold requests and values to a service: `ArrivalDelay.service` of a generated module, `Service.of(client.describe(...))`."""
        self._declared[service.name] = service
        self._rows.setdefault(service.name, {})
        self._features[service.name] = dict.fromkeys(service.features)
        return self

    def put(
        self, service: str, entity: Entity, values: Mapping[str, Any], *, status: str = "PRESENT", age: timedelta = timedelta(0)
    ) -> Self:
        """What one entity has: `<view>__<feature>` → value; None has the status NULL.

        Args:
            status: of its values, e.g. `STALE`.
            age: of its values.

        Raises:
            InvalidEntity: a join key that a request could not have.
            UnknownFeature, ContractMismatch: the service was declared without this feature, or with another type.
        """
        request_body(service, [entity], None, None)
        if service in self._declared:
            require_entities(self._declared[service], [entity])
            require_values(self._declared[service], values)
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
            UnknownService, UnknownFeature: nothing was put or declared of it.
            InvalidEntity: a join key of a type that none can have, or other join keys than were declared.
            ContractMismatch: another contract than was declared.
        """
        request_body(service, entities, features, contract)  # refuses what a client refuses
        self.asked.append((service, list(entities)))
        if self._error is not None:
            raise self._error
        if service not in self._rows:
            raise UnknownService(f"no feature service '{service}' was put", hint=f"there are: {', '.join(sorted(self._rows)) or 'none'}")
        declared = self._declared.get(service)
        if declared is not None:
            require_contract(declared, contract)
        names = tuple(self._features[service] if features is None else features)
        unknown = [name for name in names if name not in self._features[service]]
        if unknown:
            raise UnknownFeature(f"feature service '{service}' was put no feature {', '.join(unknown)}")
        if declared is not None:
            require_entities(declared, entities)
        rows = [self._rows[service].get(_key(entity)) for entity in entities]
        columns = tuple(tuple(None if row is None else row[0].get(name) for row in rows) for name in names)
        return FeatureResult(
            service=service,
            contract=declared.contract if declared is not None else contract or "",
            snapshot="",
            token="",
            now=self._now,
            features=names,
            dtypes=tuple(
                declared.features[name] if declared is not None else _dtype(column) for name, column in zip(names, columns, strict=True)
            ),
            columns=columns,
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
