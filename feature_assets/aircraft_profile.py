"""What an aircraft is: from the register, valid until the register says otherwise."""

from typing import Any

from feature_assets.entities import aircraft
from feature_assets.sources import planes
from penstock.contract import Feature, FeatureView, FreshnessSla, days, minutes, serve_stale

ENGINE_TYPES = ["Turbo-fan", "Turbo-jet", "Turbo-prop", "Turbo-shaft", "Reciprocating", "4 Cycle"]


def registered(rows: Any) -> Any:
    """The register's entries, under our names."""
    return rows.selectExpr("tailnum", "event_time", "year AS built_year", "manufacturer", "engines", "seats", "engine AS engine_type")


VIEW = FeatureView(
    name="aircraft_profile",
    version=1,
    entity=aircraft,
    source=planes,
    owner="fleet",
    compute=registered,
    features=[
        Feature("built_year", "int32", unit="year", minimum=1900, maximum=2100),
        Feature("manufacturer", "string", nullable=False),
        Feature("engines", "int32", nullable=False, minimum=1, maximum=8),
        Feature("seats", "int32", nullable=False, minimum=1, maximum=900),
        Feature("engine_type", "string", nullable=False, allowed=ENGINE_TYPES),
    ],
    warn_only=["engine_type_allowed"],  # a new type is to be looked at, and may be right
    delay=minutes(15),
    ttl=None,
    freshness=FreshnessSla(total=days(2)),
    if_unavailable=serve_stale(up_to=days(30)).then_default(),
    description="what an aircraft is, from the register",
)
