"""What every online store promises. The docstrings are the semantics; `tests/online/contract.py` holds stores to them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from penstock.contract.view_parts import Consistency
from penstock.errors import StoreError
from penstock.online.ledger import Intent, Publication
from penstock.registry.marks import Mark
from penstock.registry.serving_state import ServicePointers


class Slot(NamedTuple):
    """Where a view's value of one entity lives: one fill of one view version."""

    view: str
    version: int
    generation: int


class Write(NamedTuple):
    """One value to put or to delete. A tuple, because a bulk load makes one of each row.

    Args:
        key: the encoded join key (`codec.encode_key`).
        slot: which view, version and generation.
        token: write token, `event_time_us * 1000 + revision`; the greatest token wins, whenever it arrives.
        value: the encoded value (`codec.encode_value`), or None to delete.
    """

    key: bytes
    slot: Slot
    token: int
    value: bytes | None


MAX_VALUE_BYTES = 2**20
"""The largest value a store takes. Cassandra takes larger ones, slowly; a node refuses a whole write of half its commit log's segment."""


def require_storable(entity: str, writes: Iterable[Write]) -> None:
    """Refuse values larger than MAX_VALUE_BYTES before any is written.

    Raises:
        StoreError: names the key, the view and the size.
    """
    for write in writes:
        if write.value is not None and len(write.value) > MAX_VALUE_BYTES:
            raise StoreError(
                f"writing {entity}: the value of {write.slot.view}@{write.slot.version} of key {write.key.hex()[:80]} takes"
                f" {len(write.value):,} bytes; at most {MAX_VALUE_BYTES:,} are stored",
                hint="split the view, or bound the length of its lists and texts",
            )


Held: TypeAlias = Sequence[bytes | None]
"""What a key holds: one value per slot asked for, or None."""


class OnlineStore(Protocol):
    """Values by (entity, key, slot), and the control plane: ledger, snapshots, service pointers.

    All methods may raise `StoreUnavailable` (no answer in time) or `StoreError` (refused). Every
    write is idempotent: doing it twice, or after a later one, changes nothing.
    """

    async def prepare(self, entities: Sequence[str]) -> None:
        """Make room for the values of these entities; done already is no error. Must precede reads and writes."""

    async def read(
        self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], consistency: Consistency = Consistency.LOCAL_QUORUM
    ) -> list[Held]:
        """For each key, in order, its value in each of `slots`, in order; None: absent or deleted. Slots are distinct.

        At LOCAL_QUORUM it is what the newest write that returned left. At LOCAL_ONE it may be what an earlier one left, or
        nothing, after a replica was away; it answers while one replica does.
        """

    async def write(self, entity: str, writes: Sequence[Write]) -> None:
        """Put and delete values. Of two writes to one (key, slot) the greater token wins in whatever order they
        arrive; of equal tokens a delete wins, then the greater value by bytes. When it returns, all are readable;
        when it raises, each (key, slot) holds its old or its new value. A value larger than MAX_VALUE_BYTES is a
        `StoreError`, and nothing is written."""

    async def intend(self, intent: Intent) -> None:
        """Keep what a publication is about to write, in place of the intent before it of that fill of the view version."""

    async def intent(self, view: str, version: int, generation: int) -> Intent | None:
        """The newest intent of a fill of a view version, or None."""

    async def record(self, publications: Sequence[Publication]) -> None:
        """Add ledger rows of one view version: all of them become visible at once, or none."""

    async def publications(self, view: str, version: int) -> list[Publication]:
        """All ledger rows of a view version, by (generation, partition, attempt)."""

    async def watermarks(self, view: str, version: int) -> dict[int, int]:
        """Generation → up to which event time the fill is complete, in microseconds, as `ledger.complete_until_us` tells of its rows; of a
        view version that was published so far."""

    async def put_mark(self, mark: Mark) -> None:
        """Keep an invalidation mark, or what was not known of it: of each of its times the earliest stands."""

    async def marks(self) -> list[Mark]:
        """All invalidation marks, those in force and those that were, sorted."""

    async def put_snapshot(self, fingerprint: str, document: bytes) -> None:
        """Keep a registry snapshot under its fingerprint."""

    async def snapshot(self, fingerprint: str) -> bytes | None:
        """The snapshot of this fingerprint, or None."""

    async def set_pointers(self, pointers: ServicePointers) -> None:
        """Set what a service reads, as one atomic change; an older `changed_at_us` never replaces a newer one."""

    async def pointers(self) -> list[ServicePointers]:
        """What every service reads, by name."""

    async def close(self) -> None:
        """Release connections; the store is not used afterwards."""
