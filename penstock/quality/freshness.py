"""Is a view as fresh as it promises, and is all of it computed by the code that is defined now?

Both are alarms: neither holds a publication back, since that would keep an outage stale.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from penstock.clock import from_micros
from penstock.contract.fingerprint import transformation_fingerprint
from penstock.contract.view import FeatureView
from penstock.offline.logs import AttemptEntry, newest, passed
from penstock.online.ledger import Publication, complete_until_us


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


def computed_by_other_code(view: FeatureView, entries: Iterable[AttemptEntry]) -> list[date]:
    """Days whose committed rows were computed by another transformation than the view's is now."""
    code = transformation_fingerprint(view)
    return [day for day, entry in newest(entries, passed).items() if entry.code != code]
