"""A client of the gateway to wait with."""

import ssl
from collections.abc import Sequence
from time import monotonic, sleep
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpcore

from penstock.errors import Unavailable
from penstock.sdk.description import SERVICES_PATH, ServiceDescription, parse_description, parse_names
from penstock.sdk.outage import Baseline, LastKnown, RetryBudget, answer_anyway
from penstock.sdk.result import FeatureResult
from penstock.sdk.route import ON_THE_WAY, Secret, pause, pause_after, route_to
from penstock.sdk.wire import FEATURES_PATH, Entity, parse_response, request_body

LEAST_S = 0.001


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
        tls: whom to trust, for https; None: see `route`, which also tells of proxies.

    Raises:
        ConfigError: the address or the key cannot be right.
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
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._contract, self._timeout_s = contract, timeout_s
        self._budget, self._last_known, self._baseline = RetryBudget(), LastKnown(last_known), baseline
        self._route = route_to(url, api_key, tls)
        self._http = httpcore.ConnectionPool(**self._route.pool)

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
            response = self._ask("POST", FEATURES_PATH, body)
            answer = parse_response(response.status, response.content, service=service, rows=len(entities))
        except Unavailable as error:
            return answer_anyway(error, service, entities, features, self._last_known, self._baseline)
        self._last_known.keep(entities, features, answer)
        return answer

    def services(self) -> list[str]:
        """The names of the feature services that the key may read.

        Raises:
            RequestError: as of `features`.
        """
        response = self._ask("GET", SERVICES_PATH, b"")
        return parse_names(response.status, response.content)

    def describe(self, service: str) -> ServiceDescription:
        """What may be asked of a feature service, and what it gives.

        Raises:
            RequestError: as of `features`.
        """
        response = self._ask("GET", f"{SERVICES_PATH}/{quote(service, safe='')}", b"")
        return parse_description(response.status, response.content)

    def _ask(self, method: str, path: str, body: bytes) -> httpcore.Response:
        self._budget.earn()
        until = monotonic() + self._timeout_s
        url = self._route.url(path)
        while True:
            left_s = max(until - monotonic(), LEAST_S)
            patience = {"timeout": {"connect": left_s, "read": left_s, "write": left_s, "pool": left_s}}
            try:
                response = self._http.request(method, url, headers=self._route.headers_within(left_s), content=body, extensions=patience)
                pause_s = pause(response)
                if pause_s is None or monotonic() + pause_s >= until or not self._budget.spend():
                    return response
            except ON_THE_WAY as error:
                pause_s = pause_after(error)
                if pause_s is None or monotonic() + pause_s >= until or not self._budget.spend():
                    raise self._route.unreachable(error) from error
            sleep(pause_s)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
