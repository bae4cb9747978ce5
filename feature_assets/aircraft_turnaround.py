"""How long an aircraft had been away before it left New York again: a row per departure."""

from typing import Any

from pyspark.sql import Window
from pyspark.sql import functions as F

from feature_assets.entities import aircraft
from feature_assets.sources import arrivals, departures
from penstock.contract import Feature, FeatureView, FreshnessSla, days, hours, minutes, serve_stale

LOOKBACK, DELAY = days(7), minutes(15)
_DELAY, _LOOKBACK = f"INTERVAL {DELAY.seconds} SECONDS", f"INTERVAL {LOOKBACK.days} DAYS"


def turnaround(left: Any, landed: Any) -> Any:
    """Each departure beside the newest landing before it that was known when the departure's row became available."""
    leaves = left.where("tailnum IS NOT NULL").selectExpr("tailnum", "event_time", "event_time AS known", "dep_delay_min")
    lands = landed.where("tailnum IS NOT NULL").selectExpr(
        "tailnum", "event_time AS landed_at", f"greatest(event_time + INTERVAL 1 MICROSECOND, available_time - {_DELAY}) AS known"
    )
    so_far = Window.partitionBy("tailnum").orderBy("known").rangeBetween(Window.unboundedPreceding, Window.currentRow)
    both = leaves.unionByName(lands, allowMissingColumns=True).withColumn("landed_at", F.max("landed_at").over(so_far))
    recent = F.when(F.col("landed_at") >= F.expr(f"event_time - {_LOOKBACK}"), F.col("landed_at"))
    minutes_away = (F.unix_micros("event_time") - F.unix_micros(recent)) / 60_000_000
    return both.where("event_time IS NOT NULL").withColumn("turnaround_min", minutes_away)


VIEW = FeatureView(
    name="aircraft_turnaround",
    version=1,
    entity=aircraft,
    source=(departures, arrivals),
    owner="fleet",
    compute=turnaround,
    features=[
        Feature(
            "turnaround_min", "float64", unit="minutes", minimum=0, description="from its last known landing elsewhere to leaving New York"
        ),
        Feature("dep_delay_min", "int32", unit="minutes", minimum=-240, maximum=2880, description="how late it left"),
    ],
    lookback=LOOKBACK,
    delay=DELAY,
    ttl=days(14),
    freshness=FreshnessSla(total=minutes(90), ingest=minutes(20), compute=minutes(30), publish=minutes(10)),
    if_unavailable=serve_stale(up_to=hours(24)).then_default(),
    description="how long an aircraft was away before it left New York again",
)
