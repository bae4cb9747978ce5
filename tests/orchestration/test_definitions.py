"""A view of flights in a real Dagster instance: range runs, verdicts per partition, what the sensors say, training sets."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from deltalake import write_deltalake

from jobs.flights_data import facts
from jobs.ingest import FETCH
from penstock.config import Settings
from penstock.offline.ingest import Fetch
from penstock.offline.lake import Lake
from penstock.orchestration import definitions
from penstock.orchestration.health import changed
from penstock.orchestration.partitions import range_tags

pytestmark = pytest.mark.real
ROOT = Path(__file__).parent.parent.parent
NOW = datetime(2026, 3, 10, 15, 7, tzinfo=UTC)
TODAY = NOW.date()
DAY = timedelta(days=1)
VIEW = "carrier_origin_delays"
TRAINING = dg.AssetKey(["training", "delays"])
SOURCE, FEATURES, ONLINE = dg.AssetKey(["sources", "arrivals"]), dg.AssetKey(["features", VIEW]), dg.AssetKey(["online", VIEW])


ONE_VIEW = """
from feature_assets.carrier_origin_delays import VIEW
from penstock.contract import FeatureService

delays = FeatureService("delays", views=[VIEW], owner="ml")
"""


class Project:
    """One view of the flights project over a lake of its own, in an instance of its own."""

    def __init__(self, instance: dg.DagsterInstance, fetch: Fetch, lake: Path) -> None:
        self.instance, self.lake = instance, lake
        self.defs = definitions(ROOT, ingest={"arrivals": fetch}, package="one_view_assets")

    def materialize(self, *keys: dg.AssetKey, first: Any, last: Any) -> dg.ExecuteInProcessResult:
        return self._execute(keys, tags=range_tags(first, last))

    def train(self, **config: str) -> dg.ExecuteInProcessResult:
        return self._execute([TRAINING], run_config={"ops": {TRAINING.to_python_identifier(): {"config": config}}})

    def _execute(self, keys: Sequence[dg.AssetKey], **options: Any) -> dg.ExecuteInProcessResult:
        job = self.defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(keys))
        return job.execute_in_process(instance=self.instance, raise_on_error=False, **options)

    def alarm(self, key: dg.AssetKey, check: str) -> bool | None:
        """Whether an unpartitioned check passed last; None: it never ran."""
        name = dg.AssetCheckKey(key, check)
        found = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([name])
        evaluation = found[name].evaluation if name in found else None
        return None if evaluation is None else evaluation.passed

    def verdicts(self, keys: list[str]) -> dict[str, AssetCheckExecutionRecordStatus]:
        """Partition → status, as the UI's checks tab reads it."""
        found = self.instance.event_log_storage.get_asset_check_partition_info(
            [dg.AssetCheckKey(FEATURES, "contract")], partition_keys=keys
        )
        return {info.partition_key: info.latest_execution_status for info in found}

    def tick(self, name: str = "publish", cursor: str | None = None) -> Any:
        sensor = self.defs.resolve_sensor_def(name)
        context = dg.build_sensor_context(instance=self.instance, cursor=cursor, repository_def=self.defs.get_repository_def())
        return sensor.evaluate_tick(context)

    @contextmanager
    def refreshing(self, status: dg.DagsterRunStatus) -> Iterator[None]:
        """While a refresh waits or runs."""
        run = self.instance.add_run(dg.DagsterRun(job_name="refresh", status=status))
        yield
        self.instance.delete_run(run.run_id)


