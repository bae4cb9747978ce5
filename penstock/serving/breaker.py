"""The circuit breaker: while the store answers nothing, requests are told so at once instead of each waiting for itself.

    closed ── nothing was answered for half a second, though asked ──► open ── a read of its own was answered ──► closed

Open, it reads by itself, one read after the other, so that no request has to be the one that tries. A refusal is an answer.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol

from penstock.contract.view_parts import Consistency
from penstock.errors import StoreError, StoreUnavailable
from penstock.online.store import Held, Slot

logger = logging.getLogger(__name__)

_ASKED, _FOR_S = 5, 0.5  # reads, over at least so long: a pause of the nodes' collectors opens nothing
_AGAIN_S = 0.25


class Store(Protocol):
    """What the gateway reads of the online store."""

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], consistency: Consistency) -> list[Held]: ...


class Breaker:
    """Reads of the store, refused while it is known to give no answer.

    Args:
        store: what is read.
        on_change: told whether it is open, when that changes.
        now: seconds that never go back.
    """

    def __init__(self, store: Store, on_change: Callable[[bool], None] = lambda _: None, now: Callable[[], float] = monotonic) -> None:
        self._store, self._on_change, self._now = store, on_change, now
        self._asked, self._since = 0, 0.0  # since the last answer
        self._trying: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Nothing is read for requests."""
        return self._trying is not None

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], consistency: Consistency) -> list[Held]:
        """As the store's own.

        Raises:
            StoreUnavailable: also at once, while open.
        """
        if self._trying is not None:
            raise StoreUnavailable("the online store gives no answer; it is being tried")
        if not self._asked:
            self._since = self._now()
        elif self._asked >= _ASKED and self._now() - self._since >= _FOR_S:
            self._open(entity, keys, slots, consistency)  # for those after this one: it may have been quiet since, and the store be back
        self._asked += 1
        try:
            held = await self._store.read(entity, keys, slots, consistency)
        except StoreError as error:
            if not isinstance(error, StoreUnavailable):
                self._asked = 0
            raise
        self._asked = 0
        return held

    async def close(self) -> None:
        """End trying."""
        if self._trying is not None:
            self._trying.cancel()
            with suppress(asyncio.CancelledError):
                await self._trying

    def _open(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], consistency: Consistency) -> None:
        logger.warning("the online store gives no answer: requests are answered without it until it does")
        self._trying = asyncio.create_task(self._try(entity, keys[:1], slots, consistency))
        self._on_change(True)

    async def _try(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], consistency: Consistency) -> None:
        while True:
            try:
                await self._store.read(entity, keys, slots, consistency)
                break
            except StoreUnavailable:
                await asyncio.sleep(_AGAIN_S)
            except StoreError:
                break  # refused: it is there
        self._asked, self._trying = 0, None
        logger.warning("the online store answers again")
        self._on_change(False)
