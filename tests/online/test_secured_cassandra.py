"""A cluster of others: TLS, client certificates, users, rights; on a real node that asks for all of them, by both drivers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from penstock.cli.doctor import write_tokens
from penstock.config import Settings
from penstock.errors import ConfigError, StoreError, StoreUnavailable
from penstock.online.cassandra import CassandraStore
from penstock.online.cassandra.failures import NotAllowed
from penstock.online.cassandra.schema import ddl
from penstock.online.cassandra.session import open_session
from penstock.online.store import Slot, Write
from tests.online.bundle import secure_connect_bundle
from tests.online.contract import check_online_store
from tests.online.secured import Authority, Secured, secured_node

pytestmark = pytest.mark.real

SLOT = Slot("delays", 1, 1)
DRIVERS = ["acsylla", "cassandra-driver"]


@pytest.fixture(scope="module")
def node(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_node(tmp_path_factory.mktemp("secured"), settings) as node:
        yield node


async def nothing(store: CassandraStore) -> None:
    assert await store.pointers() == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_contract_is_kept_over_tls_with_a_certificate_and_a_password(node: Secured, driver: str) -> None:
    node.run(check_online_store, node.settings(keyspace=f"contract_{driver[:7]}", driver=driver))


@pytest.mark.parametrize("driver", DRIVERS)
def test_without_tls_nothing_is_said(node: Secured, driver: str) -> None:
    plain = node.settings(driver=driver, tls_ca=None, tls_certificate=None, tls_key=None)
    with pytest.raises(StoreUnavailable, match="connecting to 127"):
        node.run(nothing, plain)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_client_without_a_certificate_is_not_let_in(node: Secured, driver: str) -> None:
    with pytest.raises(StoreError, match="connecting to 127"):
        node.run(nothing, node.settings(driver=driver, tls_certificate=None, tls_key=None))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_node_of_another_authority_is_refused(node: Secured, driver: str) -> None:
    (node.folder / "other.pem").write_text(Authority("others").pem)
    with pytest.raises(StoreError, match=r"(?i)certificate") as caught:
        node.run(nothing, node.settings(driver=driver, tls_ca="other.pem"))
    assert not isinstance(caught.value, StoreUnavailable)


@pytest.mark.parametrize("driver", DRIVERS)
def test_any_of_several_authorities_may_have_signed(node: Secured, driver: str) -> None:
    (node.folder / "both.pem").write_text(Authority("others").pem + node.authority.pem)
    node.run(nothing, node.settings(driver=driver, tls_ca="both.pem"))


@asynccontextmanager
async def also_at(address: str, port: int) -> AsyncIterator[None]:
    """What listens on 127.0.0.1 can be reached at another address too."""
    writers: list[asyncio.StreamWriter] = []
    passing: list[asyncio.Task[None]] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, to_writer))
        passing.append(asyncio.create_task(pass_on(reader, to_writer)))
        passing.append(asyncio.create_task(pass_on(to_reader, writer)))

    async with await asyncio.start_server(forward, address, port):
        yield
        for writer in writers:
            writer.close()
        await asyncio.gather(*passing, *(writer.wait_closed() for writer in writers), return_exceptions=True)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_node_at_an_address_that_its_certificate_does_not_name_is_refused_unless_told_not_to_look(node: Secured, driver: str) -> None:
    async def check() -> None:
        async with also_at("127.0.0.2", node.port):  # the certificate names 127.0.0.1
            elsewhere = node.settings(driver=driver, contact_points=("127.0.0.2",))
            with pytest.raises(StoreError, match=r"(?i)certificate") as caught:
                await CassandraStore.connect(["127.0.0.2"], node.port, elsewhere)
            assert not isinstance(caught.value, StoreUnavailable)
            lax = node.settings(driver=driver, contact_points=("127.0.0.2",), tls_verify_host=False)
            store = await CassandraStore.connect(["127.0.0.2"], node.port, lax)
            try:
                await nothing(store)
            finally:
                await store.close()

    asyncio.run(check())


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_wrong_password_is_refused_and_not_repeated(node: Secured, driver: str) -> None:
    (node.folder / "wrong").write_text("hunter2")
    with pytest.raises(StoreError, match="Cassandra refused") as caught:
        node.run(nothing, node.settings(driver=driver, password=f"file:{node.folder / 'wrong'}"))
    assert not isinstance(caught.value, StoreUnavailable)
    assert "hunter2" not in str(caught.value)


def host_id(node: Secured) -> str:
    async def ask() -> str:
        settings = node.settings()
        session = await open_session(settings.cassandra.contact_points, node.port, settings)
        try:
            ((found,),) = await session.query("SELECT host_id FROM system.local")
            return str(found)
        finally:
            await session.close()

    return asyncio.run(ask())


def test_a_secure_connect_bundle_opens_the_database_it_is_of(node: Secured) -> None:
    none = {"tls_ca": None, "tls_certificate": None, "tls_key": None, "contact_points": (), "driver": "cassandra-driver"}
    with secure_connect_bundle(node, host_id(node)) as bundle:
        node.run(check_online_store, node.settings(keyspace="bundled", secure_connect_bundle=bundle.name, **none))


def test_a_bundle_is_for_cassandra_driver_alone_and_must_be_one(node: Secured) -> None:
    none = {"tls_ca": None, "tls_certificate": None, "tls_key": None}
    with pytest.raises(ConfigError, match="'acsylla' does not open") as caught:
        node.run(nothing, node.settings(secure_connect_bundle="ca.pem", **none))
    assert caught.value.hint == "set cassandra.driver to 'cassandra-driver'"
    for name, why in (("ca.pem", "not a zip file"), ("no.zip", "No such file")):
        with pytest.raises(ConfigError, match=f"{name} is not a secure-connect bundle: .*{why}"):
            node.run(nothing, node.settings(secure_connect_bundle=name, driver="cassandra-driver", **none))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_role_that_may_not_create_is_told_what_is_missing_and_who_prints_it(node: Secured, driver: str) -> None:
    user, keyspace = f"gateway_{driver[:7]}", f"granted_{driver[:7]}"
    reader = node.settings(keyspace=keyspace, user=user, driver=driver)
    node.query(f"CREATE ROLE {user} WITH PASSWORD = '{user}' AND LOGIN = true")
    with pytest.raises(NotAllowed, match=f"keyspace '{keyspace}' is missing, and the role may not create it") as caught:
        node.run(nothing, reader)
    assert "`penstock online ddl`" in caught.value.hint
    cassandra = reader.cassandra
    node.query(*ddl(cassandra, []), f"GRANT SELECT ON KEYSPACE {keyspace} TO {user}")

    async def read(store: CassandraStore) -> None:
        with pytest.raises(NotAllowed, match=r"table 'online_airport' of keyspace .* is missing, and the role may not create it"):
            await store.prepare(["airport"])
        await asyncio.to_thread(node.query, *ddl(cassandra, ["airport"]))
        await store.prepare(["airport"])
        assert await store.read("airport", [b"k"], [SLOT]) == [[None]]
        with pytest.raises(NotAllowed, match="writing airport: Cassandra refused") as caught:
            await store.write("airport", [Write(b"k", SLOT, 10, b"v")])
        assert "docs/cassandra.md" in caught.value.hint

    node.run(read, reader)


def test_doctor_finds_that_a_cluster_refuses_tokens_of_the_future(node: Secured) -> None:
    node.query(
        *ddl(node.settings(keyspace="probed").cassandra, []),
        "CREATE ROLE publisher WITH PASSWORD = 'publisher' AND LOGIN = true",
        "GRANT SELECT, MODIFY ON KEYSPACE probed TO publisher",
    )
    refused = write_tokens(node.settings(keyspace="probed", user="publisher"))
    assert (refused.subject, refused.state) == ("write tokens", "problem")
    assert "maximum" in refused.found
    assert "restrict_future_timestamp" in refused.todo
    allowed = write_tokens(node.settings(keyspace="probed"))  # the guardrail is not for superusers
    assert (allowed.state, allowed.found) == ("ok", "the greater one wins, whenever it is written")
    none = write_tokens(node.settings(keyspace="nobodys"))
    assert (none.state, none.found.partition(":")[0]) == ("ok", "not tried")


def test_doctor_does_not_blame_a_role_that_only_reads(node: Secured) -> None:
    node.query(
        *ddl(node.settings(keyspace="only_read").cassandra, []),
        "CREATE ROLE reader WITH PASSWORD = 'reader' AND LOGIN = true",
        "GRANT SELECT ON KEYSPACE only_read TO reader",
    )
    found = write_tokens(node.settings(keyspace="only_read", user="reader"))
    assert (found.state, found.todo) == ("warning", "run this again with the role that publishes")
