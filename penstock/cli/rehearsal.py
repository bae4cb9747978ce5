"""Spark's classes kept ahead: of a session that does, once and small, what most do.

Rows are ingested, two views computed, checked and committed, and again an hour later.
"""

import tempfile
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from penstock.cli.screen import err, warn
from penstock.clock import FixedClock
from penstock.config import Settings
from penstock.contract import Entity, Feature, FeatureView, FreshnessSla, Source, available_at, count, days, hours, mean
from penstock.errors import RuntimeSetupError
from penstock.offline.attempt import run_attempt
from penstock.offline.ingest import ingest_days
from penstock.offline.lake import Lake
from penstock.quality.contracts import audit
from penstock.runtime.class_archive import is_there, make_archive
from penstock.runtime.spark import spark_session, stop_session

_HOUR = timedelta(hours=1)
_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)

_orders = Source(
    "orders",
    schema={"customer": "string", "amount": "float64", "event_time": "timestamp", "available_time": "timestamp"},
    availability=available_at("available_time", at_most=hours(1)),
    owner="rehearsal",
)
_customer = Entity("customer", {"customer": "string"})


def _as_they_are(rows: DataFrame) -> DataFrame:
    return rows.select("customer", "event_time", "amount")


_views = (
    FeatureView(
        name="spending",
        version=1,
        entity=_customer,
        source=_orders,
        owner="rehearsal",
        aggregations=[mean("amount", over=[hours(3), days(1)], unit="euro", between=(0, 1000)), count(over=[days(1)])],
        every=hours(1),
        ttl=days(2),
        freshness=FreshnessSla(total=hours(2)),
    ),
    FeatureView(
        name="last_order",
        version=1,
        entity=_customer,
        source=_orders,
        owner="rehearsal",
        compute=_as_they_are,
        features=[Feature("amount", "float64", unit="euro", minimum=0)],
        ttl=days(2),
        freshness=FreshnessSla(total=hours(2)),
    ),
)


def rehearse(spark: SparkSession) -> None:
    """What a session does, in a lake that is gone afterwards."""
    clock, today = FixedClock(_NOON), [_NOON.date()]
    with tempfile.TemporaryDirectory(prefix="penstock-rehearsal-") as folder:
        lake = Lake(folder)
        for _ in range(2):
            ingest_days(lake, _orders, today, fetch=_fetch, clock=clock, run_id="rehearsal")
            for view in _views:
                run_attempt(spark, lake, view, today, clock=clock, run_id="rehearsal", audit=audit)
            clock.advance(_HOUR)


def keep_classes(settings: Settings) -> None:
    """The archive of Spark's classes, made if it is not there; where this Java makes none, a warning says so."""
    if not settings.spark.master.startswith("local") or is_there(settings):
        return
    try:
        with err.status("reading Spark's classes ahead, once, about a minute"):
            make_archive(settings, spark_session, rehearse)
    except RuntimeSetupError as error:
        warn([error.message, error.hint])
    finally:
        stop_session()


def _fetch(_: str, start: datetime, __: datetime, known_by: datetime) -> pa.Table:
    """An order of each of ten customers in every hour so far."""
    times = [at for at in (start + n * _HOUR for n in range(24)) if at < known_by]
    micros = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "customer": [f"customer {n}" for n in range(10) for _ in times],
            "amount": [float(n + at.hour) for n in range(10) for at in times],
            "event_time": pa.array([at for _ in range(10) for at in times], micros),
            "available_time": pa.array([at for _ in range(10) for at in times], micros),
        }
    )
