"""`penstock training-set`: a spine joined point-in-time, kept as a Delta table with a manifest."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

import penstock
from penstock.as_of import Mode
from penstock.cli.days import instant
from penstock.cli.screen import err, out, print_whole, write
from penstock.errors import SourceError, SpineError, TrainingSetError
from penstock.training_set.leakage_report import leakage_page
from penstock.training_set.manifest import Manifest
from penstock.training_set.stale import Since

cli = typer.Typer(no_args_is_help=True, help="Training sets: a spine joined with a service's features, point-in-time.")
_QUERY = "SQL of the rows to enrich, or @FILE or - to read it; {source} stands for a source's table"
_SPLIT = "time:<ISO 8601>, hash:<share>:<columns> or stratified:<share>:<column>: adds a column `split`, train or test"
_WHERE = "'<column> <operator> <JSON value>', e.g. 'distance > 500': rows that do not meet it are left out; may be repeated"
_LABEL = "'<column>:<column that says when it was known>': rows not known by the cut-off are left out; may be repeated"

Name = Annotated[str, typer.Argument(help="the training set's name")]
Build = Annotated[str | None, typer.Option("--build", help="the id of one build; default: the newest")]


@cli.command()
def build(
    name: Annotated[str, typer.Argument(help="the training set's name; each build has an id of its own below it")],
    service: Annotated[str, typer.Option(help="the feature service whose features are joined")],
    query: Annotated[str, typer.Option(help=_QUERY)] = "",
    table: Annotated[str, typer.Option(help="instead of a query: a Delta table, by its name in the lake or its location")] = "",
    table_version: Annotated[int | None, typer.Option(help="version of the table; default: the newest")] = None,
    mode: Annotated[str, typer.Option(help=f"what counts as known: {', '.join(get_args(Mode))}")] = "observed",
    override: Annotated[list[str] | None, typer.Option(help="'<view>=<mode>': another mode for one view; may be repeated")] = None,
    split: Annotated[str, typer.Option(help=_SPLIT)] = "",
    seed: Annotated[int, typer.Option(help="of the split: another seed is another split")] = 0,
    label: Annotated[list[str] | None, typer.Option(help=_LABEL)] = None,
    cutoff: Annotated[str, typer.Option(help="ISO 8601 with offset: by when labels had to be known; default: now")] = "",
    where: Annotated[list[str] | None, typer.Option(help=_WHERE)] = None,
) -> None:
    """Join the rows of a query or a table with a service's features and keep the result."""
    store = penstock.open()
    store.project.service(service)
    text = _text(query)
    overrides: Any = dict(_pair(one) for one in override or [])
    with err.status("joining"):
        made = store.training_set.build(
            name,
            store.spine(query=text, table=table, version=table_version),
            service,
            mode=mode,  # type: ignore[arg-type]  # refused there if it is none
            overrides=overrides,
            split=split,
            seed=seed,
            labels=label or (),
            cutoff=instant(cutoff, SpineError) if cutoff else None,
            where=[_condition(one) for one in where or []],
            spine_text=text or table,
        )
    out.print(f"table     {store.lake.location(made.table)}", soft_wrap=True)
    features = sum(len(part.features) for part in store.project.service(service).selection)
    if made.leakage:
        worst = max(made.leakage, key=lambda feature: made.leakage[feature])
        out.print(f"leakage   mode event would have differed in up to {made.leakage[worst]:.1%} of the rows ({worst})")
    out.print(f"rows      {made.rows:,} of {made.spine_rows:,}\nfeatures  {features}\ncontent   {made.content}")
    for reason, rows in made.excluded.items():
        out.print(f"  left out: {rows:,} ({reason})", markup=False)
    for one in made.inputs:
        counted = ", ".join(f"{rows:,} by {rule}" for rule, rows in one.rows_by_rule.items())
        out.print(f"  {one.name}: {one.view}@{one.version} at version {one.delta_version}: {counted}", markup=False)


@cli.command("list")
def list_(name: Annotated[str | None, typer.Argument(help="the training set's name; default: all")] = None) -> None:
    """The builds of a training set, oldest first, and what of their inputs was corrected or invalidated since."""
    store = penstock.open()
    found = store.training_set.list(name)
    if not found:
        what = f"no training set '{name}'" if name else "no training set"
        raise SpineError(f"{what} in the lake", hint="build it: penstock training-set build --help")
    titles = ("name", "id", "mode", "rows", "service", "contract", "split", "content", "stale")
    table = Table(*[Column(title, overflow="fold") for title in titles], box=None)
    since = Since(store.lake)
    for one in found:
        stale = _stale(since, one)
        table.add_row(one.name, one.id, one.mode, f"{one.rows:,}", one.service, one.contract, one.split or "-", one.content, escape(stale))
    print_whole(table)


@cli.command()
def show(
    name: Name,
    build: Build = None,
    as_json: Annotated[bool, typer.Option("--json", help="all of it, the manifest too, as JSON")] = False,
) -> None:
    """The columns of a training set, what their values are like, and what of its inputs was corrected or invalidated since."""
    store = penstock.open()
    loaded = store.training_set.load(name, build)
    if as_json:
        stale = store.training_set.stale(name, loaded.manifest.id)
        whole = {"manifest": loaded.manifest, "stale": stale, "statistics": loaded.statistics()}
        out.print_json(msgspec.json.encode(whole).decode())
        return
    out.print(_about(loaded.manifest), markup=False, soft_wrap=True)
    out.print(_stale_in_full(Since(store.lake), loaded.manifest), markup=False, soft_wrap=True, end="")
    table = _numbers("column", "nulls", "distinct", "mean", "std", "min", "median", "max")
    for column, found in loaded.statistics().items():
        distinct = "-" if found.distinct_values is None else f"{found.distinct_values:,}"
        numbers = [found.mean if found.finite else None, found.deviation, found.low, found.quantile(0.5), found.high]
        nulls = f"{found.nulls / found.rows:.1%}" if found.rows else "-"
        table.add_row(column, nulls, distinct, *["-" if number is None else f"{number:,.4g}" for number in numbers])
    print_whole(table)


