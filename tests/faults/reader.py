"""A reader that asks the gateway over and over, and remembers every change of what it is given."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from penstock.errors import PenstockError
from penstock.sdk import FeatureClient


@dataclass(frozen=True)
class Seen:
    """What the reader was given of a key for the first time, or again after something else."""

    at: datetime
    event_time: datetime
    values: tuple[Any, ...]


@dataclass
class Reader:
    """Asks the gateway for the same entities over and over, and keeps every change of what it is given.

    Args:
        url, key: of the gateway.
        entities: the rows asked for.
        seen: (view, row) → what it was given, in order.
        answers: how often it was answered, and how often it was told by a typed error that it could not be.
    """

    url: str
    key: str
    entities: Sequence[dict[str, Any]]
    seen: dict[tuple[str, int], list[Seen]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)

    def run(self, ended: threading.Event) -> None:
        """Until ended."""
        with FeatureClient(self.url, api_key=self.key, timeout_s=5) as client:
            while not ended.wait(0.4):
                try:
                    result = client.features("arrival_delay", list(self.entities))
                except PenstockError as error:
                    self.answers[type(error).__name__] += 1
                    continue
                self.answers[f"answered {result.degraded}".strip()] += 1
                if not result.degraded:
                    self._note(result)

    def _note(self, result: Any) -> None:
        for view in result.views:
            for row, event_time in enumerate(view.event_times):
                if event_time is None:
                    continue
                values = tuple(result.columns[n][row] for n in view.features)
                known = self.seen.setdefault((view.view, row), [])
                if not known or (known[-1].event_time, known[-1].values) != (event_time, values):
                    known.append(Seen(result.now, event_time, values))
