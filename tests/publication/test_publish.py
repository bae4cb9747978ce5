"""What is published is what the rule gives for now, whatever happens on the way. Real Spark, Delta and Cassandra."""

import os
import signal
from datetime import date, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from penstock.clock import FixedClock, from_micros
from penstock.config import Settings
from penstock.contract import Entity
from penstock.errors import PublicationError, StoreUnavailable
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts, publications
from penstock.online.cassandra import CassandraStore
from penstock.online.ledger import Publication
from penstock.online.store import OnlineStore, Slot
from penstock.publication import publish as publish_module
from penstock.publication.due import due
from penstock.publication.held_store import Connect, with_store
from penstock.publication.publish import Published, publish
from penstock.runtime.node_status import node_status
from tests.online_content import require_what_the_rule_gives, values_online
from tests.world import MONDAY, World, attached, view_of_orders

pytestmark = pytest.mark.real
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = MONDAY.date()


class Online:
    """A world and its view's values online; each test has a view of its own in the shared node."""

    def __init__(self, world: World, connect: Connect) -> None:
        self.world, self.connect = world, connect
        self.slot = Slot(world.view.name, world.view.version, 1)

    def publish(self, *days: date, run_id: str = "publish", patience_s: float = 60.0) -> Published:
        world = self.world
        known = {"connect": self.connect, "clock": world.clock, "run_id": run_id, "patience_s": patience_s}
        return publish(world.spark, world.lake, world.view, days, **known)  # type: ignore[arg-type]

    def amounts(self, *customers: str) -> list[Any]:
        found = values_online(self.connect, self.world.view, [(name,) for name in customers])
        return [None if stored is None else stored.values[0] for stored in found.values()]

    def ledger(self) -> list[Publication]:
        return with_store(self.connect, lambda store: store.publications(self.slot.view, self.slot.version))

    def require_what_the_rule_gives(self) -> int:
        return require_what_the_rule_gives(self.world.spark, self.world.lake, self.world.view, self.connect)


@pytest.fixture
def online(
    spark: Any, cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path: Path, request: pytest.FixtureRequest
) -> Online:
    view = view_of_orders(name=f"orders_{crc32(request.node.name.encode())}")
    world = World(spark, Lake(str(tmp_path)), FixedClock(MONDAY + 12 * HOUR), view)
    world.place("ann", 10.0, MONDAY + 9 * HOUR)
    world.place("ann", 12.0, MONDAY + 11 * HOUR)
    world.place("bob", 20.0, MONDAY - 4 * HOUR)
    return Online(world, partial(CassandraStore.connect, *endpoint, cassandra_settings))


def test_the_newest_value_of_every_key_is_online_and_recorded(online: Online) -> None:
    online.world.compute(TODAY - DAY, TODAY)
    done = online.publish(TODAY - DAY, TODAY)
    assert (done.written, done.deleted, done.read_back) == (2, 0, 2)
    assert online.amounts("ann", "bob", "eve") == [12.0, 20.0, None]
    assert online.require_what_the_rule_gives() == 2
    ledger = online.ledger()
    assert [(row.partition, row.run_id) for row in ledger] == [(TODAY - DAY, "publish"), (TODAY, "publish")]
    assert from_micros(ledger[1].readable_at_us) == MONDAY + 12 * HOUR
    assert publications(online.world.lake, online.slot.view, 1) == ledger


def test_publishing_again_does_nothing(online: Online) -> None:
    online.world.compute(TODAY)
    online.publish(TODAY)
    ledger = online.ledger()
    assert online.publish(TODAY) == Published((), 0, 0, 0)
    assert online.ledger() == ledger


def test_days_published_newest_first_leave_the_newest_value(online: Online) -> None:
    online.world.place("ann", 1.0, MONDAY - 2 * HOUR)
    online.world.compute(TODAY - DAY, TODAY)
    online.publish(TODAY)
    assert online.amounts("ann", "bob") == [12.0, None]
    online.publish(TODAY - DAY)
    assert online.amounts("ann", "bob") == [12.0, 20.0]
    assert online.require_what_the_rule_gives() == 2


def test_a_day_published_after_a_later_one_was_retracted_is_served(online: Online) -> None:
    world = online.world
    world.place("bob", 21.0, MONDAY + 11 * HOUR)
    world.compute(TODAY - DAY)  # bob's 20 of yesterday: committed first, published last
    world.compute(TODAY)
    online.publish(TODAY)
    assert online.amounts("bob") == [21.0]
    world.placed.pop()
    world.clock.advance(HOUR)
    world.compute(TODAY)
    assert online.publish(TODAY).deleted == 1
    assert online.amounts("bob") == [None]
    online.publish(TODAY - DAY)
    assert online.amounts("bob") == [20.0]
    assert online.require_what_the_rule_gives() == 2


