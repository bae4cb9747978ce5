"""What a gateway tells of its feature services. Fields that this client does not know it skips."""

from typing import Any, TypeVar

import msgspec

from penstock.sdk.wire import not_a_gateways, raise_failure

SERVICES_PATH = "/v1/services"

_T = TypeVar("_T")


class DescribedFeature(msgspec.Struct, frozen=True, kw_only=True):
    """A feature of a service.

    Args:
        name: `<view>__<feature>`.
        dtype: e.g. `float64`, `list[string]`.
        default: what is given when the store fails; None: nothing.
        ttl_s: the largest age, in seconds, at which it is given; None: any.
    """

    name: str
    dtype: str
    unit: str = ""
    default: Any = None
    ttl_s: float | None = None
    description: str = ""


class ServiceDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of a feature service, and what it gives.

    Args:
        contract: the fingerprint of what it promises.
        join_keys: what an entity names, and of which dtype.
        request: what it names besides, for features that are computed at the request.
    """

    name: str
    contract: str
    join_keys: dict[str, str]
    features: list[DescribedFeature]
    request: dict[str, str] = {}
    owner: str = ""
    description: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """Everything an entity names."""
        return {**self.join_keys, **self.request}


class _Name(msgspec.Struct):
    name: str


class _Names(msgspec.Struct):
    services: list[_Name]


def parse_description(status: int, body: bytes) -> ServiceDescription:
    """The description in a response.

    Raises:
        RequestError: as `parse_response`.
    """
    return _parse(status, body, ServiceDescription)


def parse_names(status: int, body: bytes) -> list[str]:
    """The names in a response that lists services.

    Raises:
        RequestError: as `parse_response`.
    """
    return [service.name for service in _parse(status, body, _Names).services]


def _parse(status: int, body: bytes, kind: type[_T]) -> _T:
    if status != 200:
        raise_failure(status, body)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, ValueError) as error:
        raise not_a_gateways(error) from None
