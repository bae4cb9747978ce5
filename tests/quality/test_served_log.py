"""The feature log in the lake: each logged row once, whoever brings it and however often."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from deltalake import DeltaTable

from penstock.clock import to_micros
from penstock.offline.lake import Lake
from penstock.quality import served_log
from penstock.quality.served_log import COUNTS, SERVED, Ages, Shipped, served_ages, ship
from tests.serving.test_feature_log import answer, log
from tests.serving.world import DELAYS, NOON, carrier_key
from tests.world import view_of_orders


def served(lake: Lake) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.dataset(SERVED).to_table().sort_by([("request_id", "ascending"), ("row", "ascending")]).to_pylist()
    return rows


def test_what_gateways_logged_is_in_the_lake_and_their_segments_are_gone(tmp_path: Path) -> None:
    lake, folder = Lake(str(tmp_path / "lake")), tmp_path / "log"
    log(folder, answer("UA", "XX"))
    log(folder, answer("UA"))
    assert ship(lake, folder) == Shipped(segments=2, rows=6, dropped=0)
    assert list(folder.iterdir()) == []
    rows = [row for row in served(lake) if row["view"] == "delays" and row["key"] == carrier_key("UA")]
    assert [msgspec.json.decode(row["values"]) for row in rows] == [[12.25, 4]] * 2
    assert (rows[0]["at"], rows[0]["event_date"], rows[0]["outcome"], rows[0]["attempt"]) == (NOON, NOON.date(), "fresh", 7)
    assert rows[0]["features"] == ["delays__mean", "delays__flights"]
    assert rows[0]["statuses"] == ["PRESENT", "PRESENT"]
    assert rows[0]["complete_until"] == NOON
    assert (rows[0]["version"], rows[0]["generation"], rows[0]["entity"]) == (DELAYS.version, 3, "carrier")
    counts = lake.dataset(COUNTS).to_table().to_pylist()
    assert sorted(row["served"] for row in counts) == [1, 2]
    assert {to_micros(row["until"]) for row in counts} == {to_micros(NOON)}
    assert ship(lake, folder) == Shipped(segments=0, rows=0, dropped=0)


def test_a_segment_brought_twice_adds_nothing(tmp_path: Path) -> None:
    lake, folder, copy = Lake(str(tmp_path / "lake")), tmp_path / "log", tmp_path / "copy"
    log(folder, answer("UA"))
    shutil.copytree(folder, copy)
    assert ship(lake, folder).rows == 2
    assert ship(lake, copy) == Shipped(segments=1, rows=0, dropped=0)
    assert len(served(lake)) == 2


def test_ended_between_its_two_tables_it_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, folder = Lake(str(tmp_path / "lake")), tmp_path / "log"
    log(folder, answer("UA"))
    real = served_log.write_deltalake

    def ends(where: str, *args: Any, **options: Any) -> None:
        if where.endswith(COUNTS):
            raise KeyboardInterrupt
        real(where, *args, **options)

    monkeypatch.setattr(served_log, "write_deltalake", ends)
    with pytest.raises(KeyboardInterrupt):
        ship(lake, folder)
    monkeypatch.undo()
    log(folder, answer("XX"))
    assert ship(lake, folder) == Shipped(segments=2, rows=2, dropped=0)
    assert len(served(lake)) == 4
    assert lake.dataset(COUNTS).count_rows() == 2


def test_the_small_files_of_a_day_are_folded(tmp_path: Path) -> None:
    lake, folder = Lake(str(tmp_path / "lake")), tmp_path / "log"
    for _ in range(served_log._FILES + 1):
        log(folder, answer("UA"))
        ship(lake, folder)
    assert len(DeltaTable(lake.location(SERVED)).file_uris()) == 1
    assert len(served(lake)) == 2 * (served_log._FILES + 1)


def test_segments_are_read_a_few_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, folder = Lake(str(tmp_path / "lake")), tmp_path / "log"
    for _ in range(3):
        log(folder, answer("UA"))
    monkeypatch.setattr(served_log, "_AT_ONCE_BYTES", 1)
    assert ship(lake, folder) == Shipped(segments=3, rows=6, dropped=0)
    assert lake.version(SERVED) == 2


def test_a_folder_that_is_not_there_has_nothing_to_bring(tmp_path: Path) -> None:
    assert ship(Lake(str(tmp_path / "lake")), tmp_path / "none") == Shipped(segments=0, rows=0, dropped=0)


def test_ages_are_those_of_the_rows_that_have_a_value(tmp_path: Path) -> None:
    lake, folder, hour = Lake(str(tmp_path / "lake")), tmp_path / "log", timedelta(hours=1)
    view = view_of_orders(name="delays", version=DELAYS.version)
    assert served_ages(lake, view, NOON - hour, NOON + hour) is None
    log(folder, answer("UA", "AA", "XX"))
    ship(lake, folder)
    event_times = [row["event_time"] for row in served(lake) if row["view"] == "delays"]
    ages = sorted(NOON - at for at in event_times if at is not None)
    assert len(ages) < len(event_times)
    assert served_ages(lake, view, NOON - hour, NOON + hour) == Ages(len(ages), ages[len(ages) // 2], ages[-1])
    assert served_ages(lake, view, NOON + hour, NOON + 2 * hour) is None
    assert served_ages(lake, view_of_orders(name="others"), NOON - hour, NOON + hour) is None
