"""Windows of the feature log: each judged once, none passed over, and what was found kept."""

import asyncio
import dataclasses
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from deltalake import DeltaTable
from pydantic import ValidationError

from penstock.clock import FixedClock
from penstock.config import FeatureLogSettings, LakeSettings, Settings
from penstock.contract import Budget, FeatureService, FreshnessSla, SkewPolicy, largest
from penstock.offline.lake import Lake
from penstock.offline.statistics import ColumnStatistics, Reference
from penstock.quality.alerts import skew_conditions
from penstock.quality.cases import Example
from penstock.quality.findings import Finding
from penstock.quality.replay import replay
from penstock.quality.served_log import SERVED, Shipped, ship
from penstock.quality.skew import Completeness, Level, SkewCheck
from penstock.quality.skew_log import (
    DAY,
    HOUR,
    SETTLED,
    completeness,
    due_windows,
    judge_window,
    judged_windows,
    log_skew,
    on_time,
    skew_entries,
)
from penstock.serving.feature_log import FeatureLog
from penstock.serving.judgement import Outcome
from penstock.store import Store
from tests.quality.skew_entries import entry
from tests.served import TODAY, Served, served_orders
from tests.serving.test_feature_log import answer, log
from tests.serving.world import NOON
from tests.world import MONDAY, view_of_orders

MINUTE = timedelta(minutes=1)


def hours(*untils: int) -> list[tuple[datetime, datetime]]:
    return [(MONDAY + (until - 1) * HOUR, MONDAY + until * HOUR) for until in untils]


def test_at_first_the_newest_hour_and_the_newest_day_that_have_settled_are_judged() -> None:
    assert due_windows([], MONDAY + 12 * HOUR + 5 * MINUTE) == [(MONDAY - DAY, MONDAY), *hours(12)]
    assert due_windows([], MONDAY + 12 * HOUR + 4 * MINUTE) == [(MONDAY - DAY, MONDAY), *hours(11)]
    assert due_windows([], MONDAY + 59 * MINUTE) == [(MONDAY - 2 * DAY, MONDAY - DAY), *hours(0)]


def test_windows_go_on_from_the_last_that_was_judged_and_none_twice() -> None:
    judged = [*hours(9), (MONDAY - DAY, MONDAY)]
    assert due_windows(judged, MONDAY + 12 * HOUR + 6 * MINUTE) == hours(10, 11, 12)
    assert due_windows([*judged, *hours(10, 11, 12)], MONDAY + 12 * HOUR + 59 * MINUTE) == []


def test_hours_that_were_left_out_are_judged_though_a_later_one_was() -> None:
    judged = [*hours(3), *hours(12), (MONDAY - DAY, MONDAY)]
    assert due_windows(judged, MONDAY + 12 * HOUR + 10 * MINUTE) == hours(4, 5, 6, 7, 8, 9, 10, 11)
    days = [(MONDAY - n * DAY, MONDAY - (n - 1) * DAY) for n in (5, 4, 3, 2, 1)]
    assert due_windows([days[0], days[3], *hours(12)], MONDAY + 12 * HOUR + 10 * MINUTE) == [days[1], days[2], days[4]]


def test_a_window_that_is_not_of_the_clock_shifts_no_other() -> None:
    by_hand = (MONDAY + 11.5 * HOUR, MONDAY + 12.5 * HOUR)
    judged = [*hours(10), by_hand, (MONDAY - DAY, MONDAY)]
    assert due_windows(judged, MONDAY + 14 * HOUR + 6 * MINUTE) == hours(11, 12, 13, 14)
    assert due_windows([by_hand, (MONDAY - DAY, MONDAY)], MONDAY + 14 * HOUR + 6 * MINUTE) == hours(13, 14)


def test_after_a_long_silence_a_day_of_hours_and_a_week_of_days_are_made_up_for() -> None:
    windows = due_windows([*hours(0), (MONDAY - DAY, MONDAY)], MONDAY + 30 * DAY + 2 * HOUR)
    lengths = [until - since for since, until in windows]
    assert (lengths.count(HOUR), lengths.count(DAY)) == (24, 7)
    assert max(until for _, until in windows) == MONDAY + 30 * DAY + HOUR


