"""Values and the control plane in Cassandra, through one asyncio session per process."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Self, TypeVar

import acsylla
import msgspec

from penstock.config import CassandraSettings, Settings
from penstock.deadline import Deadline
from penstock.errors import CorruptValue, StoreError
from penstock.online.cassandra.failures import typed_errors
from penstock.online.cassandra.schema import create_control_tables, create_entity_tables
from penstock.online.cassandra.statements import READING, ControlStatements, EntityStatements
from penstock.online.ledger import Intent, Publication, view_version_of
from penstock.online.store import Held, Slot, Write
from penstock.registry.serving_state import ServicePointers

# A read of values waits for one node as little as it can. Everything else is sent to another one only when a node hangs:
# writing the same twice costs what writing costs.
_HEDGES, _HEDGE_OTHERS_MS = 2, 1000

IN_FLIGHT = 128  # statements at once: enough to keep a node busy, few enough not to drown it

# Cassandra warns of a batch of several keys from 5 KiB on, and refuses it from 50 on; what a row takes beside key and value.
_BATCH_BYTES, _ROW_BYTES = 4096, 100

# The driver's own 2 s, doubling up to 60 s, would let a node that is back wait for a minute.
_RECONNECT_FIRST_MS, _RECONNECT_LAST_MS = 200, 2000
_CONNECT_S = 2.0

# A node that hangs keeps its connections: only a heartbeat tells that they are dead.
_HEARTBEAT_S, _HANGS_AFTER_S = 1, 3

# The driver forgets a request whose last connection a missing heartbeat closed: it then neither answers nor times out.
_LOST_S = 1.0

_SHELF = "services"

_key_of = attrgetter("key")

Item = TypeVar("Item")


class CassandraStore:
    """The online store on Cassandra; made by `connect`, bound to the event loop it was made in.

    Every statement runs at LOCAL_QUORUM, so what a write acknowledged the next read sees, whichever
    node failed between them. With one replica that is the same as LOCAL_ONE.
    """

    def __init__(self, cluster: acsylla.Cluster, session: acsylla.Session, settings: CassandraSettings, control: ControlStatements) -> None:
        self._cluster = cluster
        self._session = session
        self._keyspace = settings.keyspace
        self._keys_per_read, self._keys_per_write = settings.keys_per_read, settings.keys_per_write
        self._read_timeout_s, self._timeout_s = settings.read_timeout_s, settings.request_timeout_s + _LOST_S
        self._control = control
        self._entities: dict[str, EntityStatements] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    @classmethod
    async def connect(cls, contact_points: Sequence[str], port: int, settings: Settings) -> Self:
        """A store connected to a cluster; keyspace and control tables are created if they are missing.

        Raises:
            StoreUnavailable: no contact point answered.
            StoreError: Cassandra refused the credentials or the schema.
        """
        cassandra = settings.cassandra
        with typed_errors(f"connecting to {', '.join(contact_points)} port {port}"):
            cluster = acsylla.create_cluster(
                list(contact_points),
                port=port,
                username=cassandra.username,
                password=None if cassandra.password is None else cassandra.password.reveal(),
                connect_timeout=min(_CONNECT_S, cassandra.request_timeout_s),
                request_timeout=cassandra.request_timeout_s,
                consistency="LOCAL_QUORUM",
                speculative_execution_policy=acsylla.SpeculativeExecutionPolicy(_HEDGE_OTHERS_MS, _HEDGES),
                heartbeat_interval_sec=_HEARTBEAT_S,
                idle_timeout_sec=_HANGS_AFTER_S,
                load_balance_dc_aware=cassandra.local_datacenter,
                exponential_reconnect_base_delay_ms=_RECONNECT_FIRST_MS,
                exponential_reconnect_max_delay_ms=_RECONNECT_LAST_MS,
                # The driver logs through a global pointer to its newest cluster object, freed or not;
                # our callers learn of failures by errors, so it has nothing to say.
                log_level="critical",
                application_name="penstock",
            )
        try:
            with typed_errors(f"connecting to {', '.join(contact_points)} port {port}"):
                hedge = acsylla.SpeculativeExecutionPolicy(cassandra.hedge_ms, _HEDGES) if cassandra.hedge_ms else None
                cluster.create_execution_profile(
                    READING,
                    request_timeout=int(cassandra.read_timeout_s * 1000),
                    consistency=acsylla.Consistency.LOCAL_QUORUM,  # not taken over from the cluster's: reads were LOCAL_ONE without it
                    speculative_execution_policy=hedge,
                )
                session = await cluster.create_session()
            try:
                await create_control_tables(session, cassandra)
                return cls(cluster, session, cassandra, await ControlStatements.of(session, cassandra.keyspace))
            except BaseException:
                await session.close()
                raise
        except BaseException:
            cluster.destroy()
            raise

    async def prepare(self, entities: Sequence[str]) -> None:
        new = sorted(set(entities) - set(self._entities))
        if new:
            await create_entity_tables(self._session, self._keyspace, new)
        for entity in new:
            self._entities[entity] = await EntityStatements.of(self._session, self._keyspace, entity)

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot]) -> list[Held]:
        statements = self._of(entity)
        found: dict[bytes, list[bytes | None]] = {key: [None] * len(slots) for key in keys}
        if not slots or not keys:
            return [found[key] for key in keys]
        place = {slot: position for position, slot in enumerate(slots)}

        async def read_some(some: Sequence[bytes]) -> None:
            statement = statements.read.bind(some[0], slots) if len(some) == 1 else statements.read_keys.bind(some, slots)
            for key, view, version, generation, value in await self._rows(statement):
                found[key][place[view, version, generation]] = value  # type: ignore[index]  # a slot is such a tuple

        with typed_errors(f"reading {entity}"), Deadline(asyncio.get_running_loop().time() + self._read_timeout_s):
            if len(keys) <= self._keys_per_read:
                await read_some(keys)
            else:
                await _each(read_some, [keys[at : at + self._keys_per_read] for at in range(0, len(keys), self._keys_per_read)])
        return [found[key] for key in keys]

    async def write(self, entity: str, writes: Sequence[Write]) -> None:
        statements = self._of(entity)

        async def write_some(some: list[Write]) -> None:
            # Unlogged: what is of one key is one mutation, applied whole; several keys share the round trip and nothing else.
            batch = acsylla.create_batch_unlogged()
            batch.set_is_idempotent(True)
            with typed_errors(f"writing {entity}"):
                for write in some:
                    batch.add_statement(_bind_write(statements, write))
                async with self._slots, asyncio.timeout(self._timeout_s):
                    await self._session.execute_batch(batch)

        if writes:
            await _each(write_some, _in_statements(writes, self._keys_per_write))

    async def intend(self, intent: Intent) -> None:
        row = (intent.view, intent.version, intent.generation, msgspec.json.encode(intent))
        await self._execute(self._control.intend.bind(*row), "writing a publication's intent")

    async def intent(self, view: str, version: int, generation: int) -> Intent | None:
        rows = await self._execute(self._control.intent.bind(view, version, generation), "reading a publication's intent")
        try:
            return msgspec.json.decode(rows[0][0], type=Intent) if rows else None
        except msgspec.DecodeError as error:
            raise CorruptValue(f"an intent of {view}@{version} is not as this Penstock writes it: {error}") from None

    async def record(self, publications: Sequence[Publication]) -> None:
        view_version_of(publications)
        batch = acsylla.create_batch_unlogged()  # one partition, so atomic without a batch log
        batch.set_is_idempotent(True)
        with typed_errors("recording a publication"):
            for row in publications:
                address = (row.view, row.version, row.generation, row.partition, row.attempt)
                rest = (row.complete_until_us, row.readable_at_us, row.run_id, row.keys)
                batch.add_statement(self._control.record.bind(*address, *rest, -row.readable_at_us))
            async with asyncio.timeout(self._timeout_s):
                await self._session.execute_batch(batch)

    async def publications(self, view: str, version: int) -> list[Publication]:
        rows = await self._execute(self._control.publications.bind(view, version), "reading the ledger")
        return [
            Publication(
                view=view,
                version=version,
                generation=generation,
                partition=partition,
                attempt=attempt,
                complete_until_us=complete_until_us,
                readable_at_us=readable_at_us,
                run_id=run_id,
                keys=keys,
            )
            for generation, partition, attempt, complete_until_us, readable_at_us, run_id, keys in rows
        ]

    async def put_snapshot(self, fingerprint: str, document: bytes) -> None:
        await self._execute(self._control.put_snapshot.bind(fingerprint, document), "writing a registry snapshot")

    async def snapshot(self, fingerprint: str) -> bytes | None:
        rows = await self._execute(self._control.snapshot.bind(fingerprint), "reading a registry snapshot")
        return rows[0][0] if rows else None

    async def set_pointers(self, pointers: ServicePointers) -> None:
        row = (_SHELF, pointers.service, msgspec.json.encode(pointers), pointers.changed_at_us)
        await self._execute(self._control.set_pointers.bind(*row), "setting a service's pointers")

    async def pointers(self) -> list[ServicePointers]:
        rows = await self._execute(self._control.pointers.bind(_SHELF), "reading the services' pointers")
        try:
            return [msgspec.json.decode(document, type=ServicePointers) for (document,) in rows]
        except msgspec.DecodeError as error:
            raise CorruptValue(f"a service's pointers are not as this Penstock writes them: {error}") from None

    async def close(self) -> None:
        with typed_errors("closing the session"):
            await self._session.close()
        self._cluster.destroy()  # else two pairs of sockets stay open in the event loop

    def _of(self, entity: str) -> EntityStatements:
        statements = self._entities.get(entity)
        if statements is None:
            raise StoreError(f"entity '{entity}' has no table; call prepare(['{entity}']) first")
        return statements

    async def _execute(self, statement: acsylla.Statement, doing: str) -> list[tuple[Any, ...]]:
        with typed_errors(doing):
            async with asyncio.timeout(self._timeout_s):
                return await self._rows(statement)

    async def _rows(self, statement: acsylla.Statement) -> list[tuple[Any, ...]]:
        """All rows, of all pages."""
        rows: list[tuple[Any, ...]] = []
        while True:
            async with self._slots:
                page = await self._session.execute(statement)
            rows += [row.as_tuple() for row in page]
            if not page.has_more_pages():
                return rows
            statement.set_page_state(page.page_state())


def _in_statements(writes: Sequence[Write], keys: int) -> list[list[Write]]:
    """Writes as batches: all of one key in one; up to `keys` keys in one, as long as they are small."""
    batches: list[list[Write]] = []
    held, size = keys, 0
    for _, of_key in groupby(sorted(writes, key=_key_of), key=_key_of):
        mine = list(of_key)
        own = sum(len(write.key) + len(write.value or b"") + _ROW_BYTES for write in mine)
        if held < keys and size + own <= _BATCH_BYTES:
            batches[-1] += mine
            held, size = held + 1, size + own
        else:
            batches.append(mine)
            held, size = 1, own
    return batches


def _bind_write(statements: EntityStatements, write: Write) -> acsylla.Statement:
    if write.value is None:
        return statements.delete.bind(write.token, write.key, *write.slot)
    return statements.put.bind(write.key, *write.slot, write.value, write.token)


async def _each(do: Callable[[Item], Awaitable[None]], items: Sequence[Item]) -> None:
    """`do` for every item, at most IN_FLIGHT at once; the first failure cancels the rest and is raised.

    A few workers draw from the items: a task per item would cost a bulk write a million tasks.
    """
    if len(items) == 1:
        return await do(items[0])
    remaining = iter(items)

    async def work() -> None:
        for item in remaining:
            await do(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(IN_FLIGHT, len(items))):
                group.create_task(work())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
