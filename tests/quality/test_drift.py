"""What a closed day is like beside the same weekday of the weeks before: kept, remarked on, and refused where a view says so."""

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.clock import FixedClock
from penstock.contract import Feature, SkewPolicy
from penstock.offline.attempt import Verdict, audited, run_attempt
from penstock.offline.lake import Lake
from penstock.offline.profiles import Profile, log_profiles, profiles_of, remarks_of
from penstock.offline.statistics import ColumnStatistics, statistics_of
from penstock.quality.distributions import Size
from penstock.quality.drift import GATE, HELD_BACK, REMARKED, audit_and_profile, drift, sentences
from tests.world import MONDAY, World, view_of_orders

DAY, ROWS = timedelta(days=1), 1_200
MONDAYS = [MONDAY.date() - weeks * 7 * DAY for weeks in range(4, -1, -1)]
AMOUNT = Feature("amount", "float64", unit="euro")
VIEW, STRICT = view_of_orders(features=[AMOUNT]), view_of_orders(features=[AMOUNT], skew=SkewPolicy(hold_back=True))


def amounts(seed: int) -> Any:
    return np.random.default_rng(seed).gamma(4.0, 5.0, ROWS)


def of(values: Any) -> dict[str, ColumnStatistics]:
    return statistics_of(pa.table({"amount": values}), ["amount"])


def known(lake: Lake, weeks: int = 4) -> None:
    """So many Mondays before the last."""
    log_profiles(
        lake,
        [
            Profile(view=VIEW.name, version=1, partition=day, attempt=n, statistics=of(amounts(n)), remarks=None)
            for n, day in enumerate(MONDAYS[4 - weeks : 4])
        ],
    )


def judge(spark: Any, lake: Lake, view: Any, days: Mapping[date, Any], closed: bool = True) -> Mapping[date, Verdict]:
    rows = [
        (f"c{n}", MONDAY + (day - MONDAY.date()) + timedelta(minutes=n), None if value is None else float(value))
        for day, values in days.items()
        for n, value in enumerate(values)
    ]
    frame = spark.createDataFrame(rows, "customer string, event_time timestamp, amount double")
    limits = {day: MONDAY + (day - MONDAY.date()) + (DAY if closed else timedelta(hours=21)) for day in days}
    return audited(audit_and_profile(lake), view, frame, limits)


@pytest.mark.real
def test_a_day_is_compared_with_the_same_weekday_of_the_weeks_before(spark: Any, tmp_path: Path) -> None:
    lake, last = Lake(str(tmp_path)), MONDAYS[-1]
    values = amounts(9)
    alone = judge(spark, lake, STRICT, {last: values})[last]
    assert (alone.remarks, GATE in alone.gates, alone.passed) == (None, False, True)
    assert alone.statistics is not None
    amount = alone.statistics["amount"]
    assert (amount.rows, amount.nulls, amount.low, amount.high) == (ROWS, 0, values.min(), values.max())
    assert amount.quantile(0.5) == pytest.approx(np.median(values), rel=0.05)
    known(lake, 2)
    assert judge(spark, lake, STRICT, {last: values})[last].remarks is None  # there must be three Mondays before
    known(lake)
    alike = judge(spark, lake, STRICT, {last: values})[last]
    assert (alike.remarks, alike.gates[GATE], alike.passed) == ([], True, True)
    drifted = judge(spark, lake, VIEW, {last: 1_000 * values})[last]
    assert drifted.passed
    (remark,) = drifted.remarks or []
    assert remark.startswith("amount: psi ")
    assert "range 1 (large" in remark
    assert remark.endswith("beside the same weekday of the weeks before")
    some_null = [None if n % 5 == 0 else value for n, value in enumerate(values)]
    held = judge(spark, lake, STRICT, {last: some_null})[last]
    assert (held.passed, held.gates[GATE]) == (False, False)
    assert held.reasons == ["distribution: amount: nulls 0.2 (large; before 0), beside the same weekday of the weeks before"]
    still_open = judge(spark, lake, STRICT, {last: 1_000 * values}, closed=False)[last]
    assert (still_open.statistics, still_open.remarks, GATE in still_open.gates) == (None, None, False)


@pytest.mark.real
def test_in_one_attempt_the_days_before_are_compared_with_as_well(spark: Any, tmp_path: Path) -> None:
    days = {day: amounts(n) + (40 if n == 4 else 0) for n, day in enumerate(MONDAYS)}
    strict = judge(spark, Lake(str(tmp_path)), STRICT, days)
    assert {day: verdict.gates.get(GATE) for day, verdict in strict.items()} == dict(
        zip(MONDAYS, [None, None, None, True, False], strict=True)
    )
    recent = judge(spark, Lake(str(tmp_path)), VIEW, {day + n * 7 * DAY: values for n in (0, 9) for day, values in days.items()})
    remarked = [day for day, verdict in recent.items() if verdict.remarks]
    assert remarked == [MONDAYS[-1] + 63 * DAY]  # older ones nobody asks for any more


@pytest.mark.real
def test_a_day_that_is_held_back_changes_nothing_and_what_it_was_like_is_kept(spark: Any, tmp_path: Path) -> None:
    world = World(spark, Lake(str(tmp_path)), FixedClock(MONDAY + DAY + timedelta(hours=2)), STRICT)
    known(world.lake)
    for n, value in enumerate(amounts(9) * 1_000):
        world.place(f"c{n}", float(value), MONDAY + timedelta(minutes=n))
    days = [MONDAYS[-1]]
    world.ingest(days)
    audit = audit_and_profile(world.lake)
    (entry,) = run_attempt(spark, world.lake, STRICT, days, clock=world.clock, run_id="", audit=audit)
    assert (entry.state, entry.gates[GATE]) == ("quarantined", False)
    assert world.rows_by_key() == {}
    kept = profiles_of(world.lake, STRICT, days)[days[0]]
    assert (kept.attempt, kept.statistics["amount"].rows) == (entry.attempt, ROWS)
    assert kept.remarks == remarks_of(world.lake, STRICT, days)[days[0]]
    assert len(kept.remarks or []) == 1


def test_weeks_that_differ_among_themselves_are_no_measure() -> None:
    weeks = [of(amounts(n) * (1 + n % 2)) for n in range(4)]
    quiet = [of(amounts(n)) for n in range(4)]
    twice = of(amounts(9) * 2)
    assert sentences(drift(VIEW, quiet, twice), REMARKED, Size.NOTABLE, Size.LARGE)
    assert sentences(drift(VIEW, weeks, twice), REMARKED, Size.NOTABLE, Size.LARGE) == []
    assert sentences(drift(VIEW, weeks, of(amounts(9) * 1_000)), HELD_BACK, Size.LARGE)


def test_the_profile_of_the_latest_attempt_counts(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    assert profiles_of(lake, VIEW, MONDAYS) == {}

    def one(attempt: int, rows: int, version: int = 1) -> Profile:
        statistics = {"amount": ColumnStatistics(rows=rows, top={"1.5": rows}, lowest=[1.5])}
        return Profile(view=VIEW.name, version=version, partition=MONDAYS[0], attempt=attempt, statistics=statistics, remarks=None)

    log_profiles(lake, [one(2, 20), one(1, 10), one(3, 30, version=2)])
    log_profiles(lake, [])
    assert profiles_of(lake, VIEW, MONDAYS) == {MONDAYS[0]: one(2, 20)}
    assert remarks_of(lake, VIEW, MONDAYS) == {MONDAYS[0]: None}
