"""`penstock init`: a working project of one's own."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import penstock
from penstock.cli.screen import out
from penstock.errors import ConfigError

_TEMPLATES = Path(penstock.__file__).parent / "templates"
_OF_FLIGHTS = ("feature_assets", "feature_functions", "jobs", "quality", "conf", "workspace.yaml")
_OF_BOTH = ("conf/base.yaml", "conf/dagster.yaml", "conf/alerts/penstock.rules.yml", "workspace.yaml")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_FIRST_DAY = timedelta(days=30)


class Template(StrEnum):
    """What a new project starts from."""

    BLANK = "blank"
    FLIGHTS = "flights"


def run(
    name: Annotated[str, typer.Argument(help="the project's name, and the folder it is written to")],
    template: Annotated[
        Template, typer.Option(help="blank: ready for views of your own; flights: six views over real flights")
    ] = Template.BLANK,
) -> None:
    """Write a working project into a new folder: definitions, settings, Dagster's workspace, tests, a CI workflow."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"project name '{name}': expected letters, digits, '-' and '_', a letter first")
    folder = Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder.resolve()} is there already and not empty", hint="choose another name, or move it away")
    for path, text in files_of(template, name):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    out.print(f"{name}/ is ready. Next:\n\n  cd {name}\n  penstock doctor    # what this machine lacks, and what to do\n  penstock dev")


def files_of(template: Template, name: str) -> Iterator[tuple[Path, str]]:
    """Path and content of every file of a new project."""
    for path in _below(_TEMPLATES / "common"):
        yield _named(path.relative_to(_TEMPLATES / "common")), _filled(path, name)
    flights = _flights()
    if template is Template.FLIGHTS:
        for top in _OF_FLIGHTS:
            for path in _below(flights / top):
                if path.name != "jars.lock":  # the one that Penstock ships is used
                    yield path.relative_to(flights), path.read_text(encoding="utf-8")
        return
    for path in _below(_TEMPLATES / "blank"):
        yield path.relative_to(_TEMPLATES / "blank"), path.read_text(encoding="utf-8")
    for file in _OF_BOTH:
        yield Path(file), (flights / file).read_text(encoding="utf-8")
    first = (datetime.now(UTC) - _FIRST_DAY).date()
    yield Path("conf/local.yaml"), f"# What differs from conf/base.yaml on this machine.\ndagster:\n  first_day: {first}   # of your data\n"


def _flights() -> Path:
    """The flights project: inside the wheel, or around the package where that is run from its sources."""
    shipped = _TEMPLATES / "flights"
    return shipped if shipped.exists() else _TEMPLATES.parent.parent


def _below(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = [p for p in sorted(path.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
    return [p for p in found if (p.parent.name, p.name) not in (("conf", "local.yaml"), ("conf", "prod.yaml"))]


def _named(path: Path) -> Path:
    return Path(*[f".{part.removeprefix('dot_')}" if part.startswith("dot_") else part for part in path.parts])


def _filled(path: Path, name: str) -> str:
    return path.read_text(encoding="utf-8").replace("{{name}}", name).replace("{{version}}", penstock.__version__)
