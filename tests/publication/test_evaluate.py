"""What is to be written, for random tables, ledgers and marks, is what the rule says in plain Python. Real Spark."""

import random
from datetime import timedelta
from typing import Any

import pytest

from penstock.clock import MICROSECOND, to_micros
from penstock.publication.evaluate import values_to_write
from penstock.publication.readable import THIS, Obeyed
from penstock.registry.marks import Mark
from tests.by_definition import Row, Written, values_by_definition
from tests.world import MONDAY, view_of_orders

pytestmark = pytest.mark.real
SCHEMA = (
    "customer string, event_time timestamp, created_time timestamp, attempt bigint, retracted boolean, "
    "row_digest binary, amount double, event_date date"
)
DAYS = [MONDAY.date() - timedelta(days=n) for n in range(3)]
ATTEMPTS = [MONDAY + timedelta(days=1, seconds=n) for n in range(1, 5)]


def random_rows(numbers: random.Random) -> list[Row]:
    rows = []
    for n in range(300):
        for _ in range(numbers.randint(1, 7)):
            back, created = numbers.randrange(3), numbers.choice(ATTEMPTS)
            at = MONDAY - timedelta(days=back) + timedelta(hours=numbers.randint(0, 2))
            # An attempt writes one row of a (key, event time); digests tell those of one moment apart.
            digest = numbers.choice([b"\x01", b"\x7f", b"\xff"]) + bytes((len(rows) % 256, len(rows) // 256))
            gone = numbers.random() < 0.4
            rows.append(Row(f"c{n}", at, created, to_micros(created), gone, digest, None if gone else float(len(rows)), DAYS[back]))
    return rows


def random_mark(numbers: random.Random, n: int) -> Mark:
    hours = sorted(numbers.sample(range(-48, 4), 2))
    since, until = (to_micros(MONDAY + timedelta(hours=hour)) for hour in hours)
    excluded_at = numbers.choice([None, None, None, 5, 6, 7, 8])
    return Mark(
        view="last_order",
        version=1,
        marked_at_us=to_micros(numbers.choice(ATTEMPTS) - numbers.choice([0, 1]) * MICROSECOND),
        id=str(n),
        attempt=numbers.choice([None, to_micros(numbers.choice(ATTEMPTS))]),
        since_us=numbers.choice([None, since]),
        until_us=numbers.choice([None, until]),
        reason="odd",
        excluded_at_us=excluded_at,
        restored_at_us=None if excluded_at is None else numbers.choice([None, excluded_at + 3]),
    )


def written_by_spark(spark: Any, rows: list[Row], readable: Any, obeyed: Obeyed) -> dict[str, Written]:
    written = values_to_write(spark, view_of_orders(), spark.createDataFrame(rows, SCHEMA), readable, obeyed).collect()
    found = {
        row["customer"]: Written(
            row["event_time_us"], row["attempt"], row["_values"] and row["_values"]["amount"], row["e_us"], row["revision"]
        )
        for row in written
    }
    assert len(found) == len(written)
    return found


@pytest.mark.parametrize(("seed", "anything_readable"), [(1, True), (2, True), (3, False), (4, False)])
def test_what_is_written_is_what_the_rule_says(spark: Any, seed: int, anything_readable: bool) -> None:
    numbers = random.Random(seed)
    # Not readable (0: such rows are in no publication), readable since some time, or being published.
    choices = [0, 5, 6, 7, 7, THIS] if anything_readable else [0, THIS]
    drawn = {(day, to_micros(created)): numbers.choice(choices) for day in DAYS for created in ATTEMPTS}
    readable, rows = {which: at for which, at in drawn.items() if at}, random_rows(numbers)
    found = written_by_spark(spark, rows, readable, Obeyed())
    assert found == values_by_definition(rows, readable, Obeyed())
    assert any(value.event_time_us is None for value in found.values())
    assert anything_readable == any(value.revision > 0 for value in found.values())


@pytest.mark.parametrize(("seed", "what"), [(5, "publish"), (6, "publish"), (7, "exclude"), (8, "exclude"), (8, "restore")])
def test_what_is_written_under_invalidation_marks_is_what_the_rule_says(spark: Any, seed: int, what: Any) -> None:
    numbers = random.Random(seed)
    choices = [0, 5, 6, 7, 7, *([THIS] if what == "publish" else [])]
    drawn = {(day, to_micros(created)): numbers.choice(choices) for day in DAYS for created in ATTEMPTS}
    readable, rows = {which: at for which, at in drawn.items() if at}, random_rows(numbers)
    marks = [random_mark(numbers, n) for n in range(8)]
    suits = [mark for mark in marks if (mark.excluded_at_us is None) == (what == "exclude") and mark.restored_at_us is None]
    choice = [Obeyed.of(marks)] if what == "publish" else [Obeyed.of(marks, (mark, what)) for mark in suits]
    obeyed = max(choice, key=lambda one: len(values_by_definition(rows, readable, one)))
    found = written_by_spark(spark, rows, readable, obeyed)
    assert found == values_by_definition(rows, readable, obeyed)
    assert found != values_by_definition(rows, readable, Obeyed(moments=obeyed.moments))  # rows were left out
    assert any(value.revision > 1 for value in found.values())
