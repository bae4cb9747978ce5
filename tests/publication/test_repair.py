"""Late and corrected rows reach just the partitions whose rows come out otherwise."""

from datetime import date, timedelta
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from penstock.clock import from_micros, to_micros
from penstock.contract import Feature, FeatureView, FreshnessSla, Source, available_at, count, days, hours, mean, minutes
from penstock.contract.fingerprint import contract_fingerprint, transformation_fingerprint
from penstock.offline.changes import Change, mended
from penstock.offline.lake import Lake
from penstock.offline.logs import AttemptEntry, log_attempts
from penstock.offline.watermark import days_between, start_of
from penstock.offline.windows.plan import plan_of
from penstock.offline.windows.rows import Column, evaluate
from penstock.online.ledger import Publication
from penstock.orchestration.health import judge_source_data
from penstock.publication.partition_state import partition_states
from penstock.publication.repair import RepairPlan, Stale, repair_plan, stale_days
from tests.world import MONDAY, attempt_entry, customer, last_order

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
FIRST, LAST = MONDAY.date() - 10 * DAY, MONDAY.date()
orders = Source(
    "orders",
    schema={"customer": "string", "amount": "float64", "event_time": "timestamp", "seen": "timestamp"},
    availability=available_at("seen", at_most=hours(2)),
    owner="tests",
)


def windowed(**changes: object) -> FeatureView:
    settings: dict[str, object] = {
        "name": "spending",
        "version": 1,
        "entity": customer,
        "source": orders,
        "owner": "tests",
        "aggregations": [count(over=[hours(6), days(2)]), mean("amount", over=[days(2)])],
        "every": minutes(30),
        "ttl": hours(48),
        "freshness": FreshnessSla(total=minutes(30)),
    }
    return FeatureView(**{**settings, **changes})  # type: ignore[arg-type]


def computed_at(version: int, *days: date, **changes: object) -> dict[date, AttemptEntry]:
    return {day: attempt_entry(day, inputs={"raw/orders": version}, **changes) for day in days}


def change(first: object, last: object = None, known: object = None, *, version: int = 5, rows: int = 1) -> Change:
    begin, end = to_micros(first), to_micros(last or first)  # type: ignore[arg-type]
    at = begin if known is None else to_micros(known)  # type: ignore[arg-type]
    return Change(table="raw/orders", version=version, day=None, first_event_us=begin, last_event_us=end, first_known_us=at, rows=rows)


def reached(view: FeatureView, *changes: Change, version: int = 3, **of_entry: object) -> list[date]:
    return list(stale_days(view, computed_at(version, *days_between(FIRST, LAST), **of_entry), {"orders": changes}))


def test_a_late_row_reaches_the_days_of_the_windows_that_hold_it() -> None:
    late = MONDAY - 5 * DAY + 3 * HOUR
    assert reached(windowed(), change(late)) == days_between(late.date(), late.date() + 2 * DAY)


def test_a_row_is_seen_from_when_it_was_known() -> None:
    late = MONDAY - 5 * DAY + 23 * HOUR
    assert reached(windowed(), change(late, known=late + 2 * HOUR)) == days_between(late.date() + DAY, late.date() + 2 * DAY)
    assert reached(windowed(delay=hours(3)), change(late, known=late + 2 * HOUR)) == days_between(late.date(), late.date() + 2 * DAY)


def test_days_computed_from_that_commit_or_a_later_one_are_not_stale() -> None:
    late = MONDAY - 5 * DAY
    assert reached(windowed(), change(late, version=5), version=5) == []
    assert reached(windowed(), change(late, version=5), change(MONDAY - DAY, version=7), version=6) == [LAST - DAY, LAST]


def test_what_comes_after_a_partition_was_complete_is_no_repair() -> None:
    view, until = windowed(), MONDAY + 9 * HOUR
    days = computed_at(3, LAST, complete_until=until)
    assert not stale_days(view, days, {"orders": [change(until + HOUR)]})
    assert not stale_days(view, days, {"orders": [change(until - HOUR, known=until + HOUR)]})
    assert list(stale_days(view, days, {"orders": [change(until - HOUR)]})) == [LAST]


def test_a_refused_day_waits_for_just_such_a_change() -> None:
    days = computed_at(3, LAST, state="quarantined", complete_until=MONDAY + 9 * HOUR)
    assert list(stale_days(windowed(), days, {"orders": [change(MONDAY + HOUR)]})) == [LAST]


