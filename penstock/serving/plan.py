"""What a request reads: its service resolved under one serving state."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from operator import itemgetter
from typing import Any, TypeAlias

from penstock.clock import from_micros
from penstock.contract.view_parts import Consistency
from penstock.errors import ContractMismatch, UnknownFeature, UnknownService
from penstock.online.store import Slot
from penstock.registry.serving_state import ServingState
from penstock.registry.snapshot import EntityEntry, FeatureEntry, ServiceEntry, Snapshot, ViewEntry
from penstock.serving.messages import ServedView, Status

KeyColumns: TypeAlias = tuple[tuple[str, str], ...]
"""Columns of a request that hold a join key, with their dtypes."""

_PLANS = 256  # a caller may ask for any choice of features; how many of them are kept


@dataclass(frozen=True)
class FeaturePlan:
    """One feature to serve.

    Args:
        name: as the caller sees it, `<view>__<feature>`.
        feature: its definition.
        stored_at: its position in the stored values.
        served_at: its position in the response.
    """

    name: str
    feature: FeatureEntry
    stored_at: int
    served_at: int


_FOREVER = 2**63


@dataclass(frozen=True)
class ViewPlan:
    """One view to read.

    Args:
        name: its name in the service.
        view, entity: their definitions.
        keys: the columns of a request that hold its join keys, with their dtypes, in the entity's order.
        slot: where its values are.
        complete_until_us: its watermark; None: nothing was published.
        features: which of its features to serve.
    """

    name: str
    view: ViewEntry
    entity: EntityEntry
    keys: KeyColumns
    slot: Slot
    complete_until_us: int | None
    features: tuple[FeaturePlan, ...]

    @cached_property
    def schema_id(self) -> int:
        """What stored values must be of."""
        return self.view.schema_id

    @cached_property
    def width(self) -> int:
        """How many values are stored."""
        return len(self.view.features)

    @cached_property
    def ttl_us(self) -> int:
        """The greatest age that is served."""
        return _FOREVER if self.view.ttl_us is None else self.view.ttl_us

    @cached_property
    def late_after_us(self) -> int:
        """From the next microsecond on the view is later than its freshness SLA."""
        return -_FOREVER if self.complete_until_us is None else self.complete_until_us + self.view.freshness.total_us

    @cached_property
    def pick(self) -> Callable[[Sequence[Any]], Sequence[Any]] | None:
        """Takes the features to serve from the stored values; None: all as they are."""
        places = [feature.stored_at for feature in self.features]
        if places == list(range(self.width)):
            return None
        return itemgetter(*places) if len(places) > 1 else itemgetter(slice(places[0], places[0] + 1))

    @cached_property
    def all(self) -> Mapping[Status, tuple[Status, ...]]:
        """Per status, the statuses of a part of which all features have it; one object, so that it is known by identity."""
        return {status: (status,) * len(self.features) for status in Status}

    @cached_property
    def has_times(self) -> bool:
        """Whether one of the features to serve is an instant, or a list of them."""
        return any("timestamp" in plan.feature.dtype for plan in self.features)

    @cached_property
    def nulls(self) -> tuple[None, ...]:
        """The values of a part that has none."""
        return (None,) * len(self.features)


@dataclass(frozen=True)
class Read:
    """Views that are read together: of one entity, whose key is in the same columns.

    Args:
        entity: its name.
        keys: the columns of a request that hold its key.
        slots: of the views.
        fresh_s: how long, in seconds, a cache may serve what it read: the smallest `freshness.read` of the views.
        is_held: whether a cache holds it, to serve it so long or when the store fails.
        consistency: the strongest of the views.
    """

    entity: str
    keys: KeyColumns
    slots: tuple[Slot, ...]
    fresh_s: float
    is_held: bool
    consistency: Consistency = Consistency.LOCAL_QUORUM


@dataclass(frozen=True)
class ServicePlan:
    """All views to read for one request; only those with a feature that was asked for."""

    service: ServiceEntry
    snapshot: str
    views: tuple[ViewPlan, ...]

    @cached_property
    def features(self) -> tuple[FeaturePlan, ...]:
        """Its features, in the order of the response."""
        return tuple(sorted((f for view in self.views for f in view.features), key=lambda f: f.served_at))

    @cached_property
    def feature_names(self) -> list[str]:
        """Its features' names, in the order of the response."""
        return [feature.name for feature in self.features]

    @cached_property
    def dtypes(self) -> list[str]:
        """Their dtypes."""
        return [feature.feature.dtype for feature in self.features]

    @cached_property
    def served_views(self) -> list[ServedView]:
        """Its views, as a response tells of them."""
        return [
            ServedView(
                view=view.slot.view,
                version=view.slot.version,
                generation=view.slot.generation,
                complete_until=None if view.complete_until_us is None else from_micros(view.complete_until_us),
                ttl_s=None if view.view.ttl_us is None else view.view.ttl_us / 1_000_000,
                features=[feature.served_at for feature in view.features],
            )
            for view in self.views
        ]

    @cached_property
    def reorder(self) -> Callable[[Sequence[Any]], Sequence[Any]] | None:
        """Brings values in the order of the views into that of the response; None: it is the same."""
        order = [f.served_at for view in self.views for f in view.features]
        if order == sorted(order):
            return None
        place = {served_at: position for position, served_at in enumerate(order)}
        return itemgetter(*[place[n] for n in range(len(order))])

    @cached_property
    def join_keys(self) -> Mapping[str, str]:
        """Name and dtype of what a row of a request may name."""
        return dict(self.service.join_keys)

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """What to read of the store, side by side."""
        together: dict[tuple[str, KeyColumns], list[ViewPlan]] = {}
        for view in self.views:
            together.setdefault((view.entity.name, view.keys), []).append(view)
        reads = []
        for (entity, keys), views in together.items():
            fresh_us = min(view.view.freshness.read_us for view in views)
            may_be_stale = any(view.view.if_unavailable.stale_up_to_us is not None for view in views)
            slots = tuple(dict.fromkeys(view.slot for view in views))
            strongest = min((view.view.consistency for view in views), key=list(Consistency).index)
            reads.append(Read(entity, keys, slots, fresh_us / 1_000_000, fresh_us > 0 or may_be_stale, strongest))
        return tuple(reads)

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Per view, which of `reads` holds it and at which of its slots."""
        found = {(read.entity, read.keys): n for n, read in enumerate(self.reads)}
        where = [found[view.entity.name, view.keys] for view in self.views]
        return tuple((n, self.reads[n].slots.index(view.slot)) for n, view in zip(where, self.views, strict=True))


class Planner:
    """Plans of the serving state of now; a plan is made once per state, service and choice of features."""

    def __init__(self) -> None:
        self._state: ServingState | None = None
        self._plans: dict[tuple[str, tuple[str, ...] | None], ServicePlan] = {}

    def plan(self, state: ServingState, service: str, features: Sequence[str] | None = None, contract: str | None = None) -> ServicePlan:
        """What to read for `features` of `service`, all of them by default.

        Raises:
            UnknownService: it is not published.
            ContractMismatch: `contract` is not the fingerprint being served.
            UnknownFeature: the service has no such feature.
        """
        if state is not self._state or len(self._plans) >= _PLANS:
            self._state, self._plans = state, {}
        asked = (service, None if features is None else tuple(features))
        plan = self._plans.get(asked)
        if plan is None:
            plan = self._plans[asked] = plan_service(state, service, features=features)
        if contract is not None and contract != plan.service.contract:
            raise ContractMismatch(
                f"feature service '{service}' is served under contract '{plan.service.contract}', the request pins '{contract}'",
                hint="compare the two contracts, retrain or adapt the model, then pin the new one",
            )
        return plan


def plan_service(state: ServingState, service: str, *, features: Sequence[str] | None = None) -> ServicePlan:
    """What to read for `features` of `service`, all of them by default.

    Raises:
        UnknownService: it is not published.
        UnknownFeature: the service has no such feature.
    """
    pointers = state.services.get(service)
    if pointers is None:
        raise UnknownService(
            f"no feature service '{service}' is published", hint=_did_you_mean(service, state.services, "GET /v1/services")
        )
    snapshot = state.snapshots[pointers.snapshot]
    entry = service_entry(snapshot, service)
    offered = dict.fromkeys(f"{part.name}__{feature}" for part in entry.selection for feature in part.features)
    wanted = offered if features is None else dict.fromkeys(features)
    unknown = [name for name in wanted if name not in offered]
    if unknown:
        raise UnknownFeature(
            f"feature service '{service}' has no feature {', '.join(map(repr, unknown))}",
            hint=_did_you_mean(unknown[0], offered, f"GET /v1/services/{service}"),
        )
    served_at = {name: position for position, name in enumerate(wanted)}
    generations = {(p.view, p.version): p.generation for p in pointers.pointers}
    views = []
    for part in entry.selection:
        view = snapshot.view(part.view, part.version)
        slot = Slot(part.view, part.version, generations[part.view, part.version])
        stored_at = {feature.name: position for position, feature in enumerate(view.features)}
        named = {feature: f"{part.name}__{feature}" for feature in part.features}
        plans = tuple(
            FeaturePlan(named[feature], view.features[stored_at[feature]], stored_at[feature], served_at[named[feature]])
            for feature in part.features
            if named[feature] in served_at
        )
        if plans:
            entity = snapshot.entity(view.entity)
            keys = tuple((column, dtype) for (_, column), (_, dtype) in zip(part.on, entity.join_keys, strict=True))
            views.append(ViewPlan(part.name, view, entity, keys, slot, state.complete_until_us.get(slot), plans))
    return ServicePlan(entry, pointers.snapshot, tuple(views))


def service_entry(snapshot: Snapshot, service: str) -> ServiceEntry:
    """A service's definition; the state holds no pointers whose snapshot lacks it."""
    return next(entry for entry in snapshot.services if entry.name == service)


def _did_you_mean(name: str, known: Iterable[str], listing: str) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean '{close[0]}'?" if close else f"{listing} lists those you may read"
