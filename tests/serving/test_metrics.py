"""What the gateway says of itself: what is no longer served raises no alarm, and what goes wrong first does."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.clock import to_micros
from penstock.contract import FeatureService
from penstock.registry.project import Project
from penstock.registry.serving_state import Pointer, ServicePointers, ServingState
from penstock.registry.snapshot import Snapshot, compile_snapshot
from penstock.serving.metrics import SHARED_FOLDER, GatewayMetrics
from tests.serving.world import DELAYS, NOON

NEXT = dataclasses.replace(DELAYS, version=2)
ROOT = Path(__file__).parent.parent.parent


def snapshot(*versions: int) -> Snapshot:
    """Of a project that has these versions of a view, with a service of the first."""
    views = tuple(view for view in (DELAYS, NEXT) if view.version in versions)
    service = FeatureService("one", views=[next(view for view in views if view.version == versions[0])], owner="tests")
    return compile_snapshot(Project("test_project", views, (service,)))


def serving(version: int, of: Snapshot) -> ServingState:
    """A service that reads this version."""
    pointers = [Pointer(view="delays", version=version, generation=1)]
    service = ServicePointers(service="one", snapshot=of.fingerprint, pointers=pointers, changed_at_us=0)
    return ServingState(
        snapshots={of.fingerprint: of}, services={"one": service}, complete_until_us={("delays", version, 1): to_micros(NOON)}
    )


def samples(text: str, name: str) -> dict[str, float]:
    """The last label of each series of a metric → its value."""
    return {
        list(sample.labels.values())[-1]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def move_from_1_to_2_and_back() -> list[dict[str, float]]:
    """The ages that are allowed, after each look."""
    metrics, found = GatewayMetrics(), []
    for version in (1, 2, 1):
        metrics.refreshed(serving(version, snapshot(version)), NOON.timestamp())
        found.append(samples(metrics.render().decode(), "penstock_freshness_sla_seconds"))
    return found


MOVED = [{"delays@1": 1800.0}, {"delays@1": math.inf, "delays@2": 1800.0}, {"delays@1": 1800.0, "delays@2": math.inf}]


def test_a_version_that_is_no_longer_served_may_be_of_any_age() -> None:
    assert move_from_1_to_2_and_back() == MOVED


def test_so_it_is_with_several_workers(tmp_path: Path) -> None:
    script = "from tests.serving.test_metrics import *; print(move_from_1_to_2_and_back() == MOVED)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={SHARED_FOLDER: str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", done.stderr
    assert list(tmp_path.iterdir()) != []  # the numbers were in files


def test_a_version_that_is_defined_and_that_no_service_reads_is_promised_nothing() -> None:
    metrics = GatewayMetrics()
    metrics.refreshed(serving(1, snapshot(1)), NOON.timestamp())
    metrics.refreshed(serving(2, snapshot(2, 1)), NOON.timestamp())  # the definitions still have version 1
    assert samples(metrics.render().decode(), "penstock_freshness_sla_seconds") == {"delays@1": math.inf, "delays@2": 1800.0}


@pytest.mark.parametrize("problem", ["corrupt", "unknown_schema", "future"])
def test_what_cannot_be_right_is_counted_from_0_on(problem: str) -> None:
    metrics = GatewayMetrics()
    metrics.refreshed(serving(1, snapshot(1)), NOON.timestamp())
    found = [
        (sample.labels["view"], sample.value)
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == "penstock_value_problems_total" and sample.labels["problem"] == problem
    ]
    assert found == [("delays", 0.0)]
