"""Feast's `POST /get-online-features`: its request and its answer, so that a model that asks Feast can ask here by changing a URL.

Statuses are Feast's: what is past its ttl is OUTSIDE_MAX_AGE; a declared default, and what could not be read, is INVALID,
because Feast has no word for either. What Feast's shape has no place for (contract, token, late views) stands in
`metadata.penstock`, which Feast's clients pass over. A timestamp is whole seconds since 1970, as in Feast.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from penstock.clock import EPOCH, from_micros, to_micros
from penstock.errors import InvalidEntity, MalformedRequest, UnknownFeature
from penstock.registry.serving_state import ServingState
from penstock.serving.access import Grant
from penstock.serving.judgement import Outcome, Served
from penstock.serving.lookup import Answer
from penstock.serving.messages import FeatureRequest, Instant, JoinKeyValue, Status
from penstock.serving.plan import ServicePlan, offered_features, service_entry
from penstock.serving.responses import value_columns

PATH = "/get-online-features"


class FeastRequest(msgspec.Struct, kw_only=True):
    """The body; as in Feast, a field it does not know is passed over.

    Args:
        entities: join key or request field → one value per row.
        feature_service: the service; or else
        features: `<view>:<feature>`, of one service that the caller may read.
        full_feature_names: whether features are called `<view>__<feature>` in the answer, or `<feature>`.
    """

    entities: dict[str, list[JoinKeyValue]]
    feature_service: str | None = None
    features: list[str] = []
    full_feature_names: bool = False


_WORDS = msgspec.Meta(
    extra_json_schema={
        "type": "array",
        "items": {"enum": ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "INVALID"]},
    }
)
_TIMES = msgspec.Meta(extra_json_schema={"type": "array", "items": {"type": "string", "format": "date-time"}})


class Vector(msgspec.Struct):
    """One column of the answer: a join key as it was asked, or a feature."""

    values: Sequence[Any]
    statuses: Annotated[msgspec.Raw, _WORDS]
    event_timestamps: Annotated[msgspec.Raw, _TIMES]


class Penstock(msgspec.Struct, kw_only=True):
    """What Feast's shape has no place for; see `messages.RowsResponse`.

    Args:
        ages_s: view → per row, now less its event time; null where no value was found.
        late: views later than their freshness SLA.
        degraded: views for which the store could not answer.
    """

    service: str
    contract: str
    snapshot: str
    now: Instant
    token: str
    ages_s: dict[str, list[float | None]]
    late: list[str]
    degraded: list[str]


class Metadata(msgspec.Struct, kw_only=True):
    """What the answer's columns are."""

    feature_names: list[str]
    penstock: Penstock


class FeastResponse(msgspec.Struct, kw_only=True):
    """The answer, a vector per column."""

    metadata: Metadata
    results: list[Vector]
    status: bool = True


_DEGRADED = {Outcome.DEFAULTED, Outcome.DROPPED, Outcome.INVALIDATED}
_decode = msgspec.json.Decoder(FeastRequest).decode
_encode = msgspec.json.Encoder().encode
_SAID = {
    Status.PRESENT: "PRESENT",
    Status.STALE: "PRESENT",
    Status.NULL: "NULL_VALUE",
    Status.NOT_FOUND: "NOT_FOUND",
    Status.DEFAULT: "INVALID",
    Status.ERROR: "INVALID",
}