@pytest.fixture
def project(spark: Any, cassandra_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setenv("PENSTOCK_CLOCK__NOW", NOW.isoformat())
    monkeypatch.setenv("PENSTOCK_LAKE__PATH", str(tmp_path / "lake"))
    monkeypatch.setenv("PENSTOCK_CASSANDRA__DATA", cassandra_settings.cassandra.data)
    monkeypatch.setenv("PENSTOCK_CASSANDRA__KEYSPACE", f"dagster_{crc32(str(tmp_path).encode())}")
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in (("__init__", ""), ("delays", ONE_VIEW)):
        (tmp_path / "one_view_assets").mkdir(exist_ok=True)
        (tmp_path / "one_view_assets" / f"{name}.py").write_text(text)
    for name in [name for name in sys.modules if name.partition(".")[0] == "one_view_assets"]:
        monkeypatch.delitem(sys.modules, name)
    with dg.instance_for_test() as instance:
        yield Project(instance, facts, tmp_path / "lake")


def with_a_bad_day(name: str, start: datetime, end: datetime, known_by: datetime) -> pa.Table:
    """The facts, but on yesterday's flights each delay is a thousand hours."""
    table = facts(name, start, end, known_by)
    bad = pc.equal(pc.cast(table["event_time"], pa.date32()), pa.scalar(TODAY - DAY, pa.date32()))
    position = table.column_names.index("arr_delay_min")
    return table.set_column(position, "arr_delay_min", pc.if_else(bad, pa.scalar(60_000, pa.int32()), table["arr_delay_min"]))


def test_the_sensor_releases_good_days_holds_back_a_bad_one_and_publishes_it_once_it_is_mended(project: Project) -> None:
    days = [TODAY - 2 * DAY, TODAY - DAY, TODAY]
    keys = [day.isoformat() for day in days]
    bad = Project(project.instance, with_a_bad_day, project.lake)
    assert bad.materialize(SOURCE, first=TODAY - 9 * DAY, last=TODAY).success
    assert bad.materialize(FEATURES, first=days[0], last=days[2]).success
    succeeded, failed = AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED
    # Delays of yesterday stay in the 7 day window of today.
    assert bad.verdicts(keys) == {keys[0]: succeeded, keys[1]: failed, keys[2]: failed}
    shown = project.instance.fetch_materializations(dg.AssetRecordsFilter(asset_key=FEATURES, asset_partitions=[keys[1]]), limit=1)
    metadata = shown.records[0].asset_materialization.metadata
    assert metadata["state"].value == "quarantined"
    assert "at_most_2880" in metadata["reasons"].value

    with bad.refreshing(dg.DagsterRunStatus.STARTED):  # it committed nothing of what is due
        tick = bad.tick()
    (request,) = tick.run_requests
    assert request.tags == {**request.tags, **range_tags(days[0], days[0])}
    assert request.asset_selection == [ONLINE]
    assert bad.materialize(ONLINE, first=days[0], last=days[0]).success
    assert bad.materialize(ONLINE, first=days[1], last=days[1]).success  # by hand: it stays held back, and says so
    shown = project.instance.fetch_materializations(dg.AssetRecordsFilter(asset_key=ONLINE, asset_partitions=keys[:2]), limit=2)
    states = {record.partition_key: record.asset_materialization.metadata["state"].value for record in shown.records}
    assert states == {keys[0]: "online", keys[1]: "not online: held back"}
    held = bad.tick()
    assert not held.run_requests
    assert "all that is committed is online" in held.skip_message
    assert f"held back: {VIEW}@1 {keys[1]}: arr_delay_min_mean" in held.skip_message

    assert bad.tick("repair").skip_message == "every computed day is of the newest source rows"
    assert project.materialize(SOURCE, first=TODAY - DAY, last=TODAY).success
    (repair,) = project.tick("repair").run_requests
    assert repair.tags == {**repair.tags, **range_tags(days[1], days[2])}  # what mended rows reach, refused days too
    assert repair.asset_selection == [FEATURES]
    with bad.refreshing(dg.DagsterRunStatus.STARTED):
        assert project.tick("repair").skip_message == "features are being computed"
    assert project.materialize(FEATURES, first=days[1], last=days[2]).success
    assert not project.tick("repair").run_requests
    assert project.verdicts(keys) == dict.fromkeys(keys, succeeded)
    (mended,) = project.tick().run_requests
    assert mended.tags == {**mended.tags, **range_tags(days[1], days[2])}
    result = project.materialize(ONLINE, first=days[1], last=days[2])
    assert result.success
    (last, *_) = result.asset_materializations_for_node(ONLINE.to_python_identifier())
    assert last.metadata["services"].value == "delays"
    assert project.tick().skip_message == "all that is committed is online"
    assert project.alarm(ONLINE, "freshness") is True
    assert project.alarm(FEATURES, "code_version") is True
    assert project.alarm(FEATURES, "source_data") is True
    said = project.tick("health")
    assert (said.skip_message, len(said.asset_events)) == ("all is well", 3)


def test_a_refresh_is_not_asked_for_while_another_waits(project: Project) -> None:
    def tick() -> Any:
        return project.defs.resolve_schedule_def("refresh").evaluate_tick(dg.build_schedule_context(instance=project.instance))

    (request,) = tick().run_requests
    assert request.tags == {**request.tags, **range_tags(TODAY - DAY, TODAY)}
    with project.refreshing(dg.DagsterRunStatus.STARTING):
        assert tick().skip_message == "a refresh waits already; it will take what is open when it starts"
    with project.refreshing(dg.DagsterRunStatus.STARTED):
        assert len(tick().run_requests) == 1


def test_of_runs_that_wait_publications_go_first_and_backfills_last(project: Project) -> None:
    def priority(job: dg.JobDefinition) -> int:
        return int(job.tags.get("dagster/priority", 0))

    publishing, refreshing, repairing = (priority(project.defs.resolve_job_def(name)) for name in ("publish_online", "refresh", "repair"))
    assert publishing > refreshing == repairing > priority(project.defs.resolve_implicit_global_asset_job_def())


def test_small_files_of_closed_days_are_folded_by_a_job_on_a_schedule(project: Project) -> None:
    assert project.materialize(SOURCE, first=TODAY - 8 * DAY, last=TODAY).success
    assert project.materialize(FEATURES, first=TODAY - DAY, last=TODAY - DAY).success
    lake, table = Lake(str(project.lake)), f"features/{VIEW}/v1"
    write_deltalake(lake.location(table), lake.dataset(table).to_table().slice(0, 1), mode="append")  # as a correction's own file
    assert len(lake.open(table).file_uris()) == 2
    done = project.defs.resolve_job_def("compact").execute_in_process(instance=project.instance)
    assert done.success
    assert len(lake.open(table).file_uris()) == 1
    assert project.defs.resolve_schedule_def("compact").cron_schedule == "40 1 * * *"


def test_a_training_set_is_materialized_with_a_launch_config(project: Project) -> None:
    assert project.materialize(SOURCE, first=TODAY - 8 * DAY, last=TODAY).success
    assert project.materialize(FEATURES, first=TODAY - DAY, last=TODAY).success
    query = (
        "SELECT carrier, origin, sched_dep_time AS event_time, arr_delay_min > 15 AS late "
        f"FROM {{arrivals}} WHERE sched_dep_time >= TIMESTAMP '{TODAY - DAY}T00:00:00Z'"
    )
    done = project.train(query=query, mode="assumed", split="hash:0.2:carrier")
    assert done.success
    (made,) = done.asset_materializations_for_node(TRAINING.to_python_identifier())
    assert made.metadata["dagster/row_count"].value > 1000
    assert (made.metadata["mode"].value, made.metadata["split"].value) == ("assumed", "hash:0.2:carrier")
    table = made.metadata["dagster/table_name"].value
    again = project.train(table=table, mode="assumed")  # a table of the lake as the spine: its columns are there already
    assert not again.success
    assert "would be written twice: the spine has it" in str(again.get_step_failure_events()[0].step_failure_data.error)
    assert not project.train().success  # neither query nor table


def test_what_is_late_and_what_older_code_computed_is_an_alarm_said_once_an_hour() -> None:
    def said(**passed: bool) -> list[dg.AssetCheckEvaluation]:
        return [dg.AssetCheckEvaluation(asset_key=ONLINE, check_name=name, passed=ok, metadata={}) for name, ok in passed.items()]

    first, cursor = changed(said(freshness=True, code_version=True), None, NOW)
    assert len(first) == 2
    nothing, cursor = changed(said(freshness=True, code_version=True), cursor, NOW + timedelta(minutes=5))
    assert nothing == []
    (late,), cursor = changed(said(freshness=False, code_version=True), cursor, NOW + timedelta(minutes=6))
    assert (late.check_name, late.passed) == ("freshness", False)
    hourly, _ = changed(said(freshness=False, code_version=True), cursor, NOW + timedelta(hours=1))
    assert len(hourly) == 2


def test_the_graph_leads_from_sources_to_features_to_online_and_to_training_with_owners_and_kinds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PENSTOCK_CLOCK__NOW", NOW.isoformat())
    defs = definitions(ROOT, ingest=FETCH)
    graph = defs.resolve_asset_graph()
    assert graph.get(FEATURES).parent_keys == {SOURCE}
    assert graph.get(ONLINE).parent_keys == {FEATURES}
    turnaround = dg.AssetKey(["features", "aircraft_turnaround"])
    assert graph.get(turnaround).parent_keys == {SOURCE, dg.AssetKey(["sources", "departures"])}
    assert graph.get(dg.AssetKey(["training", "arrival_delay"])).parent_keys == {
        key for key in graph.get_all_asset_keys() if key.path[0] == "features"
    }
    assert len({key for key in graph.get_all_asset_keys() if key.path[0] == "online"}) == 6
    assert graph.get(FEATURES).kinds == {"deltalake", "pyspark"}
    assert graph.get(ONLINE).kinds == {"cassandra"}
    assert graph.get(FEATURES).owners == ["team:flight-ops"]
    assert graph.get(FEATURES).group_name == graph.get(ONLINE).group_name == "carrier_origin"
    assert graph.get(FEATURES).partitions_def.get_last_partition_key() == TODAY.isoformat()
    dg.Definitions.validate_loadable(defs)


def test_a_source_that_is_not_ingested_here_is_shown_and_never_materialized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_CLOCK__NOW", NOW.isoformat())
    defs = definitions(ROOT, ingest={})
    graph = defs.resolve_asset_graph()
    assert not graph.get(SOURCE).is_materializable
    assert graph.get(FEATURES).parent_keys == {SOURCE}
    dg.Definitions.validate_loadable(defs)