def test_that_nothing_is_judged_any_more_is_told() -> None:
    judged = [*hours(9), (MONDAY - 14 * HOUR, MONDAY + 10 * HOUR)]
    told = {minutes: on_time(judged, MONDAY + 9 * HOUR + minutes * MINUTE) for minutes in (6, 124, 125, 184, 185, 10_000)}
    assert list(told.values()) == [
        Level.PASSED, Level.PASSED, Level.WARNING, Level.WARNING, Level.CRITICAL, Level.CRITICAL,
    ]  # fmt: skip
    assert on_time([], MONDAY) == Level.INSUFFICIENT_DATA


def test_that_hours_were_left_out_is_told_though_a_later_one_was_judged() -> None:
    noon = MONDAY + 12 * HOUR
    told = {n: on_time([*hours(n), *hours(12)], noon + 6 * MINUTE) for n in (3, 9, 10, 11)}  # the oldest that lacks began at n
    assert told == {3: Level.CRITICAL, 9: Level.CRITICAL, 10: Level.WARNING, 11: Level.PASSED}
    assert on_time([*hours(3), *hours(12)], noon + 16 * HOUR) == Level.CRITICAL
    made_up = hours(*range(4, 13))
    assert on_time([*hours(3), *made_up], noon + 6 * MINUTE) == Level.PASSED
    before_the_horizon = [(MONDAY - 9 * DAY, MONDAY - 9 * DAY + HOUR), *hours(*range(-13, 13))]
    assert on_time(before_the_horizon, noon + 6 * MINUTE) == Level.PASSED


def test_what_was_found_is_kept_and_judged_again_the_newer_counts(tmp_path: Path) -> None:
    lake, view = Lake(str(tmp_path)), view_of_orders()
    example = Example(
        "request", 0, MONDAY, {"customer": "ann"}, Finding.STALE, (MONDAY - HOUR, 900), MONDAY - MINUTE, {"amount": (1.5, None)}
    )
    full = entry(
        MONDAY + HOUR,
        rows=10,
        changes=9,
        unserved=1,
        late=2,
        findings={"stale": 1, "equal": 9},
        differing={"amount": 1},
        compared={"amount": 10},
        checks=[SkewCheck("staleness", Level.WARNING, 1, 10, "one is older")],
        examples=[example],
    )
    assert skew_entries(lake) == []
    log_skew(lake, [entry(MONDAY + HOUR), entry(MONDAY + HOUR, view="others")])
    log_skew(lake, [entry(MONDAY + 2 * HOUR), full_again := entry(MONDAY + HOUR, judged_at=MONDAY + DAY, rows=3)])
    assert skew_entries(lake, view) == [full_again, entry(MONDAY + 2 * HOUR)]
    again = msgspec.structs.replace(full, judged_at=MONDAY + 2 * DAY)
    log_skew(lake, [again])
    assert skew_entries(lake, view)[0] == again
    assert [one.until for one in skew_entries(lake, view, since=MONDAY + HOUR)] == [MONDAY + 2 * HOUR]
    assert {one.view for one in skew_entries(lake)} == {"last_order", "others"}


def test_rows_that_are_not_in_the_log_are_counted_by_what_gateways_said(tmp_path: Path) -> None:
    lake, folder = Lake(str(tmp_path / "lake")), tmp_path / "log"
    window = NOON - HOUR, NOON + HOUR
    assert completeness(lake, *window) == Completeness(0, 0)
    log(folder, answer("UA", "XX"), answer("UA"))
    assert ship(lake, folder) == Shipped(segments=1, rows=6, dropped=0)
    assert completeness(lake, *window) == Completeness(3, 0)
    assert completeness(lake, NOON - 2 * HOUR, NOON - HOUR) == Completeness(0, 0)
    DeltaTable(lake.location(SERVED)).delete('"row" = 1')
    assert completeness(lake, *window) == Completeness(3, 1)


def lives(one: FeatureLog, clock: FixedClock, minutes: int, *, asked: bool = True, ends: bool = False) -> None:
    """A gateway process lives for some minutes: asked in each, or in the first alone; its segment is then closed, as it is in time."""
    nobody = answer(None)

    async def run() -> None:
        for minute in range(minutes):
            if asked or minute == 0:
                one.take(nobody, "request", "everyone")
            clock.advance(MINUTE)
            await one.flush()
        if ends:
            await one.close()

    asyncio.run(run())
    one._close_segment()


