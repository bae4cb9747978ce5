"""What invalidation marks do to what is online: taken back, restored, whatever comes between. Real Spark, Delta and Cassandra."""

import dataclasses
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from penstock.as_of import as_of
from penstock.clock import FixedClock
from penstock.config import Settings
from penstock.errors import InvalidationError, StoreUnavailable
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts, copied_marks, publications
from penstock.online.cassandra import CassandraStore
from penstock.point_in_time.history import history_of
from penstock.publication import publish as publish_module
from penstock.publication.due import due
from penstock.publication.held_store import Connect
from penstock.publication.invalidate import Scope, invalidate, lift
from penstock.publication.publish import Published, publish
from penstock.registry.marks import Mark
from tests.online_content import values_online
from tests.world import MONDAY, World, feature_rows, view_of_orders

pytestmark = pytest.mark.real
HOUR = timedelta(hours=1)
TODAY = MONDAY.date()


class Online:
    """A world whose view has ann's 10 by one attempt and, by a second, her 99 and eve's 5; both online."""

    def __init__(self, world: World, connect: Connect) -> None:
        self.world, self.connect = world, connect
        world.place("ann", 10.0, MONDAY + 9 * HOUR)
        world.place("bob", 20.0, MONDAY + 8 * HOUR)
        world.compute(TODAY)
        self.publish()
        world.clock.advance(HOUR)
        world.place("ann", 99.0, MONDAY + 12 * HOUR)
        world.place("eve", 5.0, MONDAY + 12 * HOUR)
        world.compute(TODAY)
        self.publish()
        world.clock.advance(HOUR)

    @property
    def second(self) -> int:
        return max(entry.attempt for entry in attempts(self.world.lake, feature_table(self.world.view)))

    def publish(self) -> Published:
        world = self.world
        return publish(world.spark, world.lake, world.view, [TODAY], connect=self.connect, clock=world.clock, run_id="publish")

    def invalidate(self, scope: Scope, reason: str = "99 is a sentinel", *, hold: bool = False) -> Mark:
        world = self.world
        return invalidate(world.lake, world.view, scope, reason=reason, connect=self.connect, clock=world.clock, hold=hold)

    def lift(self, mark: Mark) -> Mark:
        return lift(self.world.lake, mark.id, connect=self.connect, clock=self.world.clock)

    def amounts(self) -> list[Any]:
        """What ann, bob and eve have online, and by the rule for a moment after all publications: they must agree."""
        names = [("ann",), ("bob",), ("eve",)]
        found = values_online(self.connect, self.world.view, names)
        online = [None if stored is None else stored.values[0] for stored in found.values()]
        rows, history = feature_rows(self.world.spark, self.world.lake, self.world.view), history_of(self.world.lake, self.world.view)
        now = self.world.clock.now() + timedelta(milliseconds=1)
        used = [as_of(rows[key], now, ttl=None, mode="observed", history=history) for key in names]
        blind = [mark for mark in copied_marks(self.world.lake) if mark.lifted_at_us is None]
        readers = [
            None if stored is None or any(mark.covers(stored.event_time_us, stored.attempt) for mark in blind) else stored.values[0]
            for stored in found.values()
        ]
        assert readers == [None if row is None else row.values[0] for row in used]
        return online


@pytest.fixture
def online(
    spark: Any, cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path: Path, request: pytest.FixtureRequest
) -> Online:
    view = view_of_orders(name=f"marked_{crc32(request.node.name.encode())}")
    world = World(spark, Lake(str(tmp_path)), FixedClock(MONDAY + 12 * HOUR), view)
    return Online(world, partial(CassandraStore.connect, *endpoint, cassandra_settings))


def is_due(online: Online) -> bool:
    world = online.world
    entries, rows = attempts(world.lake, feature_table(world.view)), publications(world.lake, world.view.name, 1)
    return bool(due(entries, rows, marks=copied_marks(world.lake)).ready)


def test_an_attempt_is_taken_back_and_restored_and_what_it_did_not_touch_is_left_alone(online: Online) -> None:
    assert online.amounts() == [99.0, 20.0, 5.0]
    mark = online.invalidate(Scope(attempt=online.second))
    assert is_due(online)
    done = online.publish()
    assert (done.rows, done.written, done.deleted, done.steps) == ((), 1, 1, ((mark.id, "exclude"),))
    assert online.amounts() == [10.0, 20.0, None]
    assert not is_due(online)
    assert online.publish() == Published((), 0, 0, 0)
    online.world.clock.advance(HOUR)
    assert online.lift(mark).due == "restore"
    assert is_due(online)
    assert online.publish().steps == ((mark.id, "restore"),)
    assert online.amounts() == [99.0, 20.0, 5.0]
    assert not is_due(online)


