"""`penstock doctor`: what this machine and this project lack."""

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
from penstock.config import Settings, load_settings
from penstock.errors import PenstockError
from penstock.registry.project import load_project
from penstock.runtime.doctor import Finding, examine, from_error

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
    except Exception as error:  # they are anybody's code
        return from_error("definitions", error)
    return Finding("definitions", "ok", f"{len(project.views)} feature view(s) and {len(project.services)} feature service(s) in {package}")


def _findings(deep: bool) -> Iterator[Finding]:
    settings, finding = settings_of(Path())
    yield finding
    if settings is not None:
        yield definitions(settings)
    yield from examine(settings, deep=deep)


def _show(finding: Finding) -> None:
    line = Text.assemble((f"{finding.state:<8}", _STYLE[finding.state]), f" {finding.subject:<18} {finding.found}")
    if finding.todo:
        line.append(f" -> {finding.todo}", style="yellow")
    out.print(line, soft_wrap=True)
