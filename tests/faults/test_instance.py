"""A running instance under faults: bad data, a store that is down, runs killed at random points. Nothing is repaired by hand.

`PENSTOCK_KILLS` says how many computing and how many publishing runs are killed at random points (`make soak`: 10 each);
where it is one, the project is left three of its six views, one with windows on each of two entities and one with a function.
"""

import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from dagster import AssetCheckKey, AssetKey, AssetRecordsFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from jobs.flights_data import facts
from penstock.clock import FixedClock
from penstock.contract import FeatureView
from penstock.errors import (
    ContractMismatch,
    InvalidEntity,
    RequestError,
    TooManyEntities,
    Unavailable,
    UnknownFeature,
    UnknownService,
)
from penstock.offline.attempt import run_attempt
from penstock.offline.commit import current_rows, read_features
from penstock.offline.ingest import ingest_days
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts, newest, passed
from penstock.offline.watermark import days_between, start_of
from penstock.online.store import OnlineStore
from penstock.orchestration.control import until
from penstock.quality.contracts import audit
from penstock.runtime.nodes import node_down, node_up
from penstock.sdk import FeatureClient
from tests.faults.instance import AT_MOST, Instance, running_instance
from tests.online_content import read_values, require_what_the_rule_gives, values_online

pytestmark = pytest.mark.real
DAY = timedelta(days=1)
NOW = datetime(2026, 3, 10, 15, 7, tzinfo=UTC)
TODAY = NOW.date()
KILLS, WORST = int(os.environ.get("PENSTOCK_KILLS", "1")), 2
VIEWS = ["carrier_origin_delays", "route_delays", "aircraft_turnaround"] if KILLS == 1 else None
# The last four days are for the tests of bad data and of a store that is down. Before them one for each kill; before those one left alone.
LAST = TODAY - 4 * DAY
FIRST = LAST - (KILLS + WORST) * DAY
REACH = 8 * DAY


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running_instance(tmp_path_factory.mktemp("faults"), NOW, VIEWS) as running:
        running.run(*running.source_keys, first=FIRST - REACH, last=TODAY)
        running.usual_s = compute_undisturbed(running, FIRST)
        yield running


