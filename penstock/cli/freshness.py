"""`penstock freshness`: how old what is served is, and which stage the time goes to."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

import penstock
from penstock.cli.reach import KEY_HELP, URL_HELP, gateway
from penstock.cli.screen import err, out, print_whole, warn
from penstock.contract import FeatureView
from penstock.errors import PenstockError
from penstock.offline.lake import feature_table
from penstock.offline.logs import last_attempts
from penstock.offline.sources import how_far
from penstock.quality.canary import Canary, read_canary
from penstock.quality.freshness import Freshness, Stage, freshness, stages
from penstock.quality.served_log import Ages, served_ages
from penstock.store import Store

_LATELY = timedelta(hours=1)


@dataclass(frozen=True)
class _Found:
    view: str
    freshness: Freshness
    delay: timedelta
    stages: list[Stage]
    served: Ages | None


def run(
    views: Annotated[list[str] | None, typer.Argument(help="feature views, as `name` or `name@version`; default: all")] = None,
    canary: Annotated[bool, typer.Option(help="read each service through the gateway, and compare the answer with the lake's")] = True,
    url: Annotated[str, typer.Option(help=URL_HELP)] = "",
    api_key: Annotated[str, typer.Option(help=KEY_HELP)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="as JSON; durations as ISO 8601")] = False,
) -> None:
    """Say of each view how old what is served is, and where the time goes; exit code 1 if one is late, or a read is wrong."""
    store = penstock.open()
    wanted, now = store.project.views_named(views), store.clock.now()
    problems: list[str] = []
    reads = _canaries(store, wanted, url, api_key, problems) if canary else []
    read_until = {ref: until for read in reads for ref, until in read.complete_until.items() if until is not None}
    found = [_of(store, view, read_until.get(view.ref), now, problems) for view in wanted]
    problems += [said for read in reads for said in read.problems]
    if as_json:
        out.print_json(msgspec.json.encode({"views": found, "canaries": reads, "problems": problems}).decode())
    else:
        print_whole(_table(found))
        out.print(f"lag of each stage, of what the view allows it; served: ages of what was read in the last hour, by the feature log; "
                  f"at {now:%Y-%m-%d %H:%M:%S} UTC", style="dim", soft_wrap=True)  # fmt: skip
    warn(problems)
    if any(one.freshness.age is not None and not one.freshness.kept for one in found) or any(read.problems for read in reads):
        sys.exit(1)


def _canaries(store: Store, views: Sequence[FeatureView], url: str, api_key: str, problems: list[str]) -> list[Canary]:
    services = [service for service in store.services_online() if any(part.view in views for part in service.selection)]
    if not services:
        return []
    with err.status("reading through the gateway"), gateway(url, api_key) as client:
        try:
            client.services()
        except PenstockError as error:
            problems.append(f"the gateway was not read: {error.message}")
            return []
        return [read_canary(store.lake, service, client, store.clock.now()) for service in services]


def _of(store: Store, view: FeatureView, read_until: datetime | None, now: datetime, problems: list[str]) -> _Found:
    ledger = store.ledger(view)
    parts: list[Stage] = []
    try:
        parts = stages(view, how_far(store.lake, view, now), last_attempts(store.lake, feature_table(view)), ledger, read_until, now)
    except PenstockError as error:
        problems.append(f"{view.ref}: {error.message}")
    return _Found(view.ref, freshness(view, ledger, now), view.delay, parts, served_ages(store.lake, view, now - _LATELY, now))


def _table(found: Sequence[_Found]) -> Table:
    names = ["ingest", "compute", "publish", "read"]
    table = Table("feature view", "online up to (UTC)", "age", "delay", *names, "served p50", "p95")
    for one in found:
        of = {stage.name: stage for stage in one.stages}
        until = "nothing" if one.freshness.complete_until is None else f"{one.freshness.complete_until:%Y-%m-%d %H:%M:%S}"
        served = ["-", "-"] if one.served is None else [_shown(one.served.p50), _shown(one.served.p95)]
        table.add_row(one.view, until, _age(one.freshness), _shown(one.delay), *[_lag(of.get(name)) for name in names], *served)
    return table


def _age(found: Freshness) -> Text:
    if found.age is None:
        return Text("-")
    return Text(f"{_shown(found.age)} of {_shown(found.sla)}", "green" if found.kept else "red")


def _lag(stage: Stage | None) -> Text:
    if stage is None or stage.lag is None:
        return Text("-")
    allowed = f" of {_shown(stage.budget)}" if stage.budget else ""
    return Text(_shown(stage.lag) + allowed, "yellow" if stage.is_over else "")


def _shown(length: timedelta) -> str:
    return str(timedelta(seconds=round(length.total_seconds())))
