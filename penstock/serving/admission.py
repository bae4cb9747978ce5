"""How much a gateway process does at once: what is more than it can answer in time is turned away before it costs anything.

What takes a while is work, on few cores, whether ours or the store's: beyond a certain number of requests side by side, one more
only makes all of them later. So the number is bounded, not the rate: a faster machine is through with them sooner. Two numbers:
what is in progress, and how many were read and wait for the event loop to come to them, fewer where it takes long to come round.
A burst, and a store that pauses, are no overload: they are waited out, each request to its own deadline, up to a bound of memory.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from penstock.errors import Overloaded

logger = logging.getLogger(__name__)

_PER_REQUEST = 5  # what a request costs beside its entities, in entities: measured, see benchmarks/serving
_LOOK_S, _ROUND_S = 0.001, 0.004  # an event loop that takes longer to come round has more to do than is good for those who wait
_QUICK, _SLOW = 60, 1  # what may wait to be begun in a round that is short so far, and in one that is not; one request always may
_FEW = 0.7  # of what may be in progress is not too much, however long it waits: few callers, or a machine that is busy otherwise
_BURST_S = 0.1  # more than can be done in time is an overload once it lasts
_CALM_S = 0.05  # a burst is over after so long without
_PAUSE_S = 0.05  # while not one request ends for so long, there is no work that more requests would delay
_WAITING = 10  # times as many, then, and no more
_SAID_S = 10.0  # between lines of the log, while requests are turned away


class Rounds:
    """How long the event loop has been at its present round, in seconds.

    The loop's own time stands still during a round. It is looked at every millisecond while anybody asks.
    """

    def __init__(self) -> None:
        self._begun: float | None = None
        self._asked = False

    def __call__(self) -> float:
        self._asked = True
        if self._begun is None:
            self._begun = monotonic()
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)
        return monotonic() - self._begun

    def _look(self) -> None:
        self._begun = monotonic() if self._asked else None
        if self._asked:
            self._asked = False
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)


class Admission:
    """The requests that were let in.

    Args:
        at_most: entities, and 5 for each request, that are worked on side by side.
        now: seconds that never go back.
        round_s: how long the event loop has been at its present round, in seconds.
    """

    def __init__(self, at_most: int, now: Callable[[], float] = monotonic, round_s: Callable[[], float] | None = None) -> None:
        self.in_progress = self.waiting = 0
        self._last_size = _PER_REQUEST
        self._at_most, self._now = at_most, now
        self._round_s = Rounds() if round_s is None else round_s
        self._full_since = self._full_at = self._ended_at = self._say_at = now()
        self._turned_away = 0

    def let_in(self) -> None:
        """Take a request that was just read, before it costs anything; it waits until `begin`.

        Raises:
            Overloaded: there has been more for a while than can be answered in time, or more waits than may.
        """
        waiting = self.waiting * self._last_size  # nobody has read yet how large they are
        taken = self.in_progress + waiting
        crowded = taken >= self._at_most
        late = taken >= _FEW * self._at_most and waiting >= (_QUICK if self._round_s() < _ROUND_S else _SLOW)
        if crowded or late:
            now = self._now()
            if now - self._full_at > _CALM_S or (crowded and now - self._ended_at > _PAUSE_S):
                self._full_since = now
            self._full_at = now
            if now - self._full_since > _BURST_S or taken >= _WAITING * self._at_most:
                self._say(now)
                raise Overloaded("the gateway has more requests than it can answer in time", hint="ask again later, or run more workers")
        self.waiting += 1

    def begin(self) -> None:
        """The event loop has come to a request that was let in."""
        self.waiting -= 1

    @contextmanager
    def doing(self, entities: int) -> Iterator[None]:
        """Count a request of so many entities as in progress."""
        size = self._last_size = entities + _PER_REQUEST
        self.in_progress += size
        try:
            yield
        finally:
            self.in_progress -= size
            self._ended_at = self._now()

    def _say(self, now: float) -> None:
        self._turned_away += 1
        if now >= self._say_at:
            message = "more requests than can be answered in time: %d turned away since this was last said"
            logger.warning(message, self._turned_away, extra={"turned_away": self._turned_away})
            self._turned_away, self._say_at = 0, now + _SAID_S
