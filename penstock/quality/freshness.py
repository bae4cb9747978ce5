"""Is a view as fresh as it promises, where does the time go, and is all of it computed by the code that is defined now?

All are alarms: none holds a publication back, since that would keep an outage stale.

    event ──ingest──► in the lake ──(the view's delay)──compute──► computed ──publish──► online ──read──► what a gateway knows
    └──────────────────────────────────────── age: now minus the watermark ────────────────────────────────────────────────┘
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from penstock.clock import from_micros, to_micros
from penstock.contract.fingerprint import transformation_fingerprint
from penstock.contract.view import FeatureView
from penstock.offline.logs import AttemptEntry, newest, passed
from penstock.offline.sources import HowFar
from penstock.offline.watermark import known_by
from penstock.online.ledger import Publication, complete_until_us, reached_us

_NONE = timedelta(0)


@dataclass(frozen=True)
class Freshness:
    """How far the values online are complete, against now.

    Args:
        complete_until: the view's watermark; None: nothing is online.
        age: now minus the watermark.
        sla: the largest age the view allows.
    """

    complete_until: datetime | None
    age: timedelta | None
    sla: timedelta

    @property
    def kept(self) -> bool:
        return self.age is not None and self.age <= self.sla


def freshness(view: FeatureView, publications: Iterable[Publication], now: datetime) -> Freshness:
    """Whether a view's freshness SLA is kept: on event time, over what is online without a gap.

    Args:
        view: the view.
        publications: ledger rows of one generation of it.
        now: the Clock's now.
    """
    micros = complete_until_us(publications)
    until = None if micros is None else from_micros(micros)
    return Freshness(until, None if until is None else now - until, view.freshness.total)


@dataclass(frozen=True)
class Stage:
    """How much of a view's age one stage makes.

    Args:
        name: `ingest`, `compute`, `publish` or `read`.
        lag: how far it is behind the stage before it; None: there is nothing to tell it by.
        budget: what the view allows it; zero: it says nothing.
    """

    name: str
    lag: timedelta | None
    budget: timedelta

    @property
    def is_over(self) -> bool:
        """Whether it takes more than it is allowed."""
        return self.lag is not None and _NONE < self.budget < self.lag


def stages(
    view: FeatureView,
    inputs: Mapping[str, HowFar],
    entries: Iterable[AttemptEntry],
    publications: Iterable[Publication],
    read_until: datetime | None,
    now: datetime,
) -> list[Stage]:
    """Where a view's age comes from; with the view's delay the lags add up to it.

    Args:
        view: the view.
        inputs: source name → how far it is in.
        entries: its attempts.
        publications: ledger rows of one generation of it.
        read_until: its watermark as a gateway knows it; None: no gateway was asked.
        now: the Clock's now.
    """
    done = newest(entries, passed)
    begun = min(done.values(), key=lambda entry: entry.attempt, default=None)
    until_us = {day: to_micros(entry.complete_until) for day, entry in done.items()}
    reached = None if begun is None else reached_us(until_us, begun.partition)
    ingested = known_by(view, now.date(), inputs, now)
    computed = None if reached is None else from_micros(reached)
    online = freshness(view, publications, now).complete_until
    allowed = view.freshness
    return [
        Stage("ingest", now - ingested, allowed.ingest),
        Stage("compute", _behind(ingested - view.delay, computed), allowed.compute),
        Stage("publish", _behind(computed, online), allowed.publish),
        Stage("read", _behind(online, read_until), allowed.read),
    ]


def over_budget(found: Sequence[Stage]) -> list[str]:
    """The stages that take more than they are allowed, in words."""
    return [f"{stage.name} {stage.lag} of {stage.budget}" for stage in found if stage.is_over]


def _behind(before: datetime | None, after: datetime | None) -> timedelta | None:
    return None if before is None or after is None else max(_NONE, before - after)


def computed_by_other_code(view: FeatureView, entries: Iterable[AttemptEntry]) -> list[date]:
    """Days whose committed rows were computed by another transformation than the view's is now."""
    code = transformation_fingerprint(view)
    return [day for day, entry in newest(entries, passed).items() if entry.code != code]
