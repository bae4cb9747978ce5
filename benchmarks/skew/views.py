"""What is tried: the views of aircraft of the flights, and one more of the types that they do not have."""

from typing import Any

from pyspark.sql import functions as F

from feature_assets.aircraft_history import VIEW as aircraft_history
from feature_assets.aircraft_profile import VIEW as aircraft_profile
from feature_assets.aircraft_turnaround import VIEW as aircraft_turnaround
from feature_assets.entities import aircraft
from feature_assets.sources import arrivals, departures
from penstock.contract import (
    EACH_EVENT,
    Feature,
    FeatureView,
    FreshnessSla,
    days,
    first,
    hours,
    largest,
    last,
    mean,
    minutes,
    serve_stale,
    smallest,
    std,
    total,
)


def last_departures(rows: Any) -> Any:
    """Each departure, in types of every kind."""
    return rows.where("tailnum IS NOT NULL").select(
        "tailnum",
        "event_time",
        (F.col("dep_delay_min") > 15).alias("was_late"),
        F.col("sched_dep_time").alias("scheduled"),
        F.array(F.col("dep_delay_min").cast("double"), F.col("distance_miles").cast("double"), F.lit(1.0)).alias("shape"),
        (F.col("dep_delay_min") / 60).cast("float").alias("late_hours"),
        F.col("distance_miles").cast("bigint").alias("distance"),
        "dest",
    )


last_departure = FeatureView(
    name="last_departure",
    version=1,
    entity=aircraft,
    source=departures,
    owner="bench",
    compute=last_departures,
    features=[
        Feature("was_late", "bool"),
        Feature("scheduled", "timestamp"),
        Feature("shape", "list[float64]"),
        Feature("late_hours", "float32", unit="hours"),
        Feature("distance", "int64", unit="miles"),
        Feature("dest", "string"),
    ],
    delay=minutes(15),
    ttl=days(14),
    freshness=FreshnessSla(total=minutes(90)),
    if_unavailable=serve_stale(up_to=hours(24)).then_default(),
    description="the newest departure of an aircraft",
)

aircraft_windows = FeatureView(
    name="aircraft_windows",
    version=1,
    entity=aircraft,
    source=arrivals,
    owner="bench",
    aggregations=[
        aggregate(column, over=[days(n) for n in range(1, 16)], unit="minutes")
        for column in ("arr_delay_min", "air_time_min")
        for aggregate in (mean, total, smallest, largest, std, first, last)
    ],
    every=EACH_EVENT,
    delay=minutes(15),
    ttl=days(14),
    freshness=FreshnessSla(total=minutes(90)),
    description="many windows of an aircraft's landings",
)

VIEWS = (aircraft_history, aircraft_turnaround, aircraft_profile, last_departure)
"""Each of more than a thousand keys, so that one row in a hundred is a rate."""

CLEAN_VIEWS = (*VIEWS, aircraft_windows)
"""Two hundred and thirty features, of which windows without a fault are judged."""
