"""The registry snapshot: all definitions as one canonical JSON document with a fingerprint.

It is what crosses from batch to online: the gateway knows features from it alone, but for the code of request-time
functions, which it names with their fingerprints. Durations are whole microseconds (`*_us`). `format` is raised when the
document's shape changes; a project without on-demand views has the document it had before there were any.
"""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

import msgspec

from penstock.clock import MICROSECOND
from penstock.contract.fingerprint import digest, schema_id, transformation_fingerprint
from penstock.contract.on_demand import OnDemandView
from penstock.contract.service import FeatureService
from penstock.contract.skew import BUDGETS, Budget, SkewPolicy
from penstock.contract.view import FeatureView
from penstock.contract.view_parts import Consistency, Feature
from penstock.errors import RegistryError
from penstock.registry.project import Project

FORMAT, WITH_ON_DEMAND = 2, 3


class EntityEntry(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    join_keys: list[tuple[str, str]]
    description: str


class SourceEntry(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    owner: str
    schema: list[tuple[str, str]]
    event_time: str
    availability_column: str | None
    availability_at_most_us: int
    table: tuple[str, str] | None
    pii: dict[str, str]
    description: str


class FeatureEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    dtype: str
    unit: str
    nullable: bool
    minimum: float | None
    maximum: float | None
    default: Any
    owner: str
    pii: str
    description: str
    null_budget: float | None = None
    allowed: list[Any] = []


class FreshnessEntry(msgspec.Struct, frozen=True, kw_only=True):
    total_us: int
    ingest_us: int
    compute_us: int
    publish_us: int
    read_us: int


class DegradationEntry(msgspec.Struct, frozen=True, kw_only=True):
    stale_up_to_us: int | None
    then: Literal["default", "drop", "fail"]


class SkewPolicyEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What skew a view may have, where that is otherwise than by default: check → warning and critical share."""

    budgets: dict[str, tuple[float, float]] = {}
    invalidate: bool = False
    hold_back: bool = False


class ViewEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A view; what is as it is by default is left out, so that what is added later changes no fingerprint."""

    name: str
    version: int
    entity: str
    sources: list[str]
    owner: str
    features: list[FeatureEntry]
    schema_id: int
    fingerprint: str
    ttl_us: int | None
    delay_us: int
    every_us: int | None
    freshness: FreshnessEntry
    if_unavailable: DegradationEntry
    status: str
    description: str
    consistency: Consistency = Consistency.LOCAL_QUORUM
    skew: SkewPolicyEntry | None = None
    row_count: tuple[int, int | None] | None = None
    warn_only: list[str] = []

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"


class OnDemandEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An on-demand view: `taken` are the features its function takes, `request` what the caller gives; both name → dtype."""

    name: str
    version: int
    owner: str
    taken: list[tuple[str, str]]
    request: list[tuple[str, str]]
    features: list[FeatureEntry]
    function: str
    fingerprint: str
    handles_nulls: bool
    description: str

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"


class SelectionEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a service takes of a view; `on` pairs the view's join keys, in order, with the service's."""

    view: str
    version: int
    features: list[str]
    name: str = ""
    on: list[tuple[str, str]] = []


class ServiceEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A service; `on_demand` are names and versions, `request` name → dtype of what the caller gives beside the join keys."""

    name: str
    owner: str
    selection: list[SelectionEntry]
    join_keys: list[tuple[str, str]]
    contract: str
    description: str
    on_demand: list[tuple[str, int]] = []
    request: list[tuple[str, str]] = []
    budgets: dict[str, tuple[float, float]] = {}


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    format: int
    project: str
    entities: list[EntityEntry]
    sources: list[SourceEntry]
    views: list[ViewEntry]
    services: list[ServiceEntry]
    on_demand: list[OnDemandEntry] = []

    def to_json(self) -> bytes:
        """The document, canonical: equal definitions give equal bytes."""
        return msgspec.json.encode(self, order="sorted")

    @property
    def fingerprint(self) -> str:
        """sha256 of the document, first 16 hexadecimal digits."""
        return hashlib.sha256(self.to_json()).hexdigest()[:16]

    def entity(self, name: str) -> EntityEntry:
        return next(entry for entry in self.entities if entry.name == name)

    def view(self, name: str, version: int) -> ViewEntry:
        return next(entry for entry in self.views if (entry.name, entry.version) == (name, version))

    def on_demand_of(self, service: ServiceEntry) -> list[OnDemandEntry]:
        """The on-demand views of a service, in its order."""
        known = {(entry.name, entry.version): entry for entry in self.on_demand}
        return [known[ref] for ref in service.on_demand]


def load_snapshot(document: bytes) -> Snapshot:
    """A snapshot from its JSON.

    Raises:
        RegistryError: not a snapshot, or of a newer format.
    """
    try:
        snapshot = msgspec.json.decode(document, type=Snapshot)
    except msgspec.DecodeError as error:
        raise RegistryError(f"not a registry snapshot: {error}") from None
    if snapshot.format == 1:
        return _from_format_1(snapshot)
    if snapshot.format not in (FORMAT, WITH_ON_DEMAND):
        raise RegistryError(f"registry snapshot of format {snapshot.format}; this Penstock reads up to {WITH_ON_DEMAND}: upgrade it")
    return snapshot


def _from_format_1(snapshot: Snapshot) -> Snapshot:
    """A snapshot from before views had names of their own in a service."""
    keys = {(v.name, v.version): [(key, key) for key, _ in snapshot.entity(v.entity).join_keys] for v in snapshot.views}
    services = [
        msgspec.structs.replace(
            service,
            selection=[msgspec.structs.replace(part, name=part.view, on=keys[part.view, part.version]) for part in service.selection],
        )
        for service in snapshot.services
    ]
    return msgspec.structs.replace(snapshot, services=services)


def compile_snapshot(project: Project) -> Snapshot:
    """The snapshot of a project, every list in order of name."""
    entities = {view.entity.name: view.entity for view in project.views}
    return Snapshot(
        format=WITH_ON_DEMAND if project.on_demand else FORMAT,
        project=project.name,
        entities=[
            EntityEntry(name=e.name, join_keys=list(e.join_keys.items()), description=e.description)
            for e in sorted(entities.values(), key=lambda e: e.name)
        ],
        sources=[
            SourceEntry(
                name=s.name,
                owner=s.owner,
                schema=list(s.schema.items()),
                event_time=s.event_time,
                availability_column=s.availability.column,
                availability_at_most_us=_us(s.availability.at_most),
                table=None if s.table is None else (s.table.format, s.table.location),
                pii={column: str(pii) for column, pii in sorted(s.pii.items())},
                description=s.description,
            )
            for s in sorted(project.sources, key=lambda s: s.name)
        ],
        views=[view_entry(v) for v in sorted(project.views, key=lambda v: (v.name, v.version))],
        services=[_service_entry(s) for s in sorted(project.services, key=lambda s: s.name)],
        on_demand=[_on_demand_entry(v) for v in sorted(project.on_demand, key=lambda v: (v.name, v.version))],
    )


def contract_fingerprint(service: FeatureService) -> str:
    """What a model is promised: keys, view versions, features, dtypes, defaults and ttl; of on-demand views also what they
    take and the code of their functions; 16 hexadecimal digits."""
    promised = [
        [
            [part.name, part.view.name, part.view.version],
            [[part.on[key], dtype] for key, dtype in part.view.entity.join_keys.items()],
            str(part.view.ttl),
            [[f.name, f.dtype, f.unit, f.default] for f in part.view.features if f.name in part.features],
        ]
        for part in service.selection
    ]
    computed = [
        [
            [v.name, v.version],
            v.columns,
            [[f.name, f.dtype, f.unit] for f in v.features],
            v.function.name,
            v.function.fingerprint,
            v.handles_nulls,
        ]
        for v in service.on_demand
    ]
    return digest([service.name, promised, *([computed] if computed else [])])[:16]


def _us(value: timedelta) -> int:
    return value // MICROSECOND


def view_entry(view: FeatureView) -> ViewEntry:
    """A view as snapshots have it."""
    sla, degradation = view.freshness, view.if_unavailable
    return ViewEntry(
        name=view.name,
        version=view.version,
        entity=view.entity.name,
        sources=[s.name for s in view.sources],
        owner=view.owner,
        features=[_feature_entry(f, view.owner) for f in view.features],
        schema_id=schema_id(view),
        fingerprint=transformation_fingerprint(view),
        ttl_us=None if view.ttl is None else _us(view.ttl),
        delay_us=_us(view.delay),
        every_us=None if view.every is None else _us(view.every),
        freshness=FreshnessEntry(
            total_us=_us(sla.total),
            ingest_us=_us(sla.ingest),
            compute_us=_us(sla.compute),
            publish_us=_us(sla.publish),
            read_us=_us(sla.read),
        ),
        if_unavailable=DegradationEntry(
            stale_up_to_us=None if degradation.stale_up_to is None else _us(degradation.stale_up_to), then=degradation.then
        ),
        status=str(view.status),
        description=view.description,
        consistency=Consistency(view.consistency),
        skew=_skew_entry(view.skew),
        row_count=None if view.row_count == (1, None) else view.row_count,
        warn_only=sorted(view.warn_only),
    )


def _skew_entry(policy: SkewPolicy) -> SkewPolicyEntry | None:
    """What of a policy is otherwise than by default; None: nothing."""
    budgets = _budgets({check: budget for check, budget in policy.budgets.items() if budget != BUDGETS[check]})
    found = SkewPolicyEntry(budgets=budgets, invalidate=policy.invalidate, hold_back=policy.hold_back)
    return None if found == SkewPolicyEntry() else found


def _budgets(budgets: Mapping[str, Budget]) -> dict[str, tuple[float, float]]:
    return {check: (budget.warning, budget.critical) for check, budget in sorted(budgets.items())}


def _feature_entry(feature: Feature, owner: str) -> FeatureEntry:
    return FeatureEntry(
        name=feature.name,
        dtype=feature.dtype,
        unit=feature.unit,
        nullable=feature.nullable,
        minimum=None if feature.minimum is None else float(feature.minimum),
        maximum=None if feature.maximum is None else float(feature.maximum),
        default=feature.default,
        owner=feature.owner or owner,
        pii=str(feature.pii),
        description=feature.description,
        null_budget=feature.null_budget,
        allowed=list(feature.allowed),
    )


def _on_demand_entry(view: OnDemandView) -> OnDemandEntry:
    return OnDemandEntry(
        name=view.name,
        version=view.version,
        owner=view.owner,
        taken=list(view.taken),
        request=list(view.request.items()),
        features=[_feature_entry(f, view.owner) for f in view.features],
        function=view.function.name,
        fingerprint=view.function.fingerprint,
        handles_nulls=view.handles_nulls,
        description=view.description,
    )


def _service_entry(service: FeatureService) -> ServiceEntry:
    return ServiceEntry(
        name=service.name,
        owner=service.owner,
        selection=[
            SelectionEntry(name=p.name, view=p.view.name, version=p.view.version, features=list(p.features), on=list(p.on.items()))
            for p in service.selection
        ],
        join_keys=list(service.join_keys.items()),
        contract=contract_fingerprint(service),
        description=service.description,
        on_demand=[(view.name, view.version) for view in service.on_demand],
        request=list(service.request.items()),
        budgets=_budgets(service.budgets),
    )