def silent(lake: Lake, *untils: int) -> list[list[str]]:
    """Of hours that end so many after noon, which processes have fallen silent."""
    windows = [(NOON + (until - 1) * HOUR, NOON + until * HOUR) for until in untils]
    return [[writer for writer, _ in completeness(lake, *window).silent] for window in windows]


def test_a_gateway_whose_log_is_late_is_named_until_it_has_come(tmp_path: Path) -> None:
    lake, clock = Lake(str(tmp_path / "lake")), FixedClock(NOON)
    late, other = (FeatureLog(tmp_path / name, FeatureLogSettings(sample=1.0), clock) for name in ("late", "other"))
    lives(late, clock, 30)
    ship(lake, tmp_path / "late")
    assert silent(lake, 0, 1, 2, 3) == [[], [late._writer], [late._writer], []]  # heard of up to 12:30
    assert completeness(lake, NOON, NOON + HOUR).silent == ((late._writer, NOON + 30 * MINUTE),)
    assert completeness(lake, NOON, NOON + 50 * MINUTE).silent == ()  # 12:50 - 20 min is 12:30
    assert completeness(lake, NOON, NOON + 51 * MINUTE).silent != ()
    lives(late, clock, 60)
    lives(other, clock, 60)
    ship(lake, tmp_path / "other")  # from 13:30 to 14:30
    assert silent(lake, 1, 2) == [[late._writer]] * 2
    ship(lake, tmp_path / "late")
    assert silent(lake, 1, 2) == [[], [late._writer]]  # up to 13:30


