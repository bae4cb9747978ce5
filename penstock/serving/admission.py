"""How much a gateway process does at once: what is more than it can answer in time is turned away before it costs anything.

What takes a while is work, on few cores, whether ours or the store's: beyond a certain number of requests side by side, one more
only makes all of them later. So the number is bounded, not the rate: a faster machine is through with them sooner. A burst, and
a store that pauses, are no overload: they are waited out, each request to its own deadline, up to a bound of memory.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from penstock.errors import Overloaded

logger = logging.getLogger(__name__)

_PER_REQUEST = 5  # what a request costs beside its entities, in entities: measured, see benchmarks/serving
_BURST_S = 0.1  # more than can be done in time is an overload once it lasts
_PAUSE_S = 0.05  # while not one request ends for so long, there is no work that more requests would delay
_WAITING = 10  # times as many, then, and no more
_SAID_S = 10.0  # between lines of the log, while requests are turned away


class Admission:
    """The requests in progress.

    Args:
        at_most: entities, and 5 for each request, that are worked on side by side.
        now: seconds that never go back.
    """

    def __init__(self, at_most: int, now: Callable[[], float] = monotonic) -> None:
        self.in_progress = 0
        self._at_most, self._now = at_most, now
        self._full_since: float | None = None
        self._ended_at = now()
        self._turned_away, self._say_at = 0, now()

    def require_room(self) -> None:
        """Refuse before a request is read, if there is no room.

        Raises:
            Overloaded: more has been in progress for a while than can be answered in time, or more waits than may.
        """
        if self.in_progress < self._at_most:
            self._full_since = None
            return
        now = self._now()
        if self._full_since is None or now - self._ended_at > _PAUSE_S:
            self._full_since = now
        if now - self._full_since > _BURST_S or self.in_progress >= _WAITING * self._at_most:
            self._say(now)
            raise Overloaded("the gateway has more requests than it can answer in time", hint="ask again later, or run more workers")

    @contextmanager
    def doing(self, entities: int) -> Iterator[None]:
        """Count a request of so many entities as in progress."""
        size = entities + _PER_REQUEST
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
