"""What generated clients stand on: one service, keys and rows with types, the contract pinned (`penstock sdk generate`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, TypeVar

from penstock.sdk.client import AsyncFeatureClient, FeatureClient
from penstock.sdk.result import FeatureResult

Key = TypeVar("Key")
Row = TypeVar("Row")


@dataclass(frozen=True)
class TypedResult(Generic[Row]):
    """The answer to one request.

    Args:
        rows: per key, in order, its features; None is what training has as null.
        result: the same with statuses, ages and token.
    """

    rows: tuple[Row, ...]
    result: FeatureResult


class Typed(Generic[Key, Row]):
    """A feature service, the contract it is read under, and the classes of its keys and rows."""

    SERVICE: ClassVar[str]
    CONTRACT: ClassVar[str]
    ROW: ClassVar[type[Any]]
    NAMES: ClassVar[Mapping[str, str]] = {}
    """Attribute → name in the service, where the two differ."""

    def _entities(self, keys: Sequence[Key]) -> list[dict[str, object]]:
        return [{self.NAMES.get(f.name, f.name): getattr(key, f.name) for f in fields(key)} for key in keys]  # type: ignore[arg-type]

    def _typed(self, result: FeatureResult) -> TypedResult[Row]:
        attributes = {self.NAMES.get(f.name, f.name): f.name for f in fields(self.ROW)}
        # A caller's baseline may leave features out; they are null, as in the plain client.
        found = [{attributes[name]: value for name, value in row.items() if name in attributes} for row in result.to_dicts()]
        return TypedResult(tuple(self.ROW(**{**dict.fromkeys(attributes.values()), **row}) for row in found), result)


class TypedService(Typed[Key, Row]):
    """Reads the service through a client, whose address, key, timeouts and fallbacks hold."""

    def __init__(self, client: FeatureClient) -> None:
        self._client = client

    def features(self, keys: Sequence[Key]) -> TypedResult[Row]:
        """The features of each key, in order.

        Raises:
            ContractMismatch: the service is served under another contract than this code was generated for.
            RequestError: as `FeatureClient.features`.
        """
        return self._typed(self._client.features(self.SERVICE, self._entities(keys), contract=self.CONTRACT))


class AsyncTypedService(Typed[Key, Row]):
    """As `TypedService`, to be awaited."""

    def __init__(self, client: AsyncFeatureClient) -> None:
        self._client = client

    async def features(self, keys: Sequence[Key]) -> TypedResult[Row]:
        """See `TypedService.features`."""
        return self._typed(await self._client.features(self.SERVICE, self._entities(keys), contract=self.CONTRACT))
