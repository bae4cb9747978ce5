"""What the lake says of what was served: the same for many rows at once as for one at a time, and never more than was looked at."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from penstock import as_of
from penstock.as_of import Attempt, History, Mark, Readable, Row
from penstock.clock import to_micros
from penstock.contract import Entity, FeatureView
from penstock.offline.lake import Lake, feature_table
from penstock.online.codec import possible_checksums
from penstock.quality import cases
from penstock.quality.cases import LoggedRows, Named, by_attempt, named
from penstock.quality.findings import Finding, Records, rows_of
from penstock.quality.log_replay import ViewReplay
from penstock.quality.skew import Completeness, Level, skew_checks
from penstock.registry.snapshot import view_entry
from penstock.serving.judgement import Outcome
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


def orders_in(lake: Lake, customers: Sequence[str], at: Sequence[datetime], attempts: Sequence[int], view: FeatureView) -> None:
    n = len(at)
    fixed = {"created_time": at, "available_time": at, "attempt": attempts, "retracted": [False] * n, "row_digest": [b"1"] * n}
    of_each = {"customer": customers} if customers else {}
    amounts = {"amount": np.arange(1.0, n + 1)}
    table = pa.table({**of_each, "event_time": at, "event_date": [one.date() for one in at], **amounts, **fixed})
    write_deltalake(lake.prepare(feature_table(view)), table, partition_by=["event_date"])


def logged(lake: Lake, keys: int, times: int, altered: int) -> LoggedRows:
    """Each key's order as it was served so many times, under a checksum that is another than the lake's for the first keys."""
    n, customers, key_of = keys * times, [f"c{key}" for key in range(keys)], np.repeat(np.arange(keys), times)
    orders_in(lake, customers, [MONDAY] * keys, [7] * keys, view_of_orders())
    right = [min(possible_checksums(ENTRY.schema_id, to_micros(MONDAY), 7, (amount,))) for amount in np.arange(1.0, keys + 1).tolist()]
    stored = np.array([checksum ^ (key < altered) for key, checksum in enumerate(right)])
    event = pa.array([to_micros(MONDAY)] * n, pa.timestamp("us", tz="UTC"))
    columns = {
        "at": pa.array([to_micros(MONDAY + HOUR)] * n, event.type),
        "request_id": ["request"] * n,
        "row": [0] * n,
        "name": ["last_order"] * n,
        "outcome": ["fresh"] * n,
        "event_time": event,
        "attempt": pa.array([7] * n),
        "checksum": pa.array(stored[key_of]),
        "features": [["last_order__amount"]] * n,
        "values": ["[0.0]"] * n,
    }
    done = Attempt(MONDAY.date(), 7, MONDAY + DAY)
    history = History(attempts=(done,), ledger=(Readable(done.partition, done.attempt, MONDAY),), live_since=MONDAY)
    return LoggedRows(
        lake=lake,
        records=Records(ENTRY, history, []),
        logged=pa.table(columns),
        event_time=pa.chunked_array([event]),
        known_at=pa.chunked_array([event]),
        values=pa.table({"amount": key_of + 1.0}),
        join_keys=[("customer", "string")],
        keys=[(customer,) for customer in customers],
        key_of=key_of,
        ttls=np.full(n, ENTRY.ttl_us),
        outcomes=[Outcome.FRESH] * n,
    )


def named_all(rows: LoggedRows) -> Named:
    n = rows.logged.num_rows
    return named(rows, np.arange(n), {"amount": np.ones(n, np.bool_)}, np.zeros(n, np.bool_))


def test_rows_of_one_case_are_judged_once_and_all_of_them_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "JUDGED", 200)  # as many as there are cases: were rows judged one by one, most would not be
    rows = logged(Lake(str(tmp_path)), 200, 500, 20)
    found = named_all(rows)
    assert found.findings == {Finding.VALUE: 20 * 500, Finding.EQUAL: 180 * 500}
    assert (int(found.benign.sum()), int(found.altered.sum()), int(found.unjudged.sum())) == (180 * 500, 20 * 500, 0)
    assert by_attempt(rows, found) == {7: (100_000, 10_000)}
    assert [(one.key, one.finding, one.values) for one in found.examples[:2]] == [
        ({"customer": "c0"}, Finding.VALUE, {"amount": (0.0, 1.0)}),
        ({"customer": "c1"}, Finding.VALUE, {"amount": (0.0, 2.0)}),
    ]


@pytest.mark.parametrize("altered", [0, 1, 20])
def test_of_more_cases_than_are_looked_at_only_what_was_seen_is_altered_and_fidelity_never_passes(altered: int, tmp_path: Path) -> None:
    rows = logged(Lake(str(tmp_path)), 100_000, 1, altered)
    found = named_all(rows)
    assert found.findings.total() == 100_000
    assert found.findings[Finding.VALUE] == int(found.altered.sum()) <= altered
    assert int(found.unjudged.sum()) == 100_000 - cases.JUDGED
    assert int(found.benign.sum()) >= 100_000 - altered
    assert sum(rows for rows, _ in by_attempt(rows, found).values()) == cases.JUDGED
    counts = {"rows": 100_000, "changes": 100_000, "unserved": 0, "late": 0, "unjudged": int(found.unjudged.sum())}
    seen = ViewReplay(view="orders@1", generation=1, findings=found.findings, differing={}, compared={}, **counts)
    checks = skew_checks(seen, Completeness(1, 0))
    assert checks[0].level is not Level.PASSED
    assert checks[0].level is not Level.CRITICAL or found.findings[Finding.VALUE] >= 5


@pytest.mark.parametrize("keys", [{"customer": "string"}, None])
def test_rows_of_keys_are_those_of_the_days_asked_for_also_where_there_is_but_one_key(tmp_path: Path, keys: dict[str, str] | None) -> None:
    view = view_of_orders(entity=Entity("customer", keys))
    lake, days = Lake(str(tmp_path)), [MONDAY + n * DAY for n in range(3)]
    orders_in(lake, ["ann"] * 3 if keys else [], days, [1, 2, 3], view)
    entry, key = view_entry(view), ("ann",) if keys else ()
    join_keys = list(view.entity.join_keys.items())
    assert [one.attempt for one in rows_of(lake, entry, join_keys, {key})[key]] == [3, 2, 1]
    assert [one.attempt for one in rows_of(lake, entry, join_keys, {key}, days[1])[key]] == [3, 2]
    assert rows_of(lake, entry, join_keys, set()) == {}
