"""What modules of `penstock sdk generate` are made of: a feature service whose features a type checker knows.

Every request pins the contract the module was made for. So a feature that was renamed, removed or given another type is
told by mypy or pyright once the module is made again, and by `ContractMismatch` until then.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar, overload

from penstock.errors import ContractMismatch
from penstock.sdk.result import FeatureResult, FeatureValue
from penstock.sdk.service import Service
from penstock.sdk.wire import Entity

Keys = TypeVar("Keys", bound=Mapping[str, object])
Row = TypeVar("Row", bound="TypedRow[Any]")
Name = TypeVar("Name", bound=str)


class Client(Protocol):
    """A client to wait with: `FeatureClient`, or the fake of `testing`."""

    def features(
        self, service: str, entities: Sequence[Entity], *, features: Sequence[str] | None = None, contract: str | None = None
    ) -> FeatureResult: ...


class AsyncClient(Protocol):
    """A client to be awaited: `AsyncFeatureClient`, or the fake of `testing`."""

    async def features(
        self, service: str, entities: Sequence[Entity], *, features: Sequence[str] | None = None, contract: str | None = None
    ) -> FeatureResult: ...


class TypedRow(Generic[Name]):
    """The values of one entity: an attribute per feature, None where there is none to use."""

    _answer: FeatureResult | None = None
    _position: int = 0

    @classmethod
    def _of(cls, service: Service, answer: FeatureResult, position: int) -> Any:
        values = dict(zip(answer.features, (column[position] for column in answer.columns), strict=True))
        # Fields stand in the order of the features, of which some may have names that no attribute can have.
        fields = cls.__dataclass_fields__  # type: ignore[attr-defined]
        row = cls(**{field: values.get(name) for field, name in zip(fields, service.features, strict=True)})
        object.__setattr__(row, "_answer", answer)
        object.__setattr__(row, "_position", position)
        return row

    @property
    def answer(self) -> FeatureResult:
        """The whole answer it is a row of: its token, the time, whether the gateway gave it.

        Raises:
            LookupError: the row was made by hand.
        """
        if self._answer is None:
            raise LookupError("a row that was made by hand is of no answer")
        return self._answer

    def detail(self, feature: Name) -> FeatureValue:
        """A value with its status, event time and age.

        Raises:
            LookupError: the row was made by hand, or the answer is a baseline's that did not give this feature.
        """
        return self.answer.value(self._position, feature)


class TypedRows(Sequence[Row]):
    """The rows of an answer, one per entity, in the order asked; `answer` is the whole of it, as a matrix or a frame."""

    def __init__(self, rows: Sequence[Row], answer: FeatureResult) -> None:
        self._rows, self.answer = tuple(rows), answer

    @overload
    def __getitem__(self, position: int) -> Row: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Row]: ...
    def __getitem__(self, position: int | slice) -> Row | Sequence[Row]:
        return self._rows[position]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return f"<{len(self)} row(s) of service '{self.answer.service}'>"


class _Typed(Generic[Keys, Row]):
    service: ClassVar[Service]
    row: ClassVar[type[TypedRow[Any]]]

    def _typed(self, answer: FeatureResult, rows: int) -> TypedRows[Row]:
        unknown = [name for name in answer.features if name not in self.service.features]
        if unknown:  # of a baseline or a fake: the gateway has been told the contract
            raise ContractMismatch(
                f"service '{self.service.name}': {', '.join(map(repr, unknown))} is no feature of contract '{self.service.contract}'",
                hint=f"it has {', '.join(self.service.features)}",
            )
        return TypedRows([self.row._of(self.service, answer, n) for n in range(rows)], answer)


class TypedService(_Typed[Keys, Row]):
    """A feature service, asked through a client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get_many(self, entities: Sequence[Keys]) -> TypedRows[Row]:
        """The features of each entity, in order; raises what `FeatureClient.features` raises."""
        answer = self._client.features(self.service.name, entities, contract=self.service.contract)
        return self._typed(answer, len(entities))


class AsyncTypedService(_Typed[Keys, Row]):
    """A feature service, asked through a client that is awaited."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def get_many(self, entities: Sequence[Keys]) -> TypedRows[Row]:
        """The features of each entity, in order; raises what `FeatureClient.features` raises."""
        answer = await self._client.features(self.service.name, entities, contract=self.service.contract)
        return self._typed(answer, len(entities))
