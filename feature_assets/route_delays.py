"""How late flights on a route have been arriving."""

from feature_assets.entities import route
from feature_assets.sources import arrivals
from penstock.contract import FeatureView, FreshnessSla, count, days, hours, largest, mean, minutes, seconds, serve_stale

VIEW = FeatureView(
    name="route_delays",
    version=1,
    entity=route,
    source=arrivals,
    owner="flight-ops",
    aggregations=[
        mean("arr_delay_min", over=[hours(3), days(1), days(7)], unit="minutes", between=(-240, 2880)),
        largest("arr_delay_min", over=[days(1), days(7)], unit="minutes", between=(-240, 2880)),
        mean("air_time_min", over=[days(7)], unit="minutes", between=(5, 1200)),
        count(over=[hours(3), days(1), days(7)], name="arrivals", unit="flights"),
    ],
    every=minutes(15),
    delay=minutes(15),
    ttl=hours(24),
    freshness=FreshnessSla(total=minutes(90), ingest=minutes(20), compute=minutes(30), publish=minutes(10), read=seconds(5)),
    if_unavailable=serve_stale(up_to=hours(6)).then_default(),
    description="how late flights on a route have been arriving",
)
