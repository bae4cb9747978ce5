"""Three real nodes: one hangs, one is killed and comes back, all hang; a publication goes on. No request suffers that need not."""

import os
from pathlib import Path

import pytest

from benchmarks.serving import ring
from tests.project import free_port

pytestmark = pytest.mark.real

SOAK = "PENSTOCK_KILLS" in os.environ
SECONDS = 6.0 if SOAK else 2.0


@pytest.mark.parametrize("driver", ["acsylla", "cassandra-driver"] if SOAK else ["acsylla"])
def test_one_node_of_three_is_not_missed_and_without_all_every_answer_is_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    monkeypatch.setenv("PENSTOCK_CASSANDRA__DRIVER", driver)  # of the gateway and of the writer
    monkeypatch.setattr(ring, "DEADLINE_MS", 5000)  # the machine is shared: only what the nodes do should count
    scenario = ring.run(tmp_path, SECONDS, rate=20, warm_s=SECONDS, ports=(free_port(), free_port()))
    phases = {phase.name: phase for phase in scenario.phases}
    assert list(phases) == [
        "warming up",
        "quiet",
        "node 2 hangs",
        "node 2 is back",
        "node 3 is dead",
        "node 3 starts again",
        "node 3 is back",
        "all hang",
        "all are back",
        "after all",
    ]
    for phase in scenario.phases:
        assert phase.heard, phase.name
        assert (phase.old, phase.unlabelled) == (0, 0), phase
        if phase.name == "node 3 starts again":  # a JVM that starts takes a shared machine's processors, and the others wait
            assert phase.labels["PRESENT"] >= 0.9 * ring.PER_REQUEST * len(phase.heard), phase
        elif not phase.name.startswith("all"):
            assert (dict(phase.failed), set(phase.labels)) == ({}, {"PRESENT"}), phase.name
    assert set(phases["all hang"].failed) == {"503 unavailable"}  # of the view that declares no substitute
    assert phases["all hang"].labels["STALE"] > 0
    assert scenario.writer.written > 1000
