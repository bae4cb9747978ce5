"""A lake whose disk is full: it is said, nothing half-written can be read, and what is run again once there is space is whole."""

import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.clock import FixedClock
from penstock.config import LakeSettings, Settings
from penstock.contract import FeatureService
from penstock.errors import LakeFull
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts
from penstock.registry.project import Project
from penstock.store import Store
from tests.world import MONDAY, World

pytestmark = pytest.mark.real
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = MONDAY.date()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    mounted = (
        os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], check=False).returncode == 0
    )
    if not mounted:
        pytest.skip("only root may mount a disk that is small enough to fill")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def world_on(spark: Any, folder: Path) -> World:
    world = World(spark, Lake(str(folder / "lake")), FixedClock(MONDAY + 12 * HOUR))
    for n in range(600):
        world.place(f"c{n:04}", n + 0.25, MONDAY + n * timedelta(minutes=1))
    return world


def fill(disk: Path, leave: int) -> Path:
    """All but so many bytes."""
    about = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * max(0, about.f_bavail * about.f_frsize - leave))
    return ballast


@pytest.mark.parametrize("leave", [0, 8_192, 32_768])
def test_a_day_computed_on_a_full_disk_is_there_whole_once_there_is_space(
    spark: Any, disk: Path, tmp_path_factory: Any, leave: int
) -> None:
    world = world_on(spark, disk)
    project = Project("shop", (world.view,), (FeatureService("orders", views=[world.view], owner="tests"),))
    store = Store(Settings(root=disk, lake=LakeSettings(path=world.lake.uri)), project, world.clock)
    world.ingest([TODAY])
    ballast = fill(disk, leave)
    with pytest.raises(LakeFull, match="no space is left on the disk of the lake"):
        store.compute(world.view, [TODAY])
    ballast.unlink()
    assert [entry for entry in attempts(world.lake, feature_table(world.view)) if entry.state == "passed"] == []
    world.clock.advance(timedelta(seconds=1))
    (entry,) = store.compute(world.view, [TODAY])
    assert (entry.state, entry.rows) == ("passed", 600)
    undisturbed = world_on(spark, tmp_path_factory.mktemp("undisturbed"))
    undisturbed.compute(TODAY)
    assert [row[:4] for row in world.rows()] == [row[:4] for row in undisturbed.rows()]


def test_a_source_ingested_on_a_full_disk_is_there_whole_once_there_is_space(spark: Any, disk: Path) -> None:
    world = world_on(spark, disk)
    (source,) = world.view.sources
    project = Project("shop", (world.view,), (FeatureService("orders", views=[world.view], owner="tests"),))
    store = Store(Settings(root=disk, lake=LakeSettings(path=world.lake.uri)), project, world.clock)
    ballast = fill(disk, 0)
    with pytest.raises(LakeFull):
        store.ingest(source, [TODAY], fetch=world._fetch)
    ballast.unlink()
    world.clock.advance(timedelta(seconds=1))
    (entry,) = store.ingest(source, [TODAY], fetch=world._fetch)
    assert entry.rows == 600
    world.compute(TODAY)
    assert len(world.rows()) == 600