def test_runs_killed_at_random_and_at_the_worst_points_leave_what_an_undisturbed_instance_has(
    instance: Instance, spark: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake, phases = instance.project.lake, list[str]()
    for day, n in zip(days_between(FIRST + DAY, LAST), range(KILLS + WORST), strict=True):
        phases.append(kill_while_computing(instance, day, worst=n - KILLS))
        phases.append(kill_while_publishing(instance, day, worst=n - KILLS))
        instance.wait_until_published(day)
    print("\n".join(["", *sorted(phases)]))  # noqa: T201 - which phases the kills fell in is the test's report
    undisturbed = Lake(str(tmp_path_factory.mktemp("undisturbed")))
    compute_here(spark, undisturbed, instance)
    for view in instance.views:
        assert require_what_the_rule_gives(spark, lake, view, instance.connect) >= 3
        logged = [(entry.partition, entry.attempt) for entry in attempts(lake, feature_table(view))]
        assert len(logged) == len(set(logged))
        assert content(spark, lake, view) == content(spark, undisturbed, view)


def test_past_days_are_ingested_by_one_command(instance: Instance) -> None:
    days = str(FIRST - REACH - 2 * DAY), str(FIRST - REACH - DAY)
    assert instance.command("ingest", "arrivals", *days).startswith("arrivals: 2 day(s) ingested, 2 of them new or changed, with ")
    assert instance.command("ingest", "arrivals", *days) == f"all of arrivals from {days[0]} to {days[1]} is in\n"
    assert instance.command("ingest", "arrivals", *days, "--force") == (
        "arrivals: 2 day(s) ingested, 0 of them new or changed, with 0 row(s)\n"
    )


def compute_undisturbed(instance: Instance, day: date) -> tuple[float, float]:
    """How long a computing and a publishing run of a day take, in seconds."""
    run = instance.control.wait(instance.control.launch(instance.feature_keys, day, day), at_most=AT_MOST)
    instance.wait_until_published(day)
    publishing = [instance.control.run(run.id).seconds for run in instance.control.runs_of("publish_online")]
    assert run.seconds is not None
    return run.seconds, max(seconds for seconds in publishing if seconds is not None)


def kill_while_computing(instance: Instance, day: date, worst: int) -> str:
    """Kill a run that computes a day of all views: at a random point, or (worst 0, 1) with its files written, and right after its commit.

    Dagster runs it again. Returns in which phase it was killed.
    """
    table, lake = feature_table(instance.view), instance.project.lake
    version, folder = lake.version(table) or 0, Path(lake.location(table))
    run_id = instance.control.launch(instance.feature_keys, day, day)
    if worst == 0:
        lived = instance.kill_when_there(run_id, folder / f"event_date={day}")
    elif worst == 1:
        lived = instance.kill_when_there(run_id, folder / "_delta_log" / f"{version + 1:020}.json")
    else:
        lived = instance.kill_after(run_id, random.uniform(0, 1.25 * instance.usual_s[0]))
    done = sum(day in instance.computed(view) for view in instance.views)
    committed, logged = lake.version(table) != version, day in instance.computed(instance.view)
    written = (folder / f"event_date={day}").exists()
    until(instance.computed, lambda days: day in days, at_most=AT_MOST, what=f"computing {day} again")
    if instance.control.run(run_id).status == "FAILURE":
        assert "terminated by signal 9" in instance.control.failures(run_id)
    phase = "logged" if logged else "committed, not logged" if committed else "written, not committed" if written else "nothing written"
    return f"computing, after {lived:4.1f} s: {done} of {len(instance.views)} views logged; {instance.view.name}: {phase}"


def kill_while_publishing(instance: Instance, day: date, worst: int) -> str:
    """Kill the run by which the sensor publishes a day: at a random point, or (worst 0 and 1) right after its first write, and right
    after its ledger row. It is published all the same. Returns in which phase it was killed."""
    keys = sorted(instance.keys(instance.view))
    before, ledger = values_online(instance.connect, instance.view, keys), instance.ledger()

    async def is_written(store: OnlineStore) -> bool:
        return await read_values(store, instance.view, keys) != before

    async def is_recorded(store: OnlineStore) -> bool:
        return any(row not in ledger for row in await store.publications(instance.view.name, instance.view.version))

    run = until(
        lambda: instance.publishing(None if worst < 0 else instance.view),
        lambda found: found is not None or day in {row.partition for row in instance.ledger() if row.view == instance.view.name},
        at_most=AT_MOST,
        what=f"publication of {day}",
    )
    if run is None:
        return "publishing: over before it could be killed"
    if worst in (0, 1):
        lived = instance.kill_when_online(run.run_id, is_recorded if worst else is_written)
    else:
        lived = instance.kill_after(run.run_id, random.uniform(0, 1.25 * instance.usual_s[1]))
    written = values_online(instance.connect, instance.view, keys) != before
    now, copied = instance.ledger(), instance.copied()
    done = len({row.view for row in now if row not in ledger})
    recorded = [row for row in now if row not in ledger and row.view == instance.view.name]
    phase = "recorded, not copied" if any(row not in copied for row in recorded) else "recorded and copied" if recorded else ""
    phase = phase or ("written, not recorded" if written else "nothing written")
    return f"publishing, after {lived:4.1f} s: {done} of {len(instance.views)} views recorded; {instance.view.name}: {phase}"


def content(spark: Any, lake: Lake, view: FeatureView) -> list[tuple[Any, ...]]:
    """Every row of a feature table, corrections and retractions included, without when it was made."""
    rows = read_features(spark, lake, view)
    assert rows.count() == current_rows(rows, view).count()  # nothing was committed twice
    names = [*view.entity.join_keys, "event_time", "available_time", "retracted", "row_digest"]
    found = sorted(tuple(row) for row in rows.select(*names).collect())
    assert found
    return found


def compute_here(spark: Any, lake: Lake, instance: Instance) -> None:
    """The same days computed in one go, in a lake of their own."""
    clock, days = FixedClock(NOW), days_between(FIRST, LAST)
    for source in instance.definitions.sources:
        ingest_days(lake, source, days_between(FIRST - REACH, TODAY), fetch=facts, clock=clock, run_id="")
    for view in instance.views:
        run_attempt(spark, lake, view, days, clock=clock, run_id="", audit=audit)


# A flight of every day: its carrier, airports and an aircraft of the register.
FLIGHT = {"carrier": "UA", "origin": "EWR", "dest": "ORD", "tailnum": "N14228"}


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"service": "departure_delay"}, UnknownService),
        ({"features": ["carrier_origin_delays__mood"]}, UnknownFeature),
        ({"entities": [{"carrier": "UA"}]}, InvalidEntity),
        ({"entities": [{**FLIGHT, "origin": 7}]}, InvalidEntity),
        ({"entities": [{**FLIGHT, "tail": "N1"}]}, InvalidEntity),
        ({"entities": [FLIGHT] * 501}, TooManyEntities),
        ({"contract": "0123456789abcdef"}, ContractMismatch),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_by_the_same_class_in_the_sdk(
    instance: Instance, asked: dict[str, Any], error: type[RequestError]
) -> None:
    with FeatureClient(instance.gateway_url, api_key=instance.api_key, timeout_s=30) as client, pytest.raises(error) as raised:
        client.features(**{"service": "arrival_delay", "entities": [FLIGHT], **asked})
    assert type(raised.value) is error
    assert raised.value.hint


