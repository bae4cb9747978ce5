"""The flights, computed and published on a real node, and asked for by the gateway's code; windows are of two seconds."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from jobs.ingest import FETCH
from penstock.clock import FixedClock, from_micros, to_micros
from penstock.config import GatewaySettings, Settings
from penstock.contract import FeatureService, FeatureView
from penstock.offline.lake import feature_table
from penstock.offline.logs import copied_marks, publications
from penstock.offline.watermark import DAY, days_between
from penstock.online.codec import decode_value, encode_key, write_token
from penstock.online.store import OnlineStore, Slot, Write
from penstock.publication.held_store import with_store
from penstock.quality.findings import rows_of
from penstock.quality.skew_log import SkewEntry
from penstock.registry.project import Project
from penstock.registry.snapshot import view_entry
from penstock.serving.cache import NearCache
from penstock.serving.feature_log import FeatureLog
from penstock.serving.lookup import look_up
from penstock.serving.plan import Planner
from penstock.serving.state import StateKeeper
from penstock.store import Store

NOW = datetime(2026, 3, 10, 15, 7, tzinfo=UTC)
WINDOW = timedelta(seconds=2)
BATCH = 500
_REVISION = 300  # past those that publications have used

Key = tuple[Any, ...]


class Flights:
    """Views of aircraft, all of whose keys are asked for.

    Args:
        settings: of the lake, the node and the log.
        clock: stands still within a window.
        views: which.
    """

    def __init__(self, settings: Settings, clock: FixedClock, views: Sequence[FeatureView]) -> None:
        services = tuple(FeatureService(view.name, views=[view], owner="bench") for view in views)
        self.clock, self.settings, self.views = clock, settings, tuple(views)
        self.store = Store(settings, Project("flights", self.views, services), clock)
        self.planner = Planner()
        self.held: dict[FeatureView, dict[Key, bytes]] = {}
        """What each key holds while nothing is altered."""
        self.earlier: dict[FeatureView, dict[Key, Any]] = {}
        """A row each, before the one that is held and with other values; of keys that have one."""
        self._written: Counter[tuple[str, Key]] = Counter()
        self._asked = 0

    def fill(self, first: date, last: date) -> None:
        """Everything of these days, as it is known now, computed and online."""
        reach = max(view.reach for view in self.views) // DAY + 1
        for source in self.store.project.sources:
            self.store.ingest(source, days_between(first - reach * DAY, last), fetch=FETCH[source.name])
        self._bring(first, last)

    def refresh(self) -> None:
        """What became known since then, computed and online."""
        today = self.clock.now().date()
        for source in self.store.project.sources:
            self.store.ingest(source, days_between(today - DAY, today), fetch=FETCH[source.name])
        self._bring(*self.store.days_to_refresh(self.store.project.sources))

    def _bring(self, first: date, last: date) -> None:
        for view in self.views:
            self.store.compute(view, days_between(first, last))
            self.store.publish(view, days_between(first, last))
        self.store.publish_services()
        assert not copied_marks(self.store.lake)
        for view in self.views:
            self.held[view] = self._read(view, self._keys(view))

    def after_all_is_readable(self) -> datetime:
        """A time after all publications."""
        return max(from_micros(row.readable_at_us) for row in publications(self.store.lake)) + WINDOW

    def look_back(self) -> None:
        """See which keys had other values before."""
        for view in self.views:
            rows = rows_of(self.store.lake, view_entry(view), list(view.entity.join_keys.items()), set(self.held[view]))
            self.earlier[view] = {}
            for key, blob in self.held[view].items():
                now = decode_value(blob)
                for row in rows[key]:
                    if to_micros(row.event_time) < now.event_time_us and not row.retracted and list(row.values) != now.values:
                        self.earlier[view][key] = row
                        break

    def _keys(self, view: FeatureView) -> list[Key]:
        table = self.store.lake.dataset(feature_table(view)).to_table(columns=list(view.entity.join_keys))
        return sorted(tuple(row.values()) for row in table.group_by(table.column_names).aggregate([]).to_pylist())

    def ask(self, view: FeatureView, unknown: Sequence[Key] = ()) -> None:
        """Ask for every key that holds a value, and some that nobody has, and log all of it."""
        names, keys, limits = list(view.entity.join_keys), [*self.held[view], *unknown], GatewaySettings()
        log = FeatureLog(self.settings.path(self.settings.feature_log.folder), self.settings.feature_log, self.clock)

        async def run(store: OnlineStore) -> None:
            keeper = StateKeeper(store)
            assert await keeper.refresh()
            assert keeper.state is not None
            plan = self.planner.plan(keeper.state, view.name)
            many = min(BATCH, limits.max_cells // len(view.features))
            for begin in range(0, len(keys), many):
                entities = [dict(zip(names, key, strict=True)) for key in keys[begin : begin + many]]
                self._asked += 1
                answer = await look_up(plan, NearCache(store, 0), to_micros(self.clock.now()), entities, limits)
                log.take(answer, f"request {self._asked}", "bench")
            await log.close()

        with_store(self.store.connect(), run)

    def judge(self, view: FeatureView) -> SkewEntry:
        """The window that begins now; the clock is then at its end."""
        since = self.clock.now()
        self.clock.advance(WINDOW)
        (entry,) = self.store.judge_skew(since, since + WINDOW, [view], keep=False)
        return entry

    def put(self, view: FeatureView, values: dict[Key, bytes | None], event_us: dict[Key, int]) -> None:
        """Write past every publication: at a token above the one that is there, below that of the next event."""
        join_keys, slot, writes = list(view.entity.join_keys.items()), Slot(view.name, view.version, 1), []
        for key, blob in values.items():
            self._written[view.name, key] += 1
            token = write_token(event_us[key], _REVISION + self._written[view.name, key])
            writes.append(Write(encode_key(join_keys, key), slot, token, blob))

        async def run(store: OnlineStore) -> None:
            await store.prepare([view.entity.name])
            await store.write(view.entity.name, writes)

        with_store(self.store.connect(), run)

    def _read(self, view: FeatureView, keys: Sequence[Key]) -> dict[Key, bytes]:
        join_keys, slot = list(view.entity.join_keys.items()), Slot(view.name, view.version, 1)

        async def run(store: OnlineStore) -> list[Any]:
            await store.prepare([view.entity.name])
            found: list[Any] = []
            for begin in range(0, len(keys), BATCH):
                found += await store.read(view.entity.name, [encode_key(join_keys, key) for key in keys[begin : begin + BATCH]], [slot])
            return found

        found = with_store(self.store.connect(), run)
        return {key: held[0] for key, held in zip(keys, found, strict=True) if held[0] is not None}
