"""Where alerts are told: the log, a webhook as Slack takes it, Alertmanager, e-mail."""

import logging
import smtplib
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from penstock.config import AlertSettings
from penstock.quality.alerts import AlertEvent
from penstock.quality.skew import Level

logger = logging.getLogger(__name__)
_TIMEOUT_S = 10.0
_COLORS = {Level.WARNING: "#daa038", Level.CRITICAL: "#a30200"}
_MARKS = {"opened": "🔴", "worse": "🔴", "reminded": "🔴", "better": "🟡", "resolved": "🟢", "acknowledged": "👀"}


def tell(
    settings: AlertSettings, events: Sequence[AlertEvent], project: str, told: Mapping[str, datetime]
) -> tuple[dict[str, datetime], list[str]]:
    """Tell each sink that is set what it was not told yet.

    Args:
        settings: which sinks there are.
        events: all that happened lately, in order.
        project: whose alerts they are.
        told: sink → the time of the last event it was told; one that is new is told what happens from now on.

    Returns:
        The same afterwards, and of each sink that did not take them, why: it is told again the next time.
    """
    newest = events[-1].at if events else datetime.min.replace(tzinfo=UTC)
    now_told: dict[str, datetime] = {}
    failed = []
    for name, send in _sinks(settings, project).items():
        since = told.get(name, newest)
        now_told[name] = since
        news = [event for event in events if event.at > since]
        if not news:
            continue
        try:
            send(news)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, smtplib.SMTPException) as error:
            failed.append(f"{name}: {_without(str(error), settings)}")
        else:
            now_told[name] = newest
    return now_told, failed


def sinks(settings: AlertSettings) -> list[str]:
    """The names of those that are set."""
    return list(_sinks(settings, ""))


def _sinks(settings: AlertSettings, project: str) -> dict[str, Callable[[Sequence[AlertEvent]], None]]:
    found: dict[str, Callable[[Sequence[AlertEvent]], None]] = {"log": _log}
    if settings.webhook is not None:
        webhook = settings.webhook
        found["webhook"] = lambda events: _post(webhook.reveal(), webhook_payload(events, project))
    if settings.alertmanager is not None:
        url = f"{settings.alertmanager.rstrip('/')}/api/v2/alerts"
        found["alertmanager"] = lambda events: _post(url, alertmanager_payload(events, project))
    if settings.email_to:
        found["e-mail"] = lambda events: _mail(settings, email(settings, events, project))
    return found


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


def alertmanager_payload(events: Sequence[AlertEvent], project: str) -> list[dict[str, Any]]:
    """As Alertmanager's API v2 takes it."""
    return [
        {
            "labels": _labels(event, project),
            "annotations": {"summary": event.said},
            **({"endsAt": event.at.isoformat()} if event.what == "resolved" else {"startsAt": event.at.isoformat()}),
        }
        for event in events
        if event.what != "acknowledged"
    ]


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


def _labels(event: AlertEvent, project: str) -> Mapping[str, str]:
    kind, _, about = event.key.partition(":")
    return {"alertname": f"penstock_{kind}", "project": project, "about": about, "severity": str(event.level)}


def _log_level(event: AlertEvent) -> int:
    if event.what in ("resolved", "acknowledged"):
        return logging.INFO
    return logging.ERROR if event.level is Level.CRITICAL else logging.WARNING


def _post(url: str, payload: Any) -> None:
    for attempt in Retrying(
        stop=stop_after_attempt(3), wait=wait_exponential(0.2, max=2), retry=retry_if_exception_type(httpx.TransportError), reraise=True
    ):
        with attempt:
            httpx.post(url, json=payload, timeout=_TIMEOUT_S).raise_for_status()


def _mail(settings: AlertSettings, message: EmailMessage) -> None:
    with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=_TIMEOUT_S) as server:
        if settings.smtp_tls:
            server.starttls(context=ssl.create_default_context())
        if settings.smtp_user:
            server.login(settings.smtp_user, settings.smtp_password.reveal() if settings.smtp_password else "")
        server.send_message(message)


def _without(text: str, settings: AlertSettings) -> str:
    """A webhook's address is its key: whoever has it may post."""
    return text if settings.webhook is None else text.replace(settings.webhook.reveal(), "its URL")
