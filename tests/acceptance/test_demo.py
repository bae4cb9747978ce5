"""The demo as a user runs it, on a copy of the project: the whole path, twice, and what is online afterwards."""

import json
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from penstock.as_of import as_of
from penstock.config import Settings, load_settings
from penstock.offline.lake import Lake
from penstock.orchestration.stack import Stack
from penstock.point_in_time.history import history_of
from penstock.registry.project import load_project
from penstock.sdk import FeatureClient
from tests.world import feature_rows

pytestmark = pytest.mark.real
ROOT = Path(__file__).parent.parent.parent
NOW = datetime(2026, 3, 10, 15, 7, tzinfo=UTC)
KEYS = {"now", "phases", "rows", "publications", "online_sample", "training_set", "leakage_delta", "versions"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("conf", "feature_assets", "jobs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(ROOT / "workspace.yaml", folder / "workspace.yaml")
        ports = {"cassandra": free_port(), "gateway": free_port(), "dagster": free_port()}
        (folder / "conf" / "local.yaml").write_text("".join(f"{name}:\n  port: {port}\n" for name, port in ports.items()))

    def demo(self, now: datetime) -> dict[str, Any]:
        command = [sys.executable, "-m", "jobs.demo", "--days", "2", "--now", now.isoformat()]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=900, check=False)
        logs = "\n".join(f"{log}:\n{log.read_text()[-4000:]}" for log in self.folder.glob("var/log/*.log"))
        assert done.returncode == 0, done.stdout + done.stderr + logs
        found: dict[str, Any] = json.loads((self.folder / "var/demo/summary.json").read_text())
        return found

    def settings(self, now: datetime) -> Settings:
        found = load_settings(self.folder)
        return found.model_copy(update={"clock": found.clock.model_copy(update={"now": now})})

    def versions(self) -> dict[str, int | None]:
        lake = Lake(str(self.folder / "var/lake"))
        return {table: lake.version(table) for table in ("raw/arrivals", "features/carrier_origin_delays/v1")}

    def processes(self) -> list[str]:
        return [
            " ".join(p.info["cmdline"]) for p in psutil.process_iter(["cmdline"]) if str(self.folder) in " ".join(p.info["cmdline"] or [])
        ]


def test_the_demo_runs_ends_everything_and_changes_nothing_when_run_again(tmp_path: Path) -> None:
    project = Project(tmp_path)
    first = project.demo(NOW)
    assert project.processes() == []
    assert set(first) == KEYS
    assert first["publications"]["partitions"] == {"carrier_origin_delays@1": 2}
    assert set(first["publications"]["runs"].values()) == {"SUCCESS"}
    statuses = [feature["status"] for flight in first["online_sample"] for feature in flight["features"].values()]
    assert statuses.count("PRESENT") >= 0.8 * len(statuses) > 0
    assert first["training_set"]["event"]["rows"] == first["training_set"]["observed"]["rows"] > 1000
    assert all(delta["differ"] > 0 for delta in first["leakage_delta"].values())

    versions = project.versions()
    again = project.demo(NOW)
    assert project.versions() == versions
    assert again["online_sample"] == first["online_sample"]
    assert again["training_set"]["observed"]["content"] == first["training_set"]["observed"]["content"]

    later = project.demo(NOW + timedelta(hours=1))
    assert later["rows"]["raw/arrivals"] > first["rows"]["raw/arrivals"]
    assert later["training_set"]["observed"]["rows_by_rule"]["carrier_origin_delays@1"]["ledger"] > 0
    require_what_the_rule_gives(project, NOW + timedelta(hours=1))
    assert project.processes() == []


def require_what_the_rule_gives(project: Project, now: datetime) -> None:
    """Over the real gateway, every key's values are those of the rule on the offline table at that time."""
    settings = project.settings(now)
    lake, view = Lake(settings.lake_uri()), load_project("feature_assets").view("carrier_origin_delays")
    from penstock.runtime.spark import spark_session

    keys = feature_rows(spark_session(settings), lake, view)
    history = history_of(lake, view)
    present = 0
    with Stack(settings) as stack:
        stack.cassandra()
        url, api_key = stack.gateway()
        with FeatureClient(url, api_key=api_key, timeout_s=30) as client:
            entities = [dict(zip(view.entity.join_keys, key, strict=True)) for key in keys]
            result = client.features("arrival_delay", entities)
    for row, (key, rows) in zip(result.rows, keys.items(), strict=True):
        expected = as_of(rows, now, ttl=view.ttl, mode="restated", history=history)
        served = tuple(value.value for value in row.values())
        assert served == ((None,) * len(view.features) if expected is None else expected.values), key
        present += sum(value.status == "PRESENT" for value in row.values())
    assert len(keys) > 30
    assert present >= 0.8 * len(keys) * len(view.features)
