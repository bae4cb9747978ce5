"""What a request reads: its service resolved under one serving state."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from operator import itemgetter
from typing import Any, TypeAlias

from penstock.clock import from_micros
from penstock.contract.view_parts import Consistency
from penstock.errors import ContractMismatch, Unavailable, UnknownFeature, UnknownService
from penstock.online.store import Slot
from penstock.registry.marks import Mark
from penstock.registry.serving_state import ServingState
from penstock.registry.snapshot import EntityEntry, FeatureEntry, OnDemandEntry, ServiceEntry, Snapshot, ViewEntry
from penstock.serving.functions import ServedFunction
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
        stored_at: its position in the stored values, or in what a function gives.
        served_at: its position in the response; None: it was not asked for, and a function takes it.
    """

    name: str
    feature: FeatureEntry
    stored_at: int
    served_at: int | None


_FOREVER = 2**63


class ShownFeatures:
    """What follows from the features to serve of a view, read or computed."""

    features: tuple[FeaturePlan, ...]

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
class ViewPlan(ShownFeatures):
    """One view to read.

    Args:
        name: its name in the service.
        view, entity: their definitions.
        keys: the columns of a request that hold its join keys, with their dtypes, in the entity's order.
        slot: where its values are.
        complete_until_us: its watermark; None: nothing was published.
        features: which of its features to serve.
        marks: the invalidation marks that are in force.
    """

    name: str
    view: ViewEntry
    entity: EntityEntry
    keys: KeyColumns
    slot: Slot
    complete_until_us: int | None
    features: tuple[FeaturePlan, ...]
    marks: tuple[Mark, ...] = ()

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


