"""The store on a real Cassandra keeps the contract of all stores, and its own promises."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from penstock.config import Settings
from penstock.errors import StoreError, StoreUnavailable
from penstock.online.cassandra import CassandraStore
from penstock.online.store import Slot, Write
from penstock.runtime.node_status import node_status
from tests.online.contract import check_online_store

pytestmark = pytest.mark.real

Endpoint = tuple[list[str], int]
SLOT = Slot("delays", 1, 1)


def with_store(endpoint: Endpoint, settings: Settings, do: Callable[[CassandraStore], Awaitable[None]]) -> None:
    async def run() -> None:
        store = await CassandraStore.connect(*endpoint, settings)
        try:
            await do(store)
        finally:
            await store.close()

    asyncio.run(run())


def test_cassandra_store_keeps_the_contract(endpoint: Endpoint, cassandra_settings: Settings) -> None:
    with_store(endpoint, cassandra_settings, check_online_store)


def test_what_one_process_wrote_another_reads(endpoint: Endpoint, cassandra_settings: Settings) -> None:
    async def write(store: CassandraStore) -> None:
        await store.prepare(["airport"])
        await store.write("airport", [Write(b"kept", SLOT, 10, b"value")])

    async def read(store: CassandraStore) -> None:
        await store.prepare(["airport"])
        assert await store.read("airport", [b"kept"], [SLOT]) == [[b"value"]]

    with_store(endpoint, cassandra_settings, write)
    with_store(endpoint, cassandra_settings, read)


def test_a_refused_statement_is_a_store_error_and_the_store_goes_on(endpoint: Endpoint, cassandra_settings: Settings) -> None:
    async def check(store: CassandraStore) -> None:
        await store.prepare(["airport"])
        for refused in (Write(b"", SLOT, 10, b"v"), Write(b"k", SLOT, 2**63, b"v"), Write(b"k", Slot("v", 2**31, 1), 10, b"v")):
            with pytest.raises(StoreError) as caught:
                await store.write("airport", [refused])
            assert not isinstance(caught.value, StoreUnavailable)
        await store.write("airport", [Write(b"k", SLOT, 10, b"v")])
        assert await store.read("airport", [b"k"], [SLOT]) == [[b"v"]]

    with_store(endpoint, cassandra_settings, check)


def test_one_refused_key_does_not_tear_the_others(endpoint: Endpoint, cassandra_settings: Settings) -> None:
    async def check(store: CassandraStore) -> None:
        await store.prepare(["airport"])
        keys = [b"torn %d" % n for n in range(300)]
        await store.write("airport", [Write(key, SLOT, 10, b"old") for key in keys])
        with pytest.raises(StoreError):
            await store.write("airport", [Write(key, SLOT, 20, b"new") for key in [*keys, b""]])
        found = await store.read("airport", keys, [SLOT])
        assert {one[0] for one in found} <= {b"old", b"new"}

    with_store(endpoint, cassandra_settings, check)


def test_a_cancelled_read_leaves_the_session_usable(endpoint: Endpoint, cassandra_settings: Settings) -> None:
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

    with_store(endpoint, cassandra_settings, check)


def test_no_node_listening_is_unavailable(cassandra_settings: Settings) -> None:
    async def connect() -> None:
        await CassandraStore.connect(["127.0.0.1"], 9, cassandra_settings)  # the discard port: nothing listens

    with pytest.raises(StoreUnavailable, match=r"connecting to 127\.0\.0\.1 port 9: Cassandra did not answer"):
        asyncio.run(connect())


@pytest.mark.parametrize("keys", [1, 3])
def test_reads_and_writes_are_of_a_majority(endpoint: Endpoint, cassandra_settings: Settings, keys: int) -> None:
    """Of three replicas one is there: whoever asked only one would get an answer."""
    few = cassandra_settings.cassandra.model_copy(update={"keyspace": "three_replicas", "replication_factor": 3})

    async def check(store: CassandraStore) -> None:
        await store.prepare(["airport"])
        with pytest.raises(StoreUnavailable):
            await store.read("airport", [b"k%d" % n for n in range(keys)], [SLOT])
        with pytest.raises(StoreUnavailable):
            await store.write("airport", [Write(b"k%d" % n, SLOT, 10, b"v") for n in range(keys)])
        with pytest.raises(StoreUnavailable):
            await store.pointers()

    with_store(endpoint, cassandra_settings.model_copy(update={"cassandra": few}), check)


def test_a_node_that_hangs_longer_than_its_connections_leaves_no_read_waiting(endpoint: Endpoint, cassandra_settings: Settings) -> None:
    """The driver forgets the request that waits when the heartbeat closes its connection; the store must not."""
    pid = node_status(cassandra_settings).pid
    assert pid is not None

    async def check(store: CassandraStore) -> None:
        loop = asyncio.get_running_loop()
        await store.prepare(["airport"])
        await store.write("airport", [Write(b"k", SLOT, 10, b"v")])
        os.kill(pid, signal.SIGSTOP)
        try:
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

    with_store(endpoint, cassandra_settings, check)
