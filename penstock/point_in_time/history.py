"""The history of a view version, from the lake's two logs."""

from penstock.as_of import Attempt, History, Readable
from penstock.clock import MICROSECOND, from_micros
from penstock.contract.view import FeatureView
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts, passed, publications
from penstock.online.ledger import live_since_us


def history_of(lake: Lake, view: FeatureView) -> History:
    """Attempts, ledger and live_since of a view version, as the lake knows them now."""
    ledger = publications(lake, view.name, view.version)
    live = live_since_us(ledger, view.freshness.total // MICROSECOND)
    return History(
        attempts=tuple(Attempt(e.partition, e.attempt, e.complete_until) for e in attempts(lake, feature_table(view)) if passed(e)),
        ledger=tuple(Readable(p.partition, p.attempt, from_micros(p.readable_at_us)) for p in ledger),
        live_since=None if live is None else from_micros(live),
    )
