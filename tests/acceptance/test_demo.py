"""The demo as a user runs it, on a copy of the project: the whole path, twice, what is online afterwards, and when it was lost.

`PENSTOCK_REQUESTS` says how many requests are asked before and after (`make soak`: 10,000).
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.as_of import as_of
from penstock.offline.lake import feature_table, raw_table
from penstock.orchestration.stack import Stack
from penstock.point_in_time.history import history_of
from penstock.quality.replay import replay
from penstock.registry.project import load_project
from penstock.runtime.spark import spark_session
from penstock.sdk import FeatureClient, FeatureResult
from tests.project import Project, penstock
from tests.world import feature_rows

pytestmark = pytest.mark.real
NOW = datetime(2026, 3, 10, 15, 7, tzinfo=UTC)
REQUESTS = int(os.environ.get("PENSTOCK_REQUESTS", "500"))
KEYS = {"now", "phases", "rows", "publications", "online_sample", "replay", "training_set", "leakage_delta", "auc", "versions"}


def demo(project: Project, now: datetime) -> dict[str, Any]:
    command = [sys.executable, "-m", "jobs.demo", "--days", "2", "--now", now.isoformat()]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + project.logs()
    found: dict[str, Any] = json.loads((project.folder / "var/demo/summary.json").read_text())
    return found


def versions(project: Project) -> dict[str, int | None]:
    definitions = load_project("feature_assets")
    tables = [*map(raw_table, definitions.sources), *map(feature_table, definitions.views)]
    found = {table: project.lake.version(table) for table in tables}
    assert len(found) == 10
    assert None not in found.values()
    return found


def test_the_demo_runs_ends_everything_and_changes_nothing_when_run_again(tmp_path: Path) -> None:
    project = Project(tmp_path)
    first = demo(project, NOW)
    assert project.processes() == []
    assert set(first) == KEYS
    views = load_project("feature_assets").views
    assert first["publications"]["partitions"] == {view.ref: 2 for view in views}
    assert sum(len(view.features) for view in views) >= 30
    assert set(first["publications"]["runs"].values()) == {"SUCCESS"}
    statuses = [feature["status"] for flight in first["online_sample"] for feature in flight["features"].values()]
    assert statuses.count("PRESENT") >= 0.8 * len(statuses) > 0
    assert first["replay"]["equal"] is True
    assert sum(first["replay"]["findings"].values()) == len(views) * len(first["online_sample"]) > 0
    assert first["training_set"]["event"]["rows"] == first["training_set"]["observed"]["rows"] > 1000
    leaks = {name: delta["differ"] > 0 for name, delta in first["leakage_delta"].items()}
    assert len(leaks) == sum(len(view.features) for view in views)
    assert all(leak for name, leak in leaks.items() if name.startswith("carrier_origin_delays__"))

    assert set(first["auc"]) == {"event", "observed"}
    assert (project.folder / "var/demo/leakage.html").read_text().count("<svg") == len(views)

    before = versions(project)
    again = demo(project, NOW)
    assert versions(project) == before
    assert again["online_sample"] == first["online_sample"]
    assert again["training_set"]["observed"]["content"] == first["training_set"]["observed"]["content"]

    later = demo(project, NOW + timedelta(hours=1))
    assert later["rows"]["raw/arrivals"] > first["rows"]["raw/arrivals"]
    by_rule = later["training_set"]["observed"]["rows_by_rule"]
    assert {view.name: by_rule[view.name]["ledger"] > 0 for view in views} == {view.name: True for view in views}
    require_what_the_rule_gives(project, NOW + timedelta(hours=1))
    require_the_same_answers_when_the_store_was_lost(project, NOW + timedelta(hours=1))
    assert project.processes() == []


def command(project: Project, *arguments: str) -> str:
    """What a command says that ends well."""
    done = subprocess.run(penstock(*arguments), cwd=project.folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def require_the_same_answers_when_the_store_was_lost(project: Project, now: datetime) -> None:
    """Filled again, in a keyspace that was not there, the store gives every answer as it was, to its replay token."""
    columns = list(load_project("feature_assets").service("arrival_delay").join_keys)
    flown = project.lake.dataset("raw/arrivals").to_table(columns=columns).to_pylist()
    flights = random.Random(REQUESTS).choices(flown, k=REQUESTS)
    before = answers(project, now, flights)
    conf = project.folder / "conf" / "local.yaml"
    conf.write_text(conf.read_text().replace("cassandra: {", "cassandra: {keyspace: filled_again, "))
    after = answers(project, now, flights, lambda: command(project, "online", "rebuild"))
    assert after == before
    assert len({tuple(answer.columns) for answer in before}) > REQUESTS // 20
    assert sum(status == "PRESENT" for answer in before for statuses in answer.statuses for status in statuses) > 30 * REQUESTS * 0.8


def answers(project: Project, now: datetime, entities: list[dict[str, Any]], first: Callable[[], object] = bool) -> list[FeatureResult]:
    """What the gateway says to one request for each entity, once something was done beside its node."""
    settings = project.settings(now)
    with Stack(settings) as stack:
        stack.cassandra()
        first()
        url, api_key = stack.gateway()
        with FeatureClient(url, api_key=api_key, timeout_s=60) as client:
            return [client.features("arrival_delay", [entity]) for entity in entities]


def require_what_the_rule_gives(project: Project, now: datetime) -> None:
    """Over the real gateway, all values of 1,000 flights are those the rule gives on the offline tables at that time."""
    settings, lake = project.settings(now), project.lake
    service = load_project("feature_assets").service("arrival_delay")
    views = [part.view for part in service.selection]
    tables = {view: (feature_rows(spark_session(settings), lake, view), history_of(lake, view)) for view in views}
    columns = list(service.join_keys)
    flights = lake.dataset("raw/arrivals").to_table(columns=columns).group_by(columns).aggregate([]).drop_null().to_pylist()[:1000]
    assert len(flights) == 1000
    with Stack(settings) as stack:
        stack.cassandra()
        url, api_key = stack.gateway()
        with FeatureClient(url, api_key=api_key, timeout_s=60) as client:
            asked = [f"{name}={flights[0][name]}" for name in columns]
            assert command(project, "features", "get", "arrival_delay", *asked).count("PRESENT") > 0
            token = command(project, "features", "get", "arrival_delay", *asked, "--token").strip()
            assert "6 of 6" in command(project, "replay", token)
            results = [client.features("arrival_delay", flights[n : n + 500]) for n in (0, 500)]
    served = [row for result in results for row in result.rows]
    for result in results:
        assert {str(part.finding) for part in replay(lake, result.token).parts} <= {"equal", "early"}
    compared = present = 0
    for flight, row in zip(flights, served, strict=True):
        for view, (rows, history) in tables.items():
            key = tuple(flight[name] for name in view.entity.join_keys)
            expected = as_of(rows.get(key, []), now, ttl=view.ttl, mode="restated", history=history)
            values = [row[f"{view.name}__{name}"] for name in view.feature_names]
            wanted = (None,) * len(values) if expected is None else expected.values
            assert tuple(value.value for value in values) == wanted, (view.ref, key)
            compared += len(values)
            present += sum(value.status == "PRESENT" for value in values)
    assert compared == 1000 * 36
    assert present >= 0.8 * compared
