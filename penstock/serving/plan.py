"""What a request reads: its service resolved under one serving state."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from penstock.errors import ContractMismatch, UnknownFeature, UnknownService
from penstock.online.store import Slot
from penstock.registry.serving_state import ServingState
from penstock.registry.snapshot import EntityEntry, FeatureEntry, ServiceEntry, Snapshot, ViewEntry


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


@dataclass(frozen=True)
class ViewPlan:
    """One view to read.

    Args:
        view, entity: their definitions.
        keys: the columns of a request that hold its join keys, with their dtypes, in the entity's order.
        slot: where its values are.
        complete_until_us: its watermark; None: nothing was published.
        features: which of its features to serve.
    """

    view: ViewEntry
    entity: EntityEntry
    keys: tuple[tuple[str, str], ...]
    slot: Slot
    complete_until_us: int | None
    features: tuple[FeaturePlan, ...]


@dataclass(frozen=True)
class ServicePlan:
    """All views to read for one request; only those with a feature that was asked for."""

    service: ServiceEntry
    snapshot: str
    views: tuple[ViewPlan, ...]

    @property
    def features(self) -> list[FeaturePlan]:
        """Its features, in the order of the response."""
        return sorted((f for view in self.views for f in view.features), key=lambda f: f.served_at)


def plan_service(state: ServingState, service: str, *, features: Sequence[str] | None = None, contract: str | None = None) -> ServicePlan:
    """What to read for `features` of `service`, all of them by default.

    Raises:
        UnknownService: it is not published.
        ContractMismatch: `contract` is not the fingerprint being served.
        UnknownFeature: the service has no such feature.
    """
    pointers = state.services.get(service)
    if pointers is None:
        raise UnknownService(
            f"no feature service '{service}' is published", hint=_did_you_mean(service, state.services, "GET /v1/services")
        )
    snapshot = state.snapshots[pointers.snapshot]
    entry = service_entry(snapshot, service)
    if contract is not None and contract != entry.contract:
        raise ContractMismatch(
            f"feature service '{service}' is served under contract '{entry.contract}', the request pins '{contract}'",
            hint="compare the two contracts, retrain or adapt the model, then pin the new one",
        )
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
            views.append(ViewPlan(view, entity, keys, slot, state.complete_until_us.get(slot), plans))
    return ServicePlan(entry, pointers.snapshot, tuple(views))


def service_entry(snapshot: Snapshot, service: str) -> ServiceEntry:
    """A service's definition; the state holds no pointers whose snapshot lacks it."""
    return next(entry for entry in snapshot.services if entry.name == service)


def _did_you_mean(name: str, known: Iterable[str], listing: str) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean '{close[0]}'?" if close else f"{listing} lists those you may read"
