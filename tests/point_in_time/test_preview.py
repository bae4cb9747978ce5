"""A preview gives what computing would commit and a join would attach, and leaves nothing behind."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.clock import FixedClock
from penstock.contract import FeatureView, FreshnessSla, count, days, hours, minutes, total
from penstock.errors import ConfigError, SpineError
from penstock.offline.commit import read_features
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts
from penstock.point_in_time.preview import preview
from tests.world import MONDAY, World, attached, customer, orders

pytestmark = pytest.mark.real
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
VIEW = FeatureView(
    name="spending",
    version=1,
    entity=customer,
    source=orders,
    owner="tests",
    aggregations=[total("amount", over=[hours(3)]), count(over=[days(1)])],
    every=minutes(15),
    delay=minutes(15),
    ttl=hours(12),
    freshness=FreshnessSla(total=minutes(90)),
)


@pytest.fixture
def world(spark: Any, tmp_path: Path) -> World:
    world = World(spark, Lake(str(tmp_path)), FixedClock(MONDAY + 12 * HOUR), VIEW)
    for n in range(60):
        world.place("ann" if n % 2 else "bob", float(n), MONDAY - 6 * HOUR + n * timedelta(minutes=15))
    world.ingest([(MONDAY - DAY).date(), MONDAY.date()])
    return world


def shown(world: World, *given: Any, **days: Any) -> Any:
    return preview(world.spark, world.lake, VIEW, *(given or (None,)), world.clock.now(), days.get("first"), days.get("last"))


def test_the_rows_of_some_keys_are_those_computing_commits(world: World) -> None:
    seen = {tuple(row) for row in shown(world, [{"customer": "ann"}], first=MONDAY.date()).collect()}
    assert attempts(world.lake, feature_table(VIEW)) == []
    assert world.lake.version(feature_table(VIEW)) is None
    world.compute(MONDAY.date())
    names = ["customer", "event_time", *VIEW.feature_names]
    committed = {tuple(row) for row in read_features(world.spark, world.lake, VIEW).select(*names).where("customer = 'ann'").collect()}
    assert seen == committed
    assert len(seen) > 20


def test_features_on_a_spine_are_those_a_join_attaches(world: World) -> None:
    spine = world.spark.createDataFrame(
        [(who, MONDAY + n * HOUR) for n in range(-3, 12) for who in ("ann", "bob", "eve")], "customer string, event_time timestamp"
    )
    seen = sorted(map(str, shown(world, spine).collect()))
    world.compute((MONDAY - DAY).date(), MONDAY.date())
    joined = sorted(map(str, attached(world.spark, world.lake, VIEW, spine, "assumed").collect()))
    assert seen == joined
    assert len(seen) == 45
    assert sum("None" not in row for row in seen) > 20


def test_a_sample_without_a_join_key_is_refused(world: World) -> None:
    with pytest.raises(SpineError, match="the sample lacks 'customer'"):
        shown(world, world.spark.range(1))


def test_a_spine_after_now_and_a_session_of_other_days_are_refused(world: World) -> None:
    with pytest.raises(SpineError, match="no day to compute from"):
        shown(world, [{"customer": "ann", "event_time": MONDAY + 40 * DAY}])
    world.spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        with pytest.raises(ConfigError, match="partitions are days in UTC"):
            shown(world, [{"customer": "ann"}])
    finally:
        world.spark.conf.set("spark.sql.session.timeZone", "UTC")
