"""The store on a real Cassandra keeps the contract of all stores, and its own promises."""

import asyncio
import os
import pickle
import signal
from collections.abc import Awaitable, Callable
from datetime import date
from functools import partial
from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from penstock.cli.doctor import write_tokens
from penstock.config import Settings
from penstock.contract.view_parts import Consistency
from penstock.errors import StoreError, StoreUnavailable
from penstock.online.cassandra import CassandraStore
from penstock.online.cassandra import store as module
from penstock.online.cassandra.schema import ddl
from penstock.online.ledger import Intent
from penstock.online.store import Slot, Write
from penstock.runtime.doctor import Finding
from penstock.runtime.node_status import node_status
from tests.online.contract import check_online_store
from tests.online.keys import ALIKE, Parts, identity
from tests.online.test_codec import key_of

pytestmark = pytest.mark.real

Endpoint = tuple[list[str], int]
SLOT = Slot("delays", 1, 1)


@pytest.fixture(params=["acsylla", "cassandra-driver"])
def store_settings(request: pytest.FixtureRequest, cassandra_settings: Settings) -> Settings:
    """Settings of the node for each driver, with a keyspace of its own."""
    keyspace = f"by_{request.param.replace('-', '_')}"
    cassandra = cassandra_settings.cassandra.model_copy(update={"driver": request.param, "keyspace": keyspace})
    return cassandra_settings.model_copy(update={"cassandra": cassandra})


def with_store(endpoint: Endpoint, settings: Settings, do: Callable[[CassandraStore], Awaitable[None]]) -> None:
    async def run() -> None:
        store = await CassandraStore.connect(*endpoint, settings)
        try:
            await do(store)
        finally:
            await store.close()

    asyncio.run(run())


def test_cassandra_store_keeps_the_contract(endpoint: Endpoint, store_settings: Settings) -> None:
    with_store(endpoint, store_settings, check_online_store)


def test_what_one_process_wrote_another_reads(endpoint: Endpoint, store_settings: Settings) -> None:
    async def write(store: CassandraStore) -> None:
        await store.prepare(["airport"])
        await store.write("airport", [Write(b"kept", SLOT, 10, b"value")])

    async def read(store: CassandraStore) -> None:
        await store.prepare(["airport"])
        assert await store.read("airport", [b"kept"], [SLOT]) == [[b"value"]]

    with_store(endpoint, store_settings, write)
    with_store(endpoint, store_settings, read)


def test_a_refused_statement_is_a_store_error_and_the_store_goes_on(endpoint: Endpoint, store_settings: Settings) -> None:
    async def check(store: CassandraStore) -> None:
        await store.prepare(["airport"])
        for refused in (Write(b"", SLOT, 10, b"v"), Write(b"k", SLOT, 2**63, b"v"), Write(b"k", Slot("v", 2**31, 1), 10, b"v")):
            with pytest.raises(StoreError) as caught:
                await store.write("airport", [refused])
            assert not isinstance(caught.value, StoreUnavailable)
        await store.write("airport", [Write(b"k", SLOT, 10, b"v")])
        assert await store.read("airport", [b"k"], [SLOT]) == [[b"v"]]

    with_store(endpoint, store_settings, check)


def test_one_refused_key_does_not_tear_the_others(endpoint: Endpoint, store_settings: Settings) -> None:
    async def check(store: CassandraStore) -> None:
        await store.prepare(["airport"])
        keys = [b"torn %d" % n for n in range(300)]
        await store.write("airport", [Write(key, SLOT, 10, b"old") for key in keys])
        with pytest.raises(StoreError):
            await store.write("airport", [Write(key, SLOT, 20, b"new") for key in [*keys, b""]])
        found = await store.read("airport", keys, [SLOT])
        assert {one[0] for one in found} <= {b"old", b"new"}

    with_store(endpoint, store_settings, check)