def test_publications_of_a_view_are_readable_one_after_the_other_even_where_the_clock_stands_still(online: Online) -> None:
    online.world.compute(TODAY - DAY, TODAY)
    online.publish(TODAY)
    online.publish(TODAY - DAY)
    times = {row.partition: from_micros(row.readable_at_us) for row in online.ledger()}
    assert times == {TODAY: MONDAY + 12 * HOUR, TODAY - DAY: MONDAY + 12 * HOUR + timedelta(microseconds=1)}


def test_a_vanished_value_falls_back_to_the_one_before_it_and_the_last_one_is_deleted(online: Online) -> None:
    world = online.world
    world.compute(TODAY)
    online.publish(TODAY)
    world.placed.pop(1)  # ann's order of 11:00
    world.clock.advance(HOUR)
    world.compute(TODAY)
    online.publish(TODAY)
    assert online.amounts("ann") == [10.0]
    assert online.require_what_the_rule_gives() == 1
    world.placed.pop(0)
    world.clock.advance(HOUR)
    world.compute(TODAY)
    assert online.publish(TODAY).deleted == 1
    assert online.amounts("ann") == [None]
    assert online.require_what_the_rule_gives() == 0
    world.place("ann", 13.0, MONDAY + 9 * HOUR)  # and one as old as the first comes back
    world.clock.advance(HOUR)
    world.compute(TODAY)
    online.publish(TODAY)
    assert online.amounts("ann") == [13.0]


def test_a_value_corrected_after_it_was_served_trains_as_the_old_one_before_it_was_readable(online: Online) -> None:
    world = online.world
    world.compute(TODAY)
    online.publish(TODAY)  # live: published 12:00, complete until 12:00
    world.placed[1] = world.placed[1].__class__("ann", 99.0, MONDAY + 11 * HOUR)
    world.clock.advance(HOUR)
    world.compute(TODAY)  # corrected 13:00
    world.clock.advance(HOUR)
    online.publish(TODAY)  # readable 14:00
    assert online.amounts("ann") == [99.0]
    times = [12 * HOUR, 13 * HOUR, 14 * HOUR - timedelta(microseconds=1), 14 * HOUR, 15 * HOUR]
    spine = world.spark.createDataFrame([("ann", MONDAY + t) for t in times], "customer string, event_time timestamp")

    def trained(mode: Any) -> list[Any]:
        joined = attached(world.spark, world.lake, world.view, spine, mode).orderBy("event_time").collect()
        return [row[f"{world.view.name}__amount"] for row in joined]

    assert trained("observed") == [12.0, 12.0, 12.0, 99.0, 99.0]
    assert trained("assumed") == [12.0, 99.0, 99.0, 99.0, 99.0]  # known when it was created
    assert trained("restated") == [99.0] * 5


def test_a_view_of_nothing_in_particular_has_one_value_for_all(online: Online) -> None:
    def of_all(rows: Any) -> Any:
        return rows.select("event_time", "amount")

    world = online.world
    world.view = view_of_orders(name=f"all_{world.view.name}", entity=Entity("everything", None), compute=of_all)
    world.compute(TODAY - DAY, TODAY)
    assert online.publish(TODAY - DAY, TODAY).written == 1
    (stored,) = values_online(online.connect, world.view, [()]).values()
    assert stored is not None
    assert stored.values == [12.0]
    spine = world.spark.createDataFrame([(1, MONDAY), (2, MONDAY + 10 * HOUR), (3, MONDAY + 12 * HOUR)], "n int, event_time timestamp")
    rows = attached(world.spark, world.lake, world.view, spine, "assumed").orderBy("n").collect()
    assert [row[2] for row in rows] == [20.0, 10.0, 12.0]


def test_a_refused_attempt_leaves_what_is_online(online: Online) -> None:
    world = online.world
    world.compute(TODAY)
    online.publish(TODAY)
    ledger = online.ledger()
    world.place("ann", -1.0, MONDAY + 11 * HOUR + timedelta(minutes=30))
    world.clock.advance(HOUR)
    (entry,) = world.compute(TODAY)
    assert entry.state == "quarantined"
    assert online.publish(TODAY).rows == ()
    assert online.amounts("ann") == [12.0]
    assert online.ledger() == ledger