def test_what_is_not_json_is_refused_with_a_code_and_a_hint(instance: Instance) -> None:
    answer = httpx.post(f"{instance.gateway_url}/v1/features", content=b"{", headers={"authorization": f"Bearer {instance.api_key}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_request")
    assert answer.json()["error"]["hint"]


def test_a_store_that_is_down_fails_the_run_and_is_published_to_when_it_is_back(instance: Instance, spark: Any) -> None:
    day = TODAY - 3 * DAY
    instance.wait_until_quiet()
    ledger, node = instance.ledger(), instance.settings
    assert day not in {row.partition for row in ledger}
    node_down(node)
    instance.run(instance.feature_key, first=day, last=day)
    until(
        lambda: [run.status for run in instance.control.runs_of("publish_online")],
        lambda statuses: "FAILURE" in statuses[:1],
        at_most=AT_MOST,
        what="a failed publication",
    )
    failed = instance.control.runs_of("publish_online")[0].id
    assert "the embedded Cassandra node in" in instance.control.failures(failed)
    assert "the online store does not answer: " in "".join(json.loads(instance.command("status", "--json"))["problems"])
    until(instance.skip_reasons, lambda said: any("failed; tried again at" in reason for reason in said), at_most=AT_MOST, what="waiting")
    assert instance.copied() == ledger
    with FeatureClient(instance.gateway_url, api_key=instance.api_key, timeout_s=30) as client:
        asked = [FLIGHT]
        down = client.features("arrival_delay", asked).rows[0]
        assert {value.status for value in down.values()} == {"DEFAULT"}  # what the view declares for this; never a guess
        node_up(node)
        assert instance.ledger() == ledger
        instance.wait_until_published(day, views=[instance.view])

        def answered() -> set[str]:
            try:
                return {value.status for value in client.features("arrival_delay", asked).rows[0].values()}
            except Unavailable:
                return set()

        until(answered, lambda statuses: "DEFAULT" not in statuses and bool(statuses), at_most=AT_MOST, what="the gateway's way back")
    require_what_the_rule_gives(spark, instance.project.lake, instance.view, instance.connect)


def test_a_bad_day_is_quarantined_its_neighbour_published_and_the_mended_day_follows(instance: Instance, spark: Any) -> None:
    good, bad, after = TODAY - 2 * DAY, TODAY - DAY, TODAY
    instance.spoil(bad)
    instance.run(instance.source_key, first=bad, last=bad)
    # Delays of the bad day stay in the 7 day windows of the day after.
    instance.run(instance.feature_key, first=good, last=after)
    instance.wait_until_published(good, views=[instance.view])
    published = {row.partition for row in instance.ledger()}
    assert good in published
    assert not {bad, after} & published
    assert verdicts(instance, good, bad, after) == ["SUCCEEDED", "FAILED", "FAILED"]
    assert state_shown(instance, bad) == "quarantined"
    held = f"held back: {instance.view.ref} {bad}: arr_delay_min_mean"
    until(instance.skip_reasons, lambda said: any(held in reason for reason in said[:3]), at_most=AT_MOST, what="the reason")

    instance.mend()
    instance.run(instance.source_key, first=bad, last=bad)
    instance.run(instance.feature_key, first=bad, last=after)
    instance.wait_until_published(bad, after, views=[instance.view])
    assert verdicts(instance, good, bad, after) == ["SUCCEEDED"] * 3
    assert state_shown(instance, bad) == "passed"
    assert require_what_the_rule_gives(spark, instance.project.lake, instance.view, instance.connect) > 30
    until(instance.skip_reasons, lambda said: said[0] == "all that is committed is online", at_most=AT_MOST, what="nothing held back")


def test_a_day_without_the_daemon_is_made_up_for(instance: Instance, spark: Any) -> None:
    instance.wait_until_quiet()
    instance.end_dagster()
    local = instance.project.folder / "conf" / "local.yaml"
    before = local.read_text()
    assert "no Dagster answers at " in "".join(json.loads(instance.command("status", "--json"))["problems"])
    local.write_text(before.replace("dagster: {", 'dagster: {"refresh_cron": "* * * * *", '))
    instance.settings = instance.project.settings(NOW + DAY)
    instance.restart_dagster()

    def complete() -> list[bool]:
        rows = [newest(attempts(instance.project.lake, feature_table(view)), passed) for view in instance.views]
        return [TODAY + DAY in days and days[TODAY].complete_until == start_of(TODAY + DAY) for days in rows]

    with instance.scheduled("refresh"):
        until(complete, all, at_most=AT_MOST, what="the refresh of both days")
    instance.wait_until_published(TODAY, TODAY + DAY)
    told = json.loads(instance.command("status", "--json"))
    assert told["problems"] == []
    assert {one["state"] for one in told["partitions"] if one["partition"] >= str(TODAY)} == {"published"}
    for view in instance.views:
        assert require_what_the_rule_gives(spark, instance.project.lake, view, instance.connect) >= 3


def verdicts(instance: Instance, *days: date) -> list[str]:
    """The contract check's status of each day, as the UI's checks tab reads it."""
    keys = [day.isoformat() for day in days]
    with instance.dagster() as dagster:
        check = AssetCheckKey(AssetKey(instance.feature_key), "contract")
        found = {
            info.partition_key: info.latest_execution_status
            for info in dagster.event_log_storage.get_asset_check_partition_info([check], partition_keys=keys)
        }
    assert all(isinstance(status, AssetCheckExecutionRecordStatus) for status in found.values())
    return [found[key].name for key in keys]


def state_shown(instance: Instance, day: date) -> object:
    with instance.dagster() as dagster:
        key = AssetRecordsFilter(asset_key=AssetKey(instance.feature_key), asset_partitions=[day.isoformat()])
        (record,) = dagster.fetch_materializations(key, limit=1).records
        assert record.asset_materialization is not None
        return record.asset_materialization.metadata["state"].value
