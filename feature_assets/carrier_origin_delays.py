"""How late a carrier's flights have been arriving from one airport."""

from feature_assets.entities import carrier_origin
from feature_assets.sources import arrivals
from penstock.contract import FeatureView, FreshnessSla, count, days, hours, mean, minutes, seconds, serve_stale

VIEW = FeatureView(
    name="carrier_origin_delays",
    version=1,
    entity=carrier_origin,
    source=arrivals,
    owner="flight-ops",
    aggregations=[
        mean("arr_delay_min", over=[hours(3), days(1), days(7)], unit="minutes", between=(-240, 2880)),
        count(over=[hours(3), days(7)], name="arrivals", unit="flights"),
    ],
    every=minutes(15),
    delay=minutes(15),
    ttl=hours(12),
    freshness=FreshnessSla(total=minutes(90), ingest=minutes(20), compute=minutes(30), publish=minutes(10), read=seconds(5)),
    if_unavailable=serve_stale(up_to=hours(6)).then_default(),
    description="how late a carrier's flights have been arriving from one airport",
)