def test_a_cancelled_read_leaves_the_session_usable(endpoint: Endpoint, store_settings: Settings) -> None:
    async def check(store: CassandraStore) -> None:
        await store.prepare(["airport"])
        await store.write("airport", [Write(b"k", SLOT, 10, b"v")])
        reads = [asyncio.create_task(store.read("airport", [b"k"] * 10, [SLOT])) for _ in range(40)]
        await asyncio.sleep(0)
        for read in reads[::2]:
            read.cancel()
        results = await asyncio.gather(*reads, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
        assert results[1::2] == [[[b"v"]] * 10] * 20

    with_store(endpoint, store_settings, check)


def test_no_node_listening_is_unavailable(store_settings: Settings) -> None:
    async def connect() -> None:
        await CassandraStore.connect(["127.0.0.1"], 9, store_settings)  # the discard port: nothing listens

    with pytest.raises(StoreUnavailable, match=r"connecting to 127\.0\.0\.1 port 9: Cassandra did not answer"):
        asyncio.run(connect())


def test_keys_that_are_nearly_alike_hold_their_own_values(endpoint: Endpoint, store_settings: Settings) -> None:
    tokens = count(1)

    @given(st.lists(ALIKE, min_size=2, max_size=60))
    @limits(max_examples=25)
    def check(keys: list[Parts]) -> None:
        own = {identity(parts): parts for parts in keys}
        encoded = {key_of(parts): repr(name).encode() for name, parts in own.items()}
        token = next(tokens)  # the keys of the examples before are there too

        async def write_and_read(store: CassandraStore) -> None:
            await store.prepare(["airport"])
            await store.write("airport", [Write(key, SLOT, token, value) for key, value in encoded.items()])
            assert await store.read("airport", list(encoded), [SLOT]) == [[value] for value in encoded.values()]
            for key, value in encoded.items():  # and one by one, by the other statement
                assert await store.read("airport", [key], [SLOT]) == [[value]]

        with_store(endpoint, store_settings, write_and_read)
        assert len(encoded) == len(own)

    check()


def test_a_write_that_a_node_does_not_take_names_its_key_and_size(
    endpoint: Endpoint, store_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node may be told to take less than we think: the embedded one takes no write of 5 MiB."""
    monkeypatch.setattr(module, "require_storable", lambda *_: None)

    async def check(store: CassandraStore) -> None:
        await store.prepare(["airport"])
        with pytest.raises(StoreError, match=r"writing airport: Cassandra refused: .*\(key 746f6f20626967, 5,242,880 bytes\)") as caught:
            await store.write("airport", [Write(b"too big", SLOT, 10, b"x" * 5 * 2**20)])
        assert not isinstance(caught.value, StoreUnavailable)
        await store.write("airport", [Write(b"small", SLOT, 10, b"v")])  # the session goes on
        assert await store.read("airport", [b"too big", b"small"], [SLOT]) == [[None], [b"v"]]

    with_store(endpoint, store_settings, check)


def test_a_connection_to_a_store_crosses_to_other_processes(endpoint: Endpoint, store_settings: Settings) -> None:
    connect = pickle.loads(pickle.dumps(partial(CassandraStore.connect, *endpoint, store_settings)))

    async def run() -> None:
        store = await connect()
        await store.close()

    asyncio.run(run())


def test_doctor_finds_that_write_tokens_decide(endpoint: Endpoint, store_settings: Settings) -> None:
    async def check(store: CassandraStore) -> None: ...

    with_store(endpoint, store_settings, check)  # makes the tables
    assert write_tokens(store_settings) == Finding("write tokens", "ok", "the greater one wins, whenever it is written")

    async def nothing_is_left(store: CassandraStore) -> None:
        keyspace = store_settings.cassandra.keyspace
        names = [row[0] for row in await store._session.query(f"SELECT feature_view FROM {keyspace}.intents")]
        assert [name for name in names if "doctor" in name] == []

    with_store(endpoint, store_settings, nothing_is_left)


def test_replication_is_given_by_data_centre_or_for_the_local_one(endpoint: Endpoint, store_settings: Settings) -> None:
    name = f"placed_{store_settings.cassandra.keyspace}"
    cassandra = store_settings.cassandra.model_copy(update={"keyspace": name, "replication": {"dc1": 1, "o'clock": 2}})
    (keyspace, *_) = ddl(cassandra, [])
    assert "'dc1': 1, 'o''clock': 2" in keyspace
    with pytest.raises(StoreError, match=r"creating keyspace .*o'clock"):  # there is no such data centre: Cassandra says so
        with_store(endpoint, store_settings.model_copy(update={"cassandra": cassandra}), check_online_store)


@pytest.mark.parametrize("keys", [1, 3])
def test_reads_and_writes_are_of_a_majority_unless_a_read_asks_for_one(endpoint: Endpoint, store_settings: Settings, keys: int) -> None:
    """Of three replicas one is there: whoever asks only one gets an answer."""
    few = store_settings.cassandra.model_copy(update={"keyspace": f"three_{store_settings.cassandra.keyspace}", "replication_factor": 3})

    async def check(store: CassandraStore) -> None:
        await store.prepare(["airport"])
        with pytest.raises(StoreUnavailable):
            await store.read("airport", [b"k%d" % n for n in range(keys)], [SLOT])
        with pytest.raises(StoreUnavailable):
            await store.write("airport", [Write(b"k%d" % n, SLOT, 10, b"v") for n in range(keys)])
        with pytest.raises(StoreUnavailable):
            await store.pointers()
        found = await store.read("airport", [b"k%d" % n for n in range(keys)], [SLOT], Consistency.LOCAL_ONE)
        assert found == [[None]] * keys  # one replica is enough for a view that says so

    with_store(endpoint, store_settings.model_copy(update={"cassandra": few}), check)


def test_a_node_that_hangs_longer_than_its_connections_leaves_no_read_waiting(endpoint: Endpoint, store_settings: Settings) -> None:
    """The driver forgets the request that waits when the heartbeat closes its connection; the store must not."""
    pid = node_status(store_settings).pid
    assert pid is not None

    async def check(store: CassandraStore) -> None:
        loop = asyncio.get_running_loop()
        await store.prepare(["airport"])
        await store.write("airport", [Write(b"k", SLOT, 10, b"v")])
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(30):
                with pytest.raises(StoreUnavailable):  # its threads stop one by one: it may answer once more
                    while True:
                        assert await store.read("airport", [b"k"], [SLOT]) == [[b"v"]]
            until, unanswered = loop.time() + 6, 0
            while loop.time() < until:
                async with asyncio.timeout(30):
                    with pytest.raises(StoreUnavailable):
                        await store.read("airport", [b"k"], [SLOT])
                unanswered += 1
                await asyncio.sleep(0.05)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert unanswered > 3
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await store.read("airport", [b"k"], [SLOT]) == [[b"v"]]
                    break
                except StoreUnavailable:
                    await asyncio.sleep(0.05)

    with_store(endpoint, store_settings, check)


def test_an_intent_is_not_lost_to_a_clock_that_was_set_back(endpoint: Endpoint, store_settings: Settings) -> None:
    def intent(day: int) -> Intent:
        return Intent(view="set_back", version=1, generation=1, attempts={date(2026, 3, day): day})

    async def check(store: CassandraStore) -> None:
        keyspace, in_a_century = store_settings.cassandra.keyspace, 10**6 * 100 * 365 * 86_400
        ahead = f"0x{msgspec.json.encode(intent(2)).hex()}"
        await store._session.query(
            f"INSERT INTO {keyspace}.intents (feature_view, version, generation, intent) VALUES ('set_back', 1, 1, {ahead})"
            f" USING TIMESTAMP {in_a_century}"
        )
        await store.intend(intent(3))
        assert await store.intent("set_back", 1, 1) == intent(3)

    with_store(endpoint, store_settings, check)
