"""A store filled again from the lake holds what it held, and a comparison finds what it does not. Real Spark, Delta and Cassandra."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from penstock.clock import FixedClock
from penstock.config import Settings
from penstock.errors import PublicationError
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import PUBLICATIONS, attempts, publications
from penstock.online.cassandra import CassandraStore
from penstock.online.codec import encode_key, encode_value, write_token
from penstock.online.ledger import Publication
from penstock.online.store import OnlineStore, Slot, Write
from penstock.publication import rebuild as rebuild_module
from penstock.publication.encode import Target
from penstock.publication.held_store import Connect, with_store
from penstock.publication.invalidate import Scope, invalidate, lift
from penstock.publication.publish import Published, publish
from penstock.publication.rebuild import Rebuilt, copy_ledger, lacking, rebuild
from penstock.publication.verify import Verified, verify
from penstock.registry.marks import Mark
from tests.online_content import values_online
from tests.world import MONDAY, World, view_of_orders

pytestmark = pytest.mark.real
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = MONDAY.date()
NAMES = [("ann",), ("bob",), ("eve",), ("kim",)]


class Online:
    """A view with two days online: ann was corrected twice at one event time, eve was retracted, bob is as he was first.

    Its store is `first`; `second`, another keyspace, has nothing of it.
    """

    def __init__(self, world: World, first: Connect, second: Connect) -> None:
        self.world, self.first, self.second = world, first, second
        self.slot = Slot(world.view.name, world.view.version, 1)
        world.place("bob", 20.0, MONDAY - 4 * HOUR)
        world.place("ann", 10.0, MONDAY + 9 * HOUR)
        world.place("eve", 5.0, MONDAY + 10 * HOUR)
        world.compute(TODAY - DAY, TODAY)
        self.publish(first)
        for amount in (11.0, 12.0):
            world.clock.advance(HOUR)
            world.placed[1] = world.placed[1].__class__("ann", amount, MONDAY + 9 * HOUR)
            world.placed[2:] = []
            world.compute(TODAY)
            self.publish(first)
        world.clock.advance(HOUR)

    def publish(self, connect: Connect) -> Published:
        world = self.world
        return publish(world.spark, world.lake, world.view, [TODAY - DAY, TODAY], connect=connect, clock=world.clock, run_id="publish")

    def rebuild(self, **options: Any) -> Rebuilt | None:
        return rebuild(self.world.spark, self.world.lake, self.world.view, connect=self.second, **options)

    def verify(self, connect: Connect) -> Verified:
        return verify(self.world.spark, self.world.lake, self.world.view, connect=connect, seed=7)

    def copy(self, connect: Connect) -> tuple[int, int]:
        return copy_ledger(self.world.spark, self.world.lake, self.world.view, connect=connect, seed=7)

    def ledger(self, connect: Connect) -> list[Publication]:
        return with_store(connect, lambda store: store.publications(self.slot.view, self.slot.version))

    def copied(self) -> list[Publication]:
        return publications(self.world.lake, self.slot.view, self.slot.version)

    def marks(self, connect: Connect) -> list[Mark]:
        found = with_store(connect, lambda store: store.marks())
        return [mark for mark in found if mark.view == self.slot.view]

    def held(self, connect: Connect) -> dict[Any, Any]:
        """What each key holds, with its token: value, event time and attempt to the byte."""

        async def read(store: OnlineStore) -> dict[Any, Any]:
            assert isinstance(store, CassandraStore)
            await store.prepare([self.world.view.entity.name])
            rows = await store._session.query(
                f"SELECT key, feature_view, WRITETIME(value), value FROM {store._keyspace}.online_{self.world.view.entity.name}"
            )
            return {row[0]: (row[2], row[3]) for row in rows if row[1] == self.slot.view}

        return with_store(connect, read)

    def amounts(self, connect: Connect) -> list[Any]:
        found = values_online(connect, self.world.view, NAMES)
        return [None if stored is None else stored.values[0] for stored in found.values()]

    def write(self, connect: Connect, customer: str, amount: float, event_us: int, revision: int) -> None:
        """A value that no publication wrote."""
        target = Target.of(self.world.view, 1)
        value = encode_value(target.schema, event_us, 1, [amount])
        write = Write(encode_key(target.join_keys, [customer]), target.slot, write_token(event_us, revision), value)

        async def put(store: OnlineStore) -> None:
            await store.prepare([target.entity])
            await store.write(target.entity, [write])

        with_store(connect, put)


@pytest.fixture(scope="module")
def stores(cassandra_settings: Settings, endpoint: tuple[list[str], int]) -> tuple[Connect, Connect]:
    other = cassandra_settings.cassandra.model_copy(update={"keyspace": "penstock_rebuilt"})
    return (
        partial(CassandraStore.connect, *endpoint, cassandra_settings),
        partial(CassandraStore.connect, *endpoint, cassandra_settings.model_copy(update={"cassandra": other})),
    )


@pytest.fixture
def online(spark: Any, stores: tuple[Connect, Connect], tmp_path: Path, request: pytest.FixtureRequest) -> Online:
    view = view_of_orders(name=f"rebuilt_{crc32(request.node.name.encode())}")
    return Online(World(spark, Lake(str(tmp_path)), FixedClock(MONDAY + 12 * HOUR), view), *stores)


def test_an_empty_store_is_filled_to_the_byte_and_the_token_and_its_ledger_is_as_it_was(online: Online) -> None:
    assert online.amounts(online.first) == [12.0, 20.0, None, None]
    before = online.held(online.first)
    assert {token % 1000 for token, _ in before.values()} == {0, 2}  # ann was published three times at one event time
    done = online.rebuild()
    assert done is not None
    assert (done.written, done.deleted, done.read_back) == (2, 1, 3)
    assert online.held(online.second) == before
    assert online.ledger(online.second) == online.ledger(online.first) == online.copied() == list(done.rows)
    assert lacking(online.world.lake, online.world.view, connect=online.second) == []


def test_a_second_rebuild_is_nothing_and_a_forced_one_changes_nothing_but_what_is_missing(online: Online) -> None:
    online.rebuild()
    held, ledger = online.held(online.second), online.ledger(online.second)
    assert online.rebuild() is None

    async def forget(store: OnlineStore) -> None:
        assert isinstance(store, CassandraStore)
        await store._session.query(f"TRUNCATE {store._keyspace}.online_{online.world.view.entity.name}")

    with_store(online.second, forget)
    assert online.held(online.second) == {}
    done = online.rebuild(force=True)
    assert done is not None
    assert (done.rows, done.written) == ((), 2)
    assert (online.held(online.second), online.ledger(online.second)) == (held, ledger)


def test_a_view_that_was_never_published_is_left_alone(online: Online, tmp_path: Path) -> None:
    online.world.lake = Lake(str(tmp_path / "another"))
    online.world.compute(TODAY)
    assert online.rebuild() is None
    assert online.rebuild(force=True) is None
    assert (online.held(online.second), online.ledger(online.second)) == ({}, [])


def publish_a_correction_to_the_second(online: Online) -> None:
    online.world.placed[1] = online.world.placed[1].__class__("ann", 13.0, MONDAY + 9 * HOUR)
    online.world.compute(TODAY)
    online.publish(online.second)
    assert online.amounts(online.second) == [13.0, 20.0, None, None]


def test_what_is_published_after_a_rebuild_wins_over_what_it_wrote(online: Online) -> None:
    online.rebuild()
    publish_a_correction_to_the_second(online)
    assert online.verify(online.second) == Verified(3)
    assert online.ledger(online.second) == online.copied()


def test_marks_are_restored_and_obeyed_and_can_be_lifted_in_the_store_that_was_rebuilt(online: Online) -> None:
    world = online.world
    newest = max(entry.attempt for entry in attempts(world.lake, feature_table(world.view)))
    mark = invalidate(world.lake, world.view, Scope(attempt=newest), reason="wrong", connect=online.first, clock=world.clock)
    online.publish(online.first)
    assert online.amounts(online.first) == [11.0, 20.0, None, None]
    online.rebuild()
    assert online.held(online.second) == online.held(online.first)
    assert online.marks(online.second) == online.marks(online.first)
    world.clock.advance(HOUR)
    lift(world.lake, mark.id, connect=online.second, clock=world.clock)
    online.publish(online.second)
    assert online.amounts(online.second) == [12.0, 20.0, None, None]
    assert online.verify(online.second).differing == ()


SEAMS = ["before", "after values", "while compared", "at the ledger", "after the ledger"]


def killed_at(seam: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    def after(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            real(*given, **named)
            raise KeyboardInterrupt

        return call

    match seam:
        case "before":
            monkeypatch.setattr(rebuild_module, "write_values", kill)
        case "after values":
            monkeypatch.setattr(rebuild_module, "write_values", after(rebuild_module.write_values))
        case "while compared":
            monkeypatch.setattr(rebuild_module, "compare", kill)
        case "at the ledger":
            monkeypatch.setattr(CassandraStore, "record", kill)
        case _:
            monkeypatch.setattr(rebuild_module, "copy_publications", kill)


@pytest.mark.parametrize("seam", SEAMS)
@pytest.mark.parametrize("then", ["rebuilt", "published"])
def test_a_rebuild_that_was_killed_is_finished_by_whoever_comes_next(
    online: Online, monkeypatch: pytest.MonkeyPatch, seam: str, then: str
) -> None:
    with monkeypatch.context() as patch:
        killed_at(seam, patch)
        with pytest.raises(KeyboardInterrupt):
            online.rebuild()
    if then == "rebuilt":
        online.rebuild()
        assert online.held(online.second) == online.held(online.first)
    else:  # with something newer, of a key that was published three times at one event time
        publish_a_correction_to_the_second(online)
    assert online.verify(online.second) == Verified(3)
    assert online.ledger(online.second) == online.copied()


def test_a_store_of_another_lake_is_refused_and_nothing_is_written(online: Online, tmp_path: Path) -> None:
    held = online.held(online.first)
    online.second, online.world.lake = online.first, Lake(str(tmp_path / "another"))
    online.world.compute(TODAY)
    with pytest.raises(PublicationError, match=r"that this lake does not know"):
        online.rebuild(force=True)
    with pytest.raises(PublicationError, match=r"that this lake does not know"):
        online.verify(online.first)
    assert online.held(online.first) == held


def test_values_of_something_else_at_greater_tokens_are_found_before_the_ledger_is_recorded(online: Online) -> None:
    online.write(online.second, "bob", 99.0, 2 * 10**15, 0)
    with pytest.raises(PublicationError, match=r"1 of 3 keys compared do not hold what was written"):
        online.rebuild()
    assert online.ledger(online.second) == []


def test_a_comparison_names_what_differs_and_the_value_a_reader_gets(online: Online) -> None:
    assert online.verify(online.first) == Verified(3)
    online.write(online.first, "bob", 99.0, 2 * 10**15, 0)
    online.write(online.first, "eve", 98.0, 2 * 10**15, 0)
    found = online.verify(online.first)
    assert found.keys == 3
    told = {one.key["customer"]: one for one in found.differing}
    assert set(told) == {"bob", "eve"}
    assert told["bob"].expected is not None
    assert told["bob"].expected.values == [20.0]
    assert told["eve"].expected is None
    assert not isinstance(told["eve"].found, str)
    assert told["eve"].found is not None
    assert told["eve"].found.values == [98.0]


def test_a_publication_that_has_begun_makes_no_difference_whichever_of_its_values_are_online(
    online: Online, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: Any) -> Any:
        raise KeyboardInterrupt

    online.world.place("kim", 1.0, MONDAY + 11 * HOUR)
    online.world.compute(TODAY)
    with monkeypatch.context() as patch:
        patch.setattr(CassandraStore, "record", kill)
        with pytest.raises(KeyboardInterrupt):
            online.publish(online.first)
    assert online.amounts(online.first)[3] == 1.0
    assert online.verify(online.first) == Verified(4)


def test_either_copy_of_the_ledger_is_made_complete_from_the_other(online: Online) -> None:
    ledger = online.ledger(online.first)
    online.world.lake.remove_folder(PUBLICATIONS)
    assert online.copied() == []
    assert online.copy(online.first) == (len(ledger), 0)
    assert online.copied() == ledger

    async def forget(store: OnlineStore) -> None:
        assert isinstance(store, CassandraStore)
        await store._session.query(f"TRUNCATE {store._keyspace}.ledger")

    with_store(online.first, forget)
    assert online.copy(online.first) == (0, len(ledger))
    assert online.ledger(online.first) == ledger
    assert online.copy(online.first) == (0, 0)


def test_a_store_without_the_values_is_not_given_a_ledger_that_says_they_are_there(online: Online) -> None:
    with pytest.raises(PublicationError, match="2 of 3 keys do not hold what") as refused:
        online.copy(online.second)
    assert refused.value.hint == f"fill the store again: `penstock online rebuild {online.world.view.ref}`"
    assert online.ledger(online.second) == []
