"""A running instance to break: the flights project under `dagster dev`, with its daemon, Cassandra and the gateway."""

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import psutil

from penstock.contract import FeatureView
from penstock.offline.lake import feature_table
from penstock.offline.logs import attempts, newest, passed, publications
from penstock.online.cassandra import CassandraStore
from penstock.online.ledger import Publication
from penstock.online.store import OnlineStore
from penstock.orchestration.control import LOCATION, REPOSITORY, until
from penstock.orchestration.stack import Stack
from penstock.publication.held_store import Connect, with_store
from penstock.registry.project import Project as Definitions
from penstock.registry.project import load_project
from penstock.runtime.node_status import cassandra_endpoint
from tests.project import Project, penstock

AT_MOST = timedelta(minutes=5)
_START = """mutation($schedule: ScheduleSelector!) {
  startSchedule(scheduleSelector: $schedule) { __typename ... on ScheduleStateResult { scheduleState { id } } } }"""
_STOP = "mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }"

# The facts, but where the file `var/bad_day` names a day, each delay of that day is a thousand hours.
INGEST = """
from pathlib import Path
import pyarrow as pa
import pyarrow.compute as pc
from jobs import flights_data

BAD = Path(__file__).parent.parent / "var" / "bad_day"


def facts(name, start, end, known_by):
    table = flights_data.facts(name, start, end, known_by)
    if not BAD.exists():
        return table
    bad = pc.equal(pc.cast(pc.cast(table["event_time"], pa.date32()), pa.string()), BAD.read_text())
    delays = pc.if_else(bad, pa.scalar(60_000, pa.int32()), table["arr_delay_min"])
    return table.set_column(table.column_names.index("arr_delay_min"), "arr_delay_min", delays)


FETCH = {**dict.fromkeys(flights_data.SCHEMAS, flights_data.facts), "arrivals": facts}
"""


