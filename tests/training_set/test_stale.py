"""What was corrected or invalidated since a training set was built is told; what merely came after is not."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from penstock.clock import FixedClock, to_micros
from penstock.contract import FeatureService, FeatureView
from penstock.errors import SourceError
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import ATTEMPTS, attempts, copy_marks, log_attempts
from penstock.offline.maintenance import compact
from penstock.point_in_time.joined import Resources
from penstock.point_in_time.spine import table_rows
from penstock.registry.marks import Mark
from penstock.registry.project import Project
from penstock.training_set.sets import TrainingSets
from penstock.training_set.stale import Since, Stale
from tests.point_in_time.tables import CREATED, DAY, HOUR, a_view, write_rows
from tests.world import MONDAY, Order, World, attempt_entry, resources_of, view_of_orders

TUESDAY = MONDAY + timedelta(days=1)
SPEND = a_view()
UTC_MICROS = pa.timestamp("us", tz="UTC")


def sets_of(lake: Lake, clock: FixedClock, resources: Resources, *views: FeatureView) -> TrainingSets:
    """Training sets of a service for each view, named like it."""
    services = tuple(FeatureService(f"of_{view.name}", views=[view], owner="ml") for view in views)
    return TrainingSets(lake, Project("shop", views, services), resources, clock, table_rows, lambda: "registry")


# --- computed by Spark


@pytest.fixture
def world(spark: Any, tmp_path: Path) -> World:
    """Monday is whole; of Tuesday there is what was known at 06:00."""
    world = World(spark, Lake(str(tmp_path)), FixedClock(TUESDAY + 6 * HOUR))
    for n in range(3):
        world.place(f"c{n}", float(n), MONDAY + (1 + n) * HOUR)
    world.place("c0", 10.0, TUESDAY + 3 * HOUR)
    world.compute(MONDAY.date(), TUESDAY.date())
    return world


def built(world: World, name: str, at: datetime, *views: FeatureView) -> TrainingSets:
    """One build of training set `name` of the world's view: a row per customer at one time."""
    sets = sets_of(world.lake, world.clock, resources_of(world.spark), *(views or [world.view]))
    spine = pa.table({"customer": ["c0", "c1", "c2"], "event_time": pa.array([at] * 3, UTC_MICROS)})
    for view in views or [world.view]:
        sets.build(name if view is world.view else f"{name}_{view.name}", spine, f"of_{view.name}", mode="assumed")
    return sets


@pytest.mark.real
def test_an_open_day_that_went_on_is_not_stale_a_late_row_in_it_is_and_none_after_the_days_of_the_spine(world: World) -> None:
    built(world, "until_monday", MONDAY + 6 * HOUR)
    sets = built(world, "until_tuesday", TUESDAY + 5 * HOUR)
    world.clock.advance(6 * HOUR)
    world.place("c1", 11.0, TUESDAY + 8 * HOUR)
    (entry,) = world.compute(TUESDAY.date())
    assert entry.changed == 1
    assert (sets.stale("until_monday"), sets.stale("until_tuesday")) == ([], [])
    world.clock.advance(HOUR)
    world.place("c2", 12.0, TUESDAY + 2 * HOUR)  # by then Tuesday had been complete until 06:00
    (entry,) = world.compute(TUESDAY.date(), run_id="late")
    assert sets.stale("until_monday") == []
    (found,) = sets.stale("until_tuesday")
    assert (found.what, found.days, found.rows, found.attempts, found.by) == ("corrected", [TUESDAY.date()], 1, 1, ["late"])
    assert to_micros(found.since) == entry.attempt
    assert str(found) == "1 day of last_order corrected since 2026-03-03 13:00"
    assert built(world, "until_tuesday", TUESDAY + 5 * HOUR).stale("until_tuesday") == []  # another build has read it


@pytest.mark.real
def test_corrections_and_retractions_of_the_views_own_table_are_stale_and_it_can_still_be_made_again(world: World) -> None:
    other = World(world.spark, world.lake, world.clock, view_of_orders(name="other_order"), world.placed)
    other.compute(MONDAY.date())
    sets = built(world, "spend", TUESDAY + 5 * HOUR, world.view, other.view)
    made = {one.name: one.content for one in sets.list()}
    world.placed[0] = Order("c0", 5.0, MONDAY + HOUR)
    world.clock.advance(HOUR)
    world.compute(MONDAY.date(), run_id="fix")
    del world.placed[1]  # that of c1
    world.clock.advance(HOUR)
    world.compute(MONDAY.date(), TUESDAY.date(), run_id="fix again")
    world.clock.advance(HOUR)
    world.compute(MONDAY.date(), run_id="the same")  # an attempt that changes nothing
    (found,) = sets.stale("spend")
    expected = Stale("corrected", "last_order", 1, [MONDAY.date()], 2, 2, TUESDAY + 7 * HOUR, ["fix", "fix again"])
    assert found == expected
    assert sets.stale("spend_other_order") == []
    assert {one.name: sets.rebuild(one.name).content for one in sets.list()} == made
    compact(world.lake, world.view, before=TUESDAY.date() + timedelta(days=1))
    assert sets.stale("spend") == [expected]


# --- written by hand


def no_spark() -> Any:
    raise AssertionError("this needs no Spark")


def shop_of(lake: Lake, *views: FeatureView) -> TrainingSets:
    return sets_of(lake, FixedClock(CREATED + HOUR), Resources(no_spark, 2, 10**8), *views)


