"""The admin API: waiting deliveries, dead letters and why they are, and their replay. For operators, not for tenants.

    GET  /v1/deliveries?state=&tenant=&sink=&reason=&message=&id=&after=&limit=     {"deliveries": [...], "next": seq | null}
    POST /v1/deliveries/replay  {"ids": [...], "tenant", "sink", "reason", "all": true, "limit"}     {"replayed": n}
    GET  /v1/sinks                                                         {"sinks": [...]}
    POST /v1/sinks/{uid}/test  {"wait": seconds}     {"id", "delivered", "status", "reason", "message", "seconds"}

Every request carries `Authorization: Bearer <token>`. Nothing here shows the content of an alert.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eventsink.router.directory import SinkDirectory
from eventsink.router.dispatch.health import SinkHealth
from eventsink.router.dispatch.sink_tests import RETRY_AFTER_SECONDS, CannotTest, SinkTests, TooManyTests
from eventsink.router.queue.protocol import DeliveryFilter, DeliveryRecord, DeliveryState, Queue, QueueError
from eventsink.runtime.address import Address, bound_port, split_address
from eventsink.runtime.logs import get_logger
from eventsink.runtime.retry_after import format_retry_after
from eventsink.runtime.settings import ConfigurationError, Settings, read_secret_file
from eventsink.runtime.times import format_time
from eventsink.sinks.sink import Sink

MAX_PAGE = 1000
DEFAULT_PAGE = 100
MAX_BODY_BYTES = 1024**2
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


class AdminSettings(Settings):
    """The port for `eventsink deliveries`, `eventsink replay` and the test alerts of the facade."""

    address: Address = "127.0.0.1:8081"
    """`host:port`."""
    token_file: Path | None = None
    """File with the bearer token; absent: the admin API is not served."""


class ReplayRequest(BaseModel):
    """Which dead letters to replay; without any condition, `all` must be true."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    ids: list[str] | None = Field(default=None, min_length=1, max_length=MAX_PAGE)
    tenant: str | None = None
    sink: str | None = None
    """uid, or namespace/name."""
    reason: str | None = None
    all: bool = False
    limit: int = Field(default=10_000, ge=1, le=100_000)


