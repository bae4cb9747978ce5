"""The history of a view version, from the lake's logs."""

from datetime import datetime

from penstock.as_of import Attempt, History, Mark, Readable
from penstock.clock import MICROSECOND, from_micros
from penstock.contract.view import FeatureView
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import LogVersions, attempts, copied_marks, log_versions, passed, publications
from penstock.online.ledger import live_since_us
from penstock.registry import marks as kept


def history_of(lake: Lake, view: FeatureView, at: LogVersions | None = None) -> History:
    """Attempts, ledger, live_since and marks of a view version, as the lake knows them now, or as its logs were at some versions."""
    logs = log_versions(lake) if at is None else at
    # A log that was not there has no rows; asked for without a version it would be the one that is there now.
    ledger = [] if logs.publications is None else publications(lake, view.name, view.version, at=logs.publications)
    committed = [] if logs.attempts is None else attempts(lake, feature_table(view), at=logs.attempts)
    marks = [] if logs.marks is None else kept.of_view(copied_marks(lake, at=logs.marks), view.name, view.version)
    live = live_since_us(ledger, view.freshness.total // MICROSECOND)
    return History(
        attempts=tuple(Attempt(e.partition, e.attempt, e.complete_until) for e in committed if passed(e)),
        ledger=tuple(Readable(p.partition, p.attempt, from_micros(p.readable_at_us)) for p in ledger),
        live_since=None if live is None else from_micros(live),
        marks=tuple(mark_of(mark) for mark in marks),
    )


def mark_of(mark: kept.Mark) -> Mark:
    """A mark as the rule of time has it."""

    def time(micros: int | None) -> datetime | None:
        return None if micros is None else from_micros(micros)

    return Mark(
        marked_at=from_micros(mark.marked_at_us),
        lifted_at=time(mark.lifted_at_us),
        attempt=mark.attempt,
        since=time(mark.since_us),
        until=time(mark.until_us),
        excluded_at=time(mark.excluded_at_us),
        restored_at=time(mark.restored_at_us),
    )
