"""The views of the point-in-time benchmark."""

from datetime import UTC, datetime
from typing import Any

from penstock.contract import Entity, Feature, FeatureView, FreshnessSla, Source, days

START = datetime(2013, 1, 1, tzinfo=UTC)
DAYS = 181
SPINE_FROM_DAY = 31  # the spine begins a ttl after the features
TTL = days(30)
VIEWS = 3
FEATURES = 10

_KEYS = {"int": "int64", "string": "string"}


def _nothing(rows: Any) -> Any:
    return rows


def view_of(number: int, key: str) -> FeatureView:
    """The n-th view, of users with `int` or `string` keys."""
    return FeatureView(
        name=f"view_{number}",
        version=1,
        entity=Entity("user", {"user_id": _KEYS[key]}),
        source=Source("generated", schema={"event_time": "timestamp"}, owner="benchmarks"),
        owner="benchmarks",
        compute=_nothing,
        features=[
            *[Feature(f"f{n}", "float64") for n in range(6)],
            *[Feature(f"f{n}", "int64") for n in range(6, 9)],
            Feature("f9", "string"),
        ],
        ttl=TTL,
        freshness=FreshnessSla(total=days(2)),
    )
