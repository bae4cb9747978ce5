"""The lake's logs: whole, whatever becomes of their files."""

from datetime import date
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from penstock.offline.lake import Lake
from penstock.offline.logs import ATTEMPTS, attempts, log_attempts
from tests.world import attempt_entry


def test_a_log_that_is_appended_to_all_day_stays_in_few_files_and_keeps_every_entry(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    entries = [attempt_entry(date(2026, 3, 2), attempt=n) for n in range(150)]
    for entry in entries:
        log_attempts(lake, [entry])
    assert attempts(lake) == entries
    assert len(lake.open(ATTEMPTS).file_uris()) <= 65


def test_commits_are_told_newest_first_to_the_first(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for n in range(23):
        write_deltalake(lake.prepare("t"), pa.table({"n": [n]}), mode="append")
    assert [commit["version"] for commit in lake.commits("t")] == list(range(22, -1, -1))
