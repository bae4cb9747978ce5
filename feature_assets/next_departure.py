"""What only the request knows: when a flight leaves; and how its carrier does beside its route."""

from feature_assets.carrier_origin_delays import VIEW as carrier_origin_delays
from feature_assets.route_delays import VIEW as route_delays
from feature_functions.departures import carrier_on_route, departure_time
from penstock.contract import Feature, FeatureService, OnDemandView

VIEWS = (
    OnDemandView(
        name="departure_time",
        version=1,
        owner="flight-ops",
        request={"sched_dep_time": "timestamp"},
        features=[Feature("hour", "int32", unit="hours"), Feature("weekday", "int32", unit="days")],
        compute=departure_time,
        description="when a flight is to leave, UTC",
    ),
    OnDemandView(
        name="carrier_on_route",
        version=1,
        owner="flight-ops",
        inputs={carrier_origin_delays: ["arr_delay_min_mean_1d"], route_delays: ["arr_delay_min_mean_1d"]},
        features=[Feature("behind_min", "float64", unit="minutes")],
        compute=carrier_on_route,
        description="how late a carrier's flights have been, beside all flights on the route",
    ),
)

next_departure = FeatureService(
    "next_departure",
    views={carrier_origin_delays: ["arr_delay_min_mean_1d"], route_delays: ["arr_delay_min_mean_1d"]},
    on_demand=VIEWS,
    owner="ml",
    description="how late will the next departure be?",
)