@cli.command()
def verify(
    name: Name,
    build: Build = None,
    deep: Annotated[bool, typer.Option(help="read all files, to see whether they are what they were")] = False,
) -> None:
    """Whether a training set could be made again, and until when; exit code 1 if it could not."""
    store = penstock.open()
    with err.status("looking"):
        findings = store.training_set.verify(name, build, deep=deep)
    colors = {"good": "green", "expires soon": "yellow", "gone": "red", "altered": "red"}
    for one in findings:
        out.print(f"[{colors[one.state]}]{one.state:12}[/] {one.what}: {one.detail}", soft_wrap=True)
    if any(one.state in ("gone", "altered") for one in findings):
        raise TrainingSetError(f"training set '{name}' cannot be made again as it was")


@cli.command()
def rebuild(name: Name, build: Build = None) -> None:
    """Make a training set again from its manifest, and say whether it is the same."""
    store = penstock.open()
    with err.status("joining again"):
        made = store.training_set.rebuild(name, build)
    out.print(f"equal     {made.rows:,} rows\ncontent   {made.content}")


@cli.command()
def leakage(
    name: Name,
    build: Build = None,
    against: Annotated[str, typer.Option(help=f"the mode to compare with: {', '.join(get_args(Mode))}")] = "event",
    html: Annotated[Path | None, typer.Option(help="write a page with plots and examples there")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="write everything that was found there")] = None,
) -> None:
    """What another mode would have known, per feature: how many rows differ, and by how much."""
    store = penstock.open()
    if against not in get_args(Mode):
        raise SpineError(f"mode '{against}': expected one of {', '.join(get_args(Mode))}")
    loaded = store.training_set.load(name, build)
    with err.status("joining under both modes"):
        found = store.training_set.leakage(name, loaded.manifest.id, against=against)  # type: ignore[arg-type]
    if html is not None:
        title = f"Leakage of {name}"
        write(html, leakage_page(found, title, f"build {loaded.manifest.id}, service {loaded.manifest.service}"))
    if as_json is not None:
        write(as_json, msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    table = _numbers("feature", "differ", "share", f"present, {found.modes[0]}", f"present, {found.modes[1]}", "in deviations")
    for one in found.features:
        distance = "-" if one.in_deviations is None else f"{one.in_deviations:.3f}"
        table.add_row(one.feature, f"{one.differ:,}", f"{one.share:.1%}", *[f"{n:,}" for n in one.present], distance)
    print_whole(table)


def _numbers(first: str, *others: str) -> Table:
    """A table of a name and numbers; it is as wide as it is, since names that are cut say nothing."""
    return Table(Column(first, no_wrap=True), *[Column(title, justify="right", no_wrap=True) for title in others], box=None)


def _about(manifest: Manifest) -> str:
    rows = f"{manifest.rows:,} rows of {manifest.spine_rows:,}"
    lines = [f"{manifest.name} {manifest.id}: {rows}, mode {manifest.mode}, service {manifest.service}"]
    lines += [f"  left out: {rows:,} ({reason})" for reason, rows in manifest.excluded.items()]
    return "\n".join(lines)


def _stale(since: Since, manifest: Manifest) -> str:
    try:
        return "; ".join(map(str, since.stale(manifest)))
    except SourceError as error:  # of one set; the others are listed all the same
        return f"not known: {error.message}"


def _stale_in_full(since: Since, manifest: Manifest) -> str:
    try:
        found = since.stale(manifest)
    except SourceError as error:
        return f"  stale: not known: {error.message}\n"
    lines = []
    for one in found:
        by = f"{'runs' if one.what == 'corrected' else 'marks'} {', '.join(one.by)}"
        rows = f"{one.rows:,} row(s) of {one.attempts:,} attempt(s)"
        lines.append(f"  stale: {one}: {rows} of {one.view}@{one.version}, {by}; on {', '.join(map(str, one.days))}\n")
    return "".join(lines)


def _text(query: str) -> str:
    if query == "-":
        return sys.stdin.read()
    if query.startswith("@"):
        try:
            return Path(query[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise SpineError(f"{query[1:]} cannot be read: {error.strerror}") from None
    return query


def _pair(text: str) -> tuple[str, str]:
    name, found, mode = text.partition("=")
    if not found:
        raise SpineError(f"override '{text}': expected '<view>=<mode>'")
    return name.strip(), mode.strip()


def _condition(text: str) -> tuple[str, str, Any]:
    column, _, rest = text.strip().partition(" ")
    operator, _, value = rest.strip().partition(" ")
    if operator == "not" and value.strip().startswith("in "):
        operator, value = "not in", value.strip()[3:]
    try:
        return column, operator, json.loads(value)
    except json.JSONDecodeError:
        raise SpineError(
            f"filter '{text}': expected '<column> <operator> <JSON value>', e.g. 'distance > 500' or 'origin = \"JFK\"'"
        ) from None
