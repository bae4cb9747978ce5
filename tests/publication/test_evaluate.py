"""What is to be written, for random tables and ledgers, is what the rule says in plain Python. Real Spark."""

import random
from datetime import date, timedelta
from typing import Any, NamedTuple

import pytest

from penstock.clock import to_micros
from penstock.publication.evaluate import THIS, values_to_write
from tests.world import MONDAY, view_of_orders

pytestmark = pytest.mark.real
SCHEMA = (
    "customer string, event_time timestamp, created_time timestamp, attempt bigint, retracted boolean, "
    "row_digest binary, amount double, event_date date"
)


class Row(NamedTuple):
    customer: str
    event_time: Any
    created_time: Any
    attempt: int
    retracted: bool
    row_digest: bytes
    amount: float | None
    event_date: date


def by_definition(rows: list[Row], readable: dict[tuple[date, int], int]) -> dict[str, tuple[Any, ...]]:
    """Customer → event time, attempt and amount of the value, greatest event time, revision."""
    found: dict[str, tuple[Any, ...]] = {}
    for customer in {row.customer for row in rows}:
        known = [(row, readable[row.event_date, row.attempt]) for row in rows if row.customer == customer]
        known = [(row, at) for row, at in known if at > 0]
        if not any(at == THIS for _, at in known):
            continue
        newest = max(row.event_time for row, _ in known)
        counting = {}
        for row, _ in sorted(known, key=lambda one: (one[0].created_time, one[0].row_digest)):
            counting[row.event_time] = row
        alive = [row for row in counting.values() if not row.retracted]
        best = max(alive, key=lambda row: row.event_time, default=None)
        brought = min(at for row, at in known if row.event_time == newest)
        revision = len({at for _, at in known if at > brought})
        value = (None, None, None) if best is None else (to_micros(best.event_time), best.attempt, best.amount)
        found[customer] = (*value, to_micros(newest), revision)
    return found


@pytest.mark.parametrize(("seed", "anything_readable"), [(1, True), (2, True), (3, False), (4, False)])
def test_what_is_written_is_what_the_rule_says(spark: Any, seed: int, anything_readable: bool) -> None:
    numbers, view = random.Random(seed), view_of_orders()
    days = [MONDAY.date() - timedelta(days=n) for n in range(3)]
    # Not readable (0: such rows are in no publication), readable since some time, or being published.
    choices = [0, 5, 6, 7, 7, THIS] if anything_readable else [0, THIS]
    readable = {(day, attempt): numbers.choice(choices) for day in days for attempt in range(1, 5)}
    rows = []
    for n in range(300):
        for _ in range(numbers.randint(1, 7)):
            day, attempt = numbers.choice(list(readable))
            at = MONDAY - timedelta(days=(MONDAY.date() - day).days) + timedelta(hours=numbers.randint(0, 2))
            # An attempt writes one row of a (key, event time); digests tell those of one moment apart.
            digest = numbers.choice([b"\x01", b"\x7f", b"\xff"]) + bytes((len(rows) % 256, len(rows) // 256))
            gone = numbers.random() < 0.4
            rows.append(
                Row(f"c{n}", at, MONDAY + timedelta(seconds=attempt), attempt, gone, digest, None if gone else float(len(rows)), day)
            )
    frame = spark.createDataFrame(rows, SCHEMA)
    given = {which: at for which, at in readable.items() if at}
    written = values_to_write(spark, view, frame, given).collect()
    values = {row["customer"]: (row["event_time_us"], row["attempt"], row["_values"] and row["_values"]["amount"]) for row in written}
    found = {row["customer"]: (*values[row["customer"]], row["e_us"], row["revision"]) for row in written}
    assert len(found) == len(written)
    assert found == by_definition(rows, readable)
    assert any(value[0] is None for value in found.values())
    assert anything_readable == any(value[4] > 0 for value in found.values())
