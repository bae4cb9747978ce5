"""What an aircraft has been through: a row whenever a landing becomes known or is long enough ago."""

from feature_assets.entities import aircraft
from feature_assets.sources import arrivals
from penstock.contract import EACH_EVENT, FeatureView, FreshnessSla, count, days, hours, largest, last, mean, minutes, serve_stale

VIEW = FeatureView(
    name="aircraft_history",
    version=1,
    entity=aircraft,
    source=arrivals,
    owner="fleet",
    aggregations=[
        last("arr_delay_min", over=[days(7)], unit="minutes", between=(-240, 2880)),
        last("air_time_min", over=[days(7)], unit="minutes", between=(5, 1200)),
        mean("arr_delay_min", over=[days(1), days(7)], unit="minutes", between=(-240, 2880)),
        largest("arr_delay_min", over=[days(7)], unit="minutes", between=(-240, 2880)),
        count(over=[days(1), days(7)], name="landings", unit="flights"),
    ],
    every=EACH_EVENT,
    ttl=days(14),
    freshness=FreshnessSla(total=minutes(90), ingest=minutes(20), compute=minutes(30), publish=minutes(10)),
    if_unavailable=serve_stale(up_to=hours(24)).then_default(),
    description="what an aircraft has been through on its flights from New York",
)
