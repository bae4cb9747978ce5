"""The demo as a user runs it, on a copy of the project: the whole path, twice, and what is online afterwards."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.as_of import as_of
from penstock.orchestration.stack import Stack
from penstock.point_in_time.history import history_of
from penstock.registry.project import load_project
from penstock.sdk import FeatureClient
from tests.project import Project
from tests.world import feature_rows

pytestmark = pytest.mark.real
NOW = datetime(2026, 3, 10, 15, 7, tzinfo=UTC)
KEYS = {"now", "phases", "rows", "publications", "online_sample", "training_set", "leakage_delta", "versions"}


def demo(project: Project, now: datetime) -> dict[str, Any]:
    command = [sys.executable, "-m", "jobs.demo", "--days", "2", "--now", now.isoformat()]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + project.logs()
    found: dict[str, Any] = json.loads((project.folder / "var/demo/summary.json").read_text())
    return found


def versions(project: Project) -> dict[str, int | None]:
    return {table: project.lake.version(table) for table in ("raw/arrivals", "features/carrier_origin_delays/v1")}


def test_the_demo_runs_ends_everything_and_changes_nothing_when_run_again(tmp_path: Path) -> None:
    project = Project(tmp_path)
    first = demo(project, NOW)
    assert project.processes() == []
    assert set(first) == KEYS
    assert first["publications"]["partitions"] == {"carrier_origin_delays@1": 2}
    assert set(first["publications"]["runs"].values()) == {"SUCCESS"}
    statuses = [feature["status"] for flight in first["online_sample"] for feature in flight["features"].values()]
    assert statuses.count("PRESENT") >= 0.8 * len(statuses) > 0
    assert first["training_set"]["event"]["rows"] == first["training_set"]["observed"]["rows"] > 1000
    assert all(delta["differ"] > 0 for delta in first["leakage_delta"].values())

    before = versions(project)
    again = demo(project, NOW)
    assert versions(project) == before
    assert again["online_sample"] == first["online_sample"]
    assert again["training_set"]["observed"]["content"] == first["training_set"]["observed"]["content"]

    later = demo(project, NOW + timedelta(hours=1))
    assert later["rows"]["raw/arrivals"] > first["rows"]["raw/arrivals"]
    assert later["training_set"]["observed"]["rows_by_rule"]["carrier_origin_delays@1"]["ledger"] > 0
    require_what_the_rule_gives(project, NOW + timedelta(hours=1))
    assert project.processes() == []


def require_what_the_rule_gives(project: Project, now: datetime) -> None:
    """Over the real gateway, every key's values are those of the rule on the offline table at that time."""
    settings = project.settings(now)
    lake, view = project.lake, load_project("feature_assets").view("carrier_origin_delays")
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
