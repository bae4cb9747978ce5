"""Windows made of tiles are those made of rows: the same values, and the same to the bit whatever is asked for."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.offline.windows import tiles as tiles_module
from penstock.offline.windows.arrow import UTC, input_of, micros
from penstock.offline.windows.plan import Wanted, WindowPlan
from penstock.offline.windows.rows import Column, evaluate
from penstock.offline.windows.tiles import ROWS, blocks_of, columns_of, rows_of_tiles, tiles_of

TILE = 10
RANKS = (0.01, 0.25, 0.5, 0.75, 0.9, 0.99)
EXACT = (
    Wanted("count", None, 20),
    Wanted("count", None, 70),
    Wanted("min", "x", 50),
    Wanted("max", "x", 130),
    Wanted("last", "x", 40),
    Wanted("first", "x", 130),
    Wanted("approx_quantile", "x", 50, 0.5),
    Wanted("approx_quantile", "y", 130, 0.9),
    Wanted("approx_distinct", "hash_of__x", 70),
)
FLOATS = (Wanted("sum", "x", 70), Wanted("mean", "y", 130), Wanted("std", "x", 70), Wanted("std", "y", 20))


def source(random: Random, entities: int, rows: int, days: int = 300) -> pa.Table:
    """Rows of entities named by two keys, known at once, a little or much later; values with ties and nulls."""
    named = [(f"a{k % 3}", k // 3) for k in range(entities)]
    who = [random.choice(named) for _ in range(rows)]
    event = [random.randint(-50, days) for _ in range(rows)]
    available = [e + random.choice([0, 1, 1, 5, 12, 33, 60, 95]) for e in event]
    x = [random.choice([None, -3.0, 0.0, 2.0, 2.5, random.random() * 1e6]) for _ in range(rows)]
    return pa.table(
        {
            "k": pa.array([a for a, _ in who]),
            "n": pa.array([b for _, b in who], pa.int64()),
            "event_time": pa.array(event, UTC),
            "available_time": pa.array(available, UTC),
            "x": pa.array(x, pa.float64()),
            "y": pa.array([random.gauss(0, 1) for _ in range(rows)], pa.float64()),
            "hash_of__x": pa.array([None if v is None else hash(("x", v)) for v in x], pa.int64()),
        }
    )


Rows = dict[tuple[str, int, int], tuple[float | None, ...]]


def from_tiles(plan: WindowPlan, tiles: pa.Table, start: int, end: int) -> Rows:
    found: Rows = {}
    for table in rows_of_tiles(plan, TILE, tiles, ["k", "n"], start, end):
        values = [table[f"value_{n}"].to_pylist() for n in range(len(plan.features))]
        keys = zip(table["k"].to_pylist(), table["n"].to_pylist(), micros(table["event_time"]).tolist(), strict=True)
        found |= dict(zip(keys, zip(*values, strict=True), strict=True))
    return found


def from_rows(plan: WindowPlan, rows: pa.Table, start: int, end: int) -> Rows:
    found: Rows = {}
    owners = list(zip(rows["k"].to_pylist(), rows["n"].to_pylist(), strict=True))
    for key in dict.fromkeys(owners):
        mine = rows.filter(pa.array([owner == key for owner in owners]))
        columns = {name: Column(*input_of(name, mine[name])) for name in plan.inputs}
        times, results = evaluate(plan, micros(mine["event_time"]), micros(mine["available_time"]), columns, start, end)
        for n, time in enumerate(times.tolist()):
            found[*key, time] = tuple(float(values[n]) if there[n] else None for values, there in results)
    return found


def plan_with(
    features: Sequence[Wanted], step: int = TILE, delay: int = 0, heartbeat: int | None = None, *, dense: bool = False
) -> WindowPlan:
    return WindowPlan(step, delay, heartbeat, dense, tuple(features))


@given(
    seed=st.integers(0, 2**63),
    step=st.sampled_from([TILE, 2 * TILE]),
    delay=st.sampled_from([0, 3, 10, 40]),
    heartbeat=st.sampled_from([None, 40]),
    dense=st.booleans(),
)
def test_what_has_no_rounding_is_equal_to_the_bit(seed: int, step: int, delay: int, heartbeat: int | None, dense: bool) -> None:
    random = Random(seed)
    rows = source(random, entities=5, rows=random.randint(1, 60))
    plan = plan_with(EXACT, step, delay, heartbeat, dense=dense)
    start, end = random.choice([(0, 400), (35, 90), (100, 101), (-40, 120)])
    assert from_tiles(plan, tiles_of(plan, TILE, rows, ["k", "n"]), start, end) == from_rows(plan, rows, start, end)


@given(seed=st.integers(0, 2**63), delay=st.sampled_from([0, 10]))
def test_sums_means_and_deviations_are_equal_but_for_rounding(seed: int, delay: int) -> None:
    random = Random(seed)
    rows = source(random, entities=4, rows=random.randint(1, 60))
    plan = plan_with(FLOATS, delay=delay, dense=True)
    found, expected = from_tiles(plan, tiles_of(plan, TILE, rows, ["k", "n"]), 0, 200), from_rows(plan, rows, 0, 200)
    assert {key: [v is None for v in values] for key, values in found.items() if key in expected} == {
        key: [v is None for v in values] for key, values in expected.items()
    }
    for key, values in expected.items():
        for value, other in zip(values, found[key], strict=True):
            if value is not None:
                assert other == pytest.approx(value, rel=1e-9, abs=1e-6)


def test_the_same_to_the_bit_whatever_range_order_or_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(11)
    rows = source(random, entities=40, rows=4000)
    plan = plan_with([*EXACT, *FLOATS], delay=3, heartbeat=40)
    whole = from_tiles(plan, tiles_of(plan, TILE, rows, ["k", "n"]), 0, 400)
    assert len(whole) > 500
    shuffled = rows.take(pa.array(random.sample(range(rows.num_rows), rows.num_rows)))
    tiles = tiles_of(plan, TILE, shuffled, ["k", "n"])
    tiles = tiles.take(pa.array(random.sample(range(tiles.num_rows), tiles.num_rows)))
    monkeypatch.setattr(tiles_module, "_CELLS_AT_ONCE", 100)
    cut: Rows = {}
    for start, end in ((0, 130), (130, 131), (131, 260), (260, 400)):
        cut |= from_tiles(plan, tiles, start, end)
    assert cut == whole


def test_values_that_are_no_numbers_stay_so_and_are_no_change() -> None:
    plan = plan_with(EXACT)
    rows = source(Random(9), entities=1, rows=12)
    for odd in (float("nan"), float("inf"), -0.0):
        values = [odd if n in (3, 7) else v for n, v in enumerate(rows["x"].to_pylist())]
        given = rows.set_column(rows.column_names.index("x"), "x", pa.array(values, pa.float64()))
        found, expected = from_tiles(plan, tiles_of(plan, TILE, given, ["k", "n"]), -50, 500), from_rows(plan, given, -50, 500)
        assert repr(sorted(found.items())) == repr(sorted(expected.items())) != "[]"  # a NaN is not equal to itself
        assert repr(odd) in repr(found)


def test_late_rows_count_from_when_they_were_known_however_late() -> None:
    plan = plan_with([Wanted("count", None, 130), Wanted("sum", "x", 130), Wanted("last", "x", 130)])
    at = {"k": pa.array(["a"] * 4), "n": pa.array([0] * 4)}
    times = {"event_time": pa.array([5, 6, 7, 8], UTC), "available_time": pa.array([6, 11, 75, 95], UTC)}
    rows = pa.table({**at, **times, "x": pa.array([1.0, 2.0, 4.0, 8.0])})
    tiles = tiles_of(plan, TILE, rows, ["k", "n"])
    assert micros(tiles["available_time"]).tolist() == [10, 20, 80, 100]
    found = {time: values for (_, _, time), values in from_tiles(plan, tiles, 0, 200).items()}
    # in at 10, 20, 80 and 100; the tile [0, 10) leaves the window of 130 that ends at 140
    assert found == {10: (1, 1.0, 1.0), 20: (2, 3.0, 2.0), 80: (3, 7.0, 4.0), 100: (4, 15.0, 8.0), 140: (0, None, None)}


def test_blocks_cover_a_window_in_order_and_depend_on_it_alone() -> None:
    for first in range(-70, 70):
        for length in (0, 1, 2, 7, 30, 90):
            covered = [n for level, block in blocks_of(first, first + length) for n in range(block << level, (block + 1) << level)]
            assert covered == list(range(first, first + length))
            assert len(list(blocks_of(first, first + length))) <= 2 * max(1, length.bit_length())


def test_a_day_that_was_looked_at_and_has_no_rows_is_nothing() -> None:
    plan = plan_with([Wanted("count", None, 20)])
    rows = source(Random(1), entities=2, rows=5)
    tiles = tiles_of(plan, TILE, rows, ["k", "n"])
    marker = pa.table({name: pa.array([0 if name == ROWS else None], tiles.schema.field(name).type) for name in tiles.column_names})
    assert from_tiles(plan, pa.concat_tables([tiles, marker]), 0, 400) == from_tiles(plan, tiles, 0, 400) != {}
    assert from_tiles(plan, marker, 0, 400) == {}


def test_an_entity_without_a_value_in_a_tile_has_states_of_nothing() -> None:
    plan = plan_with([*EXACT, *FLOATS], dense=True)
    rows = source(Random(3), entities=3, rows=30).drop_columns(["x", "hash_of__x"])
    rows = rows.append_column("x", pa.nulls(30, pa.float64())).append_column("hash_of__x", pa.nulls(30, pa.int64()))
    tiles = tiles_of(plan, TILE, rows, ["k", "n"])
    assert set(tiles.column_names) == {"k", "n", "event_time", "available_time", *columns_of(plan)}
    found = from_tiles(plan, tiles, 0, 200)
    assert found.keys() == from_rows(plan, rows, 0, 200).keys() != set()
    for values in found.values():
        by_feature = dict(zip(plan.features, values, strict=True))
        assert all(by_feature[w] is None for w in plan.features if w.input == "x")
        assert by_feature[Wanted("approx_distinct", "hash_of__x", 70)] == 0


def test_without_join_keys_there_is_one_entity() -> None:
    plan = plan_with([Wanted("sum", "y", 50), Wanted("count", None, 20)])
    rows = source(Random(5), entities=4, rows=50)
    tiles = tiles_of(plan, TILE, rows, [])
    (table,) = rows_of_tiles(plan, TILE, tiles, [], 0, 100)
    assert table.column_names == ["event_time", "value_0", "value_1"]
    assert len(set(table["event_time"].to_pylist())) == table.num_rows > 3


def test_more_values_than_a_tile_keeps_are_summed_up_well() -> None:
    random = np.random.default_rng(7)
    n = 40_000
    event = random.integers(0, 50, n)
    x = np.round(random.lognormal(0, 2, n), 3)
    plan = plan_with([Wanted("approx_quantile", "x", 50, q) for q in RANKS] + [Wanted("approx_distinct", "hash_of__x", 50)])
    hashes = (x * 1000).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    rows = pa.table(
        {
            "k": pa.array(["a"] * n),
            "n": pa.array([0] * n),
            "event_time": pa.array(event, UTC),
            "available_time": pa.array(event, UTC),
            "x": x,
            "hash_of__x": pa.array(hashes.view(np.int64)),
        }
    )
    tiles = tiles_of(plan, TILE, rows, ["k", "n"])
    assert max(map(len, tiles["x__values"].to_pylist())) == 256
    assert max(map(len, tiles["hash_of__x__smallest"].to_pylist())) == 1024
    *quantiles, distinct = from_tiles(plan, tiles, 50, 51)["a", 0, 50]
    for rank, value in zip(RANKS, quantiles, strict=True):
        off = 16 / 8_000  # half a run of a tile's 8,000 values
        assert np.mean(x < value) - off <= rank <= np.mean(x <= value) + off
    assert distinct == pytest.approx(len(np.unique(x)), rel=0.1)
    assert (distinct, *quantiles) != (len(np.unique(x)), *np.quantile(x, RANKS, method="inverted_cdf"))
