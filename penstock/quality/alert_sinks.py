"""Where alerts are told: the log, a webhook as Slack takes it, Alertmanager, e-mail.

All are told what happens; Alertmanager is told each time what is open, too, as it ends what it does not hear of.
"""

import logging
import smtplib
import ssl
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any, TypeAlias

import httpx
from tenacity import Retrying, retry_if_exception_type, retry_if_not_exception_type, stop_after_attempt, wait_exponential

from penstock.clock import Clock, SystemClock
from penstock.config import AlertSettings
from penstock.errors import PenstockError
from penstock.quality.alerts import Alert, AlertEvent, open_alerts
from penstock.quality.skew import Level

logger = logging.getLogger(__name__)

AT_ONCE = 20
"""How many events one message tells: Slack refuses more than 100 attachments, and what is refused once is refused for ever."""

ENDS_AFTER = timedelta(minutes=5)
"""How long Alertmanager takes an alert for open that it does not hear of again: five looks of the sensor, so that one that fails or is slow
ends nothing, and what nobody looks at any more is not open for ever. It is Alertmanager's own `resolve_timeout`, where that is not set."""

Told: TypeAlias = datetime | tuple[datetime, str]
"""How far a sink was told: all up to a time; with a key, of the events at that time, as those of one look share it, those up to the key."""

_ALERTMANAGER = "alertmanager"
_SYSTEM = SystemClock()
_TIMEOUT_S = 10.0
_COLORS = {Level.WARNING: "#daa038", Level.CRITICAL: "#a30200"}
_MARKS = {"opened": "🔴", "worse": "🔴", "reminded": "🔴", "better": "🟡", "resolved": "🟢", "acknowledged": "👀"}


def tell(
    settings: AlertSettings, events: Sequence[AlertEvent], project: str, told: Mapping[str, Told], clock: Clock = _SYSTEM
) -> tuple[dict[str, Told], list[str]]:
    """Tell each sink that is set what it was not told yet; one that fails, however, keeps no other from it.

    Args:
        settings: which sinks there are.
        events: all that happened lately: at least what makes the alerts that are open.
        project: whose alerts they are.
        told: sink → how far it was told; one that is new is told what happens from now on.
        clock: Alertmanager ends alerts by its machine's clock, so it is this machine's, also where `clock.now` lets time stand still.

    Returns:
        The same afterwards, and of each sink that did not take all, why: of the rest it is told the next time.
    """
    ordered = sorted(events, key=lambda event: (event.at, event.key))
    newest = ordered[-1].at if ordered else datetime.min.replace(tzinfo=UTC)
    now_told: dict[str, Told] = {}
    failed = []
    for name, send in _sinks(settings, project, open_alerts(ordered).values(), clock).items():
        now_told[name] = told.get(name, newest)
        news = _folded([event for event in ordered if _is_news(event, now_told[name])])
        try:
            # Alertmanager is told of all at once, also where nothing happened.
            for some in [news] if name == _ALERTMANAGER else _in_parts(news):
                send(some)
                if some:
                    now_told[name] = _up_to(some[-1], news)
        except Exception as error:
            failed.append(f"{name}: {_why(error)}")
    return now_told, failed


def sinks(settings: AlertSettings) -> list[str]:
    """The names of those that are set."""
    return list(_sinks(settings, "", (), _SYSTEM))


def _sinks(
    settings: AlertSettings, project: str, there: Collection[Alert], clock: Clock
) -> dict[str, Callable[[Sequence[AlertEvent]], None]]:
    found: dict[str, Callable[[Sequence[AlertEvent]], None]] = {"log": _log}
    if settings.webhook is not None:
        webhook = settings.webhook
        found["webhook"] = lambda events: _post(webhook.reveal(), webhook_payload(events, project))
    if settings.alertmanager is not None:
        url = f"{settings.alertmanager.rstrip('/')}/api/v2/alerts"
        found[_ALERTMANAGER] = lambda events: _post(url, alertmanager_payload(there, events, project, clock.now()))
    if settings.email_to:
        found["e-mail"] = lambda events: _mail(settings, email(settings, events, project))
    return found


def _is_news(event: AlertEvent, told: Told) -> bool:
    return event.at > told if isinstance(told, datetime) else (event.at, event.key) > told


def _folded(news: Sequence[AlertEvent]) -> list[AlertEvent]:
    """All but reminders that a later one of the same alert makes needless."""
    last = {event.key: event for event in news if event.what == "reminded"}
    return [event for event in news if event.what != "reminded" or event is last[event.key]]


def _in_parts(news: Sequence[AlertEvent]) -> Iterator[Sequence[AlertEvent]]:
    for n in range(0, len(news), AT_ONCE):
        yield news[n : n + AT_ONCE]


def _up_to(last: AlertEvent, news: Iterable[AlertEvent]) -> Told:
    shared = any(event.at == last.at and event.key > last.key for event in news)
    return (last.at, last.key) if shared else last.at


def _log(events: Sequence[AlertEvent]) -> None:
    for event in events:
        logger.log(_log_level(event), "%s", sentence(event))