def test_a_function_may_use_what_is_yet_to_happen() -> None:
    view = FeatureView(
        name="next_order",
        version=1,
        entity=customer,
        source=orders,
        compute=last_order,
        lookback=hours(1),
        features=[Feature("amount", "float64")],
        owner="tests",
        ttl=hours(48),
        freshness=FreshnessSla(total=minutes(30)),
    )
    at = MONDAY - 3 * DAY + 20 * HOUR
    assert reached(view, change(at, known=at - 2 * DAY)) == days_between(at.date() - 2 * DAY, at.date())


@given(seed=st.integers(0, 2**32), delay=st.sampled_from([timedelta(0), hours(5)]))
def test_every_day_whose_rows_come_out_otherwise_is_found_and_none_beyond_the_windows(seed: int, delay: timedelta) -> None:
    numbers, view = Random(seed), windowed(delay=delay)
    plan, whole = plan_of(view), days_between(FIRST, LAST)
    first, last = to_micros(start_of(FIRST)), to_micros(start_of(LAST) + DAY)

    def row() -> tuple[int, int, float]:
        event = numbers.randrange(first, last)
        return event, event + numbers.choice([0, numbers.randrange(1, 48 * 3_600_000_000)]), float(numbers.randrange(100))

    before = [row() for _ in range(numbers.randint(0, 12))]
    came, went = [row() for _ in range(numbers.randint(0, 2))], before[: numbers.randint(0, 1)]
    after = [one for one in before if one not in went] + came

    def rows_by_day(rows: list[tuple[int, int, float]]) -> dict[date, list[object]]:
        found: dict[date, list[object]] = {day: [] for day in whole}
        if not rows:
            return found
        event, known, amount = (np.array(column) for column in zip(*rows, strict=True))
        data = {name: Column(amount.astype(float), np.ones(len(rows), bool)) for name in plan.inputs}
        times, results = evaluate(plan, event.astype(np.int64), known.astype(np.int64), data, first, last)
        for n, time in enumerate(times.tolist()):
            found[from_micros(time).date()].append((time, [(values[n], flags[n]) for values, flags in results if flags[n]]))
        return found

    commit = [change(from_micros(event), known=from_micros(known)) for event, known, _ in [*came, *went]]
    one, other = rows_by_day(before), rows_by_day(after)
    differ = {day for day in whole if one[day] != other[day]}
    found = set(reached(view, *commit))
    assert differ <= found
    for event, _, _ in [*came, *went]:
        found -= set(days_between(from_micros(event).date(), (from_micros(event) + view.reach + minutes(30)).date()))
    assert not found


def test_days_before_the_horizon_are_told_and_not_repaired_unasked(tmp_path: Path) -> None:
    lake, view = Lake(str(tmp_path)), windowed()
    placed = {"customer": ["ann"], "amount": [1.0], "event_time": [MONDAY], "seen": [MONDAY]}
    late = {"customer": ["bob"] * 4, "amount": [2.0] * 4, "event_time": [MONDAY - 6 * DAY] * 4, "seen": [MONDAY - 6 * DAY] * 4}
    for rows in (placed, late):
        write_deltalake(lake.prepare("raw/orders"), pa.table(rows), mode="append")
    log_attempts(lake, list(computed_at(0, *days_between(FIRST, LAST), table="features/spending/v1").values()))
    plan = repair_plan(lake, [view], MONDAY + 12 * HOUR, timedelta(days=5))
    assert plan.days(view) == days_between(LAST - 6 * DAY, LAST - 4 * DAY)
    assert plan.days(view, automatic_only=True) == days_between(LAST - 5 * DAY, LAST - 4 * DAY)
    assert plan.late_rows == {"orders": 4}
    assert {tuple(one.because.items()) for one in plan.stale} == {(("orders", 4),)}


def test_a_day_refused_by_rules_that_are_others_now_is_computed_again() -> None:
    view = windowed(row_count=(1, 100))
    refused = {"state": "quarantined", "rules": contract_fingerprint(view)}
    days = computed_at(3, LAST - DAY, **refused)
    assert stale_days(view, days, {}) == {}  # refused again, it would be
    assert stale_days(windowed(row_count=(1, 1000)), days, {}) == {LAST - DAY: {}}
    assert stale_days(windowed(row_count=(1, 1000)), computed_at(3, LAST - DAY, rules="others"), {}) == {}  # it passed


def test_what_alters_no_row_releases_refused_days_alone() -> None:
    view, mends = windowed(), mended(orders, 5)
    refused = {"state": "quarantined", "rules": contract_fingerprint(view)}
    assert list(stale_days(view, computed_at(3, LAST, **refused), {"orders": [mends]})) == [LAST]
    assert stale_days(view, computed_at(5, LAST, **refused), {"orders": [mends]}) == {}
    assert stale_days(view, computed_at(3, LAST), {"orders": [mends]}) == {}


