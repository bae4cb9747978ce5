"""Windows of the feature log that were judged, as tests need them."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from penstock.quality.log_replay import ViewReplay
from penstock.quality.skew import Completeness, skew_checks
from penstock.quality.skew_log import HOUR, SkewEntry


def entry(until: datetime, length: timedelta = HOUR, **changes: Any) -> SkewEntry:
    """A window that says as little as one can."""
    settings: dict[str, Any] = {
        "since": until - length,
        "until": until,
        "judged_at": until + timedelta(minutes=6),
        "view": "last_order",
        "version": 1,
        "generation": 1,
        "rows": 0,
        "changes": 0,
        "unserved": 0,
        "late": 0,
        "findings": {},
        "differing": {},
        "compared": {},
        "attempts": {},
        "checks": [],
        "examples": [],
        "served": {},
    }
    return SkewEntry(**{**settings, **changes})


def judged(
    until: datetime,
    differing: Mapping[str, int],
    rows: int = 10_000,
    changes: int = 1_000,
    length: timedelta = HOUR,
    view: str = "last_order",
    **seen: Any,
) -> SkewEntry:
    """A window with its checks: feature → rows that differ."""
    counts: dict[str, Any] = {"unserved": 0, "late": 0, "findings": {}, **seen}
    compared = dict.fromkeys(differing, rows)
    replay = ViewReplay(
        view=f"{view}@1", generation=1, rows=rows, changes=changes, differing=differing, compared=compared, unjudged=0, **counts
    )
    return entry(
        until,
        length,
        view=view,
        rows=rows,
        changes=changes,
        differing=dict(differing),
        compared=compared,
        unserved=counts["unserved"],
        late=counts["late"],
        findings={str(finding): count for finding, count in counts["findings"].items()},
        checks=skew_checks(replay, Completeness(rows, 0)),
    )
