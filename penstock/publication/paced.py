"""Writing as fast as the store takes it, and no faster: bounded in flight, slower when it does not answer.

A write that found no answer is sent again, the same one: every write is idempotent. How many are in flight grows by
one per round of acknowledged writes and is halved once per round with a failure, as TCP does with its packets; so
several executors find what a store can bear without knowing of each other.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from penstock.errors import StoreUnavailable
from penstock.online.store import OnlineStore, Write

AT_ONCE = 128  # pieces in flight of one process: enough to keep a node busy that syncs each write, few enough not to drown it
PIECE = 10  # writes of one piece: one statement where `cassandra.keys_per_write` is not set lower
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 2.0

T = TypeVar("T")


class Patience:
    """How long to go on while the store acknowledges nothing, counted from its first failure."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._failing_since: float | None = None

    def answered(self) -> None:
        """The store acknowledged something."""
        self._failing_since = None

    def ends(self) -> bool:
        """The store did not answer: whether that has lasted too long."""
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since >= self._seconds


async def patiently(do: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """What `do` gives, tried again while the store is unavailable and patience lasts; then its failure is raised."""
    tries = 0
    while True:
        try:
            result = await do()
        except StoreUnavailable:
            if patience.ends():
                raise
            await _pause(tries)
            tries += 1
        else:
            patience.answered()
            return result


class PacedWriter:
    """Takes writes and has them in flight; made by `paced`.

    `put` returns once its writes are handed over, not when they are acknowledged: so the next ones are encoded meanwhile.
    """

    def __init__(self, store: OnlineStore, entity: str, patience: Patience, group: asyncio.TaskGroup) -> None:
        self._store, self._entity, self._patience, self._group = store, entity, patience, group
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.limit = AT_ONCE
        """How many pieces may be in flight now."""
        self._withheld = 0  # turns to keep when they come back, until no more than `limit` are out
        self._acknowledged = 0  # since the limit was changed last
        self._round = 0  # rises with each cut: what was sent before one tells nothing new by failing after it

    async def put(self, writes: Sequence[Write]) -> None:
        """Hand writes over; waits while as many are in flight as may be."""
        for at in range(0, len(writes), PIECE):
            await self._turns.acquire()
            self._group.create_task(self._send(writes[at : at + PIECE]))

    async def _send(self, piece: Sequence[Write]) -> None:
        tries = 0
        while True:
            begun = self._round
            try:
                await self._store.write(self._entity, piece)
            except StoreUnavailable:
                self._slower(begun)
                if self._patience.ends():
                    raise
            else:
                self._patience.answered()
                self._faster()
                return
            await _pause(tries)
            tries += 1
            await self._turns.acquire()

    def _faster(self) -> None:
        self._acknowledged += 1
        if self._acknowledged >= self.limit and self.limit < AT_ONCE:
            self.limit, self._acknowledged = self.limit + 1, 0
            self._give_back()
        self._give_back()

    def _slower(self, begun: int) -> None:
        if begun == self._round:
            self._round += 1
            self._withheld += self.limit - max(1, self.limit // 2)
            self.limit, self._acknowledged = max(1, self.limit // 2), 0
        self._give_back()

    def _give_back(self) -> None:
        if self._withheld:
            self._withheld -= 1
        else:
            self._turns.release()


@asynccontextmanager
async def paced(store: OnlineStore, entity: str, patience: Patience) -> AsyncIterator[PacedWriter]:
    """A writer; when the block ends, everything put is acknowledged.

    Raises:
        StoreUnavailable: the store acknowledged nothing for as long as `patience` lasts.
        StoreError: the store refused a write; the rest is cancelled.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield PacedWriter(store, entity, patience, group)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _pause(tries: int) -> None:
    # Spread, so that what failed together does not come back together.
    await asyncio.sleep(min(_LAST_PAUSE_S, _FIRST_PAUSE_S * 2**tries) * random.uniform(0.5, 1))  # noqa: S311