class SinkTestRequest(BaseModel):
    """How a test alert is sent."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    wait: float = Field(default=10.0, ge=0, le=30)
    """Seconds to wait for its outcome."""


class InvalidRequest(ValueError):
    """The request is not valid; the text says why."""


class Admin:
    """Serves the admin API.

    Parameters
    ----------
    health
        Health of the delivery to a sink, by uid.
    tests
        Sends test alerts.
    """

    def __init__(
        self,
        settings: AdminSettings,
        queue: Queue,
        directory: SinkDirectory,
        health: Callable[[str], SinkHealth | None],
        tests: SinkTests,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._directory = directory
        self._health = health
        self._tests = tests
        self._runner: web.AppRunner | None = None

    async def start(self) -> int | None:
        """Listen, if there is a token; returns the port."""
        if self._settings.token_file is None:
            return None
        read_secret_file(self._settings.token_file)  # a wrong file stops the start
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/v1/deliveries", self._deliveries)
        app.router.add_post("/v1/deliveries/replay", self._replay)
        app.router.add_get("/v1/sinks", self._sinks)
        app.router.add_post("/v1/sinks/{uid}/test", self._test)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, *split_address(self._settings.address))
        await site.start()
        port = bound_port(site)
        get_logger().info("listening", part="admin", process="router", port=port)
        return port

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[[web.Request], object]) -> web.StreamResponse:
        if not self._authorized(request.headers.get("Authorization", "")):
            return _error(401, "missing or invalid token: send Authorization: Bearer <token>")
        try:
            return await handler(request)  # type: ignore[misc,no-any-return]
        except InvalidRequest as error:
            return _error(400, str(error))
        except QueueError as error:
            return _error(503, str(error))
        except web.HTTPException as error:
            return _error(error.status, error.reason or "not possible")

    def _authorized(self, header: str) -> bool:
        assert self._settings.token_file is not None
        scheme, _, token = header.partition(" ")
        try:
            # Read each time: these are few requests, and a rotated token is valid at once.
            expected = read_secret_file(self._settings.token_file)
        except ConfigurationError as error:
            get_logger().error("the admin token cannot be read", reason=str(error))
            return False
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), expected.encode())

    async def _deliveries(self, request: web.Request) -> web.Response:
        query = request.query
        known = {"state", "tenant", "sink", "reason", "message", "id", "after", "limit"}
        if unknown := set(query) - known:
            raise InvalidRequest(f"unknown parameter {sorted(unknown)[0]}; known: {', '.join(sorted(known))}")
        try:
            state = DeliveryState(query["state"]) if "state" in query else None
        except ValueError:
            raise InvalidRequest("state is waiting, dead or arrived") from None
        chosen = DeliveryFilter(
            state=state,
            tenant=query.get("tenant"),
            sink=self._uid(query["sink"]) if "sink" in query else None,
            ids=frozenset(query.getall("id")) if "id" in query else None,
            reason=query.get("reason"),
            message=query.get("message"),
        )
        limit = _number(query.get("limit", str(DEFAULT_PAGE)), "limit", 1, MAX_PAGE)
        after = _number(query.get("after", "0"), "after", 0, 1 << 62)
        records = await self._queue.look_up(chosen, after=after, limit=limit)
        shown = [self._shown(record) for record in records]
        return web.json_response({"deliveries": shown, "next": records[-1].seq if len(records) == limit else None})

    async def _replay(self, request: web.Request) -> web.Response:
        try:
            wanted = ReplayRequest.model_validate_json(await request.read())
        except ValidationError as error:
            raise _bad(error) from None
        conditions = (wanted.ids, wanted.tenant, wanted.sink, wanted.reason)
        if not wanted.all and all(condition is None for condition in conditions):
            raise InvalidRequest("say which dead letters: ids, tenant, sink or reason; or all: true")
        chosen = DeliveryFilter(
            state=DeliveryState.DEAD,
            tenant=wanted.tenant,
            sink=self._uid(wanted.sink) if wanted.sink is not None else None,
            ids=frozenset(wanted.ids) if wanted.ids is not None else None,
            reason=wanted.reason,
        )
        replayed = 0
        for sink in self._existing(chosen):
            chosen = DeliveryFilter(DeliveryState.DEAD, chosen.tenant, sink.uid, chosen.ids, chosen.reason)
            replayed += await self._queue.replay(chosen, max_age=sink.delivery.max_age, limit=wanted.limit - replayed)
            if replayed >= wanted.limit:
                break
        get_logger().info("dead letters were replayed", count=replayed)
        return web.json_response({"replayed": replayed})

    async def _sinks(self, _: web.Request) -> web.Response:
        waiting = await self._queue.sinks_waiting()
        shown = []
        for sink in sorted(self._directory.sinks.values(), key=lambda sink: (sink.namespace, sink.name)):
            health = self._health(sink.uid)
            shown.append(
                {
                    "uid": sink.uid,
                    "sink": f"{sink.namespace}/{sink.name}",
                    "tenant": sink.tenant,
                    "kind": sink.type,
                    "delivering": health.state.value if health is not None else "Unknown",
                    "reason": health.reason if health is not None else "",
                    "message": health.message if health is not None else "",
                    "lastDelivered": _time(health.last_delivered) if health is not None else None,
                    "waiting": waiting.get(sink.uid, 0),
                    "held": health.held if health is not None else "",
                }
            )
        return web.json_response({"sinks": shown})

    async def _test(self, request: web.Request) -> web.Response:
        try:
            wanted = SinkTestRequest.model_validate_json(await request.read() or b"{}")
        except ValidationError as error:
            raise _bad(error) from None
        sink = self._directory.sinks.get(request.match_info["uid"])
        if sink is None:
            return _error(404, "sink not found; name one by the uid of its EventSink")
        try:
            result = await self._tests.test(sink, wanted.wait)
        except CannotTest as error:
            return _error(409, str(error))
        except TooManyTests as error:
            response = _error(429, str(error))
            response.headers["Retry-After"] = format_retry_after(RETRY_AFTER_SECONDS)
            return response
        return web.json_response(asdict(result))

    def _existing(self, chosen: DeliveryFilter) -> list[Sink]:
        """The sinks that may be sent to again: a deleted one's dead letters stay where they are."""
        sinks = self._directory.sinks
        if chosen.sink is not None:
            return [sinks[chosen.sink]] if chosen.sink in sinks else []
        return [sink for sink in sinks.values() if chosen.tenant is None or sink.tenant == chosen.tenant]

    def _uid(self, text: str) -> str:
        if _UID.fullmatch(text):
            return text
        for sink in self._directory.sinks.values():
            if f"{sink.namespace}/{sink.name}" == text:
                return sink.uid
        raise InvalidRequest("sink not found; name it as namespace/name, or a deleted one by its uid")

    def _shown(self, record: DeliveryRecord) -> dict[str, object]:
        sink = self._directory.sinks.get(record.sink)
        health = self._health(record.sink)
        return {
            "seq": record.seq,
            "id": record.id,
            "uid": record.sink,
            "sink": f"{sink.namespace}/{sink.name}" if sink is not None else "",
            "tenant": record.tenant,
            "alert": record.name,
            "status": record.status,
            "state": record.state.value,
            "created": _time(record.created),
            "died": _time(record.died),
            "arrived": _time(record.arrived),
            "message": record.message,
            "reference": record.reference,
            "attempts": record.attempts,
            "reason": record.reason,
            "detail": record.detail,
            "held": health.held if health is not None else "",
        }


def _time(seconds: float | None) -> str | None:
    return format_time(seconds) if seconds is not None else None


def _number(text: str, name: str, lowest: int, highest: int) -> int:
    if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= highest:
        raise InvalidRequest(f"{name} is a number from {lowest} to {highest}")
    return int(text)


def _bad(error: ValidationError) -> InvalidRequest:
    one = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return InvalidRequest(f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}")


def _error(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)
