"""From a request to its response, under one serving state and one reading of the clock."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from penstock.clock import from_micros
from penstock.config import GatewaySettings
from penstock.errors import StoreError, TooManyEntities
from penstock.online.store import Slot
from penstock.registry.serving_state import ServingState
from penstock.serving.entity_keys import key_of, require_known_keys
from penstock.serving.judgement import Problem, Served, degrade, judge
from penstock.serving.messages import FeatureRequest, FeatureResponse, Row, ServedView, Status
from penstock.serving.plan import ServicePlan, ViewPlan, plan_service

KeyColumns: TypeAlias = tuple[tuple[str, str], ...]
"""Columns of a request that hold a join key, with their dtypes."""

Found = dict[bytes, dict[Slot, bytes]] | None
"""Key → what the store holds for it; None: the store could not answer."""


class Reader(Protocol):
    """What a lookup needs of the online store, or of anything in front of it."""

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot]) -> list[dict[Slot, bytes]]: ...


@dataclass(frozen=True)
class Answer:
    """A response, and what somebody should look at.

    Args:
        problems: (view, problem) → how many distinct keys had it.
    """

    response: FeatureResponse
    problems: Counter[tuple[str, Problem]]


async def look_up(state: ServingState, store: Reader, now_us: int, request: FeatureRequest, limits: GatewaySettings) -> Answer:
    """One row per entity of the request, in its order; an entity named twice is read once.

    Raises:
        UnknownService, ContractMismatch, UnknownFeature: see `plan_service`.
        TooManyEntities: more entities, or entities x features, than the limits allow.
        InvalidEntity: a join key is missing, unknown or of another type.
        Unavailable: the store could not answer and a view's contract allows no substitute.
    """
    plan = plan_service(state, request.service, features=request.features, contract=request.contract)
    _require_within(limits, len(request.entities), sum(len(view.features) for view in plan.views))
    keys = _keys(plan, request)
    found = await _read(store, plan, keys)

    served: list[dict[bytes | None, Served]] = [{} for _ in plan.views]
    problems: Counter[tuple[str, Problem]] = Counter()
    for view, by_key in zip(plan.views, served, strict=True):
        for key in dict.fromkeys(keys[view.keys]):
            held = found[view.entity.name, view.keys]
            if key is None:
                one = judge(view, None, now_us)  # nobody: no store is needed to say so
            else:
                one = degrade(view) if held is None else judge(view, held[key].get(view.slot), now_us)
            by_key[key] = one
            if one.problem is not None:
                problems[view.view.name, one.problem] += 1

    parts = (
        [(view, by_key[keys[view.keys][n]]) for view, by_key in zip(plan.views, served, strict=True)] for n in range(len(request.entities))
    )
    response = FeatureResponse(
        service=plan.service.name,
        contract=plan.service.contract,
        snapshot=plan.snapshot,
        now=from_micros(now_us),
        features=[f.name for f in plan.features],
        dtypes=[f.feature.dtype for f in plan.features],
        views=[served_view(view) for view in plan.views],
        rows=[_row(of_entity, now_us) for of_entity in parts],
    )
    return Answer(response, problems)


def served_view(view: ViewPlan) -> ServedView:
    """The view as a response names it."""
    return ServedView(
        view=view.slot.view,
        version=view.slot.version,
        generation=view.slot.generation,
        complete_until=None if view.complete_until_us is None else from_micros(view.complete_until_us),
        features=[plan.served_at for plan in view.features],
    )


def _require_within(limits: GatewaySettings, entities: int, features: int) -> None:
    if entities > limits.max_entities:
        raise TooManyEntities(f"{entities} entities in one request; at most {limits.max_entities}", hint="split the request")
    if entities * features > limits.max_cells:
        raise TooManyEntities(
            f"{entities} entities x {features} features = {entities * features} cells in one request; at most {limits.max_cells}",
            hint="split the request, or name only the features you need",
        )


def _keys(plan: ServicePlan, request: FeatureRequest) -> dict[KeyColumns, list[bytes | None]]:
    """Columns that hold join keys → the key in each row of the request; None: the row says it is nobody."""
    join_keys = dict(plan.service.join_keys)
    for position, entity in enumerate(request.entities):
        require_known_keys(entity, position, join_keys)
    return {
        columns: [key_of(row, position, columns) for position, row in enumerate(request.entities)]
        for columns in dict.fromkeys(view.keys for view in plan.views)
    }


async def _read(store: Reader, plan: ServicePlan, keys: dict[KeyColumns, list[bytes | None]]) -> dict[tuple[str, KeyColumns], Found]:
    """Entity and columns that hold its key → what the store holds; they are read side by side, and each may fail alone."""

    async def read_entity(entity: str, columns: KeyColumns) -> Found:
        unique = list(dict.fromkeys(key for key in keys[columns] if key is not None))
        if not unique:
            return {}
        slots = list(dict.fromkeys(view.slot for view in plan.views if (view.entity.name, view.keys) == (entity, columns)))
        try:
            return dict(zip(unique, await store.read(entity, unique, slots), strict=True))
        except StoreError:
            # Refused or no answer: either way there is no value to judge, and the contract says what then.
            return None

    wanted = list(dict.fromkeys((view.entity.name, view.keys) for view in plan.views))
    return dict(zip(wanted, await asyncio.gather(*(read_entity(*one) for one in wanted)), strict=True))


def _row(parts: list[tuple[ViewPlan, Served]], now_us: int) -> Row:
    count = sum(len(view.features) for view, _ in parts)
    row = Row(values=[None] * count, statuses=[Status.ERROR] * count, event_times=[], ages_s=[], attempts=[])
    for view, one in parts:
        for plan, value, status in zip(view.features, one.values, one.statuses, strict=True):
            row.values[plan.served_at] = value
            row.statuses[plan.served_at] = status
        at_us = one.event_time_us
        row.event_times.append(None if at_us is None else from_micros(at_us))
        row.ages_s.append(None if at_us is None else (now_us - at_us) / 1_000_000)
        row.attempts.append(one.attempt)
    return row
