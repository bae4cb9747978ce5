"""One part of the benchmarks, in a process of its own: `ingest`, `bare`, `run` and `empty`, `undescribed` and `described`.

    python -m benchmarks.backfill.once PART FIRST LAST

Prints a line of JSON: CPU and wall seconds, and how many rows there were.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import dagster as dg
from pyspark.sql import Observation
from pyspark.sql import functions as F

import penstock
from benchmarks.point_in_time.engines.common import cpu_seconds
from jobs.ingest import FETCH
from penstock.contract import FeatureView
from penstock.offline.attempt import Audit, run_attempt
from penstock.offline.compute import compute_rows, range_of, up_to
from penstock.offline.lake import feature_table
from penstock.offline.logs import AttemptEntry, attempts, newest
from penstock.offline.sources import how_far, versions
from penstock.offline.watermark import DAY, complete_until, days_between
from penstock.orchestration.assets import feature_key
from penstock.orchestration.definitions import definitions_of
from penstock.orchestration.partitions import range_tags
from penstock.quality.contracts import audit
from penstock.quality.drift import audit_and_profile
from penstock.store import Store

ROOT = Path(__file__).parent.parent.parent


class Empty(Store):
    """The project, which says of each day what was said of it before, and does nothing."""

    def compute(self, view: FeatureView, days: Sequence[date], *, run_id: str = "") -> list[AttemptEntry]:  # noqa: ARG002
        known = newest(attempts(self.lake, feature_table(view)))
        return [known[day] for day in days]


def ingest(store: Store, first: date, last: date) -> int:
    """Every fact that the windows of these days reach."""
    before = max(view.reach for view in store.project.views) // DAY + 1
    for source in store.project.sources:
        store.ingest(source, days_between(first - before * DAY, last), fetch=FETCH[source.name], run_id="benchmark")
    return 0


def bare(store: Store, first: date, last: date) -> int:
    """The rows of every view, computed by Spark as the engine does, and written nowhere; counted on the way."""
    rows, now = 0, store.clock.now()
    for view in store.project.views:
        known = how_far(store.lake, view, now)
        limits = {day: complete_until(view, day, known, now) for day in days_between(first, last)}
        computed = compute_rows(store.spark, store.lake, view, versions(store.lake, view), *range_of(limits))
        counted = Observation()
        up_to(view, computed, limits, now).observe(counted, F.count("*").alias("rows")).write.format("noop").mode("overwrite").save()
        rows += counted.get["rows"]
    return rows


def run(store: Store, first: date, last: date) -> int:
    """What a backfill starts: one run of all views over all days, in Dagster."""
    defs = definitions_of(store, FETCH)
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={feature_key(view) for view in store.project.views})
    home = Path(os.environ["DAGSTER_HOME"])
    home.mkdir(exist_ok=True)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert job.execute_in_process(instance=instance, tags=range_tags(first, last)).success
    return sum(entry.rows for view in store.project.views for entry in newest(attempts(store.lake, feature_table(view))).values())


def described(store: Store, first: date, last: date) -> int:
    """Every view computed, held to its contract, described day by day and committed, without Dagster."""
    return _attempted(store, first, last, audit_and_profile(store.lake))


def undescribed(store: Store, first: date, last: date) -> int:
    """The same without the statistics of every day."""
    return _attempted(store, first, last, audit)


def _attempted(store: Store, first: date, last: date, judged_by: Audit) -> int:
    days = days_between(first, last)
    attempted = [
        run_attempt(store.spark, store.lake, view, days, clock=store.clock, run_id="benchmark", audit=judged_by)
        for view in store.project.views
    ]
    return sum(entry.rows for entries in attempted for entry in entries)


PARTS = {
    "ingest": (Store, ingest),
    "bare": (Store, bare),
    "run": (Store, run),
    "empty": (Empty, run),
    "described": (Store, described),
    "undescribed": (Store, undescribed),
}


def main(part: str, first: str, last: str) -> None:
    """Do a part and say what it cost."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    kind, do = PARTS[part]
    opened = penstock.open(ROOT)
    store = kind(opened.settings, opened.project, opened.clock)
    if do in (described, undescribed):
        store.spark.range(1).count()
        cpu, wall = cpu_seconds(), time.perf_counter()
    rows = do(store, date.fromisoformat(first), date.fromisoformat(last))
    views = len(store.project.views)
    said = {"cpu": cpu_seconds() - cpu, "wall": time.perf_counter() - wall, "rows": rows, "views": views}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
