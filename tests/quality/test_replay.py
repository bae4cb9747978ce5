"""What was served, computed again from the lake: equal, or what differs is named. Real Spark, Delta and Cassandra."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from penstock.clock import FixedClock, from_micros
from penstock.config import Settings
from penstock.contract import Entity, Feature
from penstock.contract.view_parts import Consistency
from penstock.errors import ReplayError, StoreUnavailable
from penstock.offline.lake import Lake
from penstock.online.cassandra import CassandraStore
from penstock.online.store import Held, Slot
from penstock.quality.findings import Finding
from penstock.quality.replay import Replay, replay
from tests.served import HOUR, TODAY, Served
from tests.world import MONDAY, World, view_of_orders

pytestmark = pytest.mark.real


@pytest.fixture
def served(served: Served) -> Iterator[Served]:
    """And at the end the log says the same as the tokens."""
    yield served
    served.require_the_log_to_say_the_same()


def test_what_was_served_is_equal_then_and_after_corrections_and_newer_values(served: Served) -> None:
    served.bring(TODAY)
    served.world.clock.advance(HOUR)
    before = served.ask("ann", "bob", "eve", None)

    def check() -> None:
        done = replay(served.world.lake, before)
        assert [part.finding for part in done.parts] == [Finding.EQUAL] * 4
        assert done.equal
        assert [row[f"{served.world.view.name}__amount"] for row in done.rows()] == [12.0, 20.0, None, None]
        assert [part.key for part in done.parts] == [{"customer": "ann"}, {"customer": "bob"}, {"customer": "eve"}, None]
        assert done.parts[0].served == done.parts[0].expected is not None
        assert done.parts[0].served[0] == MONDAY + 11 * HOUR

    check()
    served.world.placed[1] = type(served.world.placed[1])("ann", 13.0, MONDAY + 11 * HOUR)  # corrected
    served.world.placed.pop(2)  # bob's only order vanishes
    served.world.place("eve", 1.0, MONDAY + 10 * HOUR)
    served.world.clock.advance(HOUR)
    served.bring(TODAY)
    check()
    served.world.clock.advance(HOUR)
    after = served.ask("ann", "bob", "eve")
    assert served.findings(after) == ["equal"] * 3
    assert [list(row.values()) for row in replay(served.world.lake, after).rows()] == [[13.0], [None], [1.0]]


def test_an_expired_value_was_null_and_is(served: Served) -> None:
    served.bring(TODAY)
    served.world.clock.advance(36 * HOUR)  # ttl 48 h: at Wednesday 00:00 bob's order of Monday 8:00 is 40 h old
    assert values(replay(served.world.lake, served.ask("ann", "bob"))) == [12.0, 20.0]
    served.world.clock.advance(9 * HOUR)  # 49 h; ann's of 11:00 is 46 h old
    done = replay(served.world.lake, served.ask("ann", "bob"))
    assert (done.equal, values(done)) == (True, [12.0, None])


def values(done: Replay) -> list[Any]:
    return [value for part in done.parts for value in part.values.values()]


def test_a_value_nobody_computed_is_named(served: Served) -> None:
    served.bring(TODAY)
    attempt = served.ledger()[0].attempt
    served.put("ann", 12.5, MONDAY + 11 * HOUR, attempt)
    done = replay(served.world.lake, served.ask("ann", "bob"))
    assert [part.finding for part in done.parts] == [Finding.VALUE, Finding.EQUAL]
    assert (done.equal, values(done)) == (False, [12.0, 20.0])
    served.ask("bob")
    (by_log,) = served.replay_log()
    assert (by_log.rows, by_log.changes, by_log.differing, by_log.compared) == (3, 2, {"amount": 1}, {"amount": 3})
    (example,) = by_log.examples
    assert (example.key, example.values, example.finding) == ({"customer": "ann"}, {"amount": (12.5, 12.0)}, Finding.VALUE)
    assert example.served == (MONDAY + 11 * HOUR, attempt)


def test_a_value_of_other_features_than_the_views_is_of_another_type(served: Served) -> None:
    served.bring(TODAY)
    attempt = served.ledger()[0].attempt
    served.put("ann", 12.0, MONDAY + 11 * HOUR, attempt, schema=7)
    served.ask("ann", "bob")
    (by_log,) = served.replay_log()
    assert (by_log.findings, by_log.differing) == ({Finding.TYPE: 1, Finding.EQUAL: 1}, {"amount": 1})


def test_an_older_value_than_was_readable_is_stale(served: Served) -> None:
    served.world.placed.pop(1)
    served.bring(TODAY)
    first = served.ledger()[0].attempt
    served.world.place("ann", 12.0, MONDAY + 11 * HOUR)
    served.world.clock.advance(HOUR)
    served.bring(TODAY)
    served.put("ann", 10.0, MONDAY + 9 * HOUR, first, token_at=MONDAY + 11 * HOUR)  # as a replica that lags behind has it
    served.world.clock.advance(HOUR)
    done = replay(served.world.lake, served.ask("ann", "bob"))
    assert [part.finding for part in done.parts] == [Finding.STALE, Finding.EQUAL]
    assert done.parts[0].served == (MONDAY + 9 * HOUR, first)
    assert done.parts[0].expected is not None
    assert done.parts[0].expected[0] == MONDAY + 11 * HOUR


def test_a_value_that_is_gone_is_missing_and_one_that_should_be_is_extra(served: Served) -> None:
    served.bring(TODAY)
    first = served.ledger()[0].attempt
    served.world.placed.pop(2)  # bob's vanishes
    served.world.clock.advance(HOUR)
    served.bring(TODAY)
    served.put("ann", None, MONDAY + 11 * HOUR, 0)
    served.put("bob", 20.0, MONDAY + 8 * HOUR, first)
    served.world.clock.advance(HOUR)
    assert served.findings(served.ask("ann", "bob")) == ["missing", "extra"]


def test_the_value_of_a_publication_that_was_not_yet_recorded_is_early_and_no_fault(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.bring(TODAY)
    served.world.place("ann", 14.0, MONDAY + 11 * HOUR + timedelta(minutes=30))
    served.world.placed.pop(2)
    served.world.clock.advance(HOUR)
    served.world.compute(TODAY)

    async def ends(*_: Any) -> None:
        raise StoreUnavailable("the node went away before the ledger row")

    with monkeypatch.context() as patched:
        patched.setattr(CassandraStore, "record", ends)
        with pytest.raises(StoreUnavailable):
            served.publish(TODAY)
    between = served.ask("ann", "bob")
    assert served.findings(between) == ["early", "early"]
    served.world.clock.advance(HOUR)
    served.publish(TODAY)
    assert served.findings(between) == ["early", "early"]
    assert replay(served.world.lake, between).equal
    assert served.findings(served.ask("ann", "bob")) == ["equal", "equal"]


def test_what_a_cache_held_no_longer_than_its_view_allows_is_no_fault(served: Served) -> None:
    served.bring(TODAY)
    served.world.place("ann", 14.0, MONDAY + 11 * HOUR + timedelta(minutes=30))
    served.world.placed.pop(2)
    served.world.clock.advance(HOUR)
    served.bring(TODAY)
    first = served.ledger()[0].attempt
    readable_at = from_micros(served.ledger()[-1].readable_at_us)
    served.put("ann", 12.0, MONDAY + 11 * HOUR, first, token_at=MONDAY + 12 * HOUR)  # what a cache would still hold
    served.put("bob", 20.0, MONDAY + 8 * HOUR, first)
    # freshness.read is 10 s: at 10.000000 even what was read at the moment the new value became readable would be that one
    for seconds, expected in ((0.0, "cached"), (9.999999, "cached"), (10.0, "stale")):
        served.world.clock.at = readable_at + timedelta(seconds=seconds)
        assert served.findings(served.ask("ann", "bob")) == [expected, expected.replace("stale", "extra")]


class Down:
    """A store that does not answer."""

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], *consistency: Consistency) -> list[Held]:
        raise StoreUnavailable("down")


def test_what_was_not_served_because_the_store_was_down_is_told_with_what_it_would_have_been(served: Served) -> None:
    served.bring(TODAY)
    done = replay(served.world.lake, served.ask("ann", wrap=lambda _: Down()))
    assert [(part.finding, part.outcome.name) for part in done.parts] == [(Finding.FAILED, "DROPPED")]
    assert (done.equal, values(done)) == (False, [12.0])


def test_every_type_comes_back_the_same(spark: Any, cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path: Path) -> None:
    features = [
        Feature("amount", "float64"),
        Feature("narrow", "float32"),
        Feature("whole", "int32"),
        Feature("wide", "int64"),
        Feature("big", "bool"),
        Feature("name", "string"),
        Feature("at", "timestamp"),
        Feature("list", "list[float64]"),
        Feature("nothing", "float64"),
    ]

    def computed(rows: Any) -> Any:
        return rows.selectExpr(
            "customer", "event_time", "amount", "CAST(amount / 3 AS float) AS narrow", "CAST(amount AS int) AS whole",
            "CAST(amount * 1e12 AS bigint) AS wide", "amount > 11 AS big", "upper(customer) AS name", "event_time AS at",
            "array(amount, amount / 7) AS list", "CAST(NULL AS double) AS nothing",
        )  # fmt: skip

    view = view_of_orders(name="replayed_types", entity=Entity("customer", {"customer": "string"}), compute=computed, features=features)
    world = World(spark, Lake(str(tmp_path)), FixedClock(MONDAY + 12 * HOUR), view)
    world.place("ann", 12.0, MONDAY + 11 * HOUR)
    settings = cassandra_settings.model_copy(
        update={"cassandra": cassandra_settings.cassandra.model_copy(update={"keyspace": "replay_types"})}
    )
    served = Served(world, partial(CassandraStore.connect, *endpoint, settings), tmp_path / "served", settings)
    served.bring(TODAY)
    done = replay(world.lake, served.ask("ann"))
    served.require_the_log_to_say_the_same()
    assert done.equal
    assert values(done)[2:] == [12, 12 * 10**12, True, "ANN", MONDAY + 11 * HOUR, [12.0, 12.0 / 7], None]


def test_a_token_of_another_lake_is_refused(served: Served, tmp_path: Path) -> None:
    served.bring(TODAY)
    token = served.ask("ann")
    with pytest.raises(ReplayError, match=r"was made under snapshot '.*': 0 published snapshots"):
        replay(Lake(str(tmp_path / "other")), token)
