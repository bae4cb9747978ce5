"""Small feature tables written by hand: real Delta, no Spark."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from penstock.clock import to_micros
from penstock.contract import Entity, Feature, FeatureView, FreshnessSla, Source, days, hours
from penstock.offline.arrow import arrow_type
from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import copy_publications, log_attempts
from penstock.online.ledger import Publication
from tests.world import attempt_entry

DAY = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
CREATED = DAY + 30 * HOUR  # of rows that do not say when they were


FACTS = Source("facts", schema={"event_time": "timestamp"}, owner="tests")


def nothing(rows: Any) -> Any:
    return rows


def a_view(name: str = "spend", keys: dict[str, str] | None = None, *, one: bool = False, **changes: Any) -> FeatureView:
    """A view of users with one feature, `amount`; with `one` of nothing in particular."""
    entity = Entity("everything", None) if one else Entity(f"entity_of_{name}", keys or {"user": "int64"})
    settings: dict[str, Any] = {
        "name": name,
        "version": 1,
        "entity": entity,
        "source": FACTS,
        "owner": "tests",
        "compute": nothing,
        "features": [Feature("amount", "float64")],
        "ttl": days(1),
        "freshness": FreshnessSla(total=hours(1)),
    }
    return FeatureView(**{**settings, **changes})


def write_rows(lake: Lake, view: FeatureView, rows: Sequence[dict[str, Any]], *, commits: int = 1) -> None:
    """Rows of a view, logged as committed.

    A row has its join keys, `at` (event time) and its features; `created` and `retracted` may be left out.
    """
    full = [{"created": CREATED, "retracted": False, **row} for row in rows]
    schema = pa.schema(
        [
            *[(key, arrow_type(dtype)) for key, dtype in view.entity.join_keys.items()],
            *[(name, pa.timestamp("us", tz="UTC")) for name in ("event_time", "available_time", "created_time")],
            ("attempt", pa.int64()),
            ("retracted", pa.bool_()),
            ("row_digest", pa.binary()),
            *[(feature.name, arrow_type(feature.dtype)) for feature in view.features],
            ("event_date", pa.date32()),
        ]
    )
    columns: dict[str, list[Any]] = {
        "event_time": [row["at"] for row in full],
        "available_time": [row["at"] + view.delay for row in full],
        "created_time": [row["created"] for row in full],
        "attempt": [to_micros(row["created"]) for row in full],
        "retracted": [row["retracted"] for row in full],
        "row_digest": [str(n).encode() for n, _ in enumerate(full)],
        "event_date": [row["at"].date() for row in full],
    }
    names = [*view.entity.join_keys, *view.feature_names]
    columns |= {name: [row.get(name) for row in full] for name in names}
    table = pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)
    where = lake.prepare(feature_table(view))
    each = max(1, -(-len(full) // commits))
    for begin in range(0, max(1, len(full)), each):
        write_deltalake(where, table.slice(begin, each), mode="append", partition_by=["event_date"])
    attempts = sorted({(row["at"].date(), row["created"]) for row in full})
    log_attempts(
        lake,
        [
            attempt_entry(day, table=feature_table(view), attempt=to_micros(created), complete_until=created, changed=-1)
            for day, created in attempts
        ],
    )


def publish_at(lake: Lake, view: FeatureView, day: date, created: datetime, readable: datetime) -> None:
    """A ledger row's copy: the attempt of that day became readable."""
    row = Publication(
        view=view.name,
        version=view.version,
        generation=1,
        partition=day,
        attempt=to_micros(created),
        complete_until_us=to_micros(readable),
        readable_at_us=to_micros(readable),
        run_id="",
        keys=0,
    )
    copy_publications(lake, [row])
