"""Faults of every kind in a hundredth of what is served of the flights, and whether a webhook was told: `make bench-skew`, small."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np
import pytest

from benchmarks.skew.faults import FAULTS, UNSEEN, Fault
from benchmarks.skew.flights import NOW, Flights
from benchmarks.skew.injection import injected
from benchmarks.skew.trials import CRITICAL, Watch, Webhook
from feature_assets.aircraft_history import VIEW
from penstock.clock import FixedClock
from penstock.config import FeatureLogSettings, LakeSettings, Settings
from penstock.offline.watermark import DAY
from penstock.quality.findings import SAME
from penstock.quality.skew import Level

DTYPES = {feature.dtype for feature in VIEW.features}
TRIED = [fault for fault in FAULTS if not fault.dtypes or DTYPES & set(fault.dtypes)]


@pytest.fixture(scope="module")
def flights(spark: Any, cassandra_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Flights:
    """A view of windows over three days of flights, computed, published and asked for."""
    folder = tmp_path_factory.mktemp("faults")
    settings = cassandra_settings.model_copy(
        update={
            "lake": LakeSettings(path=str(folder / "lake")),
            "cassandra": cassandra_settings.cassandra.model_copy(update={"keyspace": "injected_faults"}),
            "dagster": cassandra_settings.dagster.model_copy(update={"first_day": date(2026, 3, 1)}),
            "feature_log": FeatureLogSettings(sample=1.0, folder=str(folder / "log")),
        }
    )
    clock = FixedClock(NOW)
    found = Flights(settings, clock, [VIEW])
    found.fill(NOW.date() - 2 * DAY, NOW.date())
    found.look_back()
    clock.at = found.after_all_is_readable()
    return found


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    found = Webhook()
    yield found
    found.close()


@pytest.mark.real
@pytest.mark.parametrize("fault", TRIED, ids=lambda fault: fault.name.replace(" ", "_"))
def test_a_fault_in_a_hundredth_of_what_is_served_is_told_at_once_and_named(flights: Flights, webhook: Webhook, fault: Fault) -> None:
    watch, dtype = Watch(flights, webhook, VIEW), next((one for one in fault.dtypes if one in DTYPES), None)
    with injected(flights, VIEW, fault, fault.sides[0], dtype, CRITICAL, np.random.default_rng(1)) as done:
        assert done.rows, "no rows that it would alter"
        bad, told = watch.look(done.unknown, lose=done.rows if fault.where == "log" else 0)
    assert [said for said in told if said.startswith(f"critical opened: skew:{VIEW.ref}:")], (bad, told)
    assert {check.name: check.level for check in bad.checks}[fault.expected] is Level.CRITICAL
    named = {finding: count for finding, count in bad.findings.items() if finding not in SAME}
    assert max(named, key=lambda one: named[one], default=None) == fault.named
    _, after = watch.look()
    assert fault.where == "late" or [said for said in after if said.startswith("critical resolved")], after


def test_the_faults_that_no_distribution_shows_are_among_those_that_are_tried() -> None:
    assert {fault.name for fault in TRIED} >= set(UNSEEN)
