"""What models ask for."""

from feature_assets.aircraft_history import VIEW as aircraft_history
from feature_assets.aircraft_profile import VIEW as aircraft_profile
from feature_assets.aircraft_turnaround import VIEW as aircraft_turnaround
from feature_assets.carrier_origin_delays import VIEW as carrier_origin_delays
from feature_assets.origin_weather import VIEW as origin_weather
from feature_assets.route_delays import VIEW as route_delays
from penstock.contract import FeatureService

arrival_delay = FeatureService(
    "arrival_delay",
    views=[carrier_origin_delays, route_delays, aircraft_history, aircraft_turnaround, aircraft_profile, origin_weather],
    owner="ml",
    description="will this flight arrive more than 15 minutes late?",
)
