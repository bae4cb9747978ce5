"""On-demand views in the registry snapshot; without any, the document is what it was before there were such views."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from penstock.contract import FeatureService, OnDemandView
from penstock.errors import RegistryError
from penstock.registry.plan import diff
from penstock.registry.project import Project
from penstock.registry.snapshot import Snapshot, compile_snapshot, load_snapshot
from tests.functions import DOUBLE, function_in, on_demand_in
from tests.serving.world import DELAYS, SNAPSHOT


def snapshot_of(view: OnDemandView) -> Snapshot:
    service = FeatureService("late", views={DELAYS: ["mean"]}, on_demand=[view], owner="tests")
    return compile_snapshot(Project("shop", (DELAYS,), (service,), (view,)))


def test_a_snapshot_without_on_demand_views_is_the_document_it_was() -> None:
    # The fingerprints of this Penstock before it had on-demand views.
    assert SNAPSHOT.fingerprint == "c13ab09a5f303f2f"
    assert [service.contract for service in SNAPSHOT.services] == ["52d3b05be5783e1a", "73ac6aafc73fb820"]
    document = json.loads(SNAPSHOT.to_json())
    assert document["format"] == 2
    assert "on_demand" not in document
    assert load_snapshot(SNAPSHOT.to_json()) == SNAPSHOT


def test_a_snapshot_names_function_and_code_and_says_that_older_gateways_cannot_serve_it(tmp_path: Path) -> None:
    view = on_demand_in(tmp_path, inputs={DELAYS: ["mean"]})
    snapshot = snapshot_of(view)
    assert (snapshot.format, load_snapshot(snapshot.to_json())) == (3, snapshot)
    (entry,) = snapshot.on_demand_of(snapshot.services[0])
    assert (entry.function, entry.fingerprint) == ("functions:double", view.function.fingerprint)
    assert (entry.taken, entry.request) == ([("delays__mean", "float64")], [("n", "float64")])
    assert snapshot.services[0].request == [("n", "float64")]
    with pytest.raises(RegistryError, match="of format 4; this Penstock reads up to 3: upgrade it"):
        load_snapshot(msgspec.structs.replace(snapshot, format=4).to_json())


def test_other_code_is_another_contract_and_the_diff_says_what_follows(tmp_path: Path) -> None:
    view = on_demand_in(tmp_path, inputs={DELAYS: ["mean"]})
    other = replace(view, compute=function_in(tmp_path, DOUBLE.replace("2.0", "3.0")))
    changes = {(change.what, change.field): change.means for change in diff(snapshot_of(view), snapshot_of(other))}
    assert set(changes) == {("on-demand view doubled@1", "fingerprint"), ("feature service late", "contract")}
    assert "gateways serve it once they have this code" in changes["on-demand view doubled@1", "fingerprint"]
