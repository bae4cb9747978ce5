"""`penstock doctor`: what this machine and this project lack."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from penstock.cli.screen import out
from penstock.clock import SystemClock, to_micros
from penstock.config import Settings, load_settings
from penstock.errors import PenstockError, RegistryError, StoreUnavailable
from penstock.online.cassandra.failures import NotAllowed
from penstock.online.cassandra.probe import probe_write_tokens
from penstock.registry.project import load_project
from penstock.runtime.doctor import Finding, examine, from_error
from penstock.runtime.node_status import cassandra_endpoint, node_status

_STYLE = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def run(
    deep: Annotated[bool, typer.Option("--deep", help="also start Spark and run a tiny job: about ten seconds")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Look for what this machine and this project lack, and say what to do; exit code 1 if there is a problem."""
    findings = []
    for finding in _findings(deep):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        out.print_json(json.dumps([asdict(finding) for finding in findings]))
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def settings_of(folder: Path) -> tuple[Settings | None, Finding]:
    """The settings of the project in a folder, None if they do not load, and what is to be said of them."""
    try:
        settings = load_settings(folder)
    except PenstockError as error:
        return None, from_error("settings", error)
    return settings, Finding("settings", "ok", f"of {settings.root}")


def definitions(settings: Settings, package: str = "feature_assets") -> Finding:
    """Whether the project's feature files load; they run as they do when they are used."""
    if str(settings.root) not in sys.path:
        sys.path.insert(0, str(settings.root))
    try:
        with redirect_stdout(sys.stderr):  # what they print is not ours to show
            project = load_project(package)
    except Exception as error:  # they are anybody's code, whose own words may hold a secret
        cause = error.__cause__ if isinstance(error, RegistryError) else None
        return from_error("definitions", cause if isinstance(cause, Exception) else error)
    return Finding("definitions", "ok", f"{len(project.views)} feature view(s) and {len(project.services)} feature service(s) in {package}")


def write_tokens(settings: Settings) -> Finding:
    """Whether Cassandra orders writes by our tokens; tried with a row that is removed again."""
    subject, later = "write tokens", "run this again with the role that publishes"
    try:
        tried = asyncio.run(probe_write_tokens(*cassandra_endpoint(settings), settings, to_micros(SystemClock().now())))
    except StoreUnavailable as error:
        return Finding(subject, "warning", f"not tried: {error.message}", "see the finding on Cassandra")
    except NotAllowed as error:
        return Finding(subject, "warning", f"not tried: {error.message}", later)
    except Exception as error:
        return from_error(subject, error)
    if not tried:
        return Finding(subject, "ok", "not tried: there are no tables yet; the first publication makes them, or `penstock online ddl`")
    return Finding(subject, "ok", "the greater one wins, whenever it is written")


def _findings(deep: bool) -> Iterator[Finding]:
    settings, finding = settings_of(Path())
    yield finding
    if settings is not None:
        yield definitions(settings)
    yield from examine(settings, deep=deep)
    if settings is not None and (settings.cassandra.mode == "external" or node_status(settings).running):
        yield write_tokens(settings)


def _show(finding: Finding) -> None:
    line = Text.assemble((f"{finding.state:<8}", _STYLE[finding.state]), f" {finding.subject:<18} {finding.found}")
    if finding.todo:
        line.append(f" -> {finding.todo}", style="yellow")
    out.print(line, soft_wrap=True)