def test_an_hour_is_taken_back_while_other_rows_go_on(online: Online) -> None:
    online.invalidate(Scope(since=MONDAY + 12 * HOUR, until=MONDAY + 13 * HOUR))
    online.world.clock.advance(HOUR)
    online.world.place("bob", 21.0, MONDAY + 14 * HOUR)
    online.world.compute(TODAY)  # ann's 99 is computed again, and is the same: no new row
    online.publish()
    assert online.amounts() == [10.0, 21.0, None]


def test_a_mended_attempt_is_served_though_the_mark_stays(online: Online) -> None:
    online.invalidate(Scope(attempt=online.second))
    online.publish()
    online.world.placed = [order for order in online.world.placed if order.amount != 99.0]
    online.world.clock.advance(HOUR)
    online.world.place("ann", 11.0, MONDAY + 12 * HOUR)
    online.world.compute(TODAY)
    online.publish()
    assert online.amounts() == [11.0, 20.0, None]  # eve's row did not change, and is still invalid


def test_what_the_code_at_fault_goes_on_computing_is_held_back_until_it_is_mended_or_the_mark_lifted(online: Online) -> None:
    world = online.world

    def held() -> dict[date, str]:
        entries, rows = attempts(world.lake, feature_table(world.view)), publications(world.lake, world.view.name, 1)
        return due(entries, rows, marks=copied_marks(world.lake)).held

    mark = online.invalidate(Scope(), hold=True)
    online.publish()
    assert online.amounts() == [None, None, None]
    world.place("ann", 98.0, MONDAY + 13 * HOUR)
    world.clock.advance(HOUR)
    world.compute(TODAY)
    assert (online.publish().rows, online.amounts()) == ((), [None, None, None])
    assert held() == {TODAY: f"mark {mark.id} holds back what the code it was made about computes"}
    before, world.view = world.view, dataclasses.replace(world.view, compute=order_in_cents)
    world.clock.advance(HOUR)
    world.compute(TODAY)
    assert held() == {}
    online.publish()
    assert online.amounts() == [9800.0, 2000.0, 500.0]
    world.view = before
    world.clock.advance(HOUR)
    world.compute(TODAY)
    online.lift(mark)
    assert held() == {}
    online.publish()
    assert online.amounts() == [98.0, 20.0, 5.0]


def order_in_cents(rows: Any) -> Any:
    return rows.selectExpr("customer", "event_time", "amount * 100 AS amount")


def test_what_cannot_be_invalidated_is_refused_and_a_mark_lifted_before_a_publication_needs_none(online: Online) -> None:
    with pytest.raises(InvalidationError, match="no committed attempt 7; the newest are"):
        online.invalidate(Scope(attempt=7))
    with pytest.raises(InvalidationError, match="nothing is between"):
        online.invalidate(Scope(since=MONDAY, until=MONDAY))
    with pytest.raises(InvalidationError, match="needs a reason"):
        online.invalidate(Scope(attempt=online.second), reason=" ")
    with pytest.raises(ValueError, match="naive"):
        online.invalidate(Scope(since=datetime(2026, 3, 2)))
    with pytest.raises(InvalidationError, match="no invalidation mark 'nobody'"):
        lift(online.world.lake, "nobody", connect=online.connect, clock=online.world.clock)
    assert copied_marks(online.world.lake) == []
    mark = online.invalidate(Scope(attempt=online.second))
    assert online.lift(mark).due is None
    assert online.lift(mark) == online.lift(mark)
    assert not is_due(online)
    assert online.publish().steps == ()
    assert online.amounts() == [99.0, 20.0, 5.0]


@pytest.mark.parametrize("then", ["lifted", "computed"])
def test_a_publication_that_ended_while_it_took_back_is_finished_by_the_next(
    online: Online, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    mark = online.invalidate(Scope(attempt=online.second))
    real = publish_module.write_values

    def killed(*given: Any) -> Any:
        real(*given)
        raise StoreUnavailable("the run was killed here")

    monkeypatch.setattr(publish_module, "write_values", killed)
    with pytest.raises(StoreUnavailable):
        online.publish()
    monkeypatch.undo()
    online.world.clock.advance(HOUR)
    if then == "lifted":
        online.lift(mark)
        assert [step for _, step in online.publish().steps] == ["exclude", "restore"]
        assert online.amounts() == [99.0, 20.0, 5.0]
    else:
        online.world.place("ann", 12.0, MONDAY + 13 * HOUR)
        online.world.compute(TODAY)
        assert online.publish().steps == ((mark.id, "exclude"),)
        assert online.amounts() == [12.0, 20.0, None]


def test_two_marks_on_the_same_rows_are_each_undone_alone(online: Online) -> None:
    first = online.invalidate(Scope(attempt=online.second))
    online.world.clock.advance(HOUR)
    online.invalidate(Scope(since=MONDAY + 12 * HOUR))
    assert len(online.publish().steps) == 2
    online.world.clock.advance(HOUR)
    online.lift(first)
    online.publish()
    assert online.amounts() == [10.0, 20.0, None]