@dataclass(frozen=True)
class OnDemandPlan(ShownFeatures):
    """One on-demand view to compute of what was read.

    Args:
        view: its definition.
        function: computes it.
        places: per feature it takes, which view of the plan has it, and where among what is served of that.
        ttl_us: the smallest of the views it takes from; None: none of them expires.
        features: which of its features to serve.
    """

    view: OnDemandEntry
    function: ServedFunction
    places: tuple[tuple[int, int], ...]
    ttl_us: int | None
    features: tuple[FeaturePlan, ...]

    @property
    def name(self) -> str:
        return self.view.name

    @cached_property
    def reads(self) -> tuple[int, ...]:
        """The views of the plan that it takes from."""
        return tuple(dict.fromkeys(of_view for of_view, _ in self.places))


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
    """All views to read for one request, and what to compute of them; only those with a feature that was asked for, or is taken."""

    service: ServiceEntry
    snapshot: str
    views: tuple[ViewPlan, ...]
    on_demand: tuple[OnDemandPlan, ...] = ()

    @cached_property
    def shown(self) -> tuple[ViewPlan | OnDemandPlan, ...]:
        """Its views, those computed at the request last."""
        return (*self.views, *self.on_demand)

    @cached_property
    def features(self) -> tuple[FeaturePlan, ...]:
        """Its features, in the order of the response."""
        found = {f.served_at: f for view in self.shown for f in view.features if f.served_at is not None}
        return tuple(found[n] for n in range(len(found)))

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
                features=_served(view.features),
            )
            for view in self.views
        ] + [
            ServedView(
                view=one.view.name,
                version=one.view.version,
                generation=0,
                complete_until=None,
                ttl_s=None if one.ttl_us is None else one.ttl_us / 1_000_000,
                features=_served(one.features),
            )
            for one in self.on_demand
        ]

    @cached_property
    def reorder(self) -> Callable[[Sequence[Any]], Sequence[Any]] | None:
        """Brings values in the order of the views into that of the response, without those not asked for; None: it is the same."""
        order = [f.served_at for view in self.shown for f in view.features]
        if order == list(range(len(order))):
            return None
        place = {served_at: position for position, served_at in enumerate(order) if served_at is not None}
        places = [place[n] for n in range(len(place))]
        return itemgetter(*places) if len(places) > 1 else itemgetter(slice(places[0], places[0] + 1))

    @cached_property
    def join_keys(self) -> Mapping[str, str]:
        """Name and dtype of what a row of a request may name."""
        return dict(self.service.join_keys)

    @cached_property
    def request(self) -> Mapping[str, str]:
        """Name and dtype of what it may name besides: what only the caller knows, for on-demand views."""
        return dict(self.service.request)

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
        Unavailable: it is, and this gateway cannot serve it.
        UnknownFeature: the service has no such feature.
    """
    pointers = state.services.get(service)
    if pointers is None and service in state.refused:
        raise Unavailable(f"feature service '{service}' cannot be served by this gateway: {state.refused[service]}")
    if pointers is None:
        raise UnknownService(
            f"no feature service '{service}' is published", hint=_did_you_mean(service, state.services, "GET /v1/services")
        )
    snapshot = state.snapshots[pointers.snapshot]
    entry = service_entry(snapshot, service)
    offered = dict.fromkeys(offered_features(snapshot, entry))
    wanted = offered if features is None else dict.fromkeys(features)
    unknown = [name for name in wanted if name not in offered]
    if unknown:
        raise UnknownFeature(
            f"feature service '{service}' has no feature {', '.join(map(repr, unknown))}",
            hint=_did_you_mean(unknown[0], offered, f"GET /v1/services/{service}"),
        )
    served_at = {name: position for position, name in enumerate(wanted)}
    on_demand = [one for one in snapshot.on_demand_of(entry) if any(f"{one.name}__{f.name}" in served_at for f in one.features)]
    needed = {name for one in on_demand for name, _ in one.taken}
    generations = {(p.view, p.version): p.generation for p in pointers.pointers}
    views = []
    for part in entry.selection:
        view = snapshot.view(part.view, part.version)
        slot = Slot(part.view, part.version, generations[part.view, part.version])
        stored_at = {feature.name: position for position, feature in enumerate(view.features)}
        named = {feature: f"{part.name}__{feature}" for feature in part.features}
        plans = tuple(
            FeaturePlan(named[feature], view.features[stored_at[feature]], stored_at[feature], served_at.get(named[feature]))
            for feature in part.features
            if named[feature] in served_at or named[feature] in needed
        )
        if plans:
            entity = snapshot.entity(view.entity)
            keys = tuple((column, dtype) for (_, column), (_, dtype) in zip(part.on, entity.join_keys, strict=True))
            marks = state.marks.get((part.view, part.version), ())
            views.append(ViewPlan(part.name, view, entity, keys, slot, state.complete_until_us.get(slot), plans, marks))
    computed = tuple(_on_demand_plan(one, views, served_at, state.functions[pointers.snapshot, one.ref]) for one in on_demand)
    return ServicePlan(entry, pointers.snapshot, tuple(views), computed)


def _on_demand_plan(view: OnDemandEntry, views: Sequence[ViewPlan], served_at: Mapping[str, int], function: ServedFunction) -> OnDemandPlan:
    found = {feature.name: (n, place) for n, one in enumerate(views) for place, feature in enumerate(one.features)}
    places = tuple(found[name] for name, _ in view.taken)
    ttls_us = [ttl_us for n, _ in places if (ttl_us := views[n].view.ttl_us) is not None]
    features = (FeaturePlan(f"{view.name}__{f.name}", f, n, served_at.get(f"{view.name}__{f.name}")) for n, f in enumerate(view.features))
    return OnDemandPlan(view, function, places, min(ttls_us, default=None), tuple(f for f in features if f.served_at is not None))


def offered_features(snapshot: Snapshot, service: ServiceEntry) -> list[str]:
    """The names of all features of a service, in order."""
    stored = [f"{part.name}__{feature}" for part in service.selection for feature in part.features]
    return stored + [f"{one.name}__{feature.name}" for one in snapshot.on_demand_of(service) for feature in one.features]


def _served(features: Sequence[FeaturePlan]) -> list[int]:
    return [feature.served_at for feature in features if feature.served_at is not None]


def service_entry(snapshot: Snapshot, service: str) -> ServiceEntry:
    """A service's definition; the state holds no pointers whose snapshot lacks it."""
    return next(entry for entry in snapshot.services if entry.name == service)


def _did_you_mean(name: str, known: Iterable[str], listing: str) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean '{close[0]}'?" if close else f"{listing} lists those you may read"
