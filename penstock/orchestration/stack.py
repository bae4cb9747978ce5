"""Everything a project needs, running on one machine: Cassandra, Dagster with its daemon, the gateway.

with Stack(settings, report) as stack:
    ...                      # all running, and ended in reverse order, whatever happens
"""

import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import dagster as dg
import httpx

from penstock.config import Settings
from penstock.errors import ConfigError, RuntimeSetupError
from penstock.orchestration.control import Control, until
from penstock.runtime.node_status import node_status
from penstock.runtime.nodes import node_down, node_up
from penstock.runtime.ports import why_taken
from penstock.runtime.processes import Child, start, stop
from penstock.serving.access import local_key

_STARTING = timedelta(minutes=3)


class Stack:
    """The running processes of a project.

    Args:
        settings: of the project; addresses and ports are taken from them.
        report: told what is being started, a short phrase each.
    """

    def __init__(self, settings: Settings, report: Callable[[str], None] = lambda _: None) -> None:
        self.settings = settings
        self._report = report
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def cassandra(self) -> None:
        """Start the embedded node, if the settings ask for one; a node that ran before is left running at the end."""
        if self.settings.cassandra.mode == "external":
            return
        self._report("Cassandra")
        from_before = node_status(self.settings).running
        node_up(self.settings, on_progress=self._report)
        if not from_before:
            self._open.callback(node_down, self.settings)

    def dagster(self) -> Control:
        """Start Dagster's webserver and daemon on the project's workspace.

        Raises:
            ConfigError: there is no conf/dagster.yaml.
            RuntimeSetupError: the port is taken, or Dagster did not start.
            DagsterError: the project's definitions do not load.
        """
        dagster = self.settings.dagster
        _require_free(dagster.host, dagster.port, "dagster.port")
        self._report("Dagster")
        home, conf = self.settings.path(dagster.home), self.settings.root / "conf" / "dagster.yaml"
        if not conf.exists():
            raise ConfigError(f"there is no {conf}, the settings of Dagster's instance", hint="copy the one of Penstock's own project")
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(conf, home / "dagster.yaml")
        _fail_lost_runs(home)
        command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", dagster.host, "-p", str(dagster.port)]
        child = self._start("dagster", command, {**self._environment(), "DAGSTER_HOME": str(home)})
        control = Control(dagster.url)
        self._open.callback(control.close)
        self._await(child, control.ready)
        return control

    def gateway(self) -> tuple[str, str]:
        """Start the gateway; returns its URL and this machine's API key, which may read every service."""
        gateway = self.settings.gateway
        _require_free(gateway.host, gateway.port, "gateway.port")
        self._report("the gateway")
        key = local_key(self.settings)
        child = self._start("gateway", [sys.executable, "-m", "penstock.cli.main", "gateway"], self._environment())
        url = f"http://{gateway.host}:{gateway.port}"
        self._await(child, lambda: _answers(f"{url}/readyz"))
        return url, key

    def _start(self, name: str, command: list[str], env: dict[str, str]) -> Child:
        child = start(name, command, log=self.settings.path(f"var/log/{name}.log"), cwd=self.settings.root, env=env)
        self._open.callback(stop, child)
        return child

    def _environment(self) -> dict[str, str]:
        now = self.settings.clock.now
        fixed = {} if now is None else {"PENSTOCK_CLOCK__NOW": now.isoformat()}
        # The project's own packages are found from its folder.
        return {**fixed, "PYTHONPATH": str(self.settings.root), "PYTHONWARNINGS": "ignore"}

    def _await(self, child: Child, is_ready: Callable[[], bool]) -> None:
        def look() -> bool:
            child.require_alive()
            return is_ready()

        until(look, bool, at_most=_STARTING, what=f"starting {child.name}")


def _fail_lost_runs(home: Path) -> None:
    """Runs that were running when this instance last ended have no process any more; nobody else will say so, and
    until their time is up they would hold back all that share a pool with them."""
    lost = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for run in instance.get_runs(lost):
            instance.report_run_failed(run, "the instance ended while this run was running")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _require_free(host: str, port: int, setting: str) -> None:
    taken = why_taken(host, port)
    if taken is not None:
        raise RuntimeSetupError(
            f"{setting}: {host}:{port} cannot be used: {taken}",
            hint=f"stop what listens there, or set PENSTOCK_{setting.replace('.', '__').upper()} to another port",
        )