# What a view's function may give, and the rule that names it.
BAD = {
    "schema": ["customer", "event_time"],
    "schema: column 'amount' is string": ["customer", "event_time", "'much' AS amount"],
    "has_rows": ["customer", "event_time + INTERVAL 4 HOURS AS event_time", "amount"],
    "amount_not_all_null": ["customer", "event_time", "CAST(NULL AS DOUBLE) AS amount"],
    "event_time_not_in_future": ["customer", "event_time + INTERVAL 24 HOURS AS event_time", "amount"],
    "event_time_not_null": ["customer", "CAST(NULL AS TIMESTAMP) AS event_time", "amount"],
    "join_keys_not_null": ["CAST(NULL AS STRING) AS customer", "event_time", "amount"],
    "one_row_per_key_and_event_time": ["explode(array(customer, customer)) AS customer", "event_time", "amount"],
}


def computes(columns: list[str]) -> Any:
    def compute(rows: Any) -> Any:
        return rows.selectExpr(*columns)

    return compute


@pytest.mark.parametrize("rule", BAD)
def test_a_view_that_computes_what_it_must_not_is_held_back_by_name_and_what_is_online_stays(online: Online, rule: str) -> None:
    world, day = online.world, TODAY - DAY
    world.compute(day)
    online.publish(day)
    rows, ledger, before = world.rows(), online.ledger(), values_online(online.connect, world.view, [("bob",)])
    online.world.view = view_of_orders(name=world.view.name, compute=computes(BAD[rule]))
    world.clock.advance(HOUR)
    (entry,) = world.compute(day)
    assert entry.state == "quarantined"
    assert any(reason.startswith(rule) for reason in entry.reasons), entry.reasons
    found = due(attempts(world.lake, feature_table(world.view)), ledger)
    assert (found.ready, found.held) == ({}, {day: "; ".join(entry.reasons)})
    assert online.publish(day) == Published((), 0, 0, 0)
    assert (world.rows(), online.ledger()) == (rows, ledger)
    assert values_online(online.connect, world.view, [("bob",)]) == before != {("bob",): None}


def test_a_store_that_is_down_leaves_the_ledger_and_the_next_run_publishes(online: Online, cassandra_settings: Settings) -> None:
    online.world.compute(TODAY)
    up, online.connect = online.connect, partial(CassandraStore.connect, ["127.0.0.1"], 19999, cassandra_settings)
    with pytest.raises(StoreUnavailable):
        online.publish(TODAY)
    assert publications(online.world.lake, online.slot.view, 1) == []
    online.connect = up
    assert online.ledger() == []
    assert len(online.publish(TODAY).rows) == 1


def test_a_store_that_fails_while_values_are_written_leaves_the_ledger(online: Online) -> None:
    online.world.compute(TODAY)
    up, driver = online.connect, os.getpid()

    async def down_for_workers() -> OnlineStore:
        if os.getpid() != driver:
            raise StoreUnavailable("no node answers")
        return await up()

    online.connect = down_for_workers
    with pytest.raises(PublicationError, match=r"@1: values were not written: penstock.errors.StoreUnavailable: no node answers"):
        online.publish(TODAY, patience_s=2.0)
    assert online.ledger() == []
    online.connect = up
    assert len(online.publish(TODAY).rows) == 1


def test_a_node_that_freezes_while_values_are_written_only_delays_the_publication(online: Online, cassandra_settings: Settings) -> None:
    world, up, driver = online.world, online.connect, os.getpid()
    for n in range(300):
        world.place(f"customer {n}", float(n), MONDAY + 10 * HOUR)
    world.compute(TODAY)
    pid = node_status(cassandra_settings).pid
    assert pid is not None
    told = world.lake.location("frozen")

    async def freezing() -> OnlineStore:
        store: Any = await up()
        write, calls = store.write, count(1)

        async def write_or_freeze(entity: str, writes: Any) -> None:
            if next(calls) == 5:
                os.kill(pid, signal.SIGSTOP)
            try:
                await write(entity, writes)
            except StoreUnavailable:  # the node is away for as long as it takes until the store says so
                Path(told).touch()
                os.kill(pid, signal.SIGCONT)
                raise

        if os.getpid() != driver:
            store.write = write_or_freeze
        return store

    online.connect = freezing
    try:
        done = online.publish(TODAY)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert Path(told).exists()
    assert done.written == 301
    online.connect = up
    assert online.require_what_the_rule_gives() == 301


