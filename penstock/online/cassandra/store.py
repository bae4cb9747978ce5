"""Values and the control plane in Cassandra, through one asyncio session per process."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from operator import attrgetter
from typing import Any, Self, TypeVar

import msgspec

from penstock.config import CassandraSettings, Settings
from penstock.contract.view_parts import Consistency
from penstock.deadline import Deadline
from penstock.errors import CorruptValue, StoreError
from penstock.online.cassandra.failures import typed_errors
from penstock.online.cassandra.schema import create_control_tables, create_entity_tables
from penstock.online.cassandra.session import Row, Session, open_session
from penstock.online.cassandra.statements import ControlStatements, EntityStatements
from penstock.online.ledger import Intent, Publication, complete_until_us, view_version_of
from penstock.online.store import Held, Slot, Write, require_storable
from penstock.registry.marks import MARK_TIMES, Mark
from penstock.registry.serving_state import ServicePointers

IN_FLIGHT = 128  # statements at once: enough to keep a node busy, few enough not to drown it

# Cassandra warns of a batch of several keys from 5 KiB on, and refuses it from 50 on; what a row takes beside key and value.
_BATCH_BYTES, _ROW_BYTES = 4096, 100

# A node takes nothing of one key that is larger than half a segment of its commit log: 16 MiB, the embedded one 4.
_MUTATION_BYTES = 2**21

# acsylla forgets a request whose last connection a missing heartbeat closed: it then neither answers nor times out.
_LOST_S = 1.0

_SHELF = "services"

_key_of = attrgetter("key")

Item = TypeVar("Item")


class CassandraStore:
    """The online store on Cassandra; made by `connect`, bound to the event loop it was made in.

    Writes and the control plane run at LOCAL_QUORUM, and so do reads unless a view chose otherwise: what a write
    acknowledged the next read sees, whichever node failed between them. With one replica that is the same as LOCAL_ONE.
    """

    def __init__(self, session: Session[Any], settings: CassandraSettings, control: ControlStatements[Any]) -> None:
        self._session = session
        self._keyspace = settings.keyspace
        self._keys_per_read, self._keys_per_write = settings.keys_per_read, settings.keys_per_write
        self._read_timeout_s, self._timeout_s = settings.read_timeout_s, settings.request_timeout_s + _LOST_S
        self._control = control
        self._entities: dict[str, EntityStatements[Any]] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    @classmethod
    async def connect(cls, contact_points: Sequence[str], port: int, settings: Settings) -> Self:
        """A store connected by the driver of the settings; keyspace and control tables are created if they are missing.

        Raises:
            StoreUnavailable: no contact point answered.
            StoreError: Cassandra refused the credentials or the schema.
            ConfigError: the driver cannot be imported, or cannot do what the settings ask for.
        """
        session = await open_session(contact_points, port, settings)
        try:
            await create_control_tables(session, settings.cassandra)
            with typed_errors(session.failure, "preparing statements"):
                control = await ControlStatements.of(session, settings.cassandra.keyspace)
            return cls(session, settings.cassandra, control)
        except BaseException:
            await session.close()
            raise

    async def prepare(self, entities: Sequence[str]) -> None:
        new = sorted(set(entities) - set(self._entities))
        if new:
            await create_entity_tables(self._session, self._keyspace, new)
        for entity in new:
            with self._typed_errors(f"preparing statements on {entity}"):
                self._entities[entity] = await EntityStatements.of(self._session, self._keyspace, entity)

    async def read(
        self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], consistency: Consistency = Consistency.LOCAL_QUORUM
    ) -> list[Held]:
        statements = self._of(entity)
        found: dict[bytes, list[bytes | None]] = {key: [None] * len(slots) for key in keys}
        if not slots or not keys:
            return [found[key] for key in keys]
        place = {slot: position for position, slot in enumerate(slots)}

        async def read_some(some: Sequence[bytes]) -> None:
            statement, named = (statements.read, some[0]) if len(some) == 1 else (statements.read_keys, some)
            async with self._slots:
                rows = await self._session.read(statement, (named, slots), consistency)
            for key, view, version, generation, value in rows:
                found[key][place[view, version, generation]] = value  # type: ignore[index]  # a slot is such a tuple

        with self._typed_errors(f"reading {entity}"), self._in_time(self._read_timeout_s):
            if len(keys) <= self._keys_per_read:
                await read_some(keys)
            else:
                await _each(read_some, [keys[at : at + self._keys_per_read] for at in range(0, len(keys), self._keys_per_read)])
        return [found[key] for key in keys]

    async def write(self, entity: str, writes: Sequence[Write]) -> None:
        statements = self._of(entity)
        require_storable(entity, writes)

        async def write_some(some: Sequence[Write]) -> None:
            # What is of one key is one mutation, applied whole; several keys share the round trip and nothing else.
            try:
                await self._apply([_statement_of(statements, write) for write in some], f"writing {entity}")
            except StoreError as error:
                keys = list(dict.fromkeys(write.key.hex()[:80] for write in some))
                size = sum(len(write.value or b"") for write in some)
                named = f"key {keys[0]}" if len(keys) == 1 else f"{len(keys)} keys, {keys[0]} the first"
                raise type(error)(f"{error.message} ({named}, {size:,} bytes)", hint=error.hint) from error

        if writes:
            await _each(write_some, _in_statements(writes, self._keys_per_write))

    async def intend(self, intent: Intent) -> None:
        address = (intent.view, intent.version, intent.generation)
        before = await self._execute(self._control.intent, address, "reading a publication's intent")
        row = (*address, msgspec.json.encode(intent), before[0][1] + 1 if before else 1)
        await self._execute(self._control.intend, row, "writing a publication's intent")

    async def intent(self, view: str, version: int, generation: int) -> Intent | None:
        rows = await self._execute(self._control.intent, (view, version, generation), "reading a publication's intent")
        try:
            return msgspec.json.decode(rows[0][0], type=Intent) if rows else None
        except msgspec.DecodeError as error:
            raise CorruptValue(f"an intent of {view}@{version} is not as this Penstock writes it: {error}") from None

    async def record(self, publications: Sequence[Publication]) -> None:
        view, version = view_version_of(publications)
        rows = []
        for row in publications:
            address = (row.view, row.version, row.generation, row.partition, row.attempt)
            rest = (row.complete_until_us, row.readable_at_us, row.run_id, row.keys)
            rows.append((self._control.record, (*address, *rest, -row.readable_at_us)))
        await self._apply(rows, "recording a publication")
        # After it: ended in between, a fill is complete further than it is said to be, until the next publication says so.
        ledger = await self.publications(view, version)
        known = await self._execute(self._control.watermarks, (view, version), "reading the watermarks")
        written = {generation: at for generation, _, at in known}
        for generation in sorted({row.generation for row in publications}):
            reached = complete_until_us(row for row in ledger if row.generation == generation)
            value = (view, version, generation, reached, written.get(generation, 0) + 1)
            await self._execute(self._control.set_watermark, value, "setting a watermark")

    async def watermarks(self, view: str, version: int) -> dict[int, int]:
        rows = await self._execute(self._control.watermarks, (view, version), "reading the watermarks")
        return {generation: complete_until for generation, complete_until, _ in rows}

    async def publications(self, view: str, version: int) -> list[Publication]:
        rows = await self._execute(self._control.publications, (view, version), "reading the ledger", paged=True)
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

    async def put_mark(self, mark: Mark) -> None:
        document = msgspec.json.encode(msgspec.structs.replace(mark, **dict.fromkeys(MARK_TIMES)))
        rows: list[tuple[Any, Sequence[Any]]] = [(self._control.put_mark, (_SHELF, mark.id, document))]
        statements = (self._control.lift_mark, self._control.exclude_mark, self._control.restore_mark)
        for name, statement in zip(MARK_TIMES, statements, strict=True):
            if (time := getattr(mark, name)) is not None:
                rows.append((statement, (_SHELF, mark.id, time, -time)))
        await self._apply(rows, "writing an invalidation mark")

    async def marks(self) -> list[Mark]:
        rows = await self._execute(self._control.marks, (_SHELF,), "reading the invalidation marks", paged=True)
        try:
            return sorted(
                msgspec.structs.replace(msgspec.json.decode(document, type=Mark), **dict(zip(MARK_TIMES, times, strict=True)))
                for document, *times in rows
            )
        except (msgspec.DecodeError, TypeError) as error:
            raise CorruptValue(f"an invalidation mark is not as this Penstock writes it: {error}") from None

    async def put_snapshot(self, fingerprint: str, document: bytes) -> None:
        await self._execute(self._control.put_snapshot, (fingerprint, document), "writing a registry snapshot")

    async def snapshot(self, fingerprint: str) -> bytes | None:
        rows = await self._execute(self._control.snapshot, (fingerprint,), "reading a registry snapshot")
        return rows[0][0] if rows else None

    async def set_pointers(self, pointers: ServicePointers) -> None:
        row = (_SHELF, pointers.service, msgspec.json.encode(pointers), pointers.changed_at_us)
        await self._execute(self._control.set_pointers, row, "setting a service's pointers")

    async def pointers(self) -> list[ServicePointers]:
        rows = await self._execute(self._control.pointers, (_SHELF,), "reading the services' pointers", paged=True)
        try:
            return [msgspec.json.decode(document, type=ServicePointers) for (document,) in rows]
        except msgspec.DecodeError as error:
            raise CorruptValue(f"a service's pointers are not as this Penstock writes them: {error}") from None

    async def close(self) -> None:
        with self._typed_errors("closing the session"):
            await self._session.close()

    def _of(self, entity: str) -> EntityStatements[Any]:
        statements = self._entities.get(entity)
        if statements is None:
            raise StoreError(f"entity '{entity}' has no table; call prepare(['{entity}']) first")
        return statements

    def _typed_errors(self, doing: str) -> AbstractContextManager[None]:
        return typed_errors(self._session.failure, doing)

    def _in_time(self, seconds: float) -> Deadline:
        return Deadline(asyncio.get_running_loop().time() + seconds)

    async def _execute(self, statement: Any, values: Sequence[Any], doing: str, *, paged: bool = False) -> list[Row]:
        with self._typed_errors(doing), self._in_time(self._timeout_s):
            async with self._slots:
                return await self._session.execute(statement, values, paged=paged)

    async def _apply(self, statements: Sequence[tuple[Any, Sequence[Any]]], doing: str) -> None:
        with self._typed_errors(doing):
            async with self._slots:
                with self._in_time(self._timeout_s):
                    await self._session.execute_batch(statements)


def _statement_of(statements: EntityStatements[Any], write: Write) -> tuple[Any, Sequence[Any]]:
    if write.value is None:
        return statements.delete, (write.token, write.key, *write.slot)
    return statements.put, (write.key, *write.slot, write.value, write.token)


def _in_statements(writes: Sequence[Write], keys: int) -> list[list[Write]]:
    """Writes as batches: all of one key in one, unless a node would not take it; up to `keys` keys in one, as long as they are small."""
    batches: list[list[Write]] = []
    held, size = keys, 0
    for _, of_key in groupby(sorted(writes, key=_key_of), key=_key_of):
        mine = list(of_key)
        own = sum(map(_bytes_of, mine))
        if held < keys and size + own <= _BATCH_BYTES:
            batches[-1] += mine
            held, size = held + 1, size + own
        elif own <= _MUTATION_BYTES:
            batches.append(mine)
            held, size = 1, own
        else:
            batches += _pieces(mine)
            held = keys
    return batches


def _pieces(of_key: Sequence[Write]) -> Iterator[list[Write]]:
    """A key's writes, as many in one as a node surely takes."""
    piece: list[Write] = []
    size = 0
    for write in of_key:
        size += _bytes_of(write)
        if piece and size > _MUTATION_BYTES:
            yield piece
            piece, size = [], _bytes_of(write)
        piece.append(write)
    yield piece


def _bytes_of(write: Write) -> int:
    return len(write.key) + len(write.value or b"") + _ROW_BYTES


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
