"""The window kernel against the definition, said in plain Python."""

import math
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.offline.windows.plan import Wanted, WindowPlan
from penstock.offline.windows.rows import Column, evaluate

STEP = 10
FEATURES = (
    Wanted("count", None, 20),
    Wanted("mean", "x", 20),
    Wanted("sum", "x", 50),
    Wanted("min", "x", 50),
    Wanted("max", "x", 30),
    Wanted("last", "x", 40),
    Wanted("first", "x", 40),
    Wanted("std", "x", 50),
    Wanted("approx_quantile", "x", 50, 0.5),
    Wanted("approx_distinct", "hash_of__x", 50),
)


OF_VALUES: dict[str, Callable[[list[float]], float]] = {
    "mean": lambda there: sum(there) / len(there),
    "sum": sum,
    "min": min,
    "max": max,
    "first": lambda there: there[0],
    "last": lambda there: there[-1],
    "std": lambda there: math.sqrt(sum((x - sum(there) / len(there)) ** 2 for x in there) / (len(there) - 1)),
}


def in_order(row: tuple[int, int, float | None]) -> tuple[int, int, float]:
    return (row[0], row[1], row[2] or 0.0)


def by_definition(plan: WindowPlan, rows: list[tuple[int, int, float | None]], e: int) -> list[float | None]:
    """The features at grid time `e`; rows are (event time, available time, x)."""
    values: list[float | None] = []
    for function, column, length, rank in plan.features:
        held = [x for event, available, x in sorted(rows, key=in_order) if e - length <= event < e and available <= e + plan.delay]
        if function == "count":
            assert column is None
            values.append(len(held))
            continue
        there = [x for x in held if x is not None]
        if function == "approx_distinct":
            values.append(len(set(there)))
        elif len(there) < (2 if function == "std" else 1):
            values.append(None)
        else:
            values.append(OF_VALUES[function](there) if rank is None else sorted(there)[math.ceil(rank * len(there)) - 1])
    return values


