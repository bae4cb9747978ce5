"""One attempt: what it commits, what it refuses, and that doing it again changes nothing. On real Spark and Delta."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import write_deltalake

from penstock.clock import FixedClock
from penstock.contract import Feature
from penstock.errors import CommitError, ConfigError, SourceError
from penstock.offline import attempt as attempt_module
from penstock.offline.attempt import Audit, outdated, run_attempt
from penstock.offline.ingest import ingest_days
from penstock.offline.lake import Lake, feature_table, listed_files, quarantine_table
from penstock.offline.logs import attempts
from penstock.quality.contracts import audit
from tests.world import MONDAY, World, orders, view_of_orders

pytestmark = pytest.mark.real
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = MONDAY.date()


@pytest.fixture
def world(spark: Any, tmp_path: Path) -> World:
    world = World(spark, Lake(str(tmp_path)), FixedClock(MONDAY + 12 * HOUR))
    world.place("ann", 10.0, MONDAY + 9 * HOUR)
    world.place("bob", 20.0, MONDAY + 10 * HOUR)
    return world


def files_of_nobody(world: World) -> list[str]:
    """Files in the folder of the table that its log does not name."""
    table = world.lake.location(feature_table(world.view))
    named = {file["path"] for file in listed_files(world.lake.open(feature_table(world.view)))}
    found = [str(path.relative_to(table)) for path in Path(table).glob("event_date=*/*.parquet")]
    return [path for path in found if path not in named]


def test_computing_again_commits_nothing_and_still_moves_the_watermark(world: World) -> None:
    (first,) = world.compute(TODAY)
    assert (first.state, first.rows, first.changed, first.complete_until) == ("passed", 2, 2, MONDAY + 12 * HOUR)
    version = world.lake.version(feature_table(world.view))
    world.clock.advance(HOUR)
    (second,) = world.compute(TODAY)
    assert (second.rows, second.changed, second.retracted) == (2, 0, 0)
    assert second.complete_until == MONDAY + 13 * HOUR
    assert world.lake.version(feature_table(world.view)) == version
    assert len(attempts(world.lake, feature_table(world.view))) == 2


def test_of_days_computed_and_days_not_yet_computed_only_what_differs_is_committed(world: World) -> None:
    world.compute(TODAY)
    world.clock.advance(HOUR)
    world.place("ann", 5.0, MONDAY - 3 * HOUR)
    before, today = world.compute(TODAY - DAY, TODAY)
    assert (before.changed, before.retracted, today.changed, today.retracted) == (1, 0, 0, 0)
    assert [row[:3] for row in world.rows()] == [
        ("ann", MONDAY - 3 * HOUR, 5.0),
        ("ann", MONDAY + 9 * HOUR, 10.0),
        ("bob", MONDAY + 10 * HOUR, 20.0),
    ]


def test_features_declared_in_another_order_change_no_row_and_values_that_change_places_do(world: World) -> None:
    def two(rows: Any) -> Any:
        return rows.selectExpr("customer", "event_time", "amount", "CAST(NULL AS DOUBLE) AS refund")

    def swapped(rows: Any) -> Any:
        return rows.selectExpr("customer", "event_time", "CAST(NULL AS DOUBLE) AS amount", "amount AS refund")

    features = [Feature("amount", "float64", unit="euro"), Feature("refund", "float64", unit="euro")]
    for compute, declared, changed in ((two, features, 2), (two, features[::-1], 0), (swapped, features, 2)):
        world.view = view_of_orders(compute=compute, features=declared)
        (entry,) = world.compute(TODAY)
        assert (entry.state, entry.changed) == ("passed", changed)
        world.clock.advance(HOUR)


def test_a_changed_value_is_a_new_row_and_the_old_one_stays(world: World) -> None:
    world.compute(TODAY)
    world.clock.advance(HOUR)
    world.placed.clear()
    world.place("ann", 11.0, MONDAY + 9 * HOUR)
    world.place("bob", 20.0, MONDAY + 10 * HOUR)
    (entry,) = world.compute(TODAY)
    assert (entry.changed, entry.retracted) == (1, 0)
    assert world.rows() == [
        ("ann", MONDAY + 9 * HOUR, 10.0, False, MONDAY + 12 * HOUR),
        ("ann", MONDAY + 9 * HOUR, 11.0, False, MONDAY + 13 * HOUR),
        ("bob", MONDAY + 10 * HOUR, 20.0, False, MONDAY + 12 * HOUR),
    ]


def test_a_vanished_row_is_retracted_and_can_come_back(world: World) -> None:
    world.compute(TODAY)
    gone = world.placed.pop()
    world.clock.advance(HOUR)
    (entry,) = world.compute(TODAY)
    assert (entry.changed, entry.retracted, entry.rows) == (1, 1, 1)
    world.clock.advance(HOUR)
    (again,) = world.compute(TODAY)
    assert again.changed == 0  # a retraction is not repeated
    world.placed.append(gone)
    world.clock.advance(HOUR)
    (back,) = world.compute(TODAY)
    assert (back.changed, back.retracted) == (1, 0)
    assert [row[2:4] for row in world.rows() if row[0] == "bob"] == [(20.0, False), (None, True), (20.0, False)]


def test_a_partition_that_fails_is_quarantined_and_its_neighbour_is_committed(world: World) -> None:
    yesterday = TODAY - DAY
    world.place("ann", -5.0, MONDAY - 3 * HOUR)
    bad, good = world.compute(yesterday, TODAY)
    assert (bad.state, good.state) == ("quarantined", "passed")
    assert [name for name, passed in bad.gates.items() if not passed] == ["amount_at_least_0"]
    assert bad.reasons == ["amount_at_least_0: 1 row(s), expected none"]
    assert {row[1].date() for row in world.rows()} == {TODAY}
    assert files_of_nobody(world) == []
    kept = world.spark.read.format("delta").load(world.lake.location(quarantine_table(world.view))).collect()
    assert [(row["customer"], row["amount"], row["reasons"]) for row in kept] == [("ann", -5.0, bad.reasons)]
    world.placed[-1] = world.placed[-1].__class__("ann", 5.0, MONDAY - 3 * HOUR)
    mended, _ = world.compute(yesterday, TODAY)
    assert mended.state == "passed"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"features": [Feature("amount", "float64"), Feature("tip", "float64")]}, "schema: column 'tip' is missing, expected double"),
        ({"features": [Feature("amount", "int64")]}, "schema: column 'amount' is double, expected bigint"),
    ],
)
def test_a_missing_or_mistyped_column_is_refused_by_name(world: World, changes: dict[str, Any], reason: str) -> None:
    world.view = view_of_orders(**changes)
    (entry,) = world.compute(TODAY)
    assert (entry.state, entry.reasons, entry.gates) == ("quarantined", [reason], {"schema": False})


def test_rows_of_the_future_and_duplicate_rows_are_refused_by_name(world: World) -> None:
    world.view = view_of_orders(compute=_from_the_future)
    (future,) = world.compute(TODAY)
    assert "event_time_not_in_future: 2 row(s), expected none" in future.reasons
    world.view = view_of_orders(compute=_twice)
    (twice,) = world.compute(TODAY)
    assert twice.reasons == ["one_row_per_key_and_event_time: 2 row(s), expected none"]
    assert world.rows() == []


def test_a_row_later_than_all_days_is_refused_with_the_last_of_them(world: World) -> None:
    world.place("ann", 1.0, MONDAY - 5 * HOUR)
    world.view = view_of_orders(compute=_tomorrow)
    yesterday, today = world.compute(TODAY - DAY, TODAY)
    assert (yesterday.state, today.state) == ("passed", "quarantined")
    assert today.reasons == ["event_time_not_in_future: 1 row(s), expected none"]


def test_a_row_without_an_event_time_may_be_of_any_day_and_refuses_them_all(world: World) -> None:
    world.place("ann", 1.0, MONDAY - 5 * HOUR)
    world.view = view_of_orders(compute=_once_without_time)
    entries = world.compute(TODAY - DAY, TODAY)
    assert [e.reasons for e in entries] == [["event_time_not_null: 1 row(s), expected none"]] * 2
    assert world.rows() == []
    kept = world.spark.read.format("delta").load(world.lake.location(quarantine_table(world.view)))
    assert kept.where("event_time IS NULL").count() == 1
    assert kept.where("event_time IS NOT NULL").count() == 2


def _tomorrow(rows: Any) -> Any:
    return rows.selectExpr("customer", "IF(amount = 20, event_time + INTERVAL 24 HOURS, event_time) AS event_time", "amount")


def _once_without_time(rows: Any) -> Any:
    return rows.selectExpr("customer", "IF(amount = 20, NULL, event_time) AS event_time", "amount")


def test_a_source_whose_table_lost_a_column_refuses_every_day_by_name(world: World) -> None:
    world.compute(TODAY)
    before = world.rows()
    kept = world.lake.dataset("raw/orders").to_table().drop_columns(["amount"])
    write_deltalake(world.lake.location("raw/orders"), kept, mode="overwrite", schema_mode="overwrite")
    (entry,) = run_attempt(world.spark, world.lake, world.view, [TODAY], clock=world.clock, run_id="after", audit=audit)
    assert (entry.state, entry.gates) == ("quarantined", {"sources_as_declared": False})
    assert "source 'orders' at version 1: 1 column(s) not as declared: 'amount' missing, expected double" in entry.reasons[0]
    assert world.rows() == before


def test_features_changed_under_one_version_are_refused(world: World) -> None:
    world.compute(TODAY)
    world.view = view_of_orders(features=[Feature("amount", "float64"), Feature("tip", "float64")])
    with pytest.raises(CommitError, match=r"1 column\(s\) are not as feature view last_order@1 declares: 'tip' missing, declared double"):
        world.compute(TODAY)


def test_another_delay_is_a_correction_of_every_row(world: World) -> None:
    world.compute(TODAY)
    world.view = view_of_orders(delay=HOUR)
    world.clock.advance(2 * HOUR)
    (entry,) = world.compute(TODAY)
    assert (entry.changed, entry.retracted) == (2, 0)


def test_a_clock_that_goes_back_changes_nothing(world: World) -> None:
    world.compute(TODAY)
    world.clock = FixedClock(MONDAY + 11 * HOUR)
    with pytest.raises(CommitError, match="raw/orders: the Clock says 2026-03-02T11:00:00"):
        world.ingest([TODAY])
    with pytest.raises(CommitError, match="features/last_order/v1: the Clock says 2026-03-02T11:00:00"):
        run_attempt(world.spark, world.lake, world.view, [TODAY], clock=world.clock, run_id="back", audit=audit)


def test_days_are_not_cut_in_another_time_zone(world: World) -> None:
    world.spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        with pytest.raises(ConfigError, match=r"timeZone is 'Asia/Tokyo'; partitions are days in UTC"):
            world.compute(TODAY)
    finally:
        world.spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_an_attempt_killed_after_it_filled_the_quarantine_leaves_no_rows_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.place("eve", -5.0, MONDAY + 8 * HOUR)
    world.ingest([TODAY])

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(attempt_module, "log_attempts", killed)
        with pytest.raises(KeyboardInterrupt):
            run_attempt(world.spark, world.lake, world.view, [TODAY], clock=world.clock, run_id="killed", audit=audit)
    (entry,) = world.compute(TODAY)
    assert entry.state == "quarantined"
    assert world.spark.read.format("delta").load(world.lake.location(quarantine_table(world.view))).count() == 3


def _from_the_future(rows: Any) -> Any:
    return rows.selectExpr("customer", "event_time + INTERVAL 6 HOURS AS event_time", "amount")


def _twice(rows: Any) -> Any:
    kept = rows.select("customer", "event_time", "amount")
    return kept.unionByName(kept)


def test_an_attempt_that_ended_right_after_its_commit_is_logged_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.ingest([TODAY])

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(attempt_module, "log_attempts", killed)
        with pytest.raises(KeyboardInterrupt):
            run_attempt(world.spark, world.lake, world.view, [TODAY], clock=world.clock, run_id="killed", audit=audit)
    assert attempts(world.lake, feature_table(world.view)) == []
    (entry,) = world.compute(TODAY, run_id="next")
    assert entry.changed == 0
    logged = attempts(world.lake, feature_table(world.view))
    assert [(e.run_id, e.rows, e.changed) for e in logged] == [("killed", 2, -1), ("next", 2, 0)]
    assert logged[0].attempt < logged[1].attempt
    assert len(world.rows()) == 2


def test_what_a_creation_of_the_table_left_that_was_killed_is_in_nobodys_way(world: World) -> None:
    log = Path(world.lake.location(feature_table(world.view))) / "_delta_log"
    (log / "_staged_commits").mkdir(parents=True)
    (log / ".00000000000000000000.json.0c0f.tmp").touch()
    (entry,) = world.compute(TODAY)
    assert (entry.state, entry.rows, len(world.rows())) == ("passed", 2, 2)


def test_a_commit_is_refused_when_another_writer_came_between(world: World) -> None:
    world.compute(TODAY)
    world.placed.pop()
    world.ingest([TODAY])

    def interfering(*arguments: Any) -> Any:
        table = world.lake.location(feature_table(world.view))
        existing = world.lake.dataset(feature_table(world.view)).to_table()
        write_deltalake(table, existing.slice(0, 1), mode="append")
        return audit.judge(*arguments)

    between = Audit(audit.look, interfering)
    with pytest.raises(CommitError, match="another writer committed version 2"):
        run_attempt(world.spark, world.lake, world.view, [TODAY], clock=world.clock, run_id="late", audit=between)
    assert files_of_nobody(world) == []


def test_a_source_that_was_never_ingested_is_a_clear_error(world: World) -> None:
    with pytest.raises(SourceError, match="source 'orders' has no table raw/orders"):
        run_attempt(world.spark, world.lake, world.view, [TODAY], clock=world.clock, run_id="early", audit=audit)


def test_only_days_that_would_get_further_are_outdated(world: World) -> None:
    yesterday = TODAY - DAY
    assert outdated(world.lake, world.view, [yesterday, TODAY], clock=world.clock) == [yesterday, TODAY]
    world.place("ann", 5.0, MONDAY - 3 * HOUR)
    world.compute(yesterday, TODAY)
    assert outdated(world.lake, world.view, [yesterday, TODAY], clock=world.clock) == []
    world.clock.advance(HOUR)
    assert outdated(world.lake, world.view, [yesterday, TODAY], clock=world.clock) == []  # nothing new was ingested
    world.ingest([TODAY])
    assert outdated(world.lake, world.view, [yesterday, TODAY], clock=world.clock) == [TODAY]
    other = view_of_orders(lookback=HOUR)  # other code
    assert outdated(world.lake, other, [yesterday, TODAY], clock=world.clock) == [yesterday, TODAY]


def test_ingesting_again_writes_nothing(world: World) -> None:
    world.ingest([TODAY])
    version = world.lake.version("raw/orders")
    assert [e.changed for e in world.ingest([TODAY])] == [0]
    assert world.lake.version("raw/orders") == version
    world.clock.advance(HOUR)
    world.place("ann", 12.0, MONDAY + 12 * HOUR + timedelta(minutes=30))
    assert [(e.rows, e.changed) for e in world.ingest([TODAY])] == [(3, 3)]


def test_facts_fetched_before_another_writer_came_are_not_written_over_its_own(world: World) -> None:
    def slow(name: str, start: datetime, end: datetime, known_by: datetime) -> Any:
        before = world._fetch(name, start, end, known_by)
        world.clock.advance(HOUR)
        world.place("ann", 12.0, MONDAY + 12 * HOUR + timedelta(minutes=30))
        world.ingest([TODAY])
        return before

    world.ingest([TODAY])
    with pytest.raises(CommitError, match="raw/orders: another writer came to version 1 while facts were fetched beside version 0"):
        ingest_days(world.lake, orders, [TODAY], fetch=slow, clock=world.clock, run_id="late")
    assert world.lake.dataset("raw/orders").count_rows() == 3