def native(asked: FeastRequest, state: ServingState, grant: Grant) -> FeatureRequest:
    """The same request in our own words.

    Raises:
        MalformedRequest: neither a service nor features, or both.
        InvalidEntity: its columns are not of one length.
        UnknownFeature: no service that the caller may read has all the features.
    """
    if (asked.feature_service is None) == (not asked.features):
        raise MalformedRequest("expected either 'feature_service' or 'features'", hint="name a service, it is what can be granted")
    lengths = {name: len(values) for name, values in asked.entities.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidEntity(
            f"entities are not of one length: {', '.join(f'{name} has {length}' for name, length in lengths.items())}",
            hint="give every join key and request field one value per row",
        )
    entities = [dict(zip(asked.entities, row, strict=True)) for row in zip(*asked.entities.values(), strict=True)]
    if asked.feature_service is not None:
        return FeatureRequest(service=asked.feature_service, entities=entities)
    wanted = [name.replace(":", "__", 1) for name in asked.features]
    return FeatureRequest(service=_service_of(wanted, state, grant), entities=entities, features=wanted)


def _service_of(wanted: Sequence[str], state: ServingState, grant: Grant) -> str:
    for name, pointers in sorted(state.services.items()):
        entry = service_entry(state.snapshots[pointers.snapshot], name)
        offered = set(offered_features(state.snapshots[pointers.snapshot], entry))
        if grant.covers(name) and offered.issuperset(wanted):
            return name
    raise UnknownFeature(
        f"no feature service you may read has all of {', '.join(wanted)}",
        hint="features are named '<view>:<feature>'; GET /v1/services lists the services you may read",
    )


def as_feast(answer: Answer, token: str, asked: FeastRequest) -> bytes:
    """The answer as Feast's feature server would give it.

    Raises:
        MalformedRequest: two features have one name, and the full names were not asked for.
    """
    plan, rows = answer.plan, answer.rows
    vectors: list[Any] = []
    for view, parts, all_present in zip(plan.shown, answer.shown, answer.all_present, strict=True):
        times, columns = _times(parts), value_columns(view, parts)
        if view.has_times:
            columns = [[_seconds(value) for value in column] for column in columns]
        if all_present:
            said = _same_word("PRESENT", rows)
            vectors += [Vector(column, said, times) for column in columns]
        else:
            vectors += [Vector(column, said, times) for column, said in zip(columns, _statuses(parts), strict=True)]
    ordered = vectors if plan.reorder is None else plan.reorder(vectors)
    present, never = _same_word("PRESENT", rows), _same_word("1970-01-01T00:00:00Z", rows)
    keys = [Vector(values, present, never) for values in asked.entities.values()]
    names = plan.feature_names if asked.full_feature_names else _short_names(plan)
    metadata = Metadata(feature_names=[*asked.entities, *names], penstock=_beside(answer, token))
    return _encode(FeastResponse(metadata=metadata, results=[*keys, *ordered]))


def _beside(answer: Answer, token: str) -> Penstock:
    plan, now_us = answer.plan, answer.now_us
    ages_s: dict[str, list[float | None]] = {}
    late, degraded = [], []
    for view, parts, all_present in zip(plan.views, answer.parts, answer.all_present, strict=False):
        times = [part.event_time_us for part in parts]
        ages_s[view.name] = [None if at_us is None else (now_us - at_us) / 1_000_000 for at_us in times]
        if now_us > view.late_after_us:
            late.append(view.name)
        if not all_present and not _DEGRADED.isdisjoint([part.outcome for part in parts]):
            degraded.append(view.name)
    return Penstock(
        service=plan.service.name,
        contract=plan.service.contract,
        snapshot=plan.snapshot,
        now=from_micros(now_us),
        token=token,
        ages_s=ages_s,
        late=late,
        degraded=degraded,
    )


def _short_names(plan: ServicePlan) -> list[str]:
    names = [feature.feature.name for feature in plan.features]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise MalformedRequest(f"several views have a feature {', '.join(twice)}", hint="ask with full_feature_names: true")
    return names


def _times(parts: Sequence[Served]) -> msgspec.Raw:
    return msgspec.Raw(_encode([EPOCH if part.event_time_us is None else _instant(part.event_time_us) for part in parts]))


def _statuses(parts: Sequence[Served]) -> Sequence[msgspec.Raw]:
    words = [[_word(part, value, status) for value, status in zip(part.values, part.statuses, strict=True)] for part in parts]
    return [msgspec.Raw(_encode(column)) for column in zip(*words, strict=True)]


def _word(part: Served, value: Any, status: Status) -> str:
    if part.outcome is Outcome.EXPIRED:
        return "OUTSIDE_MAX_AGE"
    return "NULL_VALUE" if status is Status.STALE and value is None else _SAID[status]


@lru_cache(maxsize=4096)
def _same_word(word: str, rows: int) -> msgspec.Raw:
    return msgspec.Raw(_encode([word] * rows))


@lru_cache(maxsize=65_536)  # views are evaluated at steps: many keys share their event times
def _instant(micros: int) -> datetime:
    return from_micros(micros)


def _seconds(value: Any) -> Any:
    if type(value) is datetime:
        return to_micros(value) // 1_000_000
    return [_seconds(item) for item in value] if isinstance(value, list) else value


def parse_feast(body: bytes) -> FeastRequest:
    """The request in a body.

    Raises:
        MalformedRequest: not JSON of that shape.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedRequest(f"the request is not as Feast documents it: {error}", hint="see POST /get-online-features") from None
