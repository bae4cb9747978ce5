"""Stores by the call, and one that stays: Spark runs task after task in a process, and a session costs more than a small task's writes."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from penstock.online.store import OnlineStore

Connect: TypeAlias = Callable[[], Awaitable[OnlineStore]]
"""Opens a store; it crosses to Spark's workers, so it must be picklable."""

T = TypeVar("T")


def with_store(connect: Connect, use: Callable[[OnlineStore], Awaitable[T]]) -> T:
    """What `use` gives, on a store that is closed afterwards."""

    async def run() -> T:
        store = await connect()
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(run())


class HeldStore:
    """A store, kept open between uses, and the event loop its session is bound to."""

    def __init__(self) -> None:
        self._name = ""
        self._runner: asyncio.Runner | None = None
        self._store: OnlineStore | None = None

    def use(self, name: str, connect: Connect, do: Callable[[Connect], Coroutine[Any, Any, T]]) -> T:
        """What `do` gives; it is handed what opens the store, or gives the one that is open.

        Args:
            name: of the store that `connect` opens; one held under another name is closed.
            connect: opens it.
            do: uses it. If it fails, the store is closed: who comes next starts anew.
        """
        if name != self._name:
            self.close()
        if self._runner is None:
            self._runner, self._name = asyncio.Runner(), name

        async def open_store() -> OnlineStore:
            if self._store is None:
                self._store = await connect()
            return self._store

        try:
            return self._runner.run(do(open_store))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close what is open."""
        runner, store, self._runner, self._store = self._runner, self._store, None, None
        if runner is not None:
            with runner:
                if store is not None:
                    runner.run(store.close())


HELD = HeldStore()
"""This process's; a worker of Spark's ends without closing it, which the node notices."""
