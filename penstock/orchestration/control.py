"""Driving a Dagster instance from outside, over its GraphQL: launch a range run, follow it, look at ticks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import takewhile
from typing import Any, TypeVar

import httpx
from tenacity import RetryError, Retrying, retry_if_not_result, stop_after_delay, wait_fixed

from penstock.errors import DagsterError

LOCATION, REPOSITORY = "penstock", "__repository__"
T = TypeVar("T")
_FINISHED = ("SUCCESS", "FAILURE", "CANCELED")

_LAUNCH = """mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } }
  ... on PipelineNotFoundError { message } ... on InvalidSubsetError { message } } }"""
_RUN = """query Run($id: ID!) { runOrError(runId: $id) { __typename ... on Run { runId status jobName startTime endTime
  stepStats { stepKey status } } } }"""
_RUNS = (
    """query Runs($job: String!) { runsOrError(filter: {pipelineName: $job}, limit: 50) { ... on Runs { results { runId status } } } }"""
)
_FAILURES = """query Failures($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events { __typename
  ... on ExecutionStepFailureEvent { stepKey error { message causes { message } } }
  ... on RunFailureEvent { error { message } } ... on EngineEvent { message } } } } }"""
_READY = """query Ready { workspaceOrError { __typename ... on Workspace { locationEntries { name loadStatus
  locationOrLoadError { __typename ... on PythonError { message } } } } ... on PythonError { message } } }"""
_TICKS = """query Ticks($selector: InstigationSelector!) { instigationStateOrError(instigationSelector: $selector) {
  ... on InstigationState { ticks(limit: 20) { status timestamp skipReason runIds error { message } } } } }"""


_LAUNCH_BACKFILL = """mutation Backfill($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  ... on PartitionKeysNotFoundError { message } ... on InvalidSubsetError { message } } }"""
_BACKFILL = """id status timestamp title partitionNames assetSelection { path } error { message }
  runs(limit: 1000) { runId status jobName startTime endTime }"""
_ONE_BACKFILL = (
    """query Backfill($id: String!) { partitionBackfillOrError(backfillId: $id) { __typename ... on PartitionBackfill { """
    + _BACKFILL
    + """ } ... on PythonError { message } } }"""
)
_BACKFILLS = (
    """query Backfills { partitionBackfillsOrError(status: REQUESTED, limit: 100) { ... on PartitionBackfills { results { %s } } } }"""
)
_ASSETS = """query Assets { assetNodes { assetKey { path } isMaterializable } }"""
_DAEMONS = """query Daemons { instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"""


@dataclass(frozen=True)
class Run:
    """A run as Dagster sees it: status QUEUED, STARTING, STARTED, SUCCESS, FAILURE or CANCELED; step → status."""

    id: str
    status: str
    steps: dict[str, str]
    seconds: float | None

    @property
    def finished(self) -> bool:
        return self.status in _FINISHED


@dataclass(frozen=True)
class Backfill:
    """A backfill as Dagster sees it.

    Args:
        id: names it.
        status: REQUESTED while it goes on; COMPLETED_SUCCESS, COMPLETED_FAILED, CANCELED, FAILED once it has ended.
        assets, partitions: what it materializes.
        runs: those it has started so far.
        error: why it failed itself, which is rare: its runs do.
    """

    id: str
    status: str
    assets: frozenset[tuple[str, ...]]
    partitions: frozenset[str]
    runs: tuple[Run, ...]
    error: str | None

    @property
    def finished(self) -> bool:
        return self.status not in ("REQUESTED", "CANCELING", "FAILING")

    @classmethod
    def of(cls, answer: dict[str, Any]) -> "Backfill":
        """As GraphQL tells it."""
        error = answer["error"]
        return cls(
            id=answer["id"],
            status=answer["status"],
            assets=frozenset(tuple(key["path"]) for key in answer["assetSelection"] or ()),
            partitions=frozenset(answer["partitionNames"] or ()),
            runs=tuple(Run(run["runId"], run["status"], {}, None) for run in answer["runs"]),
            error=None if error is None else error["message"],
        )


class Control:
    """A connection to one instance's webserver."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=60)

    def close(self) -> None:
        """Release the connection."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the webserver answers and the project is loaded.

        Raises:
            DagsterError: the project's definitions do not load.
        """
        try:
            workspace = self._ask(_READY, {})["workspaceOrError"]
        except httpx.TransportError:
            return False
        for entry in workspace.get("locationEntries", []):
            loaded = entry["locationOrLoadError"]
            if loaded is not None and loaded["__typename"] == "PythonError":
                raise DagsterError(f"the definitions of '{entry['name']}' do not load:\n{loaded['message']}")
        return any(e["loadStatus"] == "LOADED" and e["locationOrLoadError"] is not None for e in workspace.get("locationEntries", []))

    def launch(self, assets: Sequence[Sequence[str]], first: date, last: date) -> str:
        """Start one run that materializes these assets for every day from `first` to `last`; returns its id."""
        tags = {"dagster/asset_partition_range_start": first.isoformat(), "dagster/asset_partition_range_end": last.isoformat()}
        params = {
            "selector": {
                "repositoryLocationName": LOCATION,
                "repositoryName": REPOSITORY,
                "jobName": "__ASSET_JOB",
                "assetSelection": [{"path": list(path)} for path in assets],
            },
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        answer = self._ask(_LAUNCH, {"params": params})["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise DagsterError(f"the run was not started: {answer}")
        return str(answer["run"]["runId"])

    def launch_backfill(self, assets: Sequence[Sequence[str]], days: Sequence[date], title: str) -> str:
        """Start a backfill of these assets for these days, as the UI does; returns its id. The daemon starts its runs."""
        params = {
            "assetSelection": [{"path": list(path)} for path in assets],
            "partitionNames": [day.isoformat() for day in days],
            "title": title,
        }
        answer = self._ask(_LAUNCH_BACKFILL, {"params": params})["launchPartitionBackfill"]
        if answer["__typename"] != "LaunchBackfillSuccess":
            raise DagsterError(f"the backfill was not started: {answer.get('message') or answer}")
        return str(answer["backfillId"])

    def backfill(self, backfill_id: str) -> Backfill:
        """A backfill by id."""
        answer = self._ask(_ONE_BACKFILL, {"id": backfill_id})["partitionBackfillOrError"]
        if answer["__typename"] != "PartitionBackfill":
            raise DagsterError(f"no backfill {backfill_id}")
        return Backfill.of(answer)

    def backfills_under_way(self) -> list[Backfill]:
        """Those that have not ended, newest first."""
        return [Backfill.of(one) for one in self._ask(_BACKFILLS % _BACKFILL, {})["partitionBackfillsOrError"]["results"]]

    def wait_for_backfill(self, backfill_id: str, *, at_most: timedelta, on_look: Callable[[Backfill], None] = lambda _: None) -> Backfill:
        """The backfill once all its runs have succeeded.

        Raises:
            DagsterError: one failed, it was cancelled, or it took longer than `at_most`.
        """

        def look() -> Backfill:
            backfill = self.backfill(backfill_id)
            on_look(backfill)
            return backfill

        done = until(look, lambda b: b.finished, at_most=at_most, what=f"backfill {backfill_id}", every_s=2.0)
        if done.status not in ("COMPLETED", "COMPLETED_SUCCESS"):
            failed = [run.id for run in done.runs if run.status != "SUCCESS"]
            why = "\n".join([*([done.error] if done.error else []), *(f"run {run_id}: {self.failures(run_id)}" for run_id in failed)])
            raise DagsterError(
                f"backfill {backfill_id} ended as {done.status}:\n{why}",
                hint="once its cause is gone, the same command goes on where it ended",
            )
        return done

    def materializable(self) -> set[tuple[str, ...]]:
        """The assets that a run can bring about; others only stand for what somebody else writes."""
        return {tuple(node["assetKey"]["path"]) for node in self._ask(_ASSETS, {})["assetNodes"] if node["isMaterializable"]}

    def unhealthy_daemons(self) -> list[str]:
        """Of the daemons the instance needs, those that give no sign of life."""
        daemons = self._ask(_DAEMONS, {})["instance"]["daemonHealth"]["allDaemonStatuses"]
        return [daemon["daemonType"].lower() for daemon in daemons if daemon["required"] and not daemon["healthy"]]

    def run(self, run_id: str) -> Run:
        """A run by id."""
        answer = self._ask(_RUN, {"id": run_id})["runOrError"]
        if answer["__typename"] != "Run":
            raise DagsterError(f"no run {run_id}")
        start, end = answer["startTime"], answer["endTime"]
        return Run(
            id=run_id,
            status=answer["status"],
            steps={step["stepKey"]: step["status"] for step in answer["stepStats"]},
            seconds=end - start if start is not None and end is not None else None,
        )

    def runs_of(self, job: str) -> list[Run]:
        """The newest 50 runs of a job, newest first."""
        return [Run(r["runId"], r["status"], {}, None) for r in self._ask(_RUNS, {"job": job})["runsOrError"]["results"]]

    def wait(self, run_id: str, *, at_most: timedelta, on_look: Callable[[Run], None] = lambda _: None) -> Run:
        """The run once it has succeeded.

        Raises:
            DagsterError: it failed, was cancelled or took longer than `at_most`.
        """

        def look() -> Run:
            run = self.run(run_id)
            on_look(run)
            return run

        run = until(look, lambda r: r.finished, at_most=at_most, what=f"run {run_id}")
        if run.status != "SUCCESS":
            raise DagsterError(f"run {run_id} ended as {run.status}:\n{self.failures(run_id)}")
        return run

    def failures(self, run_id: str) -> str:
        """Why a run failed, as its events say."""
        events = self._ask(_FAILURES, {"id": run_id})["logsForRun"]["events"]
        failed = [(event.get("stepKey"), event["error"]) for event in events if event.get("error") is not None]
        # Where a step failed, the run's own error says only that one did.
        told = [(step, error) for step, error in failed if step] or failed
        lines = [f"{step or 'run'}: {_first_cause(error)}" for step, error in told]
        if lines:
            return "\n".join(lines)
        # A worker that was killed has raised nothing; whoever found it dead has said so just before the run was called failed.
        before = takewhile(lambda event: event["__typename"] != "RunFailureEvent", events)
        said = [event["message"] for event in before if event["__typename"] == "EngineEvent"]
        return f"run: {said[-1].strip()}" if said else "no failure event; see the run's log in the Dagster UI"

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """The newest 20 ticks of a sensor, newest first."""
        selector = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "name": sensor}
        found: list[dict[str, Any]] = self._ask(_TICKS, {"selector": selector})["instigationStateOrError"]["ticks"]
        return found

    def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        answer = self._http.post("/graphql", json={"query": query, "variables": variables}).json()
        if answer.get("errors"):
            raise DagsterError(f"Dagster refused the question: {answer['errors'][0]['message']}")
        data: dict[str, Any] = answer["data"]
        return data


def _first_cause(error: dict[str, Any]) -> str:
    return str([error["message"], *(cause["message"] for cause in error.get("causes", []))][-1]).strip()


def until(look: Callable[[], T], is_so: Callable[[T], bool], *, at_most: timedelta, what: str, every_s: float = 0.5) -> T:
    """What `look` gives, asked every so many seconds, once `is_so` of it.

    Raises:
        DagsterError: that took longer than `at_most`.
    """
    retrying = Retrying(stop=stop_after_delay(at_most), wait=wait_fixed(every_s), retry=retry_if_not_result(is_so))
    try:
        return retrying(look)
    except RetryError:
        raise DagsterError(f"{what} did not end within {at_most}") from None