class Instance:
    """The running project, seen from outside: over GraphQL, in the lake, and in the online store.

    Args:
        project, definitions: what runs.
        now: where its Clock stands still; None: the machine's.
        stack: Dagster's; another after it was restarted.
        gateway: its URL, and an API key.
    """

    def __init__(self, project: Project, definitions: Definitions, now: datetime | None, stack: Stack, gateway: tuple[str, str]) -> None:
        self.project, self.stack, self.control = project, stack, stack.dagster()
        self.gateway_url, self.api_key = gateway
        self.settings = project.settings(now)
        self.definitions = definitions
        self.views = self.definitions.views
        self.view = self.definitions.view("carrier_origin_delays")  # the one at whose worst points runs are killed
        self.source_keys = [["sources", source.name] for source in self.definitions.sources]
        self.feature_keys = [["features", view.name] for view in self.views]
        self.source_key, self.feature_key = ["sources", "arrivals"], ["features", self.view.name]
        self.usual_s = (0.0, 0.0)  # how long a computing and a publishing run of a day take

    @property
    def connect(self) -> Connect:
        return partial(CassandraStore.connect, *cassandra_endpoint(self.settings), self.settings)

    def spoil(self, day: date) -> None:
        (self.project.folder / "var" / "bad_day").write_text(day.isoformat())

    def mend(self) -> None:
        (self.project.folder / "var" / "bad_day").unlink()

    def end_dagster(self) -> None:
        """End `dagster dev` and what it started; done already is no error."""
        self.stack.__exit__(None, None, None)

    def restart_dagster(self) -> None:
        """End `dagster dev`, if it has not ended, and start it again with the settings there are now."""
        self.end_dagster()
        self.stack = Stack(self.settings)
        self.control = self.stack.dagster()

    @contextmanager
    def scheduled(self, name: str) -> Iterator[None]:
        """While a schedule runs; where the Clock stands still none does unasked."""
        selector = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "scheduleName": name}
        started = self._ask(_START, {"schedule": selector})
        yield
        self._ask(_STOP, {"id": started["scheduleState"]["id"]})

    def _ask(self, question: str, variables: dict[str, Any]) -> Any:
        url = f"http://{self.settings.dagster.host}:{self.settings.dagster.port}/graphql"
        (answer,) = httpx.post(url, json={"query": question, "variables": variables}).json()["data"].values()
        assert answer["__typename"] == "ScheduleStateResult", answer
        return answer

    def run(self, *assets: list[str], first: date, last: date) -> None:
        self.control.wait(self.control.launch(assets, first, last), at_most=AT_MOST)

    def command(self, *words: str) -> str:
        """What a `penstock` command says, run in the project at its Clock."""
        now = self.settings.clock.now
        env = {**os.environ, **({} if now is None else {"PENSTOCK_CLOCK__NOW": now.isoformat()})}
        done = subprocess.run(penstock(*words), cwd=self.project.folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def computed(self, view: FeatureView | None = None) -> set[date]:
        """Days whose newest attempt passed: of a view, or of all of them."""
        of = self.views if view is None else (view,)
        return set.intersection(*(set(newest(attempts(self.project.lake, feature_table(one)), passed)) for one in of))

    def ledger(self) -> list[Publication]:
        """Of all views."""

        async def read(store: OnlineStore) -> list[Publication]:
            return [row for view in self.views for row in await store.publications(view.name, view.version)]

        return with_store(self.connect, read)

    def copied(self) -> list[Publication]:
        """The ledger's copy in the lake, of all views."""
        return [row for view in self.views for row in publications(self.project.lake, view.name, view.version)]

    def wait_until_published(self, *days: date, views: Sequence[FeatureView] | None = None) -> None:
        """Until these days of some views, by default of all, are readable and no run is under way."""
        wanted = {(view.name, day) for view in (self.views if views is None else views) for day in days}
        until(lambda: {(row.view, row.partition) for row in self.copied()}, wanted.issubset, at_most=AT_MOST, what=f"publication of {days}")
        self.wait_until_quiet()

    def wait_until_quiet(self) -> None:
        """Until no run of any job is under way."""
        until(self.unfinished, lambda runs: not runs, at_most=AT_MOST, what="all runs")

    def unfinished(self) -> list[dg.DagsterRun]:
        with self.dagster() as instance:
            return list(instance.get_runs(dg.RunsFilter(statuses=[s for s in dg.DagsterRunStatus if s not in _FINISHED])))

    def publishing(self, view: FeatureView | None) -> dg.DagsterRun | None:
        """The run that is publishing a view, or any: the sensor may ask for several, each of some views."""
        key = None if view is None else dg.AssetKey(["online", view.name])
        runs = [run for run in self.unfinished() if run.job_name == "publish_online"]
        return next((run for run in reversed(runs) if key is None or key in (run.asset_selection or ())), None)

    @contextmanager
    def dagster(self) -> Iterator[dg.DagsterInstance]:
        """Its event log and runs."""
        with dg.DagsterInstance.from_config(str(self.settings.path(self.settings.dagster.home))) as instance:
            yield instance

    def skip_reasons(self) -> list[str]:
        """Of the sensor's newest ticks, newest first."""
        return [tick["skipReason"] for tick in self.control.ticks("publish") if tick["skipReason"]]

    def pid_of(self, run_id: str) -> int:
        """The process of a run, once it has one."""
        found = until(lambda: self.pid_now(run_id), lambda pid: pid is not None, at_most=AT_MOST, what=f"the process of run {run_id}")
        assert found is not None
        return found

    def pid_now(self, run_id: str) -> int | None:
        """The process of a run, if it has one."""
        with self.dagster() as instance:
            for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
                metadata: dict[str, Any] = dict(entry.dagster_event.engine_event_data.metadata) if entry.dagster_event else {}
                if "pid" in metadata:
                    return int(metadata["pid"].value)
        return None

    def keys(self, view: FeatureView) -> set[tuple[Any, ...]]:
        """Every key of a view's table."""
        names = list(view.entity.join_keys)
        table = self.project.lake.dataset(feature_table(view)).to_table(columns=names)
        return set(zip(*(table[name].to_pylist() for name in names), strict=True))

    def kill_after(self, run_id: str, seconds: float) -> float:
        """Kill -9 a run's process and all its children, so long after it was started; returns the seconds it had lived."""
        victim = Victim(self.pid_of(run_id))
        while victim.alive and victim.lived_s < seconds:
            threading.Event().wait(0.02)
        return victim.kill()

    def kill_when_there(self, run_id: str, path: Path) -> float:
        """The same, as soon as a file or folder is there."""
        victim = Victim(self.pid_of(run_id))
        while victim.alive and not path.exists():
            threading.Event().wait(0.002)
        return victim.kill()

    def kill_when_online(self, run_id: str, is_so: Callable[[OnlineStore], Awaitable[bool]]) -> float:
        """The same, as soon as something is so of the online store."""
        victim = Victim(self.pid_of(run_id))

        async def watch(store: OnlineStore) -> float:
            await store.prepare([view.entity.name for view in self.views])
            while victim.alive and not await is_so(store):
                await asyncio.sleep(0.005)
            return victim.kill()

        return with_store(self.connect, watch)


class Victim:
    """A run's process and its children. Who they are is looked up ahead: when the moment comes it must be quick."""

    def __init__(self, pid: int) -> None:
        self._worker = psutil.Process(pid)
        self._family: list[psutil.Process] = []
        self._alive, self._looked_at = True, 0.0

    @property
    def lived_s(self) -> float:
        return time.time() - self._worker.create_time()

    @property
    def alive(self) -> bool:
        if time.monotonic() - self._looked_at > 0.5:  # looking costs, and the victim needs the processor
            self._looked_at = time.monotonic()
            try:
                self._family = self._worker.children(recursive=True)
                self._alive = self._worker.status() != psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                self._alive = False
        return self._alive

    def kill(self) -> float:
        lived = self.lived_s
        family = [self._worker, *self._family]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)
        return lived


_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def definitions_of(views: Sequence[str] | None) -> Definitions:
    """The project's definitions, or only some of its views."""
    all_of_it = load_project("feature_assets")
    return all_of_it if views is None else Definitions(all_of_it.name, tuple(map(all_of_it.view, views)), ())


@contextmanager
def running_instance(folder: Path, now: datetime, views: Sequence[str] | None = None) -> Iterator[Instance]:
    """The project, or only some of its views, running in `folder` with its Clock at `now`; ended as a whole."""
    project, definitions = Project(folder, views, publish_every_s=2), definitions_of(views)
    (folder / "jobs" / "ingest.py").write_text(INGEST)
    with Stack(project.settings(now)) as base:
        base.cassandra()
        gateway = base.gateway()
        instance = Instance(project, definitions, now, Stack(project.settings(now)), gateway)
        try:
            yield instance
        finally:
            instance.end_dagster()