def rows_by_definition(plan: WindowPlan, rows: list[tuple[int, int, float | None]], start: int, end: int) -> dict[int, list[float | None]]:
    found = {}
    longest = plan.longest
    for e in range(-(-start // plan.step) * plan.step, end, plan.step):

        def active(at: int) -> bool:
            return any(at - longest <= event < at and available <= at + plan.delay for event, available, _ in rows)

        values = by_definition(plan, rows, e)
        changed = values != by_definition(plan, rows, e - plan.step) or active(e) != active(e - plan.step)
        beat = plan.step if plan.dense else plan.heartbeat
        if changed or (beat is not None and active(e) and e % beat == 0):
            found[e] = values
    return found


def approx_rows(found: dict[int, list[float | None]]) -> dict[int, Any]:
    return {
        time: [None if value is None else pytest.approx(value, rel=1e-12, abs=1e-12) for value in values] for time, values in found.items()
    }


def rows_by_kernel(plan: WindowPlan, rows: list[tuple[int, int, float | None]], start: int, end: int) -> dict[int, list[float | None]]:
    event = np.array([r[0] for r in rows], np.int64)
    available = np.array([r[1] for r in rows], np.int64)
    x = Column(np.array([r[2] or 0.0 for r in rows]), np.array([r[2] is not None for r in rows], bool))
    hashed = Column(np.array([hash(r[2]) for r in rows]).astype(np.uint64), x.present)
    times, results = evaluate(plan, event, available, {"x": x, "hash_of__x": hashed}, start, end)
    return {int(t): [float(values[i]) if flags[i] else None for values, flags in results] for i, t in enumerate(times.tolist())}


@given(
    seed=st.integers(0, 2**63),
    heartbeat=st.sampled_from([None, 20, 50]),
    delay=st.sampled_from([0, 3, 10]),
    dense=st.booleans(),
    step=st.sampled_from([STEP, 1]),
)
@example(seed=1, heartbeat=None, delay=3, dense=False, step=1)
@example(seed=2, heartbeat=50, delay=0, dense=False, step=1)
def test_the_kernel_gives_what_the_definition_says(seed: int, heartbeat: int | None, delay: int, dense: bool, step: int) -> None:
    random = Random(seed)
    plan = WindowPlan(step, delay, heartbeat, dense, FEATURES)
    rows = []
    for _ in range(random.randint(1, 12)):
        event = random.randint(0, 150)
        rows.append((event, event + random.choice([0, 1, 1, 5, 40]), random.choice([None, -3.0, 0.0, 2.0, 2.5])))
    start, end = random.choice([(0, 200), (35, 90), (100, 101)])
    assert rows_by_kernel(plan, rows, start, end) == approx_rows(rows_by_definition(plan, rows, start, end))


def test_a_row_is_seen_from_the_first_step_after_it_happened_and_was_known() -> None:
    plan = WindowPlan(STEP, 0, None, False, (Wanted("count", None, 20),))
    # event at 20: the window [0, 20) ending at 20 does not hold it, [10, 30) does; it left when 20 < e - 20: e = 50
    assert rows_by_kernel(plan, [(20, 21, None)], 0, 100) == {30: [1.0], 50: [0.0]}
    # known at 41 only: first seen at 50, which is when it leaves: never seen
    assert rows_by_kernel(plan, [(20, 41, None)], 0, 100) == {}


def test_a_window_holds_an_event_exactly_its_length_old() -> None:
    plan = WindowPlan(STEP, 0, None, False, (Wanted("count", None, 20),))
    # [e - 20, e) holds 10 at e = 30 (30 - 20 = 10 is included), not at 40
    assert rows_by_kernel(plan, [(10, 10, None)], 0, 100) == {20: [1.0], 40: [0.0]}


def test_the_result_does_not_depend_on_how_the_range_is_cut_or_on_the_order_of_rows() -> None:
    random = Random(7)
    plan = WindowPlan(STEP, 0, 50, False, FEATURES)
    rows = [(event, event + random.choice([1, 30]), random.random() * 1e6) for event in sorted(random.sample(range(400), 60))]
    whole = rows_by_kernel(plan, rows, 0, 500)
    shuffled = random.sample(rows, len(rows))
    cut = {}
    for start, end in ((0, 130), (130, 131), (131, 500)):
        cut |= rows_by_kernel(plan, shuffled, start, end)
    assert cut == whole  # to the bit: no tolerance
    assert len(whole) > 30


def test_on_the_finest_grid_a_row_stands_exactly_where_an_event_becomes_known_and_where_it_leaves() -> None:
    # step 1 is EACH_EVENT. Event at 5, known at 6: in [e - 20, e) from 6; the last window that holds it ends at 25
    plan = WindowPlan(1, 0, None, False, (Wanted("last", "x", 20), Wanted("count", None, 20)))
    assert rows_by_kernel(plan, [(5, 6, 2.5)], 0, 100) == {6: [2.5, 1.0], 26: [None, 0.0]}


def test_the_last_value_is_that_of_the_newest_event_not_of_the_newest_report() -> None:
    plan = WindowPlan(1, 0, None, False, (Wanted("last", "x", 50),))
    # the event of 5 is reported at 30, after that of 10; the null at 12 is no value
    assert rows_by_kernel(plan, [(5, 30, 1.0), (10, 11, 2.0), (12, 13, None)], 0, 40) == {11: [2.0]}


def test_a_value_that_stays_is_repeated_before_it_expires() -> None:
    # heartbeat 50: one event at 5 stays in [e - 1000, e): rows at 10 (entered), then every 50 until it leaves at 1010
    plan = WindowPlan(STEP, 0, 50, False, (Wanted("count", None, 1000),))
    assert list(rows_by_kernel(plan, [(5, 6, None)], 0, 1200)) == [10, *range(50, 1001, 50), 1010]
