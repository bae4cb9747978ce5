"""What the gateway is asked and what it answers, as JSON over HTTP.

A request with a field that is not listed here is refused: a misspelt one must not be ignored.
A response repeats nothing per value that is the same for a view: event times and ages stand per row
and view, in the order of `views`; values and statuses per row and feature, in the order of `features`.
Sent with `Accept: application/msgpack` the answer has the same fields in MessagePack.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import msgspec

JoinKeyValue = bool | int | float | str | None
"""What JSON can give for a join key or request field; a timestamp is ISO 8601 text with an offset."""

Instant: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""With an offset, which is what the schema calls a date-time."""


class Status(StrEnum):
    """What a served value is."""

    PRESENT = "PRESENT"
    """The newest value, within its ttl, of a view within its freshness SLA."""
    NULL = "NULL"
    """As PRESENT, and the value is null."""
    STALE = "STALE"
    """The newest value (or null) online, within its ttl; the view is later than its freshness SLA."""
    DEFAULT = "DEFAULT"
    """The declared default: the online store could not answer."""
    NOT_FOUND = "NOT_FOUND"
    """Null: no value is known, or it is past its ttl (then its event time is given)."""
    ERROR = "ERROR"
    """Null: the stored value is damaged, or the store could not answer and the view has no default."""


class Layout(StrEnum):
    """How an answer's values are laid out."""

    ROWS = "rows"
    """One object per entity: easy to read."""
    COLUMNS = "columns"
    """One list per feature: small, and what a model's matrix is made of."""


class FeatureRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/features`.

    Args:
        service: the feature service.
        entities: one row each: join key, or request field of an on-demand view → value.
        contract: the contract fingerprint the caller was built for; another one being served is an error.
        features: which features, as `<view>__<feature>`; default: all of the service; at least one.
        layout: of the answer.
    """

    service: str
    entities: list[dict[str, JoinKeyValue]]
    contract: str | None = None
    features: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    layout: Layout = Layout.ROWS


class ServedView(msgspec.Struct, kw_only=True):
    """A view the response read, or computed: an on-demand view has generation 0, no watermark, in each row the event time of the
    oldest input, and as `ttl_s` the smallest of its inputs', by which a client lets go of what it remembers.

    Args:
        features: the positions of its features in the response's `features`.
        complete_until: up to which event time the view was complete; null: nothing was published.
        ttl_s: the largest age at which its values are served; null: any.
    """

    view: str
    version: int
    generation: int
    complete_until: Instant | None
    ttl_s: float | None
    features: list[int]


class Row(msgspec.Struct, kw_only=True):
    """The answer for one entity.

    Args:
        values, statuses: per feature.
        event_times, ages_s: per view; null where no value was found.
    """

    values: list[Any]
    statuses: list[Status]
    event_times: list[Instant | None]
    ages_s: list[float | None]


class RowsResponse(msgspec.Struct, kw_only=True):
    """Body of the answer to `POST /v1/features` in rows.

    Args:
        contract, snapshot: fingerprints of what is being served.
        now: the time the values were judged at.
        token: names what produced the values; `penstock replay` computes them again.
        features, dtypes: the columns of the rows; a value of dtype `timestamp` is ISO 8601 text in JSON.
        views: the views they come from.
        rows: one per entity of the request, in its order.
    """

    service: str
    contract: str
    snapshot: str
    now: Instant
    token: str
    features: list[str]
    dtypes: list[str]
    views: list[ServedView]
    rows: list[Row]


class ColumnsResponse(msgspec.Struct, kw_only=True):
    """Body of the answer to `POST /v1/features` in columns; what it shares with `RowsResponse` means the same.

    Args:
        now_us: the time the values were judged at, in microseconds since 1970.
        rows: how many entities were asked for; so long is each column.
        values: per feature, its column.
        statuses: per feature, its column, or one status where all rows have it.
        event_times_us: per view, its column, in microseconds since 1970; null where no value was found. The age is `now_us` less it.
    """

    service: str
    contract: str
    snapshot: str
    now_us: int
    token: str
    features: list[str]
    dtypes: list[str]
    views: list[ServedView]
    rows: int
    values: list[list[Any]]
    statuses: list[Status | list[Status]]
    event_times_us: list[list[int | None]]


class ServedFeature(msgspec.Struct, kw_only=True):
    """A feature as `GET /v1/services/{name}` describes it."""

    name: str
    dtype: str
    unit: str
    default: Any
    ttl_s: float | None
    description: str


class ServiceSummary(msgspec.Struct, kw_only=True):
    """A feature service in the list of `GET /v1/services`."""

    name: str
    contract: str
    snapshot: str
    owner: str
    description: str


class ServiceDescription(msgspec.Struct, kw_only=True):
    """Body of `GET /v1/services/{name}`: what a caller may ask and will get; `request` is what only the caller knows, field → dtype."""

    name: str
    contract: str
    snapshot: str
    owner: str
    description: str
    join_keys: dict[str, str]
    request: dict[str, str]
    features: list[ServedFeature]
    views: list[ServedView]


class ServiceList(msgspec.Struct, kw_only=True):
    """Body of `GET /v1/services`: the services the caller may read."""

    services: list[ServiceSummary]


class Health(msgspec.Struct, kw_only=True):
    """Body of `GET /healthz` and `GET /readyz`: `alive` or `ready`."""

    status: str


class ErrorDetail(msgspec.Struct, kw_only=True):
    """What went wrong; `code` is the error class's name, see `penstock.errors.REQUEST_ERRORS`."""

    code: str
    message: str
    hint: str
    request_id: str


class ErrorBody(msgspec.Struct, kw_only=True):
    """Body of every answer that is not 200."""

    error: ErrorDetail
