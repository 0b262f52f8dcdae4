"""Structured logs: one JSON line an event on standard error, also for what libraries log."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Literal

import structlog
from aiohttp.http_exceptions import HttpProcessingError

from eventsink.runtime.settings import Settings

_CREDENTIALS = re.compile(
    r"(?i)(bearer\s+|basic\s+|[?&](?:code|state)=)[A-Za-z0-9._~+/=%-]{4,}|whsec_[A-Za-z0-9+/=_-]+|xox[a-z]-[A-Za-z0-9-]+"
    r"|esk_[A-Za-z0-9_-]+|(https?://)[^/\s@]+@"
)
REDACTED = "[redacted]"


class LogSettings(Settings):
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe lines that are written."""
    format: Literal["json", "text"] = "json"
    """`json`: one object a line, for machines; `text`: for a person at a terminal."""


def configure_logs(settings: LogSettings) -> None:
    """Send everything that this process logs to standard error, in one form."""
    shared: list[Callable[..., Any]] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    if settings.format == "json":
        final: list[Callable[..., Any]] = [_exception_to_text, redact, structlog.processors.JSONRenderer(default=str)]
    else:
        final = [
            _exception_to_text,
            redact,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback),
        ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=_own_logger,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.level.upper())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    # Their lines of every request and every connection are for their developers.
    for chatty in ("aiohttp", "asyncio", "kopf", "kubernetes", "urllib3"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("aiohttp.server").addFilter(_is_about_us)


def _own_logger(*_: object) -> logging.Logger:
    """One for all lines of the program: to find the name of the module that logs, each line would look through the stack."""
    return logging.getLogger("eventsink")


def _is_about_us(record: logging.LogRecord) -> bool:
    """Drops the log lines about requests that are not HTTP: they would show what was sent, credentials included, as often as a client likes."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


def get_logger(**context: object) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry `context`; the first argument of its methods is the event, a few words in lower case."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(**context)
    return logger


def redact(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank out what looks like a credential: a second line of defence behind never logging one."""
    for key, value in event.items():
        if isinstance(value, str) and key != "time":
            event[key] = _CREDENTIALS.sub(lambda match: f"{match[2] or match[1] or ''}{REDACTED}", value)
    return event


def _exception_to_text(logger: object, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Tracebacks as text of the line; without values of local variables."""
    return structlog.processors.format_exc_info(logger, name, event)


class Repeated:
    """Lets a line that may repeat in a storm through at most once an interval, and counts the rest.

    Parameters
    ----------
    interval
        Seconds between two lines.
    """

    def __init__(self, interval: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._next = 0.0
        self._suppressed = 0

    def due(self) -> int | None:
        """None: keep quiet. Else: write the line now; so many were kept back since the last."""
        now = self._clock()
        if now < self._next:
            self._suppressed += 1
            return None
        self._next = now + self._interval
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed
