"""What the gateway counts. No label is taken from a request: their number is bounded by the registry.

Several workers keep their numbers in files of one folder, so that whichever is asked tells the sum of all.
"""

import os
from collections import Counter
from collections.abc import Sequence
from math import inf
from time import perf_counter
from typing import Any

import psutil
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client import Counter as Counts
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from penstock.contract.view_parts import Consistency
from penstock.online.store import Held, Slot
from penstock.registry.serving_state import ServingState
from penstock.serving.breaker import Store
from penstock.serving.judgement import Outcome
from penstock.serving.lookup import Answer
from penstock.serving.messages import Status

# Finer than the client's defaults: p99 is to be under 10 ms.
_BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)

# Problems that are alerted on from the first on.
_WRONG = tuple(outcome.name.lower() for outcome in (Outcome.CORRUPT, Outcome.UNKNOWN_SCHEMA, Outcome.FUTURE))

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable with the folder of several workers' numbers; Prometheus' client reads it when it is imported."""

UNKNOWN = "unknown"
"""The service label of a request for none that is published."""


class GatewayMetrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = to = CollectorRegistry()
        self._children: dict[str, dict[Status, Any]] = {}
        self._served: frozenset[str] = frozenset()
        self._requests = Counts("penstock_gateway_requests", "Requests by service and outcome", ["service", "code"], registry=to)
        self._duration = Histogram(
            "penstock_gateway_request_duration_seconds",
            "From the request's headers to its answer",
            ["service"],
            buckets=_BUCKETS_S,
            registry=to,
        )
        self._read = Histogram("penstock_online_read_duration_seconds", "One read of the online store", buckets=_BUCKETS_S, registry=to)
        self._values = Counts("penstock_feature_values", "Values served, by view and status", ["view", "status"], registry=to)
        self._problems = Counts("penstock_value_problems", "Keys whose values were not served, and why", ["view", "problem"], registry=to)
        keys = Counts("penstock_online_keys", "Keys asked for, by where they were found", ["source"], registry=to)
        self._from_cache, self._from_store = keys.labels("cache"), keys.labels("store")
        self._log_dropped = Counts("penstock_feature_log_dropped", "Rows within the sample that were not logged", registry=to)
        self._unanswering = Gauge(
            "penstock_online_unanswering",
            "Workers for which the online store gives no answer, so that it is not asked",
            registry=to,
            multiprocess_mode="livesum",
        )
        self._refresh_failures = Counts("penstock_state_refresh_failures", "Looks at the control plane that failed", registry=to)
        self._refreshed = Gauge(
            "penstock_state_refreshed_timestamp_seconds", "When the control plane was last read", registry=to, multiprocess_mode="livemin"
        )
        self._complete = Gauge(
            "penstock_complete_until_timestamp_seconds",
            "Watermark of a served view version",
            ["view"],
            registry=to,
            multiprocess_mode="livemin",
        )
        self._sla = Gauge(
            "penstock_freshness_sla_seconds",
            "The largest age that a served view version allows; +Inf: it is no longer served",
            ["view"],
            registry=to,
            multiprocess_mode="livemax",
        )

    def request(self, service: str, code: str, seconds: float) -> None:
        """Count an answered request; `service` must be a published one or UNKNOWN."""
        self._requests.labels(service, code).inc()
        self._duration.labels(service).observe(seconds)

    def answer(self, answer: Answer) -> None:
        """Count the values and problems of an answer."""
        for view, parts, all_present in zip(answer.plan.shown, answer.shown, answer.all_present, strict=True):
            of_view = self._values_of(view.view.name)
            if all_present:
                of_view[Status.PRESENT].inc(len(view.features) * len(parts))
                continue
            for statuses, rows in Counter([part.statuses for part in parts]).items():
                if statuses is view.all[statuses[0]]:
                    of_view[statuses[0]].inc(len(statuses) * rows)
                else:
                    for status in statuses:
                        of_view[status].inc(rows)
        if not all(answer.all_present):
            for (name, problem), count in answer.problems().items():
                self._problems.labels(name, problem).inc(count)

    def _values_of(self, view: str) -> dict[Status, Any]:
        found = self._children.get(view)
        if found is None:
            found = self._children[view] = {status: self._values.labels(view, status.value) for status in Status}
        return found

    def refreshed(self, state: ServingState, now_s: float) -> None:
        """Note a look at the control plane that succeeded, and what is served since."""
        self._refreshed.set(now_s)
        served = {(p.view, p.version) for pointers in state.services.values() for p in pointers.pointers}
        refs = frozenset(f"{view}@{version}" for view, version in served)
        for view, _ in served:
            for problem in _WRONG:
                self._problems.labels(view, problem)  # from 0 on: what begins with its first burst does not show as an increase
        for snapshot in state.snapshots.values():
            for entry in snapshot.views:
                if entry.ref in refs:
                    self._sla.labels(entry.ref).set(entry.freshness.total_us / 1_000_000)
        for ref in self._served - refs:  # its watermark stands still; a label that workers have written cannot be removed
            self._sla.labels(ref).set(inf)
        self._served = refs
        for (view, version, _), watermark_us in sorted(state.complete_until_us.items()):  # the newest generation stays
            self._complete.labels(f"{view}@{version}").set(watermark_us / 1_000_000)

    def refresh_failed(self) -> None:
        """Count a look at the control plane that failed."""
        self._refresh_failures.inc()

    def looked_up(self, from_cache: int, from_store: int) -> None:
        """Count the keys of one read."""
        self._from_cache.inc(from_cache)
        self._from_store.inc(from_store)

    def store_unanswering(self, unanswering: bool) -> None:
        """Note whether the store is given up for now."""
        self._unanswering.set(unanswering)

    def log_dropped(self, rows: int) -> None:
        """Count rows that should have been logged and were not."""
        self._log_dropped.inc(rows)

    def timed(self, reader: Store) -> Store:
        """`reader`, with the time of each read observed."""
        return _Timed(reader, self._read)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        shared = os.environ.get(SHARED_FOLDER)
        if shared is None:
            return generate_latest(self._registry)
        for pid in {int(name.rsplit("_", 1)[1].removesuffix(".db")) for name in os.listdir(shared)}:
            if not psutil.pid_exists(pid):
                mark_process_dead(pid, shared)  # type: ignore[no-untyped-call]  # what it counted stays
        registry = CollectorRegistry()
        MultiProcessCollector(registry, shared)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


class _Timed:
    def __init__(self, reader: Store, seconds: Histogram) -> None:
        self._reader = reader
        self._seconds = seconds

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], consistency: Consistency) -> list[Held]:
        start = perf_counter()
        try:
            return await self._reader.read(entity, keys, slots, consistency)
        finally:
            self._seconds.observe(perf_counter() - start)
