"""What models ask for."""

from feature_assets.carrier_origin_delays import VIEW as carrier_origin_delays
from penstock.contract import FeatureService

arrival_delay = FeatureService(
    "arrival_delay",
    views=[carrier_origin_delays],
    owner="ml",
    description="will this flight arrive more than 15 minutes late?",
)
