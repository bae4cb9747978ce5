"""On-demand views over HTTP: what is asked, what statuses follow from, and which code may run."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.clock import to_micros
from penstock.config import FeatureLogSettings
from penstock.contract import FeatureService, OnDemandView, minutes
from penstock.offline.lake import Lake
from penstock.online.memory import MemoryStore
from penstock.quality.served_log import SERVED, ship
from penstock.registry.project import Project
from penstock.registry.snapshot import compile_snapshot
from penstock.sdk import AsyncFeatureClient
from penstock.serving.feature_log import read_segment, shippable
from penstock.serving.judgement import Outcome
from penstock.serving.replay_token import read_token
from tests.functions import function_in, on_demand_in
from tests.on_demand_world import BEST, HISTORY, NOON, PROJECT, TRIP, Row, key_of, online, point, with_functions
from tests.serving.running import Running, running_gateway

UA: Row = ("UA", NOON - minutes(15), [12.5, 1, 4, NOON, "EWR", 0.5])
ASKED = {"carrier": "UA", "planned": 60, "departs": "2026-03-03T18:30:00+01:00", "base": "EWR"}
GIVEN = [47.5, 0.25, 5, 17, True, "EWR", "2026-03-03T17:30:00Z", 1.5]  # 60 - 12.5, 1 / 4, 4 + 1, 18:30+01:00 is 17 h UTC, 0.5 * 3

Ask = Callable[..., Awaitable[httpx.Response]]
Check = Callable[[Running, Ask], Awaitable[None]]


def serve(folder: Path, check: Check, rows: Sequence[Row] = (UA,), project: Project = PROJECT, store: MemoryStore | None = None) -> None:
    async def run() -> None:
        held = store if store is not None else await online(rows, project)
        log = FeatureLogSettings(sample=1.0)
        async with running_gateway(folder, held, log) as running, httpx.AsyncClient(base_url=running.url, timeout=10) as http:
            running.clock.at = NOON

            async def ask(path: str = "/v1/features", **body: Any) -> httpx.Response:
                asked = {"service": "trips", "entities": [ASKED], **body} if path == "/v1/features" else body
                return await http.post(path, json=asked, headers={"authorization": f"Bearer {running.key}"})

            await check(running, ask)

    asyncio.run(run())


def of(project_views: Sequence[OnDemandView]) -> Project:
    service = FeatureService("trips", views=[HISTORY], on_demand=list(project_views), owner="tests")
    return Project("test_project", (HISTORY,), (service,), tuple(project_views))


async def first(ask: Ask, *features: str, **body: Any) -> list[tuple[Any, str]]:
    """Values and statuses of the only row."""
    response = await ask(**({"features": list(features)} if features else {}), **body)
    assert response.status_code == 200, response.text
    (row,) = response.json()["rows"]
    return list(zip(row["values"], row["statuses"], strict=True))


def test_what_is_computed_comes_after_what_it_was_computed_of(tmp_path: Path) -> None:
    async def check(_: Running, ask: Ask) -> None:
        body = (await ask()).json()
        assert body["features"][6:] == [*(f"trip__{f.name}" for f in TRIP.features), "best__minutes", "best__from_history"]
        assert body["dtypes"][6:] == [f.dtype for view in (TRIP, BEST) for f in view.features]
        assert body["rows"][0]["values"][6:] == [*GIVEN, 12.5, True]
        assert body["rows"][0]["statuses"] == ["PRESENT"] * 16
        assert body["rows"][0]["ages_s"] == [900.0, 900.0, 900.0]
        assert body["views"][1] == {
            "view": "trip",
            "version": 1,
            "generation": 0,
            "complete_until": None,
            "ttl_s": 7200.0,
            "features": [*range(6, 14)],
        }

    serve(with_functions(tmp_path), check)


def test_features_asked_for_alone_come_alone_and_in_the_order_asked(tmp_path: Path) -> None:
    async def check(_: Running, ask: Ask) -> None:
        assert await first(ask, "trip__share") == [(0.25, "PRESENT")]
        assert await first(ask, "best__minutes", "trip__where", "history__late") == [(12.5, "PRESENT"), ("EWR", "PRESENT"), (1, "PRESENT")]
        columns = (await ask(features=["trip__share", "trip__minutes"], layout="columns")).json()
        assert (columns["values"], columns["statuses"]) == ([[0.25], [47.5]], ["PRESENT", "PRESENT"])
        assert [view["features"] for view in columns["views"]] == [[], [1, 0]]
        only_stored = await ask(features=["history__late"], entities=[{"carrier": "UA"}])  # what is not needed need not be given
        assert only_stored.json()["rows"][0]["values"] == [1]
        assert (await ask(entities=[])).json()["rows"] == []
        assert (await ask(features=["trip__shares"])).json()["error"]["hint"] == "did you mean 'trip__share'?"

    serve(with_functions(tmp_path), check)


def test_the_client_hands_request_fields_on_and_gives_what_is_computed(tmp_path: Path) -> None:
    async def check(running: Running, _: Ask) -> None:
        async with AsyncFeatureClient(running.url, api_key=running.key, timeout_s=10) as client:
            asked = [{"carrier": "UA", "planned": 60.0, "departs": NOON, "base": base} for base in ("EWR", "JFK")]
            result = await client.features("trips", asked)
            assert result.to_dict()["trip__same_base"] == [True, False]
            assert result.rows[0]["trip__minutes"].age == minutes(15)

    serve(with_functions(tmp_path), check)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planned": "60"}, "request field 'planned' is float64, got '60' (str)"),
        ({"planned": True}, "request field 'planned' is float64, got True (bool)"),
        ({"planned": 10**400}, "request field 'planned' is float64, got 1000"),
        ({"departs": 5}, "request field 'departs' is timestamp, got 5 (int)"),
        ({"departs": "2026-03-03T18:30:00"}, "request field 'departs' is timestamp, got '2026-03-03T18:30:00'; expected ISO 8601"),
        ({"base": 1}, "request field 'base' is string, got 1 (int)"),
        ({"basis": "EWR"}, "'basis' is no join key or request field of this service; it has 'planned' (float64)"),
        ({"carrier": 7}, "join key 'carrier' is string, got 7 (int)"),
    ],
)
def test_a_request_field_that_is_not_as_declared_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    async def check(_: Running, ask: Ask) -> None:
        response = await ask(entities=[ASKED, {**ASKED, **changes}])
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_entity")
        assert f"entity 1: {message}" in response.json()["error"]["message"]

    serve(with_functions(tmp_path), check)


def test_a_request_field_that_is_missing_is_refused_and_null_is_null(tmp_path: Path) -> None:
    async def check(_: Running, ask: Ask) -> None:
        response = await ask(entities=[{"carrier": "UA", "departs": None, "base": None}])
        assert response.status_code == 400
        assert response.json()["error"]["message"] == "entity 0: missing request field 'planned' (float64)"
        asked = [{**ASKED, "planned": None}]
        assert await first(ask, "trip__hour", "best__minutes", entities=asked) == [(None, "NULL"), (12.5, "PRESENT")]

    serve(with_functions(tmp_path), check)


@pytest.mark.parametrize(
    ("row", "trip", "best"),
    [
        ([12.5, 1, 4, NOON, "EWR", 0.5], (0.25, "PRESENT"), (12.5, "PRESENT")),
        ([None, 1, 4, NOON, "EWR", 0.5], (None, "NULL"), (60.0, "PRESENT")),
        ([12.5, 1, 0, NOON, "EWR", 0.5], (None, "ERROR"), (12.5, "PRESENT")),  # 1 / 0 is infinite
        ([12.5, 0, 0, NOON, "EWR", 0.5], (None, "ERROR"), (12.5, "PRESENT")),  # 0 / 0 is NaN
        ([nan, 1, 4, NOON, "EWR", 0.5], (None, "ERROR"), (None, "ERROR")),  # an input that is an ERROR
        (None, (None, "NOT_FOUND"), (60.0, "PRESENT")),
    ],
)
def test_a_status_follows_from_those_of_the_inputs(tmp_path: Path, row: Any, trip: Any, best: Any) -> None:
    async def check(_: Running, ask: Ask) -> None:
        assert await first(ask, "trip__share", "best__minutes") == [trip, best]

    serve(with_functions(tmp_path), check, [] if row is None else [("UA", NOON - minutes(15), row)])


def test_of_a_late_view_what_is_computed_is_stale_and_past_its_ttl_nothing_is(tmp_path: Path) -> None:
    async def check(running: Running, ask: Ask) -> None:
        running.clock.advance(minutes(31))  # the freshness SLA is 30 minutes
        assert await first(ask, "trip__minutes", "best__from_history") == [(47.5, "STALE"), (True, "STALE")]
        running.clock.advance(minutes(75))  # the row is 121 minutes old, its ttl is 120
        body = (await ask(features=["trip__minutes", "best__minutes"])).json()
        assert body["rows"][0]["values"] == [None, 60.0]
        assert body["rows"][0]["statuses"] == ["NOT_FOUND", "PRESENT"]
        assert body["rows"][0]["event_times"][1] == "2026-03-02T11:45:00Z"

    serve(with_functions(tmp_path), check)


def test_what_is_computed_of_a_default_says_so(tmp_path: Path) -> None:
    async def check(running: Running, ask: Ask) -> None:
        running.store.reachable = False
        # The default of the mean is 10; the other features have none, so the whole trip is null.
        assert await first(ask, "trip__minutes", "best__minutes") == [(None, "DEFAULT"), (10.0, "DEFAULT")]

    serve(with_functions(tmp_path), check)


def test_a_function_that_raises_leaves_other_features_and_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    body = "if (columns['n'] < 0).any():\n        raise ValueError('below')\n    return {'twice': columns['n'] * 2}"
    doubled = on_demand_in(tmp_path / "feature_functions", f"def double(columns):\n    {body}\n")

    async def check(running: Running, ask: Ask) -> None:
        entities = [{"carrier": "UA", "n": -1.0}, {"carrier": "UA", "n": 1.0}]
        for _ in range(3):
            rows = (await ask(features=["history__late", "doubled__twice"], entities=entities)).json()["rows"]
            assert [row["values"] for row in rows] == [[1, None], [1, None]]
            assert [row["statuses"] for row in rows] == [["PRESENT", "ERROR"]] * 2
        assert await first(ask, "doubled__twice", entities=entities[1:]) == [(2.0, "PRESENT")]
        metrics = running.gateway._metrics.render().decode()
        assert 'penstock_value_problems_total{problem="failed",view="doubled"} 6.0' in metrics
        assert 'penstock_feature_values_total{status="ERROR",view="doubled"} 6.0' in metrics
        assert 'penstock_feature_values_total{status="PRESENT",view="doubled"} 1.0' in metrics

    serve(tmp_path, check, project=of([doubled]))
    said = [record.getMessage() for record in caplog.records if "doubled@1" in record.getMessage()]
    assert said == ["features are served as ERROR: on-demand view doubled@1, function functions:double raised ValueError: below"]


def test_a_function_of_request_fields_alone_reads_nothing(tmp_path: Path) -> None:
    async def check(running: Running, ask: Ask) -> None:
        running.store.reachable = False
        response = await ask(features=["doubled__twice"], entities=[{"n": 4}, {"n": None}])
        rows = response.json()["rows"]
        assert [(row["values"], row["statuses"]) for row in rows] == [([8.0], ["PRESENT"]), ([None], ["NULL"])]
        assert read_token(response.json()["token"]).views == []

    serve(tmp_path, check, project=of([on_demand_in(tmp_path / "feature_functions")]))


@pytest.mark.parametrize("there", ["nothing", "other code", "broken"])
def test_a_service_whose_function_is_not_here_as_published_is_unavailable_and_others_are_served(tmp_path: Path, there: str) -> None:
    folder = tmp_path / "feature_functions"
    if there != "nothing":
        with_functions(tmp_path)
        trips = folder / "trips.py"
        trips.write_text("def slack(:" if there == "broken" else trips.read_text().replace("planned - mean", "mean - planned"))
    message = {"nothing": "No such file", "other code": f"with code {TRIP.function.fingerprint};", "broken": "invalid syntax"}[there]

    async def check(running: Running, ask: Ask) -> None:
        response = await ask()
        assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
        said = response.json()["error"]["message"]
        assert "feature service 'trips' cannot be served by this gateway: on-demand view trip@1 needs function trips:slack" in said
        assert message in said
        assert (await ask(service="plain", entities=[{"carrier": "UA"}])).status_code == 200
        assert (await ask(service="trip", entities=[])).status_code == 404
        with_functions(tmp_path)
        await running.gateway.refresh()  # the module that was published is there now
        assert await first(ask, "trip__minutes") == [(47.5, "PRESENT")]

    serve(tmp_path, check)


def test_other_code_published_keeps_what_is_served_until_it_is_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = (with_functions(tmp_path) / "feature_functions" / "trips.py").read_text()
    after = text.replace("planned - mean", "mean - planned")
    changed = [replace(view, compute=function_in(tmp_path / "published", after, view.compute.__name__, "trips")) for view in (TRIP, BEST)]
    snapshot = compile_snapshot(of(changed))

    async def check(running: Running, ask: Ask) -> None:
        before = (await ask()).json()["contract"]
        await point(running.store, snapshot, 2)
        for _ in range(2):
            await running.gateway.refresh()
            assert await first(ask, "trip__minutes", contract=before) == [(47.5, "PRESENT")]
        assert sum("trip@1 needs function trips:slack" in record.getMessage() for record in caplog.records) == 1
        (tmp_path / "feature_functions" / "trips.py").write_text(after)
        assert await first(ask, "trip__minutes", contract=before) == [(47.5, "PRESENT")]  # a file alone changes nothing
        await running.gateway.refresh()
        assert await first(ask, "trip__minutes", contract=snapshot.services[0].contract) == [(-47.5, "PRESENT")]
        assert (await ask(contract=before)).json()["error"]["code"] == "contract_mismatch"  # other code is another contract

    serve(tmp_path, check)


def test_a_service_tells_its_request_fields(tmp_path: Path) -> None:
    async def check(running: Running, _: Ask) -> None:
        async with httpx.AsyncClient(base_url=running.url, headers={"authorization": f"Bearer {running.key}"}) as http:
            told = (await http.get("/v1/services/trips")).json()
        assert told["join_keys"] == {"carrier": "string"}
        assert told["request"] == {"planned": "float64", "departs": "timestamp", "base": "string"}
        assert [(f["name"], f["ttl_s"]) for f in told["features"]][-1] == ("best__from_history", 7200.0)

    serve(with_functions(tmp_path), check)


def test_feast_s_route_takes_request_fields_as_columns(tmp_path: Path) -> None:
    async def check(_: Running, ask: Ask) -> None:
        entities = {name: [value, value] for name, value in ASKED.items()} | {"planned": [60.0, None]}
        body = (await ask("/get-online-features", features=["trip:minutes", "trip:since", "history:late"], entities=entities)).json()
        assert body["metadata"]["feature_names"] == [*entities, "minutes", "since", "late"]
        minutes_of, since, late = body["results"][len(entities) :]
        assert (minutes_of["values"], minutes_of["statuses"]) == ([47.5, None], ["PRESENT", "NULL_VALUE"])
        assert since["values"] == [1772559000, None]  # 2026-03-03T17:30:00Z, in seconds as Feast has them
        assert late["values"] == [1, 1]
        refused = await ask("/get-online-features", feature_service="trips", entities={"carrier": ["UA"]})
        assert refused.json()["error"]["code"] == "invalid_entity"

    serve(with_functions(tmp_path), check)


def test_the_log_has_what_was_given_and_what_was_computed_and_the_token_what_was_read(tmp_path: Path) -> None:
    async def check(running: Running, ask: Ask) -> None:
        response = await ask(features=["trip__share", "trip__flights"])
        assert [view.view for view in read_token(response.json()["token"]).views] == ["history"]

    serve(with_functions(tmp_path), check)
    (row,) = [row for path in shippable(tmp_path / "var/feature_log") for batch in read_segment(path) for row in batch.rows]
    history, trip = row.views
    assert (history.key, history.values) == (key_of("UA"), [12.5, 1, 4, history.values[3], "EWR", 0.5])
    assert (trip.view, trip.version, trip.generation, trip.entity, trip.attempt) == ("trip", 1, 0, "", None)
    assert trip.columns == ["planned", "departs", "base"]
    assert json.loads(trip.key or b"") == [60, "2026-03-03T17:30:00Z", "EWR"]
    assert (trip.outcome, trip.event_time_us) == (Outcome.COMPUTED, to_micros(NOON - minutes(15)))
    assert (trip.features, trip.values, trip.statuses) == (["trip__share", "trip__flights"], [0.25, 5], ["PRESENT", "PRESENT"])
    lake = Lake(str(tmp_path / "lake"))
    assert ship(lake, tmp_path / "var/feature_log").rows == 2
    brought = {one["name"]: one for one in lake.dataset(SERVED).to_table().to_pylist()}
    assert (brought["trip"]["outcome"], brought["trip"]["values"], brought["trip"]["key"]) == ("computed", "[0.25,5]", trip.key)


def test_a_gateway_imports_numpy_only_for_a_service_that_needs_it() -> None:
    code = "import sys, penstock.serving.app; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
