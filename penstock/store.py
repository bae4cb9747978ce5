"""The handle: everything a project does with its features hangs on `store = penstock.open()`."""

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyspark import Accumulator
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from penstock.as_of import Mode
from penstock.clock import Clock, to_micros
from penstock.config import Settings, load_settings
from penstock.contract.service import AnyView, FeatureService, Selection, select
from penstock.contract.source import Source
from penstock.contract.view import FeatureView
from penstock.errors import InvalidationError, PenstockError, SourceError, SpineError
from penstock.offline.attempt import behind, outdated, run_attempt
from penstock.offline.disk import told_if_full
from penstock.offline.ingest import Fetch, ingest_days
from penstock.offline.lake import Lake, feature_table, raw_table, why_not_plain
from penstock.offline.logs import AttemptEntry, copied_marks, last_attempts, last_publications, newest
from penstock.offline.refresh import first_day_to_refresh
from penstock.offline.registry_log import log_snapshot
from penstock.offline.sources import read_table
from penstock.online.cassandra import CassandraStore
from penstock.online.ledger import FIRST_GENERATION, Publication, latest
from penstock.point_in_time.joined import Joined, Resources, join
from penstock.point_in_time.on_demand import on_demand_joins
from penstock.point_in_time.preview import Sample, preview
from penstock.point_in_time.spine import DeltaRows, FrameRows, Spine, TableRows, table_rows
from penstock.point_in_time.view_join import view_joins
from penstock.publication.due import Due, due
from penstock.publication.held_store import Connect, with_store
from penstock.publication.invalidate import Scope, invalidate, lift
from penstock.publication.partition_state import PartitionState, partition_states
from penstock.publication.publish import Published, publish
from penstock.publication.rebuild import Rebuilt, copy_ledger, lacking, rebuild
from penstock.publication.repair import RepairPlan, repair_plan
from penstock.publication.services import publish_services
from penstock.publication.verify import SAMPLE, Verified, verify
from penstock.quality.drift import audit_and_profile
from penstock.quality.replay import Replay, replay
from penstock.quality.served_log import Shipped, ship
from penstock.quality.skew_log import DAY, SkewEntry, bad_attempts, due_windows, judge_window, judged_windows, log_skew, skew_entries
from penstock.registry.marks import Mark, of_view
from penstock.registry.project import Project, load_project
from penstock.registry.snapshot import Snapshot, compile_snapshot
from penstock.runtime.node_status import cassandra_endpoint
from penstock.runtime.spark import spark_session
from penstock.training_set.leakage import Leakage, leakage
from penstock.training_set.reference import newest_references
from penstock.training_set.sets import TrainingSets


def open(root: str | Path = ".", *, environment: str | None = None, package: str = "feature_assets") -> "Store":
    """The project in folder `root`, ready to use.

    Args:
        root: the folder that holds `conf/` and the package of feature files.
        environment: which `conf/<environment>.yaml`; default: PENSTOCK_ENV, else `local`.
        package: the package of feature files.

    Raises:
        ConfigError: the settings are wrong.
        ContractError: a definition is wrong.
    """
    settings = load_settings(root, environment)
    if str(settings.root) not in sys.path:
        sys.path.insert(0, str(settings.root))
    return Store(settings, load_project(package))


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """One project's definitions, its lake and its online store.

    Args:
        settings: where everything is.
        project: the definitions.
        clock: tells now; default: the one the settings ask for.
    """

    settings: Settings
    project: Project
    clock: Clock = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.clock is None:
            object.__setattr__(self, "clock", self.settings.make_clock())

    @property
    def lake(self) -> Lake:
        """The lake all tables are in."""
        return Lake(self.settings.lake_uri(), str(self.settings.root))

    @property
    def spark(self) -> SparkSession:
        """The process's Spark session, started at first use."""
        return spark_session(self.settings)

    @property
    def snapshot(self) -> Snapshot:
        """The registry snapshot of the definitions as they are now."""
        return compile_snapshot(self.project)

    def connect(self) -> Connect:
        """Opens the online store; crosses to Spark's workers."""
        contact_points, port = cassandra_endpoint(self.settings)
        return partial(CassandraStore.connect, contact_points, port, self.settings)

    def ingest(self, source: Source, days: Sequence[date], *, fetch: Fetch, run_id: str = "") -> list[AttemptEntry]:
        """Bring some days of a source to what is known now."""
        with told_if_full(self.lake):
            return ingest_days(self.lake, source, days, fetch=fetch, clock=self.clock, run_id=run_id)

    def compute(self, view: FeatureView, days: Sequence[date], *, run_id: str = "") -> list[AttemptEntry]:
        """Compute, audit and commit some days of a view as one attempt; see `offline.attempt.run_attempt`."""
        with told_if_full(self.lake):
            return run_attempt(self.spark, self.lake, view, days, clock=self.clock, run_id=run_id, audit=audit_and_profile(self.lake))

    def outdated(self, view: FeatureView, days: Sequence[date]) -> list[date]:
        """Those of some days that computing now would bring further."""
        return outdated(self.lake, view, days, clock=self.clock)

    def behind(self, view: FeatureView) -> list[date]:
        """The days of a view, computed or begun since, of which more can be computed now."""
        return behind(self.lake, view, clock=self.clock)

    def repair_plan(self) -> RepairPlan:
        """Which partitions late and corrected source rows reach; see `publication.repair.repair_plan`."""
        horizon = timedelta(days=self.settings.dagster.repair_days)
        return repair_plan(self.lake, self.project.views, self.clock.now(), horizon)

    def partitions(self, view: FeatureView, repairs: RepairPlan) -> list[PartitionState]:
        """How far each day of a view has come; see `publication.partition_state`."""
        entries, since = last_attempts(self.lake, feature_table(view)), self.settings.dagster.first_day
        return partition_states(view, entries, self.ledger(view), repairs, self.clock.now(), since)

    def days_to_refresh(self, ingested: Sequence[Source]) -> tuple[date, date]:
        """First and last day that ingesting these sources, and computing all views, would bring further now."""
        now = self.clock.now()
        views, behind = self.project.views, {}
        for view in views:
            with suppress(SourceError):  # of one whose source cannot be read more cannot be computed; its own step says why
                behind[view] = self.behind(view)
        first = first_day_to_refresh(
            {source: last_attempts(self.lake, raw_table(source)) for source in ingested},
            {view: newest(last_attempts(self.lake, feature_table(view))) for view in views},
            behind,
            now,
            self.settings.dagster.first_day,
        )
        return first, now.date()

    def publish(self, view: FeatureView, days: Sequence[date], *, run_id: str = "") -> Published:
        """Bring the newest committed attempts of some days online; see `publication.publish.publish`."""
        patience_s = self.settings.cassandra.write_patience_s
        connect = self.connect()
        with told_if_full(self.lake):
            return publish(self.spark, self.lake, view, days, connect=connect, clock=self.clock, run_id=run_id, patience_s=patience_s)

    def publish_services(self) -> Mapping[str, bool]:
        """Let every service whose views are online be served under the definitions as they are now: name → whether it is."""
        log_snapshot(self.lake, self.snapshot, self.clock.now())
        return with_store(self.connect(), lambda store: publish_services(store, self.snapshot, to_micros(self.clock.now())))

    def due(self, view: FeatureView) -> Due:
        """What of a view should be published now, from the lake's logs."""
        entries, online = last_attempts(self.lake, feature_table(view)), self.online(view).values()
        return due(entries, online, since=self.settings.dagster.first_day, marks=self.marks(view))

    def online(self, view: FeatureView) -> dict[date, Publication]:
        """Day → its newest publication, as the ledger's copy in the lake knows it."""
        return latest(self.ledger(view))

    def services_online(self) -> list[FeatureService]:
        """Services of which every view has something online: those that a gateway can answer for."""
        return [service for service in self.project.services if all(self.online(part.view) for part in service.selection)]

    def ledger(self, view: FeatureView) -> list[Publication]:
        """What the ledger's copy in the lake knows of a view: the publication that began it, and of each day the newest."""
        return last_publications(self.lake, view.name, view.version, FIRST_GENERATION)

    def verify_online(self, view: FeatureView, *, seed: int, sample: int = SAMPLE) -> Verified:
        """A random sample of a view's keys, as the store holds them and as the rule gives them; see `publication.verify.verify`."""
        return verify(self.spark, self.lake, view, connect=self.connect(), seed=seed, sample=sample)

    def copy_ledger(self, view: FeatureView, *, seed: int, sample: int = SAMPLE) -> tuple[int, int]:
        """The ledger and its copy in the lake completed, each from the other; see `publication.rebuild.copy_ledger`."""
        return copy_ledger(self.spark, self.lake, view, connect=self.connect(), seed=seed, sample=sample)

    def lost_online(self, view: FeatureView) -> list[Publication]:
        """Publications of a view that the lake knows and the store does not."""
        return lacking(self.lake, view, connect=self.connect())

    def rebuild_online(
        self, view: FeatureView, *, seed: int, sample: int = SAMPLE, force: bool = False, rows: Accumulator[int] | None = None
    ) -> Rebuilt | None:
        """A view's values and ledger written to the store as the lake knows them; see `publication.rebuild.rebuild`."""
        patience_s = self.settings.cassandra.write_patience_s
        return rebuild(
            self.spark,
            self.lake,
            view,
            connect=self.connect(),
            patience_s=patience_s,
            sample=sample,
            seed=seed,
            force=force,
            rows=rows,
        )

    def invalidate(
        self,
        view: FeatureView,
        *,
        reason: str,
        attempt: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        hold: bool = False,
    ) -> Mark:
        """Stop serving some rows of a view at once; see `publication.invalidate.invalidate`."""
        scope = Scope(attempt, since, until)
        return invalidate(self.lake, view, scope, reason=reason, connect=self.connect(), clock=self.clock, hold=hold)

    def lift(self, mark_id: str) -> Mark:
        """Undo an invalidation; see `publication.invalidate.lift`."""
        return lift(self.lake, mark_id, connect=self.connect(), clock=self.clock)

    def marks(self, view: FeatureView | None = None) -> list[Mark]:
        """The invalidation marks of a view, or all, as their copy in the lake knows them."""
        found = copied_marks(self.lake)
        return found if view is None else of_view(found, view.name, view.version)

    def join(
        self,
        spine: Any,
        features: str | Sequence[AnyView] | Mapping[AnyView, Sequence[str]],
        *,
        mode: Mode = "observed",
        overrides: Mapping[str, Mode] | None = None,
        full_feature_names: bool = True,
        engine: Literal["columnar", "sql"] | None = None,
    ) -> Joined:
        """Attach features to each spine row, point-in-time; see `point_in_time.joined.join`.

        Args:
            spine: rows to enrich: a Spark DataFrame, a pandas, polars or Arrow table, the text of a query as `query`
                takes it, or what `spine` gives.
            features: a service by name, its on-demand views included; some views; or view → the features wanted of it.
            mode: what counts as known, see `penstock.as_of.Mode`.
            overrides: view's name → another mode for it.
            full_feature_names: whether columns are `<view>__<feature>`; else a feature that two views have is refused.
            engine: `columnar` or `sql`; None: the columnar one unless there is a reason against it.

        Returns:
            The join, planned: `.explain()` tells how; `.to_spark()`, `.to_pandas()`, `.to_arrow()` … compute it.
        """
        joins = view_joins(self.lake, self._selection(features), mode, overrides, full_feature_names=full_feature_names)
        computed = on_demand_joins(self.project.service(features).on_demand if isinstance(features, str) else (), joins)
        return join(self.lake, self._rows(spine), joins, self._resources(), engine, computed)

    def preview(
        self, view: FeatureView, keys_or_spine: Sample | None = None, *, first: date | None = None, last: date | None = None
    ) -> DataFrame:
        """A view on a sample, computed by production's code and written nowhere; see `point_in_time.preview.preview`."""
        return preview(self.spark, self.lake, view, keys_or_spine, self.clock.now(), first, last)

    @property
    def training_set(self) -> TrainingSets:
        """The project's training sets: `.build`, `.load`, `.verify`, `.rebuild`, `.list`."""
        return TrainingSets(self.lake, self.project, self._resources(), self.clock, self._rows, lambda: self.snapshot.fingerprint)

    def spine(self, *, query: str = "", table: str = "", version: int | None = None) -> Spine:
        """Rows to enrich: of a query, see `query`, or of a Delta table, by its name in the lake or its location.

        Args:
            query, table: one of the two.
            version: of the table; default: the newest.

        Raises:
            SpineError: neither or both are given, or the table is not there.
        """
        if bool(query) == bool(table):
            raise SpineError("a spine is either a query or a table", hint="give one of the two")
        if query:
            return FrameRows(self.query(query))
        where = table if "://" in table or Path(table).is_absolute() else self.lake.location(table)
        try:
            opened = DeltaTable(where, version=version)
        except TableNotFoundError:
            raise SpineError(f"there is no Delta table at {where}", hint="name a table of the lake, or a folder or URI") from None
        except DeltaError as error:
            why = str(error).partition("\n")[0]
            raise SpineError(f"{where} has no version {version}: {why}", hint="take one that is there") from None
        if why_not_plain(opened) is None:
            return DeltaRows(where, opened.version())
        return FrameRows(self.spark.read.format("delta").option("versionAsOf", opened.version()).load(where))

    def leakage(
        self,
        spine: Any,
        features: str | Sequence[AnyView] | Mapping[AnyView, Sequence[str]],
        *,
        modes: tuple[Mode, Mode] = ("event", "observed"),
    ) -> Leakage:
        """Per feature, how far a spine's values differ between two modes; see `training_set.leakage.leakage`."""
        joins = view_joins(self.lake, self._selection(features), modes[0])
        return leakage(self.lake, self._rows(spine), joins, self._resources(), *modes)

    def replay(self, token: str) -> Replay:
        """The values an answer's token names, computed again from the lake, and whether they are what was served; see `quality.replay`."""
        return replay(self.lake, token)

    def ship_feature_log(self) -> Shipped:
        """Bring what gateways logged of their answers to the lake, see `quality.served_log.ship`."""
        with told_if_full(self.lake):
            return ship(self.lake, self.settings.path(self.settings.feature_log.folder))

    def skew(self, view: FeatureView | None = None, since: datetime | None = None) -> list[SkewEntry]:
        """What was found in windows of the feature log; see `quality.skew_log.skew_entries`."""
        return skew_entries(self.lake, view, since)

    def judge_skew(
        self, since: datetime, until: datetime, views: Sequence[FeatureView] | None = None, *, keep: bool = False
    ) -> list[SkewEntry]:
        """Compare what was served in `[since, until)` with what training is given; see `quality.skew_log.judge_window`.

        Args:
            since, until: the window.
            views: of which; None: all.
            keep: whether what was found is kept in the lake, acted on and told, as the job `skew` does; the window then counts as judged.
        """
        views = views or self.project.views
        trained = newest_references(self.lake, views) if until - since >= DAY else {}
        found = judge_window(self.lake, views, since, until, self._resources(), self.clock.now(), trained, self.project.services)
        if keep:
            self._invalidate_skewed(found)  # before they are kept: without a store the window is judged again
            log_skew(self.lake, found)
        return found

    def judge_due_skew(self) -> list[SkewEntry]:
        """Judge every window that has settled of the feature log in the lake; see `quality.skew_log.due_windows`.

        Raises:
            ExceptionGroup: some windows could not be judged; the others were.
        """
        found: list[SkewEntry] = []
        failed: list[Exception] = []
        for window in due_windows(judged_windows(self.lake), self.clock.now()):
            try:
                found += self.judge_skew(*window, keep=True)
            except PenstockError as error:  # one that cannot be judged must not keep those after it from it
                error.add_note(f"the window from {window[0]:%Y-%m-%d %H:%M} to {window[1]:%Y-%m-%d %H:%M} UTC was not judged")
                failed.append(error)
        if failed:
            said = [f"{len(failed)} window(s) of the feature log could not be judged", *(f"{one.__notes__[-1]}: {one}" for one in failed)]
            raise ExceptionGroup("\n".join(said), failed)  # who shows a group may show nothing but what it says itself, as Dagster does
        return found

    def _invalidate_skewed(self, entries: Sequence[SkewEntry]) -> None:
        """Take back the attempts that views want taken back by themselves; one that was marked before is left as it is."""
        views = {(view.name, view.version): view for view in self.project.views if view.skew.invalidate}
        for entry in entries:
            view = views.get((entry.view, entry.version))
            if view is None or entry.service:
                continue
            for attempt in bad_attempts(entry, view.skew.budgets["values"]):
                if all(mark.attempt != attempt for mark in self.marks(view)):
                    rows, altered = entry.attempts[attempt]
                    said = f"{altered:,} of {rows:,} rows served of it from {entry.since:%Y-%m-%d %H:%M} UTC on are not what the lake has"
                    try:
                        self.invalidate(view, attempt=attempt, reason=f"skew: {said}")
                    except InvalidationError as error:  # of an attempt that is not this lake's there is nothing to take back
                        logger.warning("%s is not taken back: %s", view.ref, error.message)

    def query(self, text: str) -> DataFrame:
        """The rows of a SQL query in which `{source}` stands for the table of that source: a spine, say.

        Raises:
            SpineError: a name in braces is no source, or Spark does not take the query.
        """
        sources = {source.name: source for source in self.project.sources}
        try:
            named = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
        except ValueError as error:
            raise SpineError(f"the query: {error}", hint="a brace that is not of a {source} is written twice") from None
        unknown = sorted(named - set(sources))
        if unknown:
            raise SpineError(
                f"the query reads {', '.join(f'{{{name}}}' for name in unknown)}; the project's sources are {', '.join(sorted(sources))}"
            )
        frames: dict[str, Any] = {name: read_table(self.spark, self.lake, sources[name]) for name in sorted(named)}
        try:
            return self.spark.sql(text, **frames) if named else self.spark.sql(text.format())
        except AnalysisException as error:  # a ParseException is one too
            raise SpineError(f"the query cannot be run: {str(error).partition('JVM stacktrace')[0].strip()}") from None

    def _selection(self, features: str | Sequence[AnyView] | Mapping[AnyView, Sequence[str]]) -> Sequence[Selection]:
        return self.project.service(features).selection if isinstance(features, str) else select(features, "the views to join")

    def _rows(self, spine: Any) -> Spine:
        """Whatever may stand for a spine, as one."""
        if isinstance(spine, TableRows | DeltaRows | FrameRows):
            return spine
        if isinstance(spine, str):
            return FrameRows(self.query(spine))
        return FrameRows(spine) if isinstance(spine, DataFrame) else table_rows(spine)

    def _resources(self) -> Resources:
        return Resources(lambda: self.spark, self.settings.join_tasks(), self.settings.join.task_memory_mb * 1_000_000)
