"""Two days of serving, replayed with a fixed clock: a training set holds, for every moment, what was online then."""

from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs.flights_data import facts
from penstock.clock import FixedClock, from_micros
from penstock.config import Settings
from penstock.contract import FeatureService, FeatureView
from penstock.offline.attempt import run_attempt
from penstock.offline.ingest import ingest_days
from penstock.offline.lake import Lake
from penstock.offline.logs import publications
from penstock.offline.watermark import days_between
from penstock.online.cassandra import CassandraStore
from penstock.point_in_time.spine import FrameRows
from penstock.publication.publish import publish
from penstock.quality.contracts import audit
from penstock.registry.project import load_project
from penstock.training_set.build import Recipe, build
from tests.online_content import values_online
from tests.world import MONDAY, resources_of

pytestmark = pytest.mark.real
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# 15:00 and 23:00 of two days: New York's morning and evening
STEPS = [MONDAY + 15 * HOUR, MONDAY + 23 * HOUR, MONDAY + DAY + 15 * HOUR, MONDAY + DAY + 23 * HOUR]
Served = dict[tuple[object, ...], tuple[object, ...] | None]


def test_what_was_online_at_each_moment_is_what_the_training_set_holds(
    spark: Any, cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path: Path
) -> None:
    project = load_project("feature_assets")
    views = [project.view("carrier_origin_delays"), project.view("origin_weather")]
    keyspace = cassandra_settings.cassandra.model_copy(update={"keyspace": "two_live_days"})
    connect = partial(CassandraStore.connect, *endpoint, cassandra_settings.model_copy(update={"cassandra": keyspace}))
    lake, clock = Lake(str(tmp_path)), FixedClock(STEPS[0])
    first, spine, served = MONDAY.date() - DAY, list[tuple[Any, ...]](), dict[datetime, dict[str, Served]]()
    keys = [(carrier, origin) for carrier in ("UA", "B6", "DL", "AA", "EV", "HA") for origin in ("EWR", "JFK", "LGA")]
    for step in STEPS:
        clock.advance(step - clock.now())
        for source in {source for view in views for source in view.sources}:
            ingest_days(lake, source, days_between(first - 8 * DAY, step.date()), fetch=facts, clock=clock, run_id="")
        for view in views:
            open_days = days_between(first if step == STEPS[0] else step.date() - DAY, step.date())
            run_attempt(spark, lake, view, open_days, clock=clock, run_id="", audit=audit)
            publish(spark, lake, view, open_days, connect=connect, clock=clock, run_id="")
        # a minute later somebody asks
        asked = step + timedelta(minutes=1)
        served[asked] = {view.name: served_at(connect, view, keys, asked) for view in views}
        spine += [(*key, asked) for key in keys]

    assert all(row.readable_at_us for row in publications(lake))
    before_live = [(*key, STEPS[0] - 2 * HOUR) for key in keys]
    frame = spark.createDataFrame(spine + before_live, "carrier string, origin string, event_time timestamp")
    service = FeatureService("replayed", views=views, owner="tests")
    manifest = build(lake, service, FrameRows(frame), resources_of(spark), name="replayed", clock=clock, recipe=Recipe(mode="observed"))
    assert [one.rows_by_rule for one in manifest.inputs] == [{"ledger": len(spine), "assumed": len(before_live)}] * 2

    rows = spark.read.format("delta").load(lake.location(manifest.table)).selectExpr("*", "unix_micros(event_time) AS at_us").collect()
    compared = present = 0
    for row in rows:
        at = from_micros(row["at_us"])
        for view in views if at in served else ():
            key = tuple(row[name] for name in view.entity.join_keys)
            names = [f"{view.name}__{name}" for name in view.feature_names]
            expected = served[at][view.name][key]
            assert tuple(row[name] for name in names) == (expected or (None,) * len(names)), (key, at)
            compared += 1
            present += expected is not None
    assert compared == 2 * len(spine)
    assert present >= 0.8 * compared


def served_at(connect: Any, view: FeatureView, keys: list[tuple[str, str]], now: datetime) -> Served:
    """What a reader gets of each key: what is online, unless it has expired."""
    own = {tuple(value for name, value in zip(("carrier", "origin"), key, strict=True) if name in view.entity.join_keys) for key in keys}
    assert view.ttl is not None
    return {
        key: None if stored is None or now - from_micros(stored.event_time_us) > view.ttl else tuple(stored.values)
        for key, stored in values_online(connect, view, sorted(own)).items()
    }
