"""The views of the point-in-time benchmark."""

from datetime import UTC, datetime
from typing import Any

from feature_assets.services import arrival_delay
from penstock.contract import Entity, Feature, FeatureView, FreshnessSla, Source, days
from penstock.contract.service import Selection, select
from penstock.offline.lake import feature_table

START = datetime(2013, 1, 1, tzinfo=UTC)
DAYS = 181
SPINE_FROM_DAY = 31  # the spine begins a ttl after the features
TTL = days(30)
VIEWS = 3
FEATURES = 10
FLIGHTS = "flights"

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


def service_of(data: str) -> tuple[Selection, ...]:
    """What is joined to the spine of a data set, by its name."""
    if data == FLIGHTS:
        return arrival_delay.selection
    return select([view_of(n, "string" if "string" in data else "int") for n in range(VIEWS)], "benchmark")


def described(data: str) -> list[dict[str, Any]]:
    """The same for engines that know nothing of Penstock: an item of views.json for each view."""
    return [
        {
            "name": one.name,
            "folder": feature_table(one.view),
            "keys": dict(one.view.entity.join_keys),
            "ttl_s": int(one.view.ttl.total_seconds()) if one.view.ttl is not None else 100 * 365 * 86_400,
            "features": {f.name: f.dtype for f in one.view.features},
        }
        for one in service_of(data)
    ]
