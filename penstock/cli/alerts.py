"""`penstock alerts`: what should be looked at, what became of it, and whether it reaches you."""

import getpass
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

import penstock
from penstock.cli.screen import out, print_whole
from penstock.clock import MICROSECOND
from penstock.errors import AlertError
from penstock.quality.alert_sinks import sinks, tell
from penstock.quality.alerts import AlertEvent, alert_events, log_alerts, next_time, open_alerts
from penstock.quality.skew import Level

cli = typer.Typer(no_args_is_help=True, help="Alerts: what should be looked at, and what became of it.")
_LOOKS = {Level.WARNING: "yellow", Level.CRITICAL: "bold red"}


@cli.command(name="list")
def list_(
    last: Annotated[int, typer.Option(min=0, help="also the last so many things that happened")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="open alerts and all that happened, as JSON")] = False,
) -> None:
    """The alerts that are open."""
    store = penstock.open()
    events = alert_events(store.lake)
    there = open_alerts(events)
    if as_json:
        out.print_json(msgspec.json.encode({"open": list(there.values()), "events": events}).decode())
        return
    if not there:
        out.print("no alert is open")
    else:
        table = Table("alert", "level", "since (UTC)", "who has it", "what")
        for alert in there.values():
            level = Text(str(alert.level), _LOOKS[alert.level])
            who = alert.acknowledged_by or "nobody"
            table.add_row(Text(alert.key), level, f"{alert.since:%Y-%m-%d %H:%M}", Text(who), Text(alert.said))
        print_whole(table)
    for event in events[len(events) - last :] if last else ():
        by = f" by {event.by}" if event.by else ""
        out.print(f"{event.at:%Y-%m-%d %H:%M:%S} {event.what}{by}: {event.level} {event.key}: {event.said}", markup=False, soft_wrap=True)


@cli.command()
def ack(
    alert: Annotated[str, typer.Argument(help="as `penstock alerts list` has it")],
    by: Annotated[str, typer.Option(help="who; default: the user of this machine")] = "",
) -> None:
    """Say that somebody has it: a critical alert is no longer told again each hour, unless it gets worse."""
    store = penstock.open()
    events = alert_events(store.lake)
    there = open_alerts(events)
    if alert not in there:
        raise AlertError(f"no alert '{alert}' is open", hint=f"open are: {', '.join(sorted(there)) or 'none'}")
    one, who = there[alert], by or getpass.getuser()
    event = AlertEvent(at=next_time(events, store.clock.now()), key=alert, what="acknowledged", level=one.level, said=one.said, by=who)
    log_alerts(store.lake, [event])
    out.print(f"{alert}: acknowledged by {who}", markup=False, soft_wrap=True)


@cli.command()
def test() -> None:
    """Tell every sink of the settings that this is a test; exit code 1 if one did not take it."""
    store = penstock.open()
    now = store.clock.now()
    event = AlertEvent(at=now, key="test:penstock_alerts_test", what="opened", level=Level.WARNING, said="this is a test, nothing is wrong")
    names = sinks(store.settings.alerts)
    _, failed = tell(store.settings.alerts, [event], store.settings.root.name, dict.fromkeys(names, now - MICROSECOND))
    for name in names:
        if not any(why.startswith(f"{name}: ") for why in failed):
            out.print(f"{name}: taken", markup=False)
    if failed:
        raise AlertError(f"not taken: {'; '.join(failed)}", hint="see `alerts:` in conf/")
