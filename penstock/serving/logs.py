"""The gateway's log: a line per notable event, on stderr, as text for people or as JSON for machines; uvicorn's lines go the same way.

    2026-11-28T07:20:11.042Z warning penstock.serving.breaker: the online store gives no answer: ...
    {"time":"2026-11-28T07:20:11.042Z","level":"warning","logger":"penstock.serving.breaker","message":"the online store ..."}

No line holds a join key or the value of a feature, and no request has a line unless it failed; `debug` has one per refused request.
"""

import logging
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.config import GatewaySettings

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}  # the last is uvicorn's, for terminals


def log_as_set(settings: GatewaySettings) -> None:
    """Send all logging of this process to stderr, in the form and from the level that are set; of libraries, warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.log == "json" else TextLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    level: int = getattr(logging, settings.log_level.upper())
    logging.getLogger("penstock").setLevel(level)
    logging.getLogger("uvicorn").setLevel(max(level, logging.INFO))


class TextLines(logging.Formatter):
    """Time (UTC), level, logger, message; a traceback on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(lower)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.lower = record.levelname.lower()
        return super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002  # always the same
        return _time(record)


class JsonLines(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, what was given as `extra`, and `error` for a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _OWN},
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class Complaints:
    """Lines about what is tried again each second: said when it begins and when it is another, not each time."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger, self._said = logger, dict[str, str]()

    def say(self, about: str, problem: str) -> None:
        """Log a warning, `about: problem`, unless it was the last one of this."""
        if self._said.get(about) != problem:
            self._said[about] = problem
            self._logger.warning("%s: %s", about, problem)

    def over(self, about: str) -> None:
        """It went well."""
        self._said.pop(about, None)


def without_values(error: BaseException) -> str:
    """Where an error came from and what kinds of errors led to it, without their messages: those may repeat what a caller sent."""
    told = []
    cause: BaseException | None = error
    while cause is not None:
        told.append("".join([*traceback.format_tb(cause.__traceback__), type(cause).__name__]))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\ncaused by\n".join(told)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
