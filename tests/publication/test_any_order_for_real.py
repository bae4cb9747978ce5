"""A random sequence of all that happens to a view, on real Spark, Delta and Cassandra: what is online is what the rule gives.

`test_any_order.py` looks for the order in which it would not be; this holds that the real lake, evaluation and store do as theirs do.
"""

import os
import random
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from penstock.clock import FixedClock
from penstock.config import Settings
from penstock.errors import PublicationError, StoreError
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts, newest, passed, publications
from penstock.online.cassandra import CassandraStore
from penstock.online.store import OnlineStore
from penstock.publication import publish as publish_module
from penstock.publication.held_store import Connect, with_store
from penstock.publication.publish import publish
from tests.online_content import require_what_the_rule_gives
from tests.world import MONDAY, Order, World, view_of_orders

pytestmark = pytest.mark.real
SEQUENCES = int(os.environ.get("PENSTOCK_KILLS", "1"))  # make soak: 10
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DAYS = [MONDAY.date() - DAY, MONDAY.date()]
CUSTOMERS = ["ann", "bob", "eve"]
SEAMS = ["before the intent", "after the intent", "within the writes", "before the ledger row", "before its copy"]


def dying_at(seam: str, up: Connect) -> Connect:
    """Opens a store whose user ends there. It crosses to Spark's workers, which know this function and no other of this file."""

    async def connect() -> OnlineStore:
        store: Any = await up()
        intend, write = store.intend, store.write

        async def dies(_: Any) -> None:
            raise KeyboardInterrupt

        async def intends_and_dies(intent: Any) -> None:
            await intend(intent)
            raise KeyboardInterrupt

        async def writes_one(entity: str, writes: Any) -> None:
            await write(entity, writes[:1])
            raise StoreError("the run ends within its writes")

        match seam:
            case "before the intent":
                store.intend = dies
            case "after the intent":
                store.intend = intends_and_dies
            case "within the writes":
                store.write = writes_one
            case "before the ledger row":
                store.record = dies
        return store

    return connect


class Sequence:
    """One view, and what happens to it, drawn by a seed."""

    def __init__(self, world: World, connect: Connect, seed: int) -> None:
        self.world, self.connect, self.numbers, self.told = world, connect, random.Random(seed), list[str]()

    def happens(self) -> None:
        numbers, world = self.numbers, self.world
        world.clock.advance(numbers.choice([timedelta(0), timedelta(minutes=7)]))
        for _ in range(numbers.randint(1, 3)):  # orders of today and late ones, corrections, and some that vanish
            at = MONDAY + numbers.choice([-20, -3, 8, 11]) * HOUR
            placed = [order for order in world.placed if (order.customer, order.at) != ("ann", at)]
            if numbers.random() < 0.7:
                placed.append(Order("ann", float(numbers.randint(1, 99)), at))
            world.placed = placed
        customer, back = numbers.choice(CUSTOMERS[1:]), numbers.choice([4, -3])
        world.placed = [order for order in world.placed if order.customer != customer or numbers.random() < 0.5]
        if not any((order.customer, order.at) == (customer, MONDAY + back * HOUR) for order in world.placed):
            world.place(customer, float(numbers.randint(-1, 99)), MONDAY + back * HOUR)  # one that is negative is refused
        world.compute(*numbers.choice([DAYS, DAYS[:1], DAYS[1:]]))

    def publish(self, seam: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        world, days = self.world, self.numbers.choice([DAYS, DAYS[:1], DAYS[1:]])
        connect = self.connect if seam is None else dying_at(seam, self.connect)
        with monkeypatch.context() as patch:
            if seam == "before its copy":
                patch.setattr(publish_module, "copy_publications", _die)
            try:
                publish(world.spark, world.lake, world.view, days, connect=connect, clock=world.clock, run_id="publish")
                self.told.append("published")
            except KeyboardInterrupt:
                self.told.append(f"killed {seam}")
            except PublicationError as error:
                assert "the run ends within its writes" in str(error)
                self.told.append(f"killed {seam}")


def _die(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("n", range(SEQUENCES))
def test_whatever_happened_the_next_publication_leaves_what_the_rule_gives(
    spark: Any,
    cassandra_settings: Settings,
    endpoint: tuple[list[str], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n: int,
) -> None:
    seed = random.SystemRandom().randrange(10**9)
    world = World(spark, Lake(str(tmp_path)), FixedClock(MONDAY + 12 * HOUR), view_of_orders(name=f"any_order_{seed}"))
    sequence = Sequence(world, partial(CassandraStore.connect, *endpoint, cassandra_settings), seed)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it where the test fails
    for seam in sequence.numbers.sample([*SEAMS, None, None], k=4):
        sequence.happens()
        sequence.publish(seam, monkeypatch)
    publish(world.spark, world.lake, world.view, DAYS, connect=sequence.connect, clock=world.clock, run_id="last")
    require_what_the_rule_gives(spark, world.lake, world.view, sequence.connect)
    ledger = with_store(sequence.connect, lambda store: store.publications(world.view.name, 1))
    assert publications(world.lake, world.view.name, 1) == ledger
    committed = newest(attempts(world.lake, feature_table(world.view)), passed)
    assert {row.partition: row.attempt for row in ledger} == {day: entry.attempt for day, entry in committed.items()}
    print(sequence.told)  # noqa: T201 - which runs were killed, and where