def a_set(sets: TrainingSets, at: datetime) -> None:
    sets.clock.advance(HOUR)
    sets.build("baskets", pa.table({"user": [1], "event_time": pa.array([at], UTC_MICROS)}), "of_spend", mode="assumed")


def spent(day: int, user: int = 1, **more: Any) -> dict[str, Any]:
    """What a user spent by 01:00 of a day, counted from the first."""
    return {"user": user, "at": DAY + timedelta(days=day) + HOUR, "amount": 1.0, **more}


@pytest.fixture
def shop(tmp_path: Path) -> TrainingSets:
    """A set that reads the first and the third day; on the second nothing was spent."""
    lake = Lake(str(tmp_path))
    view = a_view(ttl=None)
    write_rows(lake, view, [spent(0), spent(0, 2), spent(2), spent(3)])
    log_attempts(lake, [attempt_entry((DAY + timedelta(days=1)).date(), table=feature_table(SPEND), attempt=to_micros(CREATED))])
    sets = shop_of(lake, view)
    a_set(sets, DAY + timedelta(days=2, hours=5))
    (manifest,) = sets.list()
    assert set(manifest.inputs[0].partitions) == {"2026-03-02", "2026-03-04"}
    return sets


def test_a_day_between_that_had_no_rows_was_read_too(shop: TrainingSets) -> None:
    later = CREATED + 100 * HOUR
    write_rows(shop.lake, SPEND, [spent(3, 2, created=later)])  # after the days of the spine
    assert shop.stale("baskets") == []
    write_rows(shop.lake, SPEND, [spent(1, created=later + HOUR)])
    (found,) = shop.stale("baskets")
    assert (found.days, found.rows, found.since) == ([(DAY + timedelta(days=1)).date()], 1, later + HOUR)


def test_what_an_attempt_wrote_without_being_committed_is_not_stale(shop: TrainingSets) -> None:
    before = attempts(shop.lake)
    later = CREATED + 100 * HOUR
    write_rows(shop.lake, SPEND, [spent(0, created=later)])
    assert len(shop.stale("baskets")) == 1
    shop.lake.open(ATTEMPTS).delete(f"attempt = {to_micros(later)}")
    assert (attempts(shop.lake), shop.lake.dataset(feature_table(SPEND)).count_rows()) == (before, 5)
    assert shop.stale("baskets") == []
    log_attempts(
        shop.lake, [attempt_entry(DAY.date(), attempt=to_micros(later), table=feature_table(SPEND), state="quarantined", changed=1)]
    )
    assert shop.stale("baskets") == []


def a_mark(identity: str, at: datetime, **changes: Any) -> Mark:
    mark = Mark(view="spend", version=1, marked_at_us=to_micros(at), id=identity, attempt=None, since_us=None, until_us=None, reason="")
    return msgspec.structs.replace(mark, **changes)


def test_a_mark_made_since_that_covers_what_was_read_is_told_until_it_is_lifted(shop: TrainingSets) -> None:
    now, third = CREATED + 2 * HOUR, DAY + timedelta(days=2)
    copy_marks(
        shop.lake,
        [
            a_mark("other-view", now, view="city"),
            a_mark("other-attempt", now, attempt=7),
            a_mark("after-its-days", now, since_us=to_micros(DAY + timedelta(days=3))),
            a_mark("before-it-was-computed", CREATED - HOUR),
        ],
    )
    assert shop.stale("baskets") == []
    copy_marks(shop.lake, [a_mark("m1", now + HOUR, until_us=to_micros(third)), a_mark("m2", now + 2 * HOUR, attempt=to_micros(CREATED))])
    # m1 covers the two rows of the first day, m2 those and the one of the third: three rows in all
    (found,) = shop.stale("baskets")
    assert found == Stale("invalidated", "spend", 1, [DAY.date(), third.date()], 3, 1, now + HOUR, ["m1", "m2"])
    copy_marks(shop.lake, [a_mark("m2", now + 2 * HOUR, attempt=to_micros(CREATED), lifted_at_us=to_micros(now + 3 * HOUR))])
    (found,) = shop.stale("baskets")
    assert (found.days, found.rows, found.by) == ([DAY.date()], 2, ["m1"])
    a_set(shop, DAY + timedelta(days=1))  # made when the mark was known
    assert shop.stale("baskets") == []


def test_a_view_under_two_names_is_told_once(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    write_rows(lake, SPEND, [spent(0)])
    service = FeatureService("of_spend", views=[SPEND, SPEND.named("gift", on={"user": "friend"})], owner="ml")
    sets = replace(shop_of(lake), project=Project("shop", (SPEND,), (service,)))
    spine = pa.table({"user": [1], "friend": [2], "event_time": pa.array([DAY + 5 * HOUR], UTC_MICROS)})
    sets.build("baskets", spine, "of_spend", mode="assumed")
    write_rows(lake, SPEND, [spent(0, created=CREATED + HOUR)])
    (found,) = sets.stale("baskets")
    assert (found.rows, found.attempts) == (1, 1)


def test_that_a_log_is_gone_is_said_and_nothing_else_is_guessed(shop: TrainingSets) -> None:
    (manifest,) = shop.list()
    for entry in (Path(shop.lake.location(ATTEMPTS)) / "_delta_log").iterdir():
        entry.unlink()
    with pytest.raises(SourceError, match="there is no table log/attempts"):
        Since(shop.lake).stale(manifest)
