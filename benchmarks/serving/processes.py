"""The gateway as a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from penstock.config import Settings

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def gateway(settings: Settings, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A gateway of the project in `settings.root` on the cluster of `settings`; ready, and ended at the end.

    Args:
        variables: settings that differ, e.g. `GATEWAY__WORKERS="2"`.
    """
    environment = {**os.environ, **{f"PENSTOCK_{name}": value for name, value in variables.items()}}
    environment["PENSTOCK_GATEWAY__PORT"] = str(settings.gateway.port)
    if settings.cassandra.mode == "external":
        environment |= {
            "PENSTOCK_CASSANDRA__MODE": "external",
            "PENSTOCK_CASSANDRA__CONTACT_POINTS": json.dumps(list(settings.cassandra.contact_points)),
            "PENSTOCK_CASSANDRA__PORT": str(settings.cassandra.port),
        }
    line = [sys.executable, "-m", "penstock.cli.main", "gateway"]
    with subprocess.Popen(line, cwd=settings.root, env=environment) as process:
        try:
            await_ready(f"http://127.0.0.1:{settings.gateway.port}/readyz", process)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Ask until it is there; each attempt waits a little longer for the port, none sleeps."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=12), timeout=10) as http:
        while process.poll() is None:
            if http.get(url).status_code == 200:
                return
    raise SystemExit(f"{url}: the server ended with {process.returncode}")
