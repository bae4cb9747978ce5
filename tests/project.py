"""A copy of the flights project in a folder of its own, for tests that run it as a user does."""

import json
import re
import shutil
import socket
import sys
from collections.abc import Container
from datetime import datetime
from pathlib import Path

import psutil

from penstock.config import Settings, load_settings
from penstock.offline.lake import Lake

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def penstock(*words: str) -> list[str]:
    """The command line of a `penstock` command, in this Python."""
    return [sys.executable, "-m", "penstock.cli.main", *words]


class Project:
    """The copy, with ports of its own; nothing of it is running yet.

    Args:
        folder: an empty folder.
        views: which of its views it keeps; None: all.
        dagster: settings of Dagster, other than those it has.
    """

    def __init__(self, folder: Path, views: Container[str] | None = None, **dagster: object) -> None:
        self.folder = folder
        for name in ("conf", "feature_assets", "feature_functions", "jobs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(ROOT / "workspace.yaml", folder / "workspace.yaml")
        (folder / "conf" / "local.yaml").write_text(
            f"cassandra: {{port: {free_port()}}}\n"
            f"gateway: {{port: {free_port()}}}\n"
            f"dagster: {json.dumps({'port': free_port(), **dagster})}\n"
        )
        if views is not None:
            self._keep(views)

    def _keep(self, views: Container[str]) -> None:
        services = self.folder / "feature_assets" / "services.py"
        text = services.read_text()
        for path in services.parent.glob("*.py"):
            if f"import VIEW as {path.stem}\n" in text and path.stem not in views:
                path.unlink()
                text = re.sub(rf"^from .* import VIEW as {path.stem}\n|\b{path.stem}(, )?", "", text, flags=re.MULTILINE)
        services.write_text(text)
        gone = [
            f"feature_assets.{path.stem} import"
            for path in (ROOT / "feature_assets").glob("*.py")
            if not (services.parent / path.name).exists()
        ]
        for path in services.parent.glob("*.py"):
            if any(line in path.read_text() for line in gone):  # an on-demand view of what is gone
                path.unlink()

    @property
    def lake(self) -> Lake:
        return Lake(str(self.folder / "var/lake"))

    def settings(self, now: datetime | None) -> Settings:
        """Its settings with the Clock standing still at `now`; None: it goes on as the machine's."""
        found = load_settings(self.folder)
        return found.model_copy(update={"clock": found.clock.model_copy(update={"now": now})})

    def processes(self) -> list[str]:
        """Command lines of what runs in it."""
        return [
            " ".join(p.info["cmdline"]) for p in psutil.process_iter(["cmdline"]) if str(self.folder) in " ".join(p.info["cmdline"] or [])
        ]

    def logs(self) -> str:
        """The ends of its logs."""
        return "\n".join(f"{log}:\n{log.read_text()[-4000:]}" for log in self.folder.glob("var/log/*.log"))
