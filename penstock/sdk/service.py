"""A feature service as a model knows it, and what may be asked and given under it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.dtypes import accepts
from penstock.errors import ContractMismatch, InvalidEntity, UnknownFeature
from penstock.sdk.description import ServiceDescription
from penstock.sdk.wire import Entity

_AS_TEXT = ("timestamp", "date", "binary")  # JSON has no other form for them, so a request may


@dataclass(frozen=True)
class Service:
    """A feature service as it was when a module was made or a gateway described it.

    Args:
        contract: its fingerprint.
        fields: what an entity names, join keys and what is given at the request: name → dtype.
        features: name → dtype, in order.
    """

    name: str
    contract: str
    fields: Mapping[str, str]
    features: Mapping[str, str]

    @classmethod
    def of(cls, description: ServiceDescription) -> "Service":
        """The service that a gateway describes."""
        features = {feature.name: feature.dtype for feature in description.features}
        return cls(description.name, description.contract, description.fields, features)


def require_contract(service: Service, pinned: str | None) -> None:
    """Refuse another contract than the service's.

    Raises:
        ContractMismatch: the one that is pinned is another.
    """
    if pinned is not None and pinned != service.contract:
        raise ContractMismatch(
            f"feature service '{service.name}' is of contract '{service.contract}', the request pins '{pinned}'",
            hint="make the module again: penstock sdk generate",
        )


def require_entities(service: Service, entities: Sequence[Entity]) -> None:
    """Refuse entities that do not name what the service asks for, each with a value of its type or null.

    Raises:
        InvalidEntity: names the entity and the field.
    """
    for position, entity in enumerate(entities):
        there = ", ".join(f"'{name}' ({dtype})" for name, dtype in service.fields.items())
        for name in entity:
            if name not in service.fields:
                raise InvalidEntity(f"entity {position}: '{name}' is no join key of this service; it has {there}")
        for name, dtype in service.fields.items():
            if name not in entity:
                raise InvalidEntity(f"entity {position}: missing join key '{name}' ({dtype}); the service has {there}")
            value = entity[name]
            if value is None or (type(value) is str and dtype in _AS_TEXT):
                continue
            if not _fits(dtype, value):
                raise InvalidEntity(f"entity {position}: join key '{name}' is {dtype}, got {value!r}")


def require_values(service: Service, values: Mapping[str, Any]) -> None:
    """Refuse values that no feature of the service can have.

    Raises:
        UnknownFeature: it has no such feature.
        ContractMismatch: the feature is of another type.
    """
    for name, value in values.items():
        if name not in service.features:
            raise UnknownFeature(f"feature service '{service.name}' has no feature '{name}'; it has {', '.join(service.features)}")
        if value is not None and not _fits(service.features[name], value):
            raise ContractMismatch(f"feature '{name}' of service '{service.name}' is {service.features[name]}, got {value!r}")


def _fits(dtype: str, value: object) -> bool:
    try:
        return accepts(dtype, value)
    except KeyError:
        return True  # a dtype of a newer gateway
