"""A client of the gateway to be awaited."""

import asyncio
import ssl
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Self

import httpcore

from penstock.errors import Unavailable
from penstock.sdk.client import LEAST_S
from penstock.sdk.outage import Baseline, LastKnown, RetryBudget, answer_anyway
from penstock.sdk.result import FeatureResult
from penstock.sdk.route import ON_THE_WAY, Secret, pause, pause_after, route_to
from penstock.sdk.wire import FEATURES_PATH, Entity, parse_response, request_body


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
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._contract, self._timeout_s = contract, timeout_s
        self._budget, self._last_known, self._baseline = RetryBudget(), LastKnown(last_known), baseline
        self._route = route_to(url, api_key, tls)
        self._url = self._route.url(FEATURES_PATH)
        self._http = httpcore.AsyncConnectionPool(**self._route.pool)

    async def features(
        self, service: str, entities: Sequence[Entity], *, features: Sequence[str] | None = None, contract: str | None = None
    ) -> FeatureResult:
        """See `FeatureClient.features`."""
        body = request_body(service, entities, features, contract if contract is not None else self._contract)
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._post(body)
            answer = parse_response(response.status, response.content, service=service, rows=len(entities))
        except TimeoutError as error:
            late = self._route.unreachable(error)
            return answer_anyway(late, service, entities, features, self._last_known, self._baseline)
        except Unavailable as error:
            return answer_anyway(error, service, entities, features, self._last_known, self._baseline)
        self._last_known.keep(entities, features, answer)
        return answer

    async def _post(self, body: bytes) -> httpcore.Response:
        self._budget.earn()
        until = monotonic() + self._timeout_s
        while True:
            left_s = max(until - monotonic(), LEAST_S)
            try:
                response = await self._http.request("POST", self._url, headers=self._route.headers_within(left_s), content=body)
                pause_s = pause(response)
                if pause_s is None or monotonic() + pause_s >= until or not self._budget.spend():
                    return response
            except ON_THE_WAY as error:
                pause_s = pause_after(error)
                if pause_s is None or monotonic() + pause_s >= until or not self._budget.spend():
                    raise self._route.unreachable(error) from error
            await asyncio.sleep(pause_s)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()
