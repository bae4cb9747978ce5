"""`penstock dev`: everything running on this machine until Ctrl-C."""

import signal
import threading

from penstock.cli.rehearsal import keep_classes
from penstock.cli.screen import err, out
from penstock.config import load_settings
from penstock.orchestration.stack import Stack


def run() -> None:
    """Run Cassandra, Dagster with its daemon and the gateway until Ctrl-C; then stop everything."""
    settings = load_settings()
    keep_classes(settings)
    asked_to_end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_end.set())
    with err.status("starting") as status, Stack(settings, lambda what: status.update(f"starting {what}")) as stack:
        stack.cassandra()
        control = stack.dagster()
        url, key = stack.gateway()
        status.stop()
        out.print(
            f"Dagster   {control.url}\ngateway   {url}\nAPI key   {key}\nlogs      {settings.path('var/log')}\nCtrl-C stops everything."
        )
        asked_to_end.wait()
        status.start()
        status.update("stopping")
