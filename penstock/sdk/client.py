"""Clients of the gateway, one to wait with and one to await."""

import asyncio
from collections.abc import Sequence
from random import uniform
from time import monotonic, sleep
from types import TracebackType
from typing import Protocol, Self

import httpx

from penstock.errors import ConfigError, Unavailable
from penstock.sdk.outage import Baseline, LastKnown, RetryBudget, answer_anyway
from penstock.sdk.result import FeatureResult
from penstock.sdk.wire import FEATURES_PATH, MSGPACK, Entity, parse_response, request_body

_FOR_NOW = (429, 503)
_PAUSE_S = 0.05
_LEAST_S = 0.001
_FOR_THE_GATEWAY = 0.9  # of the time left: the rest is for the way there and back
_IS_IT_RUNNING = "is it running? see its /readyz"


class Secret(Protocol):
    """A reference to a secret, e.g. one of the settings'; read when it is used."""

    def reveal(self) -> str: ...


class FeatureClient:
    """Reads features from a gateway. Thread-safe; keeps its connections, so make one and keep it.

        with FeatureClient("http://127.0.0.1:8090", api_key=key) as client:
            result = client.features("arrival_delay", [{"carrier": "UA", "origin": "EWR"}])
            result.to_dicts()[0]["carrier_origin_delays__arr_delay_min_mean_3h"]

    A request that found no connection, or was told to come again in time, is sent again, as long as one in ten requests is
    enough for that. When there is still no answer, `last_known` and `baseline` are tried, and the result says so.

    Args:
        url: of the gateway.
        api_key: the key, or a reference to it; None: a gateway that needs none.
        contract: the contract fingerprint your model was built for: any other is an error.
        timeout_s: seconds to wait, for connecting, for sending and for each piece of the answer; asking again included.
        last_known: of how many entities to remember the newest values for when the gateway cannot answer; 0: none.
        baseline: gives values for entities of which nothing is known then, see `outage.Baseline`; None: `Unavailable` is raised.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | Secret | None = None,
        contract: str | None = None,
        timeout_s: float = 1.0,
        last_known: int = 0,
        baseline: Baseline | None = None,
    ) -> None:
        self._contract, self._timeout_s = contract, timeout_s
        self._budget, self._last_known, self._baseline = RetryBudget(), LastKnown(last_known), baseline
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
            response = self._post(body)
            answer = parse_response(response.status_code, response.content, service=service, rows=len(entities))
        except Unavailable as error:
            return answer_anyway(error, service, entities, features, self._last_known, self._baseline)
        self._last_known.keep(entities, features, answer)
        return answer

    def _post(self, body: bytes) -> httpx.Response:
        self._budget.earn()
        until = monotonic() + self._timeout_s
        while True:
            left_s = max(until - monotonic(), _LEAST_S)
            try:
                response = self._http.post(FEATURES_PATH, content=body, timeout=left_s, headers=_deadline(left_s))
                pause_s = _pause(response)
                if pause_s is None or monotonic() + pause_s >= until or not self._budget.spend():
                    return response
            except httpx.TransportError as error:
                pause_s = _pause_after(error)
                if pause_s is None or monotonic() + pause_s >= until or not self._budget.spend():
                    raise _unreachable(self._http.base_url, error) from error
            sleep(pause_s)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class AsyncFeatureClient:
    """As `FeatureClient`, to be awaited; used in the event loop it is first used in. `timeout_s` is for all of an answer."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | Secret | None = None,
        contract: str | None = None,
        timeout_s: float = 1.0,
        last_known: int = 0,
        baseline: Baseline | None = None,
    ) -> None:
        self._contract, self._timeout_s = contract, timeout_s
        self._budget, self._last_known, self._baseline = RetryBudget(), LastKnown(last_known), baseline
        self._http = httpx.AsyncClient(base_url=_checked(url), headers=_headers(api_key), timeout=timeout_s)

    async def features(
        self, service: str, entities: Sequence[Entity], *, features: Sequence[str] | None = None, contract: str | None = None
    ) -> FeatureResult:
        """See `FeatureClient.features`."""
        body = request_body(service, entities, features, contract if contract is not None else self._contract)
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._post(body)
            answer = parse_response(response.status_code, response.content, service=service, rows=len(entities))
        except TimeoutError:
            late = Unavailable(f"the gateway at {self._http.base_url} did not answer in time", hint=_IS_IT_RUNNING)
            return answer_anyway(late, service, entities, features, self._last_known, self._baseline)
        except Unavailable as error:
            return answer_anyway(error, service, entities, features, self._last_known, self._baseline)
        self._last_known.keep(entities, features, answer)
        return answer

    async def _post(self, body: bytes) -> httpx.Response:
        self._budget.earn()
        until = monotonic() + self._timeout_s
        while True:
            left_s = max(until - monotonic(), _LEAST_S)
            try:
                response = await self._http.post(FEATURES_PATH, content=body, headers=_deadline(left_s))
                pause_s = _pause(response)
                if pause_s is None or monotonic() + pause_s >= until or not self._budget.spend():
                    return response
            except httpx.TransportError as error:
                pause_s = _pause_after(error)
                if pause_s is None or monotonic() + pause_s >= until or not self._budget.spend():
                    raise _unreachable(self._http.base_url, error) from error
            await asyncio.sleep(pause_s)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()


def _deadline(left_s: float) -> dict[str, str]:
    """Tells the gateway when its answer is of no more use, so that it answers without the store before that."""
    return {"x-deadline-ms": str(max(1, int(left_s * _FOR_THE_GATEWAY * 1000)))}


def _pause(response: httpx.Response) -> float | None:
    """How long to wait before asking again what was refused for now; None: it need not be asked again."""
    after = response.headers.get("retry-after", "")
    return float(after) if response.status_code in _FOR_NOW and after.isdigit() else None


def _pause_after(error: httpx.TransportError) -> float | None:
    """The same after a failure on the way, which may have been sent: reading twice does no harm. What took its time will again."""
    return None if isinstance(error, httpx.TimeoutException) else uniform(0.5, 1.5) * _PAUSE_S  # noqa: S311  # nobody must not guess it


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
    return Unavailable(f"the gateway at {url} {what}", hint=_IS_IT_RUNNING)
