"""Requests as bytes and answers as results, without a network: what both clients share.

The structs are what a client needs of the gateway's answer. Fields it does not know it skips, so an
older client reads a newer gateway.
"""

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn

import msgspec

from penstock.errors import REQUEST_ERRORS, InvalidEntity, RequestError, Unavailable
from penstock.sdk.result import FeatureResult, ViewRead

FEATURES_PATH = "/v1/features"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Entity = Mapping[str, object]
"""Join key → value: bool, int, str, a datetime with a time zone, a date, or bytes."""


class _View(msgspec.Struct):
    view: str
    version: int
    generation: int
    complete_until: datetime | None
    features: list[int]
    ttl_s: float | None = None


class _Response(msgspec.Struct):
    service: str
    contract: str
    snapshot: str
    now_us: int
    token: str
    features: list[str]
    dtypes: list[str]
    views: list[_View]
    rows: int
    values: list[list[Any]]
    statuses: list[str | list[str]]
    event_times_us: list[list[int | None]]


class _Error(msgspec.Struct):
    code: str
    message: str
    hint: str = ""
    request_id: str = ""


class _Failure(msgspec.Struct):
    error: _Error


_decode = msgspec.msgpack.Decoder(_Response).decode


def request_body(service: str, entities: Sequence[Entity], features: Sequence[str] | None, contract: str | None) -> bytes:
    """The body of a request.

    Raises:
        InvalidEntity: a value no join key can have: a naive datetime, NaN, an object of another type.
    """
    rows = [{name: _json_value(position, name, value) for name, value in entity.items()} for position, entity in enumerate(entities)]
    request: dict[str, object] = {"service": service, "entities": rows, "layout": "columns"}
    if features is not None:
        request["features"] = list(features)
    if contract is not None:
        request["contract"] = contract
    try:
        return msgspec.json.encode(request)
    except UnicodeEncodeError as error:
        raise InvalidEntity(f"the request has text that is not valid Unicode: {error.reason}") from None


def _json_value(position: int, name: str, value: object) -> object:
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidEntity(
                f"entity {position}: join key '{name}' is a naive datetime ({value.isoformat()})",
                hint="give it a time zone, e.g. datetime(..., tzinfo=UTC)",
            )
        return value.astimezone(UTC).isoformat()
    if type(value) is date:
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode()
    if type(value) is float and not math.isfinite(value):
        raise InvalidEntity(f"entity {position}: join key '{name}' is {value}")
    if value is not None and type(value) not in (bool, int, float, str):
        raise InvalidEntity(
            f"entity {position}: join key '{name}' is a {type(value).__name__}; expected bool, int, str, datetime, date or bytes",
            hint="of a numpy value give `.item()`",
        )
    return value


def parse_response(status: int, body: bytes, *, service: str, rows: int) -> FeatureResult:
    """The result in a response.

    Args:
        status, body: of the HTTP response.
        service, rows: what was asked for; another answer is refused, not handed on.

    Raises:
        RequestError: the one the gateway raised, of the same class.
        Unavailable: the answer is not a gateway's.
    """
    if status != 200:
        raise_failure(status, body)
    try:
        response = _decode(body)
    except (msgspec.DecodeError, ValueError) as error:
        raise not_a_gateways(error) from None
    if response.service != service or response.rows != rows or not _is_whole(response):
        raise Unavailable(f"the gateway's answer does not fit the request: service '{response.service}', {response.rows} row(s)")
    try:
        columns = [
            [_instants(value) for value in column] if "timestamp" in dtype else column
            for dtype, column in zip(response.dtypes, response.values, strict=True)
        ]
    except (ValueError, TypeError) as error:
        raise Unavailable(f"the gateway's answer has a value that is not of its dtype: {error}") from None
    return FeatureResult(
        service=response.service,
        contract=response.contract,
        snapshot=response.snapshot,
        token=response.token,
        now=_instant(response.now_us),
        features=tuple(response.features),
        dtypes=tuple(response.dtypes),
        columns=tuple(map(tuple, columns)),
        statuses=tuple((one,) * rows if isinstance(one, str) else tuple(one) for one in response.statuses),
        views=tuple(
            ViewRead(
                v.view,
                v.version,
                v.generation,
                v.complete_until,
                None if v.ttl_s is None else timedelta(seconds=v.ttl_s),
                tuple(v.features),
                tuple(map(_instant_or_none, times)),
            )
            for v, times in zip(response.views, response.event_times_us, strict=True)
        ),
    )


def not_a_gateways(error: Exception) -> Unavailable:
    """What a caller is told of an answer that cannot be read."""
    return Unavailable(f"the answer is not a Penstock gateway's: {error}", hint="check the client's url")


def raise_failure(status: int, body: bytes) -> NoReturn:
    """Raise what the gateway raised."""
    try:
        error = msgspec.json.decode(body, type=_Failure).error
    except (msgspec.DecodeError, ValueError):
        kind = Unavailable if status >= 500 else RequestError
        raise kind(f"HTTP status {status}, and no reason that a Penstock gateway would give", hint="check the client's url") from None
    # A code this client does not know: whether to try again is told by the status.
    kind = REQUEST_ERRORS.get(error.code, Unavailable if status >= 500 else RequestError)
    raise kind(f"{error.message} (request {error.request_id})", hint=error.hint)


def _is_whole(response: _Response) -> bool:
    features, views = len(response.features), len(response.views)
    return (
        {len(response.dtypes), len(response.values), len(response.statuses)} == {features}
        and len(response.event_times_us) == views
        and sorted(position for view in response.views for position in view.features) == list(range(features))
        and all(len(column) == response.rows for column in (*response.values, *response.event_times_us))
        and all(isinstance(one, str) or len(one) == response.rows for one in response.statuses)
    )


def _instants(value: Any) -> Any:
    """A value of dtype `timestamp` or a list of it; JSON has text for instants."""
    if value is None or type(value) is datetime:
        return value
    return [_instants(item) for item in value] if isinstance(value, list) else datetime.fromisoformat(value)


def _instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _instant_or_none(micros: int | None) -> datetime | None:
    return None if micros is None else _instant(micros)
