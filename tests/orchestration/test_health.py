"""The freshness check in Dagster: whether a view is late, and which stage made it so."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from penstock.clock import FixedClock, to_micros
from penstock.config import Settings
from penstock.contract import FeatureService, FreshnessSla
from penstock.offline.lake import feature_table
from penstock.offline.logs import copy_publications, log_attempts
from penstock.online.ledger import Publication
from penstock.orchestration.health import health_checks
from penstock.registry.project import Project
from penstock.store import Store
from tests.world import MONDAY, attempt_entry, view_of_orders

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NOON = MONDAY + 12 * HOUR
SLA = FreshnessSla(total=2 * HOUR, ingest=20 * MINUTE, compute=30 * MINUTE)


def test_the_check_shows_how_much_each_stage_takes_of_what_it_is_allowed(tmp_path: Path) -> None:
    view = view_of_orders(delay=10 * MINUTE, freshness=SLA)
    project = Project("shop", (view,), (FeatureService("orders", views=[view], owner="tests"),))
    store = Store(Settings(root=tmp_path), project, FixedClock(NOON))
    log_attempts(
        store.lake,
        [
            attempt_entry(MONDAY.date(), table="raw/orders", complete_until=NOON - 15 * MINUTE),
            attempt_entry(MONDAY.date(), table=feature_table(view), complete_until=NOON - 65 * MINUTE),
        ],
    )
    row = Publication(
        view=view.name, version=1, generation=1, partition=MONDAY.date(), attempt=1, complete_until_us=to_micros(NOON - 70 * MINUTE),
        readable_at_us=to_micros(NOON), run_id="", keys=1,
    )  # fmt: skip
    copy_publications(store.lake, [row])
    fresh, *_ = health_checks(store, view)
    found: Any = fresh()
    assert found.passed
    shown = {name: getattr(value, "value", value) for name, value in found.metadata.items()}
    assert {name: shown[name] for name in ("age", "delay", "ingest", "compute", "publish", "over_budget")} == {
        "age": "1:10:00",
        "delay": "0:10:00",
        "ingest": "0:15:00 of 0:20:00",
        "compute": "0:40:00 of 0:30:00",
        "publish": "0:05:00",
        "over_budget": "compute 0:40:00 of 0:30:00",
    }
