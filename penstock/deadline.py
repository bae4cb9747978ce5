"""An end for what takes too long, on a path that cannot pay a timer of its own for each wait.

`asyncio.timeout` starts and stops a timer each time, 10 to 15 µs of a request that takes 300. Here all waits of an event loop
share one timer, which looks at them every two milliseconds while there are any: a wait ends up to that much late.
"""

import asyncio
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

_LOOK_S = 0.002


class Deadline:
    """Cancels what its block awaits at a moment, and raises `TimeoutError` then, as `asyncio.timeout_at` does.

    Args:
        at: of the event loop's time; None: never.
    """

    __slots__ = ("_at", "_cancelling", "_expired", "_task", "_watch")

    def __init__(self, at: float | None) -> None:
        self._at = at
        self._expired = False

    def __enter__(self) -> Self:
        if self._at is not None:
            task = asyncio.current_task()
            assert task is not None, "a deadline is of a task"
            self._task, self._cancelling, self._watch = task, task.cancelling(), _watch_of(asyncio.get_running_loop())
            self._watch.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._at is None:
            return
        self._watch.waits.discard(self)
        # Of a task that somebody else cancelled too, it is theirs.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def end_if_over(self, now: float) -> bool:
        """Cancel the task if it is time; whether it was."""
        assert self._at is not None
        if now < self._at:
            return False
        self._expired = True
        self._task.cancel()
        return True


class _Watch:
    """The waits of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.waits: set[Deadline] = set()
        self._loop, self._looking = loop, False

    def add(self, wait: Deadline) -> None:
        self.waits.add(wait)
        if not self._looking:
            self._looking = True
            self._loop.call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        self.waits.difference_update([wait for wait in self.waits if wait.end_if_over(now)])
        self._looking = bool(self.waits)
        if self._looking:
            self._loop.call_later(_LOOK_S, self._look)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()


def _watch_of(loop: asyncio.AbstractEventLoop) -> _Watch:
    watch = _watches.get(loop)
    if watch is None:
        watch = _watches[loop] = _Watch(loop)
    return watch