def sentence(event: AlertEvent) -> str:
    """An event for people."""
    by = f" by {event.by}" if event.by else ""
    return f"{event.level} {event.what}{by}: {event.key}: {event.said}"


def webhook_payload(events: Sequence[AlertEvent], project: str) -> dict[str, Any]:
    """As Slack's incoming webhooks take it, and what stands in for them: Mattermost, Rocket.Chat, Discord's /slack."""
    text = f"{project}: {len(events)} alert(s)" if len(events) > 1 else f"{project}: {_MARKS[events[0].what]} {sentence(events[0])}"
    return {
        "text": text,
        "attachments": [
            {
                "fallback": sentence(event),
                "color": "#2eb886" if event.what == "resolved" else _COLORS[event.level],
                "title": f"{_MARKS[event.what]} {event.level} {event.what}: {event.key}",
                "text": event.said,
                "ts": int(event.at.timestamp()),
            }
            for event in events
        ],
    }


def alertmanager_payload(there: Collection[Alert], events: Iterable[AlertEvent], project: str, now: datetime) -> list[dict[str, Any]]:
    """As Alertmanager's API v2 takes it: all that is open, until it hears of it again, and what ended.

    Its level is one of the labels that tell an alert from others: one that got worse or better ends, and another begins.

    Args:
        there: the alerts that are open.
        events: what it was not told yet, in order.
        project: whose alerts they are.
        now: the machine's. Nothing began or ended after it, whatever a clock that stands still says: an alert that ends before it begins is
            refused, and one that ends later is open until then.
    """
    ended = {(event.key, level): event for event in events if (level := _level_that_ended(event)) is not None}
    still = {(alert.key, alert.level) for alert in there}
    return [
        *(
            {
                "labels": _labels(alert.key, alert.level, project),
                "annotations": {"summary": alert.said},
                "startsAt": min(alert.since, now).isoformat(),
                "endsAt": (now + ENDS_AFTER).isoformat(),
            }
            for alert in there
        ),
        *(
            {
                "labels": _labels(key, level, project),
                "annotations": {"summary": event.said},
                "endsAt": min(event.at, now).isoformat(),
            }
            for (key, level), event in ended.items()
            if (key, level) not in still
        ),
    ]


def _level_that_ended(event: AlertEvent) -> Level | None:
    """The level that an alert had before, and has no more."""
    if event.what == "resolved":
        return event.level
    return {"worse": Level.WARNING, "better": Level.CRITICAL}.get(event.what)


def email(settings: AlertSettings, events: Sequence[AlertEvent], project: str) -> EmailMessage:
    """One message about all."""
    message = EmailMessage()
    worst = max(events, key=lambda event: event.level is Level.CRITICAL)
    message["Subject"] = f"[{project}] {worst.level} {worst.what}: {worst.key}" + (
        f" and {len(events) - 1} more" if len(events) > 1 else ""
    )
    message["From"], message["To"] = settings.email_from, ", ".join(settings.email_to)
    message.set_content("\n\n".join(f"{event.at:%Y-%m-%d %H:%M:%S} UTC\n{sentence(event)}" for event in events) + "\n")
    return message


def _labels(key: str, level: Level, project: str) -> Mapping[str, str]:
    kind, _, about = key.partition(":")
    return {"alertname": f"penstock_{kind}", "project": project, "about": about, "severity": str(level)}


def _log_level(event: AlertEvent) -> int:
    if event.what in ("resolved", "acknowledged"):
        return logging.INFO
    return logging.ERROR if event.level is Level.CRITICAL else logging.WARNING


def _post(url: str, payload: Any) -> None:
    if not payload:
        return
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it says each URL it asked, and a webhook's is its key
    # Not after a timeout: it may have been taken, and the sensor, which Dagster gives a minute, comes again anyway.
    again = retry_if_exception_type(httpx.TransportError) & retry_if_not_exception_type(httpx.TimeoutException)
    for attempt in Retrying(stop=stop_after_attempt(3), wait=wait_exponential(0.2, max=2), retry=again, reraise=True):
        with attempt:
            httpx.post(url, json=payload, timeout=_TIMEOUT_S).raise_for_status()


def _mail(settings: AlertSettings, message: EmailMessage) -> None:
    with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=_TIMEOUT_S) as server:
        if settings.smtp_tls:
            server.starttls(context=ssl.create_default_context())
        if settings.smtp_user:
            server.login(settings.smtp_user, settings.smtp_password.reveal() if settings.smtp_password else "")
        server.send_message(message)


def _why(error: Exception) -> str:
    """What went wrong, without a URL: whoever has a webhook's may post, and httpx repeats it in a form of its own.

    So an error that may hold one is said by its kind alone.
    """
    match error:
        case httpx.HTTPStatusError():
            status = error.response.status_code
            return f"answered {status} {httpx.codes.get_reason_phrase(status)}".rstrip()
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return "its URL cannot be asked: it is not one of http or https"
        case PenstockError():
            return error.message
        case httpx.TransportError() | OSError():
            return f"{type(error).__name__}: {error}"
    return type(error).__name__
