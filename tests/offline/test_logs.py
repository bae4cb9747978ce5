"""The lake's logs: whole, whatever becomes of their files."""

from datetime import date, timedelta
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from penstock.clock import to_micros
from penstock.offline import logs, maintenance
from penstock.offline.lake import Lake
from penstock.offline.logs import (
    ATTEMPTS,
    attempts,
    copy_publications,
    last_attempts,
    last_publications,
    log_attempts,
    logged_attempts,
    newest,
    passed,
    publications,
)
from penstock.online.ledger import Publication, complete_until_us, latest
from tests.world import MONDAY, attempt_entry

DAY = timedelta(days=1)


def test_a_log_that_is_appended_to_all_day_stays_in_few_files_and_keeps_every_entry(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    entries = [attempt_entry(date(2026, 3, 2), attempt=n) for n in range(150)]
    for entry in entries:
        log_attempts(lake, [entry])
    assert attempts(lake) == entries
    assert len(lake.open(ATTEMPTS).file_uris()) <= 65


def test_what_a_log_takes_on_disk_grows_with_what_is_appended_and_not_with_its_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_FOLDED_BYTES", (12_000, 200_000))
    numbers = Random(1)
    held = {}
    for files in (8, 10_000):
        monkeypatch.setattr(logs, "_FILES", files)
        lake = Lake(str(tmp_path / str(files)))
        for n in range(200):
            log_attempts(lake, [attempt_entry(date(2026, 3, 2), attempt=100 * n + k, run_id=str(numbers.random())) for k in range(100)])
        assert len(attempts(lake)) == 20_000
        held[files] = sum(file.stat().st_size for file in Path(lake.location(ATTEMPTS)).glob("*.parquet"))
        assert len(lake.open(ATTEMPTS).file_uris()) <= 2 * (files + 1)
    assert held[8] <= 3 * held[10_000]


def test_commits_are_told_newest_first_to_the_first(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for n in range(23):
        write_deltalake(lake.prepare("t"), pa.table({"n": [n]}), mode="append")
    assert [commit["version"] for commit in lake.commits("t")] == list(range(22, -1, -1))


@pytest.mark.parametrize("seed", range(5))
def test_the_last_attempts_tell_what_all_tell_of_the_newest(tmp_path: Path, seed: int) -> None:
    lake, numbers = Lake(str(tmp_path)), Random(seed)
    assert last_attempts(lake, "raw/orders") == []
    for _ in range(4):
        log_attempts(
            lake,
            [
                attempt_entry(
                    MONDAY.date() + numbers.randrange(5) * DAY,
                    table=numbers.choice(["raw/orders", "raw/others"]),
                    attempt=numbers.randrange(6),
                    state=numbers.choice(["passed", "quarantined"]),
                    run_id=str(numbers.random()),
                    inputs={"raw/others": numbers.randrange(9)},
                )
                for _ in range(6)
            ],
        )
    whole, last = attempts(lake, "raw/orders"), last_attempts(lake, "raw/orders")
    assert {day: one.attempt for day, one in newest(last).items()} == {day: one.attempt for day, one in newest(whole).items()}
    assert {day: one.attempt for day, one in newest(last, passed).items()} == {
        day: one.attempt for day, one in newest(whole, passed).items()
    }
    assert all(one in whole for one in last)
    assert last_attempts(lake, "raw/of_nobody") == []
    assert logged_attempts(lake, "raw/orders") == {one.attempt for one in whole}


@pytest.mark.parametrize("seed", range(5))
def test_the_last_publications_tell_what_all_tell_of_what_is_online(tmp_path: Path, seed: int) -> None:
    lake, numbers = Lake(str(tmp_path)), Random(seed)
    assert last_publications(lake, "spending", 1, 1) == []
    rows = [
        Publication(
            view=numbers.choice(["spending", "others"]),
            version=1,
            generation=numbers.choice([1, 2]),
            partition=MONDAY.date() + numbers.randrange(6) * DAY,
            attempt=n,
            complete_until_us=numbers.randrange(to_micros(MONDAY), to_micros(MONDAY + 6 * DAY)),
            readable_at_us=numbers.randrange(50),
            run_id="",
            keys=n,
        )
        for n in numbers.sample(range(100), 60)
    ]
    assert copy_publications(lake, rows[:40]) == 40
    assert copy_publications(lake, rows) == 20
    assert copy_publications(lake, rows) == 0
    whole = [row for row in publications(lake, "spending", 1) if row.generation == 1]
    last = last_publications(lake, "spending", 1, 1)
    assert whole == sorted(row for row in rows if (row.view, row.generation) == ("spending", 1))
    assert latest(last) == latest(whole)
    assert complete_until_us(last) == complete_until_us(whole)
    assert len(last) <= 7
