"""A small world for tests: orders of customers, a view of their last order, everything else real."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa

from penstock.as_of import Mode, Row
from penstock.clock import FixedClock, from_micros
from penstock.contract import Entity, Feature, FeatureView, FreshnessSla, Source, available_at, hours, minutes
from penstock.contract.service import select
from penstock.offline.attempt import run_attempt
from penstock.offline.commit import read_features
from penstock.offline.ingest import ingest_days
from penstock.offline.lake import Lake
from penstock.offline.logs import AttemptEntry
from penstock.point_in_time.joined import Resources, join
from penstock.point_in_time.spine import FrameRows
from penstock.point_in_time.view_join import view_joins
from penstock.quality.contracts import audit

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)

orders = Source(
    "orders",
    schema={"customer": "string", "amount": "float64", "event_time": "timestamp", "available_time": "timestamp"},
    availability=available_at("available_time", at_most=hours(1)),
    owner="tests",
)
customer = Entity("customer", {"customer": "string"})


def last_order(rows: Any) -> Any:
    return rows.select("customer", "event_time", "amount")


def view_of_orders(**changes: Any) -> FeatureView:
    """The view `last_order`: a row per order, known at once."""
    settings: dict[str, Any] = {
        "name": "last_order",
        "version": 1,
        "entity": customer,
        "source": orders,
        "owner": "tests",
        "compute": last_order,
        "features": [Feature("amount", "float64", unit="euro", minimum=0)],
        "ttl": hours(48),
        "freshness": FreshnessSla(total=minutes(30)),
    }
    return FeatureView(**{**settings, **changes})


def attempt_entry(day: date, **changes: Any) -> AttemptEntry:
    """An entry of the attempt log that says as little as one can."""
    entry = AttemptEntry(
        table="features/last_order/v1",
        partition=day,
        attempt=1,
        state="passed",
        complete_until=datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1),
        delta_version=0,
        rows=0,
        changed=0,
        retracted=0,
        run_id="",
        code="",
        inputs={},
        gates={},
        reasons=[],
    )
    return msgspec.structs.replace(entry, **changes)


@dataclass(frozen=True)
class Order:
    customer: str | None
    amount: float | None
    at: datetime


@dataclass
class World:
    """A lake, a Clock, and the orders that have been placed."""

    spark: Any
    lake: Lake
    clock: FixedClock
    view: FeatureView = field(default_factory=view_of_orders)
    placed: list[Order] = field(default_factory=list)

    def place(self, customer: str | None, amount: float | None, at: datetime) -> None:
        self.placed.append(Order(customer, amount, at))

    def ingest(self, days: Sequence[date]) -> list[AttemptEntry]:
        return ingest_days(self.lake, orders, days, fetch=self._fetch, clock=self.clock, run_id="ingest")

    def compute(self, *days: date, run_id: str = "compute") -> list[AttemptEntry]:
        self.ingest(days)
        return run_attempt(self.spark, self.lake, self.view, days, clock=self.clock, run_id=run_id, audit=audit)

    def rows(self) -> list[tuple[Any, ...]]:
        """(customer, event time, amount, retracted, created time) of all rows of the feature table."""
        frame = read_features(self.spark, self.lake, self.view).selectExpr(
            "customer", "unix_micros(event_time) AS event", "amount", "retracted", "unix_micros(created_time) AS created"
        )
        found = [(r["customer"], from_micros(r["event"]), r["amount"], r["retracted"], from_micros(r["created"])) for r in frame.collect()]
        return sorted(found, key=lambda r: (r[0], r[1], r[4]))

    def rows_by_key(self) -> dict[tuple[object, ...], list[Row]]:
        """The feature table as the rule of time sees it."""
        return feature_rows(self.spark, self.lake, self.view)

    def _fetch(self, name: str, start: datetime, end: datetime, known_by: datetime) -> pa.Table:
        assert name == orders.name
        known = [o for o in self.placed if start <= o.at < end and o.at + timedelta(microseconds=1) <= known_by]
        micros = pa.timestamp("us", tz="UTC")
        return pa.table(
            {
                "customer": pa.array([o.customer for o in known], pa.string()),
                "amount": pa.array([o.amount for o in known], pa.float64()),
                "event_time": pa.array([o.at for o in known], micros),
                "available_time": pa.array([o.at + timedelta(microseconds=1) for o in known], micros),
            }
        )


def attached(spark: Any, lake: Lake, view: FeatureView, spine: Any, mode: Mode, engine: Any = None) -> Any:
    """The rows of a spine, a DataFrame, with the features of one view, as a DataFrame."""
    joins = view_joins(lake, select([view], "tests"), mode)
    return join(lake, FrameRows(spine), joins, resources_of(spark), engine).to_spark()


def resources_of(spark: Any, *, tasks: int = 2, task_bytes: int = 512_000_000) -> Resources:
    """What a join may use."""
    return Resources(lambda: spark, tasks, task_bytes)


def feature_rows(spark: Any, lake: Lake, view: FeatureView) -> dict[tuple[object, ...], list[Row]]:
    """All rows of a view's table, by key."""
    keys = list(view.entity.join_keys)
    times = [f"unix_micros({name}) AS {name}_us" for name in ("event_time", "available_time", "created_time")]
    frame = read_features(spark, lake, view).selectExpr(
        *keys, *times, "attempt", "event_date", "row_digest", "retracted", *view.feature_names
    )
    found: dict[tuple[object, ...], list[Row]] = {}
    for r in frame.collect():
        row = Row(
            event_time=from_micros(r["event_time_us"]),
            available_time=from_micros(r["available_time_us"]),
            created_time=from_micros(r["created_time_us"]),
            attempt=r["attempt"],
            partition=r["event_date"],
            digest=r["row_digest"].hex(),
            retracted=r["retracted"],
            values=tuple(r[name] for name in view.feature_names),
        )
        found.setdefault(tuple(r[key] for key in keys), []).append(row)
    return found