def test_a_gateway_that_lives_or_has_ended_is_not_named(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    for name, minutes, asked, ends in [
        ("busy", 300, True, False),
        ("idle", 300, False, False),
        ("ended", 10, True, True),
        ("ended idle", 10, False, True),
    ]:
        clock = FixedClock(NOON + 5 * MINUTE)
        lives(FeatureLog(tmp_path / name, FeatureLogSettings(sample=1.0), clock), clock, minutes, asked=asked, ends=ends)
        ship(lake, tmp_path / name)
    assert silent(lake, 1, 2, 3, 4, 5) == [[]] * 5  # up to 17:00; the log of those that live is until 17:05
    assert completeness(lake, NOON - 12 * HOUR, NOON + 5 * HOUR).silent == ()


def test_what_a_gateway_could_not_write_lacks_in_the_hours_it_was_lost_in(tmp_path: Path) -> None:
    lake, folder, clock = Lake(str(tmp_path / "lake")), tmp_path / "log", FixedClock(NOON - 30 * MINUTE)
    one, answered = FeatureLog(folder, FeatureLogSettings(sample=1.0), clock), answer("UA")
    folder.write_text("no folder")

    async def run() -> None:
        for _ in range(100):  # 11:30 to 13:10
            one.take(answered, "lost", "everyone")
            clock.advance(MINUTE)
            await one.flush()
        folder.unlink()
        await one.close()

    asyncio.run(run())
    assert ship(lake, folder) == Shipped(segments=1, rows=0, dropped=100)
    lacking = [completeness(lake, NOON + n * HOUR, NOON + (n + 1) * HOUR) for n in (-1, 0, 1)]
    assert lacking == [Completeness(30, 30), Completeness(60, 60), Completeness(10, 10)]


def test_a_segment_is_closed_before_an_hour_is_judged() -> None:
    settled = SETTLED[HOUR].total_seconds()
    assert FeatureLogSettings(segment_s=settled - 1).segment_s == settled - 1
    with pytest.raises(ValidationError, match=r"300 s is too long: an hour is judged 300 s after its end.*give less than 300"):
        FeatureLogSettings(segment_s=settled)


@pytest.mark.real
def test_an_hour_in_which_a_value_was_altered_says_so_and_the_one_before_does_not(served: Served) -> None:
    served.bring(TODAY)
    world = served.world
    attempt = served.ledger()[0].attempt
    for altered in (False, True):
        if altered:
            served.put("ann", 12.5, MONDAY + 11 * HOUR, attempt)
        for _ in range(5):
            served.ask("ann", "bob")
        world.clock.advance(HOUR)
    served.ship()
    now = world.clock.now()
    first, second = (
        judge_window(world.lake, [world.view], MONDAY + hour * HOUR, MONDAY + (hour + 1) * HOUR, served.resources, now)[0]
        for hour in (12, 13)
    )
    assert first.level == Level.INSUFFICIENT_DATA
    assert (first.findings, first.rows, first.changes) == ({"equal": 10}, 10, 2)
    assert second.level == Level.CRITICAL
    assert (second.findings, second.differing, second.compared) == ({"value": 5, "equal": 5}, {"amount": 5}, {"amount": 10})
    assert {check.name: check.level for check in second.checks if check.level is not Level.INSUFFICIENT_DATA} == {
        "fidelity": Level.CRITICAL,
        "values": Level.CRITICAL,
        "age": Level.CRITICAL,
    }
    (none,) = judge_window(world.lake, [world.view], MONDAY, MONDAY + HOUR, served.resources, now)
    assert (none.rows, none.level) == (0, Level.INSUFFICIENT_DATA)
    assert (first.served, second.served) == ({}, {})
    trained = {world.view: Reference("orders", {"amount": ColumnStatistics(rows=5_000)})}
    (day,) = judge_window(world.lake, [world.view], MONDAY, MONDAY + DAY, served.resources, now, trained)
    assert (day.served["amount"].rows, day.served["amount"].high) == (20, 20.0)
    assert (day.checks[-1].name, day.checks[-1].level) == ("training", Level.INSUFFICIENT_DATA)
    strict = [FeatureService(name, views=[world.view], owner="tests", budgets={"age": Budget(0.1, 0.2)}) for name in ("orders", "others")]
    window = MONDAY + 13 * HOUR, MONDAY + 14 * HOUR
    whole, of_service = judge_window(world.lake, [world.view], *window, served.resources, now, services=strict)
    assert whole == second
    assert (of_service.ref, of_service.rows, of_service.is_of(world.view)) == (f"orders/{world.view.ref}", 10, False)
    assert [(check.name, check.level, check.bad) for check in of_service.checks] == [("age", Level.CRITICAL, 10)]
    assert [one.key for one in skew_conditions([second, of_service]) if "/" in one.key] == [f"skew:orders/{world.view.ref}:age"]
    log_skew(world.lake, [first, second, none])
    assert (MONDAY - DAY, MONDAY) in due_windows(judged_windows(world.lake), now + 6 * MINUTE)
    log_skew(world.lake, [day, of_service])
    assert skew_entries(world.lake, world.view) == [none, first, second, of_service, day]


@pytest.mark.real
def test_an_attempt_that_is_served_altered_is_taken_back_within_its_window_and_once(
    spark: Any, cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path: Path
) -> None:
    policy = SkewPolicy(invalidate=True)
    with served_orders(spark, cassandra_settings, endpoint, tmp_path, "taken back", skew=policy) as served:
        world = served.world
        lake, log = LakeSettings(path=str(tmp_path)), FeatureLogSettings(folder=str(served.folder))
        store = Store(served.settings.model_copy(update={"lake": lake, "feature_log": log}), served.project, world.clock)
        served.bring(TODAY)
        attempt = served.ledger()[0].attempt
        served.put("ann", 12.5, MONDAY + 11 * HOUR, attempt)
        for _ in range(5):
            token = served.ask("ann")
        assert served.findings(token) == ["value"]
        served.ship()
        world.clock.advance(HOUR + 6 * MINUTE)
        assert {entry.level for entry in store.judge_due_skew() if entry.rows} == {Level.CRITICAL}
        (mark,) = store.marks(world.view)
        assert (mark.attempt, mark.lifted_at_us) == (attempt, None)
        assert mark.reason.startswith("skew: 5 of 5 rows served of it from 2026-03-02 12:00 UTC on are not what the lake has")
        assert [part.outcome for part in replay(world.lake, served.ask("ann")).parts] == [Outcome.INVALIDATED]
        store.lift(mark.id)
        assert served.findings(served.ask("ann")) == ["value"]
        (again,) = store.judge_skew(MONDAY + 12 * HOUR, MONDAY + 13 * HOUR, keep=True)
        assert again.level == Level.CRITICAL
        assert [one.id for one in store.marks(world.view)] == [mark.id]


@pytest.mark.real
def test_what_another_lake_wrote_is_told_and_holds_up_no_later_window(
    spark: Any, cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path: Path
) -> None:
    with served_orders(spark, cassandra_settings, endpoint, tmp_path, "foreign", skew=SkewPolicy(invalidate=True)) as served:
        world = served.world
        lake, log = LakeSettings(path=str(tmp_path)), FeatureLogSettings(folder=str(served.folder))
        store = Store(served.settings.model_copy(update={"lake": lake, "feature_log": log}), served.project, world.clock)
        served.bring(TODAY)
        served.put("ann", 12.5, MONDAY + 11 * HOUR, 999)
        for _ in range(5):
            served.ask("ann")
        served.ship()
        world.clock.advance(HOUR + 6 * MINUTE)
        assert {entry.level for entry in store.judge_due_skew() if entry.rows} == {Level.CRITICAL}
        assert [entry.level for entry in store.skew() if entry.rows] == [Level.CRITICAL]
        assert store.marks(world.view) == []
        assert due_windows(judged_windows(world.lake), world.clock.now()) == []


@pytest.mark.real
@pytest.mark.parametrize(("served_by", "now"), [(timedelta(hours=2), timedelta(hours=12)), (timedelta(hours=12), timedelta(hours=2))])
def test_what_was_right_by_the_ttl_it_was_served_by_is_right_when_the_view_has_another(
    spark: Any,
    cassandra_settings: Settings,
    endpoint: tuple[list[str], int],
    tmp_path: Path,
    served_by: timedelta,
    now: timedelta,
) -> None:
    with served_orders(spark, cassandra_settings, endpoint, tmp_path, f"ttl {served_by}", ttl=served_by) as served:
        world = served.world
        served.bring(TODAY)
        world.clock.advance(5 * HOUR)
        token = served.ask("ann")
        assert [part.outcome for part in replay(world.lake, token).parts] == [Outcome.EXPIRED if served_by < now else Outcome.LATE]
        served.ship()
        view, at = dataclasses.replace(world.view, ttl=now), world.clock.now()
        (seen,) = judge_window(world.lake, [view], at, at + HOUR, served.resources, at)
        assert (seen.findings, seen.differing) == ({"equal": 1}, {"amount": 0})


@pytest.mark.real
def test_a_view_of_aggregations_is_judged_by_the_ttl_it_was_served_by_though_its_freshness_is_looser_now(
    spark: Any, cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path: Path
) -> None:
    windows = {"compute": None, "features": (), "aggregations": [largest("amount", over=[6 * HOUR], name="amount")], "every": HOUR}
    with served_orders(spark, cassandra_settings, endpoint, tmp_path, "windows", **windows, ttl=2 * HOUR) as served:
        world = served.world
        served.bring(TODAY)
        served.ask("ann", "bob")
        served.put("ann", 12.5, MONDAY + 12 * HOUR, served.ledger()[0].attempt)
        served.ask("ann", "bob")
        served.ship()
        looser = {"ttl": 12 * HOUR, "freshness": FreshnessSla(total=3 * HOUR)}
        view = view_of_orders(name=world.view.name, **windows, **looser)
        (seen,) = judge_window(world.lake, [view], MONDAY + 12 * HOUR, MONDAY + 13 * HOUR, served.resources, world.clock.now())
        assert (seen.findings, seen.differing, seen.compared) == ({"equal": 3, "value": 1}, {"amount_6h": 1}, {"amount_6h": 4})


@pytest.mark.real
def test_a_window_that_cannot_be_judged_says_why_and_is_due_until_it_can(
    spark: Any, cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path: Path
) -> None:
    with served_orders(spark, cassandra_settings, endpoint, tmp_path, "lost files") as served:
        world = served.world
        lake, log = LakeSettings(path=str(tmp_path)), FeatureLogSettings(folder=str(served.folder))
        store = Store(served.settings.model_copy(update={"lake": lake, "feature_log": log}), served.project, world.clock)
        served.bring(TODAY)
        served.ask("ann")
        served.ship()
        world.clock.advance(HOUR + 6 * MINUTE)
        files = sorted((tmp_path / "features" / world.view.name).rglob("*.parquet"))
        for file in files:
            file.rename(file.with_suffix(".lost"))
        with pytest.raises(ExceptionGroup, match=r"(?s)1 window.*2026-03-02 12:00 to 2026-03-02 13:00 UTC was not judged: ."):
            store.judge_due_skew()
        for file in files:
            file.with_suffix(".lost").rename(file)
        assert [entry.level for entry in store.judge_due_skew() if entry.rows] == [Level.INSUFFICIENT_DATA]
