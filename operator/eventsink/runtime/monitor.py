"""Health, readiness and metrics of a process on a port of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from eventsink.runtime.address import Address, bound_port, split_address
from eventsink.runtime.logs import get_logger
from eventsink.runtime.settings import Settings

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

    def __init__(
        self,
        part: str,
        settings: MonitorSettings,
        registry: CollectorRegistry,
        *,
        ready: Mapping[str, Check] | None = None,
    ) -> None:
        self._part = part
        self._settings = settings
        self._registry = registry
        self._ready = ready if ready is not None else {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; returns the port.

        Raises
        ------
        OSError
            The address cannot be bound.
        """
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, *split_address(self._settings.address))
        await site.start()
        actual = bound_port(site)
        get_logger().info("listening", part="monitor", process=self._part, port=actual)
        return actual

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _response({})

    async def _readyz(self, _: web.Request) -> web.Response:
        return _response(self._ready)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _response(checks: Mapping[str, Check]) -> web.Response:
    results = {name: check() for name, check in checks.items()}
    failing = {name: why for name, why in results.items() if why is not None}
    return web.json_response({"ok": not failing, "failing": failing}, status=503 if failing else 200)
