"""Chaos: runs, the daemon and the node killed with -9 while everything a project does goes on at once, on the machine's clock.

    corrections of past days ──► repair ─┐
    the refresh of the open day ─────────┼──► publications ──► a reader, who notes all it is given
    backfills, one after the other ──────┘

Each of these goes on whatever is killed. The killer draws what to kill, and when: of publications it prefers the time after the
first value of the run was written.
"""

import asyncio
import json
import random
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from penstock.offline.lake import Lake, feature_table
from penstock.offline.logs import attempts, newest, passed
from penstock.online.cassandra import CassandraStore
from penstock.online.cassandra.schema import entity_table
from penstock.online.ledger import unfinished
from penstock.online.store import OnlineStore
from penstock.orchestration.stack import Stack
from penstock.publication.held_store import with_store
from penstock.registry.project import Project as Definitions
from penstock.runtime.node_status import node_status
from penstock.runtime.nodes import node_up
from tests.faults.instance import Instance, Victim, definitions_of
from tests.faults.reader import Reader
from tests.project import Project, penstock

DAY = timedelta(days=1)
REACH = 9 * DAY  # how far before its days their windows look, and a day
VIEWS = ["carrier_origin_delays", "route_delays", "aircraft_turnaround"]

# The facts, but a day named in var/corrections.json with a number k: one flight in fifty is missing, the delay of every second one is
# k minutes longer. With the next k those are back as they were, and others are not.
INGEST = """
import json
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from jobs import flights_data

CORRECTIONS = Path(__file__).parent.parent / "var" / "corrections.json"


def facts(name, start, end, known_by):
    table = flights_data.facts(name, start, end, known_by)
    corrections = json.loads(CORRECTIONS.read_text()) if CORRECTIONS.exists() else {}
    rows, place = table.to_pydict(), table.column_names.index("arr_delay_min")
    keep, delays = [], []
    for flight, happened, delay in zip(rows["flight_id"], rows["event_time"], rows["arr_delay_min"]):
        k = corrections.get(happened.date().isoformat(), 0)
        bucket = int(sha256(flight.encode()).hexdigest()[:4], 16) % 50
        keep.append(k == 0 or bucket != (k + 7) % 50)
        delays.append(delay if k == 0 or (bucket + k) % 2 or delay is None else delay + k)
    return table.set_column(place, "arr_delay_min", pa.array(delays, pa.int32())).filter(pa.array(keep))


FETCH = {**dict.fromkeys(flights_data.SCHEMAS, flights_data.facts), "arrivals": facts}
"""


