"""Health, readiness and metrics of a process on a port of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from eventsink.runtime.address import Address
from eventsink.runtime.listener.listener import Listener
from eventsink.runtime.listener.messages import RequestHead, Response, error
from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.listener.routes import NoRoute, Routes
from eventsink.runtime.listener.settings import ListenerLimits
from eventsink.runtime.settings import Settings

LIMITS = ListenerLimits("", max_connections=64, max_body_bytes=4096, max_held_bytes=1024**2)

Check = Callable[[], str | None]
"""Returns None when all is well, else a few words on what is missing."""


class MonitorSettings(Settings):
    """Where health and metrics are served; they need no token and show nothing of a tenant."""

    address: Address = "127.0.0.1:9090"
    """`host:port`; port 0 takes a free one. In manifests/: 0.0.0.0:9090."""


class Monitor:
    """Serves `/healthz` (is the process alive), `/readyz` (may it get work) and `/metrics`.

    Parameters
    ----------
    part
        `operator`, `router` ...: named in the log line with the port.
    registry
        The metrics of the process.
    ready
        Named checks, looked at in each request; a failing one means 503 and is named in the body.
    """

    reads: frozenset[bytes] = frozenset()

    def __init__(
        self,
        part: str,
        settings: MonitorSettings,
        registry: CollectorRegistry,
        metrics: ListenerMetrics,
        *,
        ready: Mapping[str, Check] | None = None,
    ) -> None:
        self._registry = registry
        self._ready = ready if ready is not None else {}
        handlers = {"/healthz": lambda: _response({}), "/readyz": lambda: _response(self._ready), "/metrics": self._metrics}
        self._routes: Routes[Callable[[], Response]] = Routes(
            (method, path, handler) for path, handler in handlers.items() for method in ("GET", "HEAD")
        )
        self._listener = Listener("monitor", settings.address, LIMITS, self, metrics, process=part)

    async def start(self) -> int:
        """Listen; returns the port.

        Raises
        ------
        OSError
            The address cannot be bound.
        """
        return await self._listener.start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._listener.close()

    # ---- Application

    def admit(self, head: RequestHead) -> Callable[[], Response] | Response:
        """The handler of a path."""
        try:
            return self._routes.find(head.method, head.path)[0]
        except NoRoute as missing:
            if missing.allowed:
                return error(405, "use GET", b"Allow: GET, HEAD\r\n")
            return error(404, "nothing is served here; /healthz, /readyz and /metrics are")

    async def handle(self, admitted: Callable[[], Response], body: bytes) -> Response:
        """The response of that handler."""
        return admitted()

    def reject(self, status: int, sentence: str, admitted: object = None) -> Response:
        """The response to what is not a request."""
        return error(status, sentence)

    def later(self, sentence: str, admitted: object = None) -> Response:
        """The response to what is too much."""
        return error(503, sentence, b"Retry-After: 1\r\n")

    def _metrics(self) -> Response:
        return Response(200, generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST.encode())


def _response(checks: Mapping[str, Check]) -> Response:
    results = {name: check() for name, check in checks.items()}
    failing = {name: why for name, why in results.items() if why is not None}
    return Response(503 if failing else 200, json.dumps({"ok": not failing, "failing": failing}).encode())
