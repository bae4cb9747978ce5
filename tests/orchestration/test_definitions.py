"""The flights project in a real Dagster instance: range runs, verdicts per partition, and what the sensor asks for."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from jobs.flights_data import facts
from penstock.config import Settings
from penstock.offline.ingest import Fetch
from penstock.orchestration import definitions
from penstock.orchestration.partitions import range_tags

pytestmark = pytest.mark.real
ROOT = Path(__file__).parent.parent.parent
NOW = datetime(2026, 3, 10, 15, 7, tzinfo=UTC)
TODAY = NOW.date()
DAY = timedelta(days=1)
VIEW = "carrier_origin_delays"
SOURCE, FEATURES, ONLINE = dg.AssetKey(["sources", "arrivals"]), dg.AssetKey(["features", VIEW]), dg.AssetKey(["online", VIEW])


class Project:
    """The flights project over a lake of its own, in an instance of its own."""

    def __init__(self, instance: dg.DagsterInstance, fetch: Fetch) -> None:
        self.instance = instance
        self.defs = definitions(ROOT, ingest={"arrivals": fetch})

    def materialize(self, *keys: dg.AssetKey, first: Any, last: Any) -> dg.ExecuteInProcessResult:
        job = self.defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(keys))
        return job.execute_in_process(instance=self.instance, tags=range_tags(first, last), raise_on_error=False)

    def verdicts(self, keys: list[str]) -> dict[str, AssetCheckExecutionRecordStatus]:
        """Partition → status, as the UI's checks tab reads it."""
        found = self.instance.event_log_storage.get_asset_check_partition_info(
            [dg.AssetCheckKey(FEATURES, "contract")], partition_keys=keys
        )
        return {info.partition_key: info.latest_execution_status for info in found}

    def tick(self) -> Any:
        sensor = self.defs.resolve_sensor_def("publish")
        context = dg.build_sensor_context(instance=self.instance, repository_def=self.defs.get_repository_def())
        return sensor.evaluate_tick(context)


@pytest.fixture
def project(spark: Any, cassandra_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setenv("PENSTOCK_CLOCK__NOW", NOW.isoformat())
    monkeypatch.setenv("PENSTOCK_LAKE__PATH", str(tmp_path / "lake"))
    monkeypatch.setenv("PENSTOCK_CASSANDRA__DATA", cassandra_settings.cassandra.data)
    monkeypatch.setenv("PENSTOCK_CASSANDRA__KEYSPACE", f"dagster_{crc32(str(tmp_path).encode())}")
    with dg.instance_for_test() as instance:
        yield Project(instance, facts)


def with_a_bad_day(name: str, start: datetime, end: datetime, known_by: datetime) -> pa.Table:
    """The facts, but on yesterday's flights each delay is a thousand hours."""
    table = facts(name, start, end, known_by)
    bad = pc.equal(pc.cast(table["event_time"], pa.date32()), pa.scalar(TODAY - DAY, pa.date32()))
    position = table.column_names.index("arr_delay_min")
    return table.set_column(position, "arr_delay_min", pc.if_else(bad, pa.scalar(60_000, pa.int32()), table["arr_delay_min"]))


def test_the_sensor_releases_good_days_holds_back_a_bad_one_and_publishes_it_once_it_is_mended(project: Project) -> None:
    days = [TODAY - 2 * DAY, TODAY - DAY, TODAY]
    keys = [day.isoformat() for day in days]
    bad = Project(project.instance, with_a_bad_day)
    assert bad.materialize(SOURCE, first=TODAY - 9 * DAY, last=TODAY).success
    assert bad.materialize(FEATURES, first=days[0], last=days[2]).success
    succeeded, failed = AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED
    # Delays of yesterday stay in the 7 day window of today.
    assert bad.verdicts(keys) == {keys[0]: succeeded, keys[1]: failed, keys[2]: failed}
    shown = project.instance.fetch_materializations(dg.AssetRecordsFilter(asset_key=FEATURES, asset_partitions=[keys[1]]), limit=1)
    metadata = shown.records[0].asset_materialization.metadata
    assert metadata["state"].value == "quarantined"
    assert "at_most_2880" in metadata["reasons"].value

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

    assert project.materialize(SOURCE, first=TODAY - DAY, last=TODAY).success
    assert project.materialize(FEATURES, first=days[1], last=days[2]).success
    assert project.verdicts(keys) == dict.fromkeys(keys, succeeded)
    (mended,) = project.tick().run_requests
    assert mended.tags == {**mended.tags, **range_tags(days[1], days[2])}
    result = project.materialize(ONLINE, first=days[1], last=days[2])
    assert result.success
    (last, *_) = result.asset_materializations_for_node(ONLINE.to_python_identifier())
    assert last.metadata["services"].value == "arrival_delay"
    assert project.tick().skip_message == "all that is committed is online"


def test_the_graph_leads_from_source_to_features_to_online_with_owners_and_kinds(project: Project) -> None:
    graph = project.defs.resolve_asset_graph()
    assert graph.get(FEATURES).parent_keys == {SOURCE}
    assert graph.get(ONLINE).parent_keys == {FEATURES}
    assert graph.get(FEATURES).kinds == {"deltalake", "pyspark"}
    assert graph.get(ONLINE).kinds == {"cassandra"}
    assert graph.get(FEATURES).owners == ["team:flight-ops"]
    assert graph.get(FEATURES).group_name == graph.get(ONLINE).group_name == "carrier_origin"
    assert graph.get(FEATURES).partitions_def.get_last_partition_key() == TODAY.isoformat()
    dg.Definitions.validate_loadable(project.defs)