def test_a_publication_killed_before_its_ledger_row_is_finished_by_the_next(online: Online, monkeypatch: pytest.MonkeyPatch) -> None:
    online.world.compute(TODAY)

    async def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CassandraStore, "record", killed)
        with pytest.raises(KeyboardInterrupt):
            online.publish(TODAY)
    assert online.ledger() == []
    assert len(online.publish(TODAY).rows) == 1
    assert online.require_what_the_rule_gives() == 1


def interrupted(online: Online, monkeypatch: pytest.MonkeyPatch, *days: date) -> None:
    """A publication whose values are written and whose run ends before its ledger row is."""

    async def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CassandraStore, "record", killed)
        with pytest.raises(KeyboardInterrupt):
            online.publish(*days)


def test_a_value_put_back_after_its_deletion_was_interrupted_is_served(online: Online, monkeypatch: pytest.MonkeyPatch) -> None:
    world, yesterday = online.world, TODAY - DAY
    bob = world.placed.pop()
    world.place("eve", 1.0, MONDAY - 5 * HOUR)
    world.placed.append(bob)
    world.compute(yesterday)
    online.publish(yesterday)
    world.placed.pop()
    world.clock.advance(HOUR)
    world.compute(yesterday)
    interrupted(online, monkeypatch, yesterday)
    assert online.amounts("bob") == [None]
    world.placed.append(bob)
    world.clock.advance(HOUR)
    world.compute(yesterday)
    done = online.publish(yesterday)
    assert online.amounts("bob") == [20.0]
    # What was interrupted is finished first, so that no two publications write at one token.
    assert (len(done.rows), done.deleted, done.written) == (2, 1, 1)
    assert online.require_what_the_rule_gives() == 2


def test_a_value_retracted_after_its_publication_was_interrupted_is_not_served(online: Online, monkeypatch: pytest.MonkeyPatch) -> None:
    world = online.world
    world.compute(TODAY)
    online.publish(TODAY)
    world.place("ann", 99.0, MONDAY + 12 * HOUR)
    world.clock.advance(HOUR)
    world.compute(TODAY)
    interrupted(online, monkeypatch, TODAY)
    assert online.amounts("ann") == [99.0]
    world.placed.pop()
    world.clock.advance(HOUR)
    world.compute(TODAY)
    online.publish(TODAY)
    assert online.amounts("ann") == [12.0]
    assert online.require_what_the_rule_gives() == 1


def test_a_store_that_was_lost_is_filled_again_by_the_next_publication(online: Online) -> None:
    world = online.world
    world.compute(TODAY - DAY, TODAY)
    online.publish(TODAY - DAY, TODAY)
    readable = publications(world.lake, online.slot.view, 1)

    async def forget(store: OnlineStore) -> None:
        assert isinstance(store, CassandraStore)
        for table in (f"online_{world.view.entity.name}", "ledger", "intents"):
            await store._session.query(f"TRUNCATE {store._keyspace}.{table}")

    with_store(online.connect, forget)
    assert (online.ledger(), online.amounts("ann", "bob")) == ([], [None, None])
    world.clock.advance(HOUR)
    world.place("ann", 13.0, MONDAY + 12 * HOUR)
    world.compute(TODAY)
    done = online.publish(TODAY)
    # Filled again as it was, when readers first saw it included; then what is new.
    assert [row.partition for row in done.rows] == [TODAY - DAY, TODAY, TODAY]
    assert done.rows[:2] == tuple(readable)
    assert online.amounts("ann", "bob") == [13.0, 20.0]
    assert online.require_what_the_rule_gives() == 2
    assert publications(world.lake, online.slot.view, 1) == online.ledger()


def test_a_store_that_belongs_to_another_lake_is_refused(online: Online, tmp_path: Path) -> None:
    world = online.world
    world.compute(TODAY)
    online.publish(TODAY)
    online.world = World(world.spark, Lake(str(tmp_path / "another")), world.clock, world.view, placed=world.placed)
    world.clock.advance(HOUR)
    online.world.compute(TODAY)
    with pytest.raises(PublicationError, match=r"1 publication\(s\) .* that this lake does not know"):
        online.publish(TODAY)


def test_a_copy_of_the_ledger_that_was_lost_is_made_again(online: Online, monkeypatch: pytest.MonkeyPatch) -> None:
    online.world.compute(TODAY)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publish_module, "copy_publications", killed)
        with pytest.raises(KeyboardInterrupt):
            online.publish(TODAY)
    assert publications(online.world.lake, online.slot.view, 1) == []
    assert len(online.ledger()) == 1  # it is readable
    assert online.publish(TODAY).rows == ()
    assert publications(online.world.lake, online.slot.view, 1) == online.ledger()
