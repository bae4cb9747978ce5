"""Clients of the gateway, one to wait with and one to await."""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

import httpx

from penstock.errors import ConfigError, Unavailable
from penstock.sdk.result import FeatureResult
from penstock.sdk.wire import FEATURES_PATH, MSGPACK, Entity, parse_response, request_body


class Secret(Protocol):
    """A reference to a secret, e.g. one of the settings'; read when it is used."""

    def reveal(self) -> str: ...


class FeatureClient:
    """Reads features from a gateway. Thread-safe; keeps its connections, so make one and keep it.

        with FeatureClient("http://127.0.0.1:8090", api_key=key) as client:
            result = client.features("arrival_delay", [{"carrier": "UA", "origin": "EWR"}])
            result.to_dicts()[0]["carrier_origin_delays__arr_delay_min_mean_3h"]

    Args:
        url: of the gateway.
        api_key: the key, or a reference to it; None: a gateway that needs none.
        contract: the contract fingerprint your model was built for: any other is an error.
        timeout_s: seconds to wait for an answer, connecting included.
    """

    def __init__(self, url: str, *, api_key: str | Secret | None = None, contract: str | None = None, timeout_s: float = 1.0) -> None:
        self._contract = contract
        self._http = httpx.Client(base_url=_checked(url), headers=_headers(api_key), timeout=timeout_s)

    def features(
        self, service: str, entities: Sequence[Entity], *, features: Sequence[str] | None = None, contract: str | None = None
    ) -> FeatureResult:
        """The features of each entity, in order.

        Args:
            service: the feature service.
            entities: join key → value; a datetime needs a time zone.
            features: which, as `<view>__<feature>`; default: all of the service.
            contract: pins the contract for this request; default: the client's.

        Raises:
            RequestError: of the class that says why, see `penstock.errors`; `Unavailable` if the
                gateway cannot be reached, does not answer in time, or has nothing it may answer with.
        """
        body = request_body(service, entities, features, contract if contract is not None else self._contract)
        try:
            response = self._http.post(FEATURES_PATH, content=body)
        except httpx.TransportError as error:
            raise _unreachable(self._http.base_url, error) from error
        return parse_response(response.status_code, response.content, service=service, rows=len(entities))

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class AsyncFeatureClient:
    """As `FeatureClient`, to be awaited; used in the event loop it is first used in."""

    def __init__(self, url: str, *, api_key: str | Secret | None = None, contract: str | None = None, timeout_s: float = 1.0) -> None:
        self._contract = contract
        self._http = httpx.AsyncClient(base_url=_checked(url), headers=_headers(api_key), timeout=timeout_s)

    async def features(
        self, service: str, entities: Sequence[Entity], *, features: Sequence[str] | None = None, contract: str | None = None
    ) -> FeatureResult:
        """See `FeatureClient.features`."""
        body = request_body(service, entities, features, contract if contract is not None else self._contract)
        try:
            response = await self._http.post(FEATURES_PATH, content=body)
        except httpx.TransportError as error:
            raise _unreachable(self._http.base_url, error) from error
        return parse_response(response.status_code, response.content, service=service, rows=len(entities))

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"gateway url {url!r}: expected one that begins with http:// or https://")
    return url


def _headers(api_key: str | Secret | None) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept": MSGPACK}
    if api_key is not None:
        headers["authorization"] = f"Bearer {api_key if isinstance(api_key, str) else api_key.reveal()}"
    return headers


def _unreachable(url: httpx.URL, error: httpx.TransportError) -> Unavailable:
    what = "did not answer in time" if isinstance(error, httpx.TimeoutException) else f"cannot be reached: {error}"
    return Unavailable(f"the gateway at {url} {what}", hint="is it running? see its /readyz")