class Chaos(Instance):
    """The running project, the machine's clock, and what goes on in it.

    Args:
        project, definitions, stack, gateway: as `Instance` has them.
        first: the first partition.
    """

    def __init__(self, project: Project, definitions: Definitions, stack: Stack, gateway: tuple[str, str], first: date) -> None:
        super().__init__(project, definitions, None, stack, gateway)
        self.first = first
        self.kills: list[str] = []
        self.between = 0  # kills between the first value that a publishing run wrote and its last ledger row
        self.begun: Counter[str] = Counter()
        self._ended = threading.Event()
        self._dagster_is_there = threading.Event()
        self._dagster_is_there.set()

    @contextmanager
    def all_at_once(self, reader: Reader) -> Iterator[None]:
        """Corrections, backfills and the reader, beside what the instance does by itself, until the block ends."""
        paces = ((self._correct, 60), (self._backfill, 40))
        threads = [threading.Thread(target=self._until_ended, args=pace) for pace in paces]
        threads.append(threading.Thread(target=reader.run, args=(self._ended,)))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _until_ended(self, do: Callable[[], None], pause_s: float) -> None:
        while not self._ended.wait(random.uniform(0.5, 1.5) * pause_s):
            # Whatever it needs may have been killed; then it is tried again.
            with suppress(Exception):
                self._dagster_is_there.wait()
                do()

    def _correct(self) -> None:
        """Correct a day of the last week, and ingest it."""
        day = _today() - random.randint(1, 6) * DAY
        path = self.project.folder / "var" / "corrections.json"
        known = _json(path)
        _write_json(path, {**known, day.isoformat(): known.get(day.isoformat(), 0) + 1})
        self.control.launch([self.source_key], day, day)
        self.begun["corrections"] += 1

    def _backfill(self) -> None:
        """Compute two days of all views again, by the command."""
        begin = self.first + random.randint(0, (_today() - self.first).days - 2) * DAY
        command = penstock("backfill", str(begin), str(begin + DAY), "--force")
        self.begun["backfills"] += 1
        process = subprocess.Popen(command, cwd=self.project.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not self._ended.wait(0.5):
            pass
        process.kill()
        process.wait()
        self.begun["backfills that went through"] += process.returncode == 0

    def kill_something(self) -> None:
        """Kill one thing, and note at which phase: a run that computes, the daemon, the node or a run that ingests, a run that publishes,
        and so on. While a publishing run is waited for, computing runs commit what is to be published."""
        match len(self.kills) % 3:
            case 0:
                self.kills.append(self._kill_run("computing"))
            case 1:
                self._kill_beside()
            case _:
                self.kills.append(self._kill_run("publishing"))

    def _kill_beside(self) -> None:
        what = random.choices(["ingesting", "daemon", "node"], [0.4, 0.3, 0.3])[0]
        if what == "daemon":
            self.kills.append(f"daemon: {self._at_work()}")
            self._kill_daemon()
        elif what == "node":
            self.kills.append(f"node: {self._at_work()}")
            self._kill_node()
        else:
            self.kills.append(self._kill_run("ingesting"))

    def _kill_run(self, doing: str) -> str:
        while True:
            runs = [run for run in self.unfinished() if run.status == dg.DagsterRunStatus.STARTED]
            wanted = [run for run in runs if _doing(run) == doing]
            # Of two that publish nobody could tell which has written.
            run = random.choice(wanted) if len(wanted) == 1 or (wanted and doing != "publishing") else None
            pid = None if run is None else self.pid_now(run.run_id)
            if pid is None:
                time.sleep(1)  # looking costs, and those looked for need the processor
                continue
            try:
                killed = self._kill_publishing(pid) if doing == "publishing" else self._kill_soon(doing, pid)
            except psutil.NoSuchProcess:
                continue
            if killed is not None:
                return killed

    def _kill_soon(self, doing: str, pid: int) -> str | None:
        time.sleep(random.uniform(0, 15 if doing == "computing" else 4))
        versions = {view.name: self.project.lake.version(feature_table(view)) for view in self.views}
        victim = Victim(pid)
        if not victim.alive:
            return None
        lived = victim.kill()
        moved = sum(self.project.lake.version(feature_table(view)) != versions[view.name] for view in self.views)
        return f"{doing}: after {5 * round(lived / 5)} s{', with a commit' if moved else ''}"

    def _kill_publishing(self, pid: int) -> str | None:
        """Kill it at once, or (nineteen times in twenty) soon after the first value that it writes; one that writes none is let go."""
        victim = Victim(pid)
        phase = with_store(self.connect, lambda store: self._wait_and_kill(store, victim, wait=random.random() < 0.95))
        if phase is None:
            return None
        self.between += phase.startswith("between")
        return f"publishing: {phase}"

    async def _wait_and_kill(self, store: OnlineStore, victim: Victim, *, wait: bool) -> str | None:
        ledgers, committed = await self._ledgers(store), self._committed()
        before, written, begun = await self._writes(store), False, time.monotonic()
        while wait and not written:
            if not victim.alive or time.monotonic() - begun > 150:
                return None
            await asyncio.sleep(0.02)
            written = await self._writes(store) != before
        await asyncio.sleep(random.uniform(0, 0.5))
        if not victim.alive:
            return None
        victim.kill()
        written = written or await self._writes(store) != before
        intents = [await store.intent(view.name, view.version, 1) for view in self.views]
        now = await self._ledgers(store)
        open_ones = sum(bool(unfinished(intent, rows)) for intent, rows in zip(intents, now, strict=True))
        recorded = sum(a != b for a, b in zip(now, ledgers, strict=True))
        # What was committed when it began and has no ledger row, it had yet to write.
        lacking = committed - {(row.view, row.partition, row.attempt) for rows in now for row in rows}
        if written and (open_ones or (recorded and lacking)):
            return f"between its first write and its last ledger row ({recorded} views recorded)"
        return "an intent, nothing written" if open_ones else "nothing begun" if not recorded else "recorded"

    def _committed(self) -> set[tuple[str, date, int]]:
        """View, day and attempt of what counts of each day."""
        return {
            (view.name, day, entry.attempt)
            for view in self.views
            for day, entry in newest(attempts(self.project.lake, feature_table(view)), passed).items()
        }

    async def _ledgers(self, store: OnlineStore) -> list[Any]:
        return [await store.publications(view.name, view.version) for view in self.views]

    async def _writes(self, store: OnlineStore) -> int:
        """How many values the node has written since it was started, by its own count."""
        assert isinstance(store, CassandraStore)
        tables = ", ".join(f"'{entity_table(name)}'" for name in sorted({view.entity.name for view in self.views}))
        of = f"keyspace_name = '{store._keyspace}' AND table_name IN ({tables})"
        return sum(count for (count,) in await store._session.query(f"SELECT count FROM system_views.local_write_latency WHERE {of}"))

    def _at_work(self) -> str:
        """What was going on, in a few words."""
        jobs = sorted({"publishing" if run.job_name == "publish_online" else "computing" for run in self.unfinished()})
        return " and ".join(jobs) or "nothing at work"

    def _kill_daemon(self) -> None:
        """The daemon, and after a while what is left of `dagster dev` ends; it is started again, as whatever watches over it would.
        Runs that were under way may live on without it."""
        self._dagster_is_there.clear()
        try:
            for process in psutil.process_iter(["cmdline", "cwd"]):
                if process.info["cwd"] == str(self.project.folder) and "dagster._daemon" in " ".join(process.info["cmdline"] or []):
                    process.kill()
            time.sleep(random.uniform(0, 5))
            self.restart_dagster()
        finally:
            self._dagster_is_there.set()

    def stop_the_clock(self) -> datetime:
        """End Dagster and what it left behind, and start it again with the Clock standing still, which it tells."""
        self.end_dagster()
        self.end_orphans()
        now = datetime.now(UTC)
        self.settings = self.project.settings(now)
        self.restart_dagster()
        return now

    def _kill_node(self) -> None:
        pid = node_status(self.settings).pid
        assert pid is not None
        psutil.Process(pid).kill()
        time.sleep(random.uniform(0, 8))
        node_up(self.settings)

    def end_orphans(self) -> None:
        """Runs that outlived the Dagster that started them, and what they had started."""
        for process in psutil.process_iter(["cwd", "ppid", "cmdline"]):
            if process.info["cwd"] == str(self.project.folder) and process.info["ppid"] == 1 and "python" in process.name():
                with suppress(psutil.NoSuchProcess):
                    for child in process.children(recursive=True):
                        child.kill()
                    process.kill()

    def lake_with_the_same_sources(self, folder: Path) -> Lake:
        """A copy of what was ingested, in a folder, with nothing computed."""
        for name in ("raw", "log/attempts"):
            shutil.copytree(Path(self.project.lake.location(name)), folder / name)
        return Lake(str(folder))


@contextmanager
def running_chaos(folder: Path) -> Iterator[Chaos]:
    """The project with three of its views in `folder`, on the machine's clock; ended as a whole."""
    first = _today() - 10 * DAY
    often = {"publish_every_s": 10, "repair_every_s": 10, "refresh_cron": "*/4 * * * *"}
    project = Project(folder, VIEWS, **often, first_day=str(first - REACH))
    (folder / "jobs" / "ingest.py").write_text(INGEST)
    with Stack(project.settings(None)) as base:
        base.cassandra()
        gateway = base.gateway()
        chaos = Chaos(project, definitions_of(VIEWS), Stack(project.settings(None)), gateway, first)
        try:
            yield chaos
        finally:
            chaos.end_dagster()
            chaos.end_orphans()


def _doing(run: dg.DagsterRun) -> str:
    if run.job_name == "publish_online":
        return "publishing"
    kinds = {key.path[0] for key in run.asset_selection or ()}
    if run.job_name in ("refresh", "repair") or "features" in kinds:
        return "computing"
    return "ingesting" if "sources" in kinds else "something else"


def _today() -> date:
    return datetime.now(UTC).date()


def _json(path: Path) -> dict[str, int]:
    return json.loads(path.read_text()) if path.exists() else {}


def _write_json(path: Path, content: dict[str, int]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content))
    new.replace(path)
