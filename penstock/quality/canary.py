"""A read through a gateway, as a caller's: up to when it knows each view, and whether it says what the lake has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow.compute as pc
from deltalake.exceptions import TableNotFoundError

from penstock.contract.service import FeatureService
from penstock.contract.view import FeatureView
from penstock.errors import PenstockError
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import last_attempts, newest, passed
from penstock.quality.findings import SAME
from penstock.quality.replay import replay
from penstock.sdk import FeatureClient

_ZERO: Mapping[str, Any] = {"bool": False, "int32": 0, "int64": 0, "float32": 0.0, "float64": 0.0, "string": ""}


@dataclass(frozen=True)
class Canary:
    """What came of one read of a service.

    Args:
        service: which.
        complete_until: view, as `name@version` → its watermark as the gateway knows it; None: it knows of none.
        problems: what was wrong with it, a sentence each.
    """

    service: str
    complete_until: Mapping[str, datetime | None]
    problems: Sequence[str]


def read_canary(lake: Lake, service: FeatureService, client: FeatureClient, now: datetime) -> Canary:
    """Read the newest key of each view of a service, and compute the answer again from the lake.

    Args:
        lake: where the views' rows are.
        service: which.
        client: of the gateway, with a key that may read the service.
        now: what request fields that are times are set to.
    """
    try:
        answer = client.features(service.name, [_entity(lake, service, now)])
        known = {f"{view.view}@{view.version}": view.complete_until for view in answer.views}
        parts = replay(lake, answer.token).parts
    except PenstockError as error:
        return Canary(service.name, {}, [f"{service.name}: {error.message}"])
    wrong = [f"{service.name}: {part.view} of {_words(part.key)} is {part.finding}" for part in parts if part.finding not in SAME]
    return Canary(service.name, known, wrong)


def _entity(lake: Lake, service: FeatureService, now: datetime) -> dict[str, Any]:
    """Join keys and request fields: keys of the newest rows there are; what two views share is the first one's."""
    entity: dict[str, Any] = {
        name: now if dtype == "timestamp" else _ZERO.get(dtype) for view in service.on_demand for name, dtype in view.request.items()
    }
    for part in service.selection:
        for name, value in _newest_key(lake, part.view).items():
            entity.setdefault(part.on[name], value)
    return entity


def _newest_key(lake: Lake, view: FeatureView) -> dict[str, Any]:
    names = list(view.entity.join_keys)
    done = newest(last_attempts(lake, feature_table(view)), passed)
    days = [day for day, entry in done.items() if entry.rows]
    if names and days:
        try:
            rows = lake.dataset(feature_table(view)).scanner(columns=names, filter=pc.field("event_date") == max(days)).head(1).to_pylist()
        except TableNotFoundError:
            rows = []
        if rows:
            return dict(rows[0])
    return {name: _ZERO.get(dtype, 0) for name, dtype in view.entity.join_keys.items()}


def _words(key: Mapping[str, Any] | None) -> str:
    return "no key" if key is None else ", ".join(f"{name}={value}" for name, value in key.items())
