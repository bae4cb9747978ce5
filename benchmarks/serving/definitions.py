"""What is served in the benchmark: one entity, five views of ten numbers, and the same number of views with sixty each."""

from functools import cache
from typing import Any

from penstock.contract import Entity, Feature, FeatureService, FeatureView, FreshnessSla, Source, hours, minutes
from penstock.registry.project import Project
from penstock.registry.snapshot import Snapshot, compile_snapshot

VIEWS = 5
WIDTHS = {50: 10, 300: 60}
"""Features of a service → features of each of its views."""

EVENTS = Source("events", schema={"user_id": "int64", "event_time": "timestamp"}, owner="bench")


def computed(rows: Any) -> Any:
    return rows


@cache
def entity(features: int) -> Entity:
    return Entity(f"user_{features}", {"user_id": "int64"})


@cache
def views(features: int) -> tuple[FeatureView, ...]:
    return tuple(
        FeatureView(
            name=f"view_{features}_{n}",
            version=1,
            entity=entity(features),
            source=EVENTS,
            owner="bench",
            compute=computed,
            features=[Feature(f"f{n}_{k}", "float64") for k in range(WIDTHS[features])],
            ttl=hours(24 * 365),
            freshness=FreshnessSla(total=hours(24 * 365), read=minutes(1)),
        )
        for n in range(VIEWS)
    )


def service(features: int) -> str:
    return f"user_features_{features}"


def snapshot() -> Snapshot:
    services = tuple(FeatureService(service(features), views=views(features), owner="bench") for features in WIDTHS)
    return compile_snapshot(Project("bench", tuple(view for features in WIDTHS for view in views(features)), services))
