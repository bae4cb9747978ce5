"""What the choice of a driver needs, and the defects of `cassandra-driver` that its session makes up for; no node."""

import asyncio
import sys
from threading import Thread
from typing import Any

import pytest
from cassandra import AuthenticationFailed, ConsistencyLevel, DependencyException, OperationTimedOut, Unauthorized, Unavailable
from cassandra.cluster import NoHostAvailable
from cassandra.connection import DefaultEndPoint
from cassandra.policies import DCAwareRoundRobinPolicy, SimpleConvictionPolicy
from cassandra.pool import Host
from cassandra.query import SimpleStatement

from penstock.config import CassandraSettings, Settings
from penstock.contract.view_parts import Consistency
from penstock.errors import ConfigError
from penstock.online.cassandra import CassandraStore
from penstock.online.cassandra.cassandra_driver_session import CassandraDriverSession, ReplicasFirst, _profiles, failure_of
from penstock.online.cassandra.failures import Failure


def connect(driver: str) -> None:
    asyncio.run(CassandraStore.connect(["127.0.0.1"], 9, Settings(cassandra={"driver": driver})))


def test_a_driver_that_is_not_installed_is_named_with_the_setting_that_chose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "acsylla", None)
    monkeypatch.delitem(sys.modules, "penstock.online.cassandra.acsylla_session", raising=False)
    with pytest.raises(ConfigError, match=r"cassandra\.driver is 'acsylla', which cannot be imported here") as caught:
        connect("acsylla")
    assert caught.value.hint == "pip install 'penstock[gateway]', or set cassandra.driver to 'cassandra-driver'"


def test_the_other_driver_without_libev_is_refused_rather_than_run_on_another_reactor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cassandra.io.libevwrapper", None)
    for module in ("cassandra.io.libevreactor", "penstock.online.cassandra.cassandra_driver_session"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ConfigError, match=r"cassandra\.driver is 'cassandra-driver', .*its libev connection is missing"):
        connect("cassandra-driver")
    assert DependencyException.__mro__[1] is Exception  # which is why it is caught by name


def node(address: str, datacenter: str = "dc1") -> Host:
    host = Host(DefaultEndPoint(address), SimpleConvictionPolicy)
    host.set_location_info(datacenter, "r1")
    host.set_up()
    return host


class Ring:
    """What the driver knows of a cluster: four nodes here, one elsewhere; three of them hold every key."""

    def __init__(self) -> None:
        self.nodes = [node(f"127.0.0.{n}") for n in range(1, 5)]
        self.elsewhere = node("127.0.1.1", "dc2")
        self.replicas = [*self.nodes[:3], self.elsewhere]
        self.metadata = self

    def get_replicas(self, keyspace: str, key: bytes) -> list[Host]:
        return self.replicas


def test_a_plan_names_each_local_node_once_replicas_first_and_leaves_the_shared_list_as_it_is() -> None:
    ring = Ring()
    policy = ReplicasFirst(DCAwareRoundRobinPolicy("dc1"))
    policy.populate(ring, [*ring.nodes, ring.elsewhere])
    before, first = list(ring.replicas), set()
    for _ in range(200):
        plan = policy.make_query_plan("ks", SimpleStatement("", routing_key=b"k"))
        hosts = [next(plan), *policy.make_query_plan("ks", SimpleStatement("", routing_key=b"k"))][:1] + list(plan)  # another one meanwhile
        assert ring.replicas == before
        assert sorted(host.address for host in hosts) == [f"127.0.0.{n}" for n in range(1, 5)]
        assert set(hosts[:3]) == set(ring.nodes[:3])
        first.add(hosts[0])
    assert first == set(ring.nodes[:3]), "a hot key is not one node's alone"
    ring.nodes[0].set_down()
    assert next(policy.make_query_plan("ks", SimpleStatement("", routing_key=b"k"))) in ring.nodes[1:3]
    assert set(policy.make_query_plan("ks", SimpleStatement(""))) == set(ring.nodes), "a read of many keys has no replica of its own"


class Twice:
    """A driver's session that answers every request twice from another thread, as a hedged one is."""

    def __init__(self, second: Exception | None) -> None:
        self.second, self.threads = second, list[Thread]()

    def execute_async(self, *_: object, **__: object) -> "Twice":
        return self

    def add_callbacks(self, on_rows: Any, on_error: Any) -> None:
        def answer() -> None:
            on_rows(None)
            if self.second is None:
                on_rows(None)
            else:
                on_error(self.second)

        self.threads.append(Thread(target=answer))
        self.threads[-1].start()


@pytest.mark.parametrize("second", [None, OperationTimedOut()])
def test_what_is_answered_twice_is_taken_once(second: Exception | None) -> None:
    async def run() -> list[object]:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        driver = Twice(second)
        session = CassandraDriverSession(None, driver)
        for _ in range(50):
            assert await session.query("SELECT 1") == []
        waiting = asyncio.create_task(session.query("SELECT 1"))
        await asyncio.sleep(0)
        waiting.cancel()
        for thread in driver.threads:
            thread.join()
        await asyncio.sleep(0)  # lets the last callbacks run
        await asyncio.gather(waiting, return_exceptions=True)
        return complaints

    assert asyncio.run(run()) == []


def test_every_statement_is_of_a_local_quorum_and_hedged_and_only_a_view_may_read_less() -> None:
    profiles = _profiles(CassandraSettings(hedge_ms=8, read_timeout_s=0.5))
    assert len(profiles) == 3
    reads = [profiles[consistency] for consistency in (Consistency.LOCAL_QUORUM, Consistency.LOCAL_ONE)]
    assert [read.consistency_level for read in reads] == [ConsistencyLevel.LOCAL_QUORUM, ConsistencyLevel.LOCAL_ONE]
    assert {read.request_timeout for read in reads} == {0.5}
    assert {read.speculative_execution_policy.delay for read in reads} == {0.008}
    (others,) = (profile for profile in profiles.values() if profile not in reads)
    assert (others.consistency_level, others.speculative_execution_policy.delay) == (ConsistencyLevel.LOCAL_QUORUM, 1.0)
    unhedged = _profiles(CassandraSettings(hedge_ms=0))[Consistency.LOCAL_ONE]
    assert unhedged.speculative_execution_policy.new_plan("", None).next_execution(None) == -1


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (OperationTimedOut(), Failure.NO_ANSWER),
        (Unavailable("no replicas", consistency=6, required_replicas=2, alive_replicas=1), Failure.NO_ANSWER),
        (NoHostAvailable("none", {"127.0.0.1": OSError("refused")}), Failure.NO_ANSWER),
        (NoHostAvailable("none", {"127.0.0.1": AuthenticationFailed("bad credentials")}), Failure.REFUSED),
        (Unauthorized("no CREATE"), Failure.FORBIDDEN),
        (ValueError("ours"), None),
    ],
)
def test_what_an_error_of_the_driver_means(error: Exception, means: Failure | None) -> None:
    assert failure_of(error) is means
