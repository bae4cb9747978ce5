"""An online store in this process's memory: for tests, ours and users'."""

from collections.abc import Sequence
from datetime import date

import msgspec

from penstock.contract.view_parts import Consistency
from penstock.errors import StoreError, StoreUnavailable
from penstock.online.ledger import Intent, Publication, complete_until_us, view_version_of
from penstock.online.store import Held, Slot, Write, require_storable
from penstock.registry.marks import Mark, joined
from penstock.registry.serving_state import ServicePointers

_Cell = tuple[int, bool, bytes]
"""Token, whether it is a delete, value: the greatest of these tuples is what a key holds."""


class MemoryStore:
    """Keeps what it is given until the process ends.

    Set `reachable` to False and every method raises `StoreUnavailable`, as when all nodes are down.
    """

    def __init__(self) -> None:
        self.reachable = True
        self._cells: dict[str, dict[tuple[bytes, Slot], _Cell]] = {}
        self._ledger: dict[tuple[str, int], dict[tuple[int, date, int], Publication]] = {}
        self._intents: dict[Slot, Intent] = {}
        self._marks: dict[str, Mark] = {}
        self._snapshots: dict[str, bytes] = {}
        self._services: dict[str, tuple[int, bytes]] = {}

    async def prepare(self, entities: Sequence[str]) -> None:
        self._reach()
        for entity in entities:
            self._cells.setdefault(entity, {})

    async def read(
        self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], consistency: Consistency = Consistency.LOCAL_QUORUM
    ) -> list[Held]:
        del consistency  # there is one copy
        cells = self._of(entity)
        none: _Cell = (0, True, b"")
        held = [[cells.get((key, slot), none) for slot in slots] for key in keys]
        return [[None if deleted else value for _, deleted, value in of_key] for of_key in held]

    async def write(self, entity: str, writes: Sequence[Write]) -> None:
        cells = self._of(entity)
        require_storable(entity, writes)
        for write in writes:
            cell: _Cell = (write.token, write.value is None, write.value or b"")
            cells[write.key, write.slot] = max(cell, cells.get((write.key, write.slot), cell))

    async def intend(self, intent: Intent) -> None:
        self._reach()
        self._intents[Slot(intent.view, intent.version, intent.generation)] = intent

    async def intent(self, view: str, version: int, generation: int) -> Intent | None:
        self._reach()
        return self._intents.get(Slot(view, version, generation))

    async def record(self, publications: Sequence[Publication]) -> None:
        self._reach()
        rows = self._ledger.setdefault(view_version_of(publications), {})
        for row in publications:
            address = (row.generation, row.partition, row.attempt)
            rows[address] = min(row, rows.get(address, row), key=lambda r: r.readable_at_us)

    async def publications(self, view: str, version: int) -> list[Publication]:
        self._reach()
        return [row for _, row in sorted(self._ledger.get((view, version), {}).items())]

    async def watermarks(self, view: str, version: int) -> dict[int, int]:
        of_fill: dict[int, list[Publication]] = {}
        for row in await self.publications(view, version):
            of_fill.setdefault(row.generation, []).append(row)
        reached = {generation: complete_until_us(rows) for generation, rows in of_fill.items()}
        return {generation: until for generation, until in reached.items() if until is not None}

    async def put_mark(self, mark: Mark) -> None:
        self._reach()
        self._marks[mark.id] = joined(mark, self._marks.get(mark.id))

    async def marks(self) -> list[Mark]:
        self._reach()
        return sorted(self._marks.values())

    async def put_snapshot(self, fingerprint: str, document: bytes) -> None:
        self._reach()
        self._snapshots[fingerprint] = document

    async def snapshot(self, fingerprint: str) -> bytes | None:
        self._reach()
        return self._snapshots.get(fingerprint)

    async def set_pointers(self, pointers: ServicePointers) -> None:
        self._reach()
        row = (pointers.changed_at_us, msgspec.json.encode(pointers))
        self._services[pointers.service] = max(row, self._services.get(pointers.service, row))

    async def pointers(self) -> list[ServicePointers]:
        self._reach()
        return [msgspec.json.decode(document, type=ServicePointers) for _, (_, document) in sorted(self._services.items())]

    async def close(self) -> None:
        """Nothing to release; what it holds stays readable."""

    def _of(self, entity: str) -> dict[tuple[bytes, Slot], _Cell]:
        self._reach()
        if entity not in self._cells:
            raise StoreError(f"entity '{entity}' has no table; call prepare(['{entity}']) first")
        return self._cells[entity]

    def _reach(self) -> None:
        if not self.reachable:
            raise StoreUnavailable("the memory store was made unreachable")
