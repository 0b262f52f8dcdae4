"""A Prometheus server that a test plays: what fires is sent again and again, what has resolved for a while longer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from tests.support.monitoring import alert

RESEND_SECONDS = 0.3
"""As --rules.alert.resend-delay, which is a minute by default; all times here are as much shorter."""
VALID_SECONDS = 3.0
"""A firing alert that is not sent again resolves after this, as in Prometheus after four times the resend delay."""
RESOLVED_SECONDS = 5.0
"""How long a resolved alert is sent again: 15 minutes in Prometheus."""
STOP_SECONDS = 10.0

Post = Callable[[list[dict[str, Any]]], object]
"""Posts alerts to one Alertmanager; an OSError means that it could not be reached."""
Key = frozenset[tuple[str, str]]


@dataclass
class _Condition:
    labels: dict[str, str]
    starts_at: datetime
    ended_at: datetime | None = None


class PlayedPrometheus:
    """Sends to every connected Alertmanager, each in a thread of its own, so that one that hangs delays no other.

    Use as a context manager.
    """

    def __init__(self) -> None:
        self._conditions: dict[Key, _Condition] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._connected: dict[str, tuple[threading.Event, threading.Thread]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for name in list(self._connected):
            self.disconnect(name)

    def connect(self, name: str, post: Post) -> None:
        """Send to this Alertmanager from now on."""
        stop = threading.Event()
        thread = threading.Thread(target=self._send, args=(post, stop), name=f"prometheus to {name}", daemon=True)
        self._connected[name] = (stop, thread)
        thread.start()

    def disconnect(self, name: str) -> None:
        """Send to it no more: what it knows resolves by itself after VALID_SECONDS."""
        stop, thread = self._connected.pop(name)
        stop.set()
        thread.join(STOP_SECONDS)

    def fire(self, name: str, *, starts_at: datetime | None = None, **labels: str) -> datetime:
        """An alert fires, since now or since `starts_at`; returns since when."""
        since = starts_at or datetime.now(UTC)
        full = {"alertname": name, **labels}
        with self._lock:
            self._conditions[frozenset(full.items())] = _Condition(full, since)
        return since

    def resolve(self, name: str, **labels: str) -> None:
        """It does not fire any more."""
        with self._lock:
            self._conditions[frozenset({"alertname": name, **labels}.items())].ended_at = datetime.now(UTC)

    def _send(self, post: Post, stop: threading.Event) -> None:
        while not stop.wait(RESEND_SECONDS):
            alerts = list(self._alerts())
            if alerts:
                try:
                    post(alerts)
                except OSError:  # it is restarted, or does not respond: sent again next time
                    continue

    def _alerts(self) -> Iterable[dict[str, Any]]:
        now = datetime.now(UTC)
        with self._lock:
            for key, one in list(self._conditions.items()):
                if one.ended_at is not None and now - one.ended_at > timedelta(seconds=RESOLVED_SECONDS):
                    del self._conditions[key]
                    continue
                ends_at = one.ended_at or now + timedelta(seconds=VALID_SECONDS)
                yield {**alert("", starts_at=one.starts_at, ends_at=ends_at), "labels": one.labels}
