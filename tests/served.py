"""A small world that is served: by the code of the gateway, from a real node, with everything logged."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

from penstock.clock import FixedClock, to_micros
from penstock.config import FeatureLogSettings, GatewaySettings, Settings
from penstock.contract import Degradation, FeatureService, FreshnessSla
from penstock.contract.fingerprint import schema_id
from penstock.offline.lake import Lake
from penstock.offline.registry_log import log_snapshot
from penstock.online.cassandra import CassandraStore
from penstock.online.codec import encode_key, encode_value, write_token
from penstock.online.ledger import Publication
from penstock.online.store import OnlineStore, Slot, Write
from penstock.point_in_time.joined import Resources
from penstock.publication.held_store import Connect, with_store
from penstock.publication.publish import publish
from penstock.publication.services import publish_services
from penstock.quality.findings import SAME, Finding
from penstock.quality.log_replay import ViewReplay, replay_log
from penstock.quality.replay import replay
from penstock.quality.served_log import ship
from penstock.registry.project import Project
from penstock.registry.snapshot import compile_snapshot
from penstock.serving.cache import NearCache
from penstock.serving.feature_log import FeatureLog
from penstock.serving.judgement import Outcome
from penstock.serving.lookup import look_up
from penstock.serving.plan import Planner
from penstock.serving.replay_token import token_of
from penstock.serving.state import StateKeeper
from tests.world import MONDAY, World, view_of_orders

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
UNREADABLE = (Outcome.CORRUPT, Outcome.UNKNOWN_SCHEMA, Outcome.FUTURE)
TODAY = MONDAY.date()
SLA = FreshnessSla(total=timedelta(minutes=30), read=timedelta(seconds=10))


class Served:
    """A world whose view is served: by the code of the gateway, from a real node."""

    def __init__(self, world: World, connect: Connect, folder: Path, settings: Settings) -> None:
        self.world, self.connect, self.folder, self.settings = world, connect, folder, settings
        self.log = FeatureLog(folder, FeatureLogSettings(sample=1.0), world.clock)
        self.tokens: list[str] = []
        service = FeatureService("orders", views=[world.view], owner="tests")
        self.project = Project("replay", (world.view,), (service,))
        self.snapshot = compile_snapshot(self.project)
        log_snapshot(world.lake, self.snapshot, world.clock.now())

    def bring(self, *days: date) -> None:
        """Compute some days and publish them."""
        self.world.compute(*days)
        self.publish(*days)

    def publish(self, *days: date) -> None:
        world = self.world
        publish(world.spark, world.lake, world.view, days, connect=self.connect, clock=world.clock, run_id="run")
        now_us = to_micros(world.clock.now())
        with_store(self.connect, lambda store: publish_services(store, self.snapshot, now_us))

    def ask(self, *customers: str | None, wrap: Any = lambda store: store) -> str:
        """The token of the answer for some customers."""

        async def run(store: OnlineStore) -> str:
            keeper = StateKeeper(store)
            assert await keeper.refresh()
            assert keeper.state is not None
            plan = Planner().plan(keeper.state, "orders")
            entities = [{"customer": customer} for customer in customers]
            answer = await look_up(plan, NearCache(wrap(store), 0), to_micros(self.world.clock.now()), entities, GatewaySettings())
            self.log.take(answer, f"request {len(self.tokens)}", "everyone")
            return token_of(answer)

        self.tokens.append(with_store(self.connect, run))
        return self.tokens[-1]

    def put(self, customer: str, amount: float | None, at: Any, attempt: int, *, token_at: Any = None, schema: int | None = None) -> None:
        """Alter what is online, past every publication; amount None deletes."""
        view = self.world.view
        blob = None if amount is None else encode_value(schema or schema_id(view), to_micros(at), attempt, [amount])
        token = write_token(to_micros(token_at or at), 900)
        write = Write(encode_key([("customer", "string")], [customer]), Slot(view.name, 1, 1), token, blob)

        async def run(store: OnlineStore) -> None:
            await store.prepare(["customer"])
            await store.write("customer", [write])

        with_store(self.connect, run)

    def ledger(self) -> list[Publication]:
        return with_store(self.connect, lambda store: store.publications(self.world.view.name, 1))

    @property
    def resources(self) -> Resources:
        return Resources(lambda: self.world.spark, 2, 64_000_000)

    def ship(self) -> None:
        """Bring the log to the lake."""
        asyncio.run(self.log.close())
        ship(self.world.lake, self.folder)

    def replay_log(self) -> list[ViewReplay]:
        """All that was asked, by the feature log."""
        self.ship()
        return replay_log(self.world.lake, self.world.view, MONDAY - 9 * DAY, MONDAY + 9 * DAY, self.resources)

    def require_the_log_to_say_the_same(self) -> None:
        """As the tokens of the same answers do, row by row."""
        parts = [part for token in self.tokens for part in replay(self.world.lake, token).parts if part.key is not None]
        by_token = Counter(part.finding for part in parts if part.finding is not Finding.FAILED or part.outcome in UNREADABLE)
        (by_log,) = self.replay_log()
        unreadable = sum(part.outcome in UNREADABLE for part in parts)
        found = Counter(by_log.findings)
        assert sum(found.values()) == by_log.rows == sum(by_token.values())
        assert (found - by_token).total() == (by_token - found).total() == unreadable, (found, by_token)
        assert by_log.unserved == len(parts) - by_log.rows
        assert len(by_log.examples) == min(10, sum(count for finding, count in found.items() if finding not in SAME))

    def findings(self, token: str) -> list[str]:
        return [str(part.finding) for part in replay(self.world.lake, token).parts]


@contextmanager
def served_orders(
    spark: Any, cassandra: Settings, endpoint: tuple[list[str], int], folder: Path, name: str, **of_view: Any
) -> Iterator[Served]:
    """Three orders of two customers on Monday, not yet computed; of a view and in a keyspace of their own, told by `name`."""
    view = view_of_orders(name=f"replayed_{crc32(name.encode())}", if_unavailable=Degradation().then_drop(), freshness=SLA, **of_view)
    settings = cassandra.model_copy(
        update={"cassandra": cassandra.cassandra.model_copy(update={"keyspace": f"replay_{crc32(name.encode())}"})}
    )
    world = World(spark, Lake(str(folder)), FixedClock(MONDAY + 12 * HOUR), view)
    world.place("ann", 10.0, MONDAY + 9 * HOUR)
    world.place("ann", 12.0, MONDAY + 11 * HOUR)
    world.place("bob", 20.0, MONDAY + 8 * HOUR)
    served = Served(world, partial(CassandraStore.connect, *endpoint, settings), folder / "served", settings)
    yield served