def test_days_computed_from_a_table_that_was_made_anew_since_are_stale_until_they_are_computed_again(tmp_path: Path) -> None:
    lake, view = Lake(str(tmp_path)), windowed()
    placed = {"customer": ["ann"], "amount": [1.0], "event_time": [MONDAY], "seen": [MONDAY]}
    write_deltalake(lake.prepare("raw/orders"), pa.table(placed))
    log_attempts(lake, list(computed_at(500, LAST - DAY, LAST, table="features/spending/v1").values()))
    assert repair_plan(lake, [view], MONDAY + 12 * HOUR, timedelta(days=5)).days(view) == [LAST - DAY, LAST]
    log_attempts(lake, list(computed_at(0, LAST, table="features/spending/v1", attempt=2).values()))
    plan = repair_plan(lake, [view], MONDAY + 12 * HOUR, timedelta(days=5))
    assert (plan.days(view), plan.late_rows) == ([LAST - DAY], {"orders": -1})


def test_a_source_that_cannot_be_compared_holds_up_no_other(tmp_path: Path) -> None:
    lake, view = Lake(str(tmp_path)), windowed()
    spoilt = Source("spoilt", schema={"customer": "string", "amount": "float64", "event_time": "timestamp"}, owner="tests")
    other = windowed(name="others", source=spoilt)
    placed = {"customer": ["ann"], "amount": [1.0], "event_time": [MONDAY], "seen": [MONDAY]}
    for rows in (placed, {**placed, "amount": [2.0]}):
        write_deltalake(lake.prepare("raw/orders"), pa.table(rows), mode="append")
    write_deltalake(lake.prepare("raw/spoilt"), pa.table(placed))
    (tmp_path / "raw/spoilt/_delta_log/00000000000000000000.json").write_text("{}")
    log_attempts(lake, list(computed_at(0, LAST, table="features/spending/v1").values()))
    log_attempts(lake, [attempt_entry(LAST, table="features/others/v1", inputs={"raw/spoilt": 0})])
    plan = repair_plan(lake, [other, view], MONDAY + 12 * HOUR, timedelta(days=5))
    assert plan.days(view) == [LAST]
    assert list(plan.unread) == ["spoilt"]


def test_a_source_that_is_gone_is_told_and_stops_nothing_else(tmp_path: Path) -> None:
    lake, view = Lake(str(tmp_path)), windowed()
    log_attempts(lake, list(computed_at(3, LAST, table="features/spending/v1").values()))
    plan = repair_plan(lake, [view], MONDAY, timedelta(days=5))
    assert (plan.stale, plan.unread) == ([], {"orders": "source 'orders' has no table raw/orders in the lake"})
    assert plan.problems([view]) == ["source 'orders' cannot be looked at: source 'orders' has no table raw/orders in the lake"]
    assert plan.problems([]) == []
    judged = judge_source_data(view, plan)  # what is not known is not taken for right
    assert not judged.passed
    assert "cannot be looked at" in str(judged.metadata["not_looked_at"].value)


def test_the_state_of_a_partition_names_what_keeps_it_from_being_right() -> None:
    view = windowed()
    code, days = transformation_fingerprint(view), days_between(LAST - 5 * DAY, LAST)
    entries = [attempt_entry(day, attempt=n + 1, code=code) for n, day in enumerate(days)]
    entries[0] = attempt_entry(days[0], code="another")
    del entries[1]
    entries[-1] = attempt_entry(LAST, state="quarantined", reasons=["too large"])
    online = [publication(day, n + 1) for n, day in enumerate(days) if day != days[2]]
    stale = Stale(view="spending", version=1, partition=days[3], because={"orders": 4}, rules_changed=False, automatic=True)
    repairs = RepairPlan(stale=[stale], late_rows={}, unread={})
    states = partition_states(view, entries, online, repairs, MONDAY + HOUR)
    assert [state.word for state in states] == ["stale by code", "missing", "due", "stale by data", "published", "refused"]
    assert [state.computed for state in states] == [True, False, True, True, True, False]
    assert states[-1].reasons == ["too large"]
    assert [state.partition for state in partition_states(view, entries, online, repairs, MONDAY + HOUR, LAST)] == [LAST]


def publication(day: date, attempt: int) -> Publication:
    of = {"view": "spending", "version": 1, "generation": 1, "run_id": "", "keys": 0, "complete_until_us": 0, "readable_at_us": 1}
    return Publication(partition=day, attempt=attempt, **of)  # type: ignore[arg-type]
