"""What the lake says of what was served: the same for many rows at once as for one at a time, and never more than was looked at."""

from collections import Counter
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from penstock import as_of
from penstock.as_of import History, Mark, Readable, Row
from penstock.clock import to_micros
from penstock.contract import Entity
from penstock.offline.lake import Lake, feature_table
from penstock.quality import log_replay
from penstock.quality.findings import Finding, Records, rows_of
from penstock.quality.log_replay import ViewReplay, _Fill
from penstock.quality.skew import Completeness, Level, skew_checks
from penstock.registry.snapshot import view_entry
from tests.world import MONDAY, view_of_orders

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ENTRY = view_entry(view_of_orders())


def row(partition: date, attempt: int, at: datetime = MONDAY) -> Row:
    return Row(event_time=at, available_time=at, created_time=at, attempt=attempt, partition=partition)


@pytest.mark.parametrize("seed", range(20))
def test_many_rows_became_readable_when_the_rule_says_of_each(seed: int) -> None:
    numbers = Random(seed)
    days = [MONDAY.date() + n * DAY for n in range(3)]
    ledger = tuple(Readable(numbers.choice(days), numbers.randrange(9), MONDAY + numbers.randrange(50) * HOUR) for _ in range(30))
    records = Records(ENTRY, History(ledger=ledger), [])
    for day in [*days, days[-1] + DAY]:
        for attempt in range(-1, 11):
            assert records.readable_at(row(day, attempt)) == as_of.readable_at(row(day, attempt), records.history)


def test_what_is_to_be_thought_of_a_value_changes_at_these_moments_alone() -> None:
    mark = Mark(marked_at=MONDAY)
    read = timedelta(microseconds=ENTRY.freshness.read_us)
    records = Records(ENTRY, History(marks=(mark,)), [MONDAY + HOUR])
    assert records.moments() == sorted({MONDAY + timedelta(seconds=2), MONDAY + HOUR, MONDAY + HOUR + read})


def fill(keys: int, times: int, altered: int, monkeypatch: pytest.MonkeyPatch) -> tuple[_Fill, Counter[str]]:
    """Rows that all differ, so many for each key: of the first keys they are altered, of the others cached."""
    n = keys * times
    looked_at: Counter[str] = Counter()
    one = object.__new__(_Fill)
    at = np.array([to_micros(MONDAY)] * n)
    one._records = Records(ENTRY, History(), [])
    one._key_of = np.repeat(np.arange(keys), times)
    one._of_key = [(str(key),) for key in range(keys)]
    one._ttls = np.zeros(n, np.int64)
    event = pa.array(at, pa.timestamp("us", tz="UTC"))
    one._logged = pa.table(
        {"at": event, "outcome": ["fresh"] * n, "event_time": event, "attempt": pa.array([7] * n), "checksum": pa.array([1] * n)}
    )
    one._joined = pa.table({"_lake__event_time": event, "_lake__known_at": event}).rename_columns(
        [f"{log_replay._LAKE}__event_time", f"{log_replay._LAKE}__known_at"]
    )

    def finding(place: int, rows: Any) -> Finding:
        looked_at["cases"] += 1
        return Finding.VALUE if one._key_of[place] < altered else Finding.CACHED

    monkeypatch.setattr(one, "_finding", finding)
    monkeypatch.setattr(one, "_rows_of", lambda places: {})
    monkeypatch.setattr(one, "_example", lambda place, found, differing: (place, found))
    return one, looked_at


def judged(one: _Fill) -> Any:
    n = one._logged.num_rows
    return one._judge(np.arange(n), {}, np.zeros(n, np.bool_))


def test_rows_of_one_case_are_judged_once_and_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    one, looked_at = fill(200, 500, 20, monkeypatch)
    named, benign, altered, unjudged, _ = judged(one)
    assert looked_at["cases"] == 200
    assert named == {Finding.VALUE: 20 * 500, Finding.CACHED: 180 * 500}
    assert (int(benign.sum()), int(altered.sum()), int(unjudged.sum())) == (180 * 500, 20 * 500, 0)
    assert one._by_attempt(altered, unjudged) == {7: (100_000, 10_000)}


@pytest.mark.parametrize("altered", [0, 1, 20])
def test_of_more_cases_than_are_looked_at_only_what_was_seen_is_altered_and_fidelity_never_passes(
    altered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, looked_at = fill(100_000, 1, altered, monkeypatch)
    named, benign, is_altered, unjudged, _ = judged(one)
    assert looked_at["cases"] == log_replay.JUDGED
    assert named.total() == 100_000
    assert named[Finding.VALUE] == int(is_altered.sum()) <= altered
    assert int(unjudged.sum()) == 100_000 - log_replay.JUDGED
    assert int(benign.sum()) >= 100_000 - altered
    assert sum(rows for rows, _ in one._by_attempt(is_altered, unjudged).values()) == log_replay.JUDGED
    counts = {"rows": 100_000, "changes": 100_000, "unserved": 0, "late": 0, "unjudged": int(unjudged.sum())}
    seen = ViewReplay(view="orders@1", generation=1, findings=named, differing={}, compared={}, **counts)
    checks = skew_checks(seen, Completeness(1, 0))
    assert checks[0].level is not Level.PASSED
    assert checks[0].level is not Level.CRITICAL or named[Finding.VALUE] >= 5


@pytest.mark.parametrize("keys", [{"customer": "string"}, None])
def test_rows_of_keys_are_those_of_the_days_asked_for_also_where_there_is_but_one_key(tmp_path: Path, keys: dict[str, str] | None) -> None:
    view = view_of_orders(entity=Entity("customer", keys))
    lake, days = Lake(str(tmp_path)), [MONDAY + n * DAY for n in range(3)]
    of_each = {"customer": ["ann"] * 3} if keys else {}
    fixed = {"created_time": days, "available_time": days, "attempt": [1, 2, 3], "retracted": [False] * 3, "row_digest": [b"1"] * 3}
    table = pa.table({**of_each, "event_time": days, "event_date": [day.date() for day in days], "amount": [1.0, 2.0, 3.0], **fixed})
    write_deltalake(lake.prepare(feature_table(view)), table, partition_by=["event_date"])
    entry, key = view_entry(view), ("ann",) if keys else ()
    join_keys = list(view.entity.join_keys.items())
    assert [one.attempt for one in rows_of(lake, entry, join_keys, {key})[key]] == [3, 2, 1]
    assert [one.attempt for one in rows_of(lake, entry, join_keys, {key}, days[1])[key]] == [3, 2]
    assert rows_of(lake, entry, join_keys, set()) == {}
