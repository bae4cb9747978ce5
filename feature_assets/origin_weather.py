"""The weather at an airport: a row per observation, gone after three hours."""

from typing import Any

from pyspark.sql import functions as F

from feature_assets.entities import airport
from feature_assets.sources import weather
from penstock.contract import Feature, FeatureView, FreshnessSla, hours, minutes, serve_stale


def observed(rows: Any) -> Any:
    """The observations, but what an anemometer cannot have seen: one of 2013 says 1,048 mph."""
    return rows.withColumn("wind_speed", F.when(F.col("wind_speed") <= FASTEST_WIND_MPH, F.col("wind_speed")))


FASTEST_WIND_MPH = 200


FEATURES = [
    Feature("temp", "float64", unit="°F", minimum=-60, maximum=140),
    Feature("dewp", "float64", unit="°F", minimum=-80, maximum=100),
    Feature("humid", "float64", unit="%", minimum=0, maximum=100),
    Feature("wind_dir", "float64", unit="degrees", minimum=0, maximum=360),
    Feature("wind_speed", "float64", unit="mph", minimum=0, maximum=FASTEST_WIND_MPH),
    Feature("precip", "float64", unit="inches", minimum=0),
    Feature("pressure", "float64", unit="millibars", minimum=850, maximum=1100),
    Feature("visib", "float64", unit="miles", minimum=0),
]
VIEW = FeatureView(
    name="origin_weather",
    version=1,
    entity=airport,
    source=weather,
    owner="meteorology",
    compute=observed,
    features=FEATURES,
    delay=hours(1),
    ttl=hours(3),
    freshness=FreshnessSla(total=minutes(150), ingest=minutes(80), compute=minutes(30), publish=minutes(10)),
    if_unavailable=serve_stale(up_to=hours(2)).then_default(),
    description="the weather at an airport in the newest hour that is over",
)
