"""The history of a view version, from the lake's two logs."""

from penstock.as_of import Attempt, History, Readable
from penstock.clock import MICROSECOND, from_micros
from penstock.contract.view import FeatureView
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import LogVersions, attempts, log_versions, passed, publications
from penstock.online.ledger import live_since_us


def history_of(lake: Lake, view: FeatureView, at: LogVersions | None = None) -> History:
    """Attempts, ledger and live_since of a view version, as the lake knows them now, or as its logs were at some versions."""
    logs = log_versions(lake) if at is None else at
    # A log that was not there has no rows; asked for without a version it would be the one that is there now.
    ledger = [] if logs.publications is None else publications(lake, view.name, view.version, at=logs.publications)
    committed = [] if logs.attempts is None else attempts(lake, feature_table(view), at=logs.attempts)
    live = live_since_us(ledger, view.freshness.total // MICROSECOND)
    return History(
        attempts=tuple(Attempt(e.partition, e.attempt, e.complete_until) for e in committed if passed(e)),
        ledger=tuple(Readable(p.partition, p.attempt, from_micros(p.readable_at_us)) for p in ledger),
        live_since=None if live is None else from_micros(live),
    )
