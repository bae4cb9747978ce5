"""From a request to its answer, under one serving state and one reading of the clock."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from penstock.config import GatewaySettings
from penstock.errors import TooManyEntities
from penstock.serving.cache import Known, NearCache
from penstock.serving.entity_keys import key_of, require_known_keys
from penstock.serving.judgement import SERVED, Outcome, Served, degrade, judge_at, judge_stale
from penstock.serving.messages import JoinKeyValue, Status
from penstock.serving.on_demand import Given, compute, request_fields
from penstock.serving.plan import KeyColumns, Read, ServicePlan, ViewPlan

Keys: TypeAlias = Sequence[bytes | None]
"""The key in each row of a request; None: the row says it is nobody."""

Found: TypeAlias = Mapping[bytes, Known | None]
"""Key → what is known of it; None: nothing, because the store could not answer."""

_NO_PROBLEM = (*SERVED, Outcome.ABSENT, Outcome.COMPUTED)


@dataclass(frozen=True)
class Answer:
    """What a request is answered.

    Args:
        plan: what was read.
        now_us: the time the values were judged at.
        rows: how many entities were asked for.
        keys: per read of the plan, the key in each row.
        parts: per view of the plan, its part in each row.
        computed: the same per on-demand view.
        given: what the caller gave for those.
    """

    plan: ServicePlan
    now_us: int
    rows: int
    keys: Sequence[Keys]
    parts: Sequence[Sequence[Served]]
    computed: Sequence[Sequence[Served]] = ()
    given: Given = field(default_factory=dict)

    @property
    def shown(self) -> Sequence[Sequence[Served]]:
        """Per view of `plan.shown`, its part in each row."""
        return self.parts if not self.computed else [*self.parts, *self.computed]

    @cached_property
    def all_present(self) -> Sequence[bool]:
        """Per view of `plan.shown`, whether each of its values in each row is PRESENT: what most answers are, and quickly told."""
        return [
            present != () and all([part.statuses is present for part in parts])  # noqa: C419  # a list is twice as quick
            for parts, present in zip(self.shown, [view.all[Status.PRESENT] for view in self.plan.shown], strict=True)
        ]

    def problems(self) -> Counter[tuple[str, str]]:
        """(view, what somebody should look at) → how many rows had it."""
        found: Counter[tuple[str, str]] = Counter()
        for view, parts, all_present in zip(self.plan.shown, self.shown, self.all_present, strict=True):
            for part in () if all_present else parts:
                if part.outcome not in _NO_PROBLEM:
                    found[view.view.name, part.outcome.name.lower()] += 1
                elif Status.ERROR in part.statuses:
                    found[view.view.name, "not_finite"] += 1
        return found


async def look_up(
    plan: ServicePlan,
    cache: NearCache,
    now_us: int,
    entities: Sequence[Mapping[str, JoinKeyValue]],
    limits: GatewaySettings,
    until: float | None = None,
) -> Answer:
    """One row per entity, in order; an entity named twice is read once.

    What the store has not answered by `until`, of the event loop's time, it could not answer.

    Raises:
        TooManyEntities: more entities, or entities x features, than the limits allow.
        InvalidEntity: a join key or request field is missing, unknown or of another type.
        Unavailable: the store could not answer and a view's contract allows no substitute.
    """
    _require_within(limits, len(entities), len(plan.features))
    by_columns = _keys(plan, entities)
    given = request_fields(plan, entities) if plan.on_demand else None
    keys = [by_columns[read.keys] for read in plan.reads]
    if len(plan.reads) == 1:
        found = [await _read(cache, plan.reads[0], keys[0], until)]
    else:
        found = await asyncio.gather(*(_read(cache, read, of_read, until) for read, of_read in zip(plan.reads, keys, strict=True)))
    parts = [_parts(view, found[n], keys[n], slot, now_us) for view, (n, slot) in zip(plan.views, plan.places, strict=True)]
    if given is None:
        return Answer(plan, now_us, len(entities), keys, parts)
    return Answer(plan, now_us, len(entities), keys, parts, compute(plan, parts, given, len(entities)), given)


def _require_within(limits: GatewaySettings, entities: int, features: int) -> None:
    if entities > limits.max_entities:
        raise TooManyEntities(f"{entities} entities in one request; at most {limits.max_entities}", hint="split the request")
    if entities * features > limits.max_cells:
        raise TooManyEntities(
            f"{entities} entities x {features} features = {entities * features} cells in one request; at most {limits.max_cells}",
            hint="split the request, or name only the features you need",
        )


def _keys(plan: ServicePlan, entities: Sequence[Mapping[str, JoinKeyValue]]) -> dict[KeyColumns, Keys]:
    for position, entity in enumerate(entities):
        require_known_keys(entity, position, plan.join_keys, plan.request)
    return {
        columns: [key_of(entity, position, columns) for position, entity in enumerate(entities)]
        for columns in dict.fromkeys(read.keys for read in plan.reads)
    }


async def _read(cache: NearCache, read: Read, keys: Keys, until: float | None) -> Found:
    """What is known; each read may fail alone."""
    distinct = list(dict.fromkeys(key for key in keys if key is not None))
    return await cache.get(read, distinct, until) if distinct else {}


def _parts(view: ViewPlan, found: Found, keys: Keys, slot: int, now_us: int) -> list[Served]:
    judge = judge_at(view, now_us)
    by_key: dict[bytes | None, Served] = {None: judge(None)} if None in keys else {}  # nobody: no store is needed to say so
    for key, known in found.items():
        if known is None:
            by_key[key] = degrade(view)
        elif known.stale:
            by_key[key] = judge_stale(view, known.values[slot], now_us)
        else:
            by_key[key] = judge(known.values[slot])
    return [by_key[key] for key in keys]
