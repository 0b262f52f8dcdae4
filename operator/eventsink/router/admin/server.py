"""The admin API: waiting deliveries, dead letters and why they are, and their replay. For operators, not for tenants.

    GET  /v1/deliveries?state=&tenant=&sink=&reason=&message=&id=&after=&limit=     {"deliveries": [...], "next": seq | null}
    POST /v1/deliveries/replay  {"ids": [...], "tenant", "sink", "reason", "all": true, "limit"}     {"replayed": n}
    GET  /v1/sinks                                                         {"sinks": [...]}
    POST /v1/sinks/{uid}/test  {"wait": seconds}     {"id", "delivered", "status", "reason", "message", "seconds"}

Every request carries `Authorization: Bearer <token>`. Nothing here shows the content of an alert.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eventsink.router.directory import SinkDirectory
from eventsink.router.dispatch.health import SinkHealth
from eventsink.router.dispatch.sink_tests import RETRY_AFTER_SECONDS, CannotTest, SinkTests, TooManyTests
from eventsink.router.queue.delivery_log import DeliveryFilter, DeliveryRecord, DeliveryState
from eventsink.router.queue.protocol import Queue, QueueError
from eventsink.runtime.address import Address
from eventsink.runtime.listener.listener import Listener
from eventsink.runtime.listener.messages import RequestHead, Response, error
from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.listener.routes import NoRoute, Routes
from eventsink.runtime.listener.settings import ListenerLimits
from eventsink.runtime.logs import get_logger
from eventsink.runtime.retry_after import format_retry_after
from eventsink.runtime.settings import ConfigurationError, Settings, read_secret_file
from eventsink.runtime.times import format_time
from eventsink.sinks.sink import Sink

MAX_PAGE = 1000
DEFAULT_PAGE = 100
MAX_PARAMETERS = MAX_PAGE + 10
LIMITS = ListenerLimits("", max_connections=64, max_body_bytes=1024**2)
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


@dataclass(frozen=True, slots=True)
class _Call:
    """One authorized request."""

    handle: Callable[[_Call], Awaitable[Response]]
    names: Mapping[str, str]
    query: Mapping[str, list[str]]
    body: bytes = b""


class Admin:
    """Serves the admin API.

    Parameters
    ----------
    health
        Health of the delivery to a sink, by uid.
    tests
        Sends test alerts.
    """

    reads = frozenset({b"authorization"})

    def __init__(
        self,
        settings: AdminSettings,
        queue: Queue,
        directory: SinkDirectory,
        health: Callable[[str], SinkHealth | None],
        tests: SinkTests,
        metrics: ListenerMetrics,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._directory = directory
        self._health = health
        self._tests = tests
        self._routes: Routes[Callable[[_Call], Awaitable[Response]]] = Routes(
            (method, path, partial(handle, self)) for method, path, handle in self.CALLS
        )
        self._listener = Listener("admin", settings.address, LIMITS, self, metrics, process="router")

    async def start(self) -> int | None:
        """Listen, if there is a token; returns the port."""
        if self._settings.token_file is None:
            return None
        read_secret_file(self._settings.token_file)  # a wrong file stops the start
        return await self._listener.start()

    async def stop(self) -> None:
        await self._listener.close()

    # ---- Application

    def admit(self, head: RequestHead) -> _Call | Response:
        """The call, if it is authorized."""
        if not self._authorized(head.header(b"authorization")):
            return error(401, "missing or invalid token: send Authorization: Bearer <token>", b"WWW-Authenticate: Bearer\r\n")
        try:
            handler, names = self._routes.find(head.method, head.path)
            query = parse_qs(head.query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
        except NoRoute as missing:
            if missing.allowed:
                return error(405, "this path does not support this method", f"Allow: {','.join(missing.allowed)}\r\n".encode())
            return error(404, "nothing is served here")
        except ValueError:
            return error(400, "invalid query string")
        return _Call(handler, names, query)

    async def handle(self, admitted: _Call, body: bytes) -> Response:
        """The response to a call."""
        try:
            return await admitted.handle(replace(admitted, body=body))
        except InvalidRequest as invalid:
            return error(400, str(invalid))
        except QueueError as unavailable:
            return error(503, str(unavailable))

    def reject(self, status: int, sentence: str, admitted: _Call | None = None) -> Response:
        """The response to what is not a request."""
        return error(status, sentence)

    def later(self, sentence: str, admitted: _Call | None = None) -> Response:
        """The response to what is too much."""
        return error(503, sentence, b"Retry-After: 1\r\n")

    def _authorized(self, header: str) -> bool:
        assert self._settings.token_file is not None
        scheme, _, token = header.partition(" ")
        try:
            # Read each time: these are few requests, and a rotated token is valid at once.
            expected = read_secret_file(self._settings.token_file)
        except ConfigurationError as unreadable:
            get_logger().error("the admin token cannot be read", reason=str(unreadable))
            return False
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), expected.encode())

    async def _deliveries(self, call: _Call) -> Response:
        query = call.query
        known = {"state", "tenant", "sink", "reason", "message", "id", "after", "limit"}
        if unknown := set(query) - known:
            raise InvalidRequest(f"unknown parameter {sorted(unknown)[0]}; known: {', '.join(sorted(known))}")
        try:
            state = DeliveryState(query["state"][0]) if "state" in query else None
        except ValueError:
            raise InvalidRequest("state is waiting, dead or arrived") from None
        chosen = DeliveryFilter(
            state=state,
            tenant=_first(query, "tenant"),
            sink=self._uid(query["sink"][0]) if "sink" in query else None,
            ids=frozenset(query["id"]) if "id" in query else None,
            reason=_first(query, "reason"),
            message=_first(query, "message"),
        )
        limit = _number(_first(query, "limit"), DEFAULT_PAGE, "limit", 1, MAX_PAGE)
        after = _number(_first(query, "after"), 0, "after", 0, 1 << 62)
        records = await self._queue.look_up(chosen, after=after, limit=limit)
        shown = [self._shown(record) for record in records]
        return _json({"deliveries": shown, "next": records[-1].seq if len(records) == limit else None})

    async def _replay(self, call: _Call) -> Response:
        try:
            wanted = ReplayRequest.model_validate_json(call.body)
        except ValidationError as invalid:
            raise _bad(invalid) from None
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
        return _json({"replayed": replayed})

    async def _sinks(self, _: _Call) -> Response:
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
                    "message": health.full_message if health is not None else "",
                    "lastDelivered": _time(health.last_delivered) if health is not None else None,
                    "waiting": waiting.get(sink.uid, 0),
                    "held": health.held if health is not None else "",
                }
            )
        return _json({"sinks": shown})

    async def _test(self, call: _Call) -> Response:
        try:
            wanted = SinkTestRequest.model_validate_json(call.body or b"{}")
        except ValidationError as invalid:
            raise _bad(invalid) from None
        sink = self._directory.sinks.get(call.names["uid"])
        if sink is None:
            return error(404, "sink not found; name one by the uid of its EventSink")
        try:
            result = await self._tests.test(sink, wanted.wait)
        except CannotTest as cannot:
            return error(409, str(cannot))
        except TooManyTests as busy:
            return error(429, str(busy), f"Retry-After: {format_retry_after(RETRY_AFTER_SECONDS)}\r\n".encode())
        return _json(asdict(result))

    CALLS = (
        ("GET", "/v1/deliveries", _deliveries),
        ("POST", "/v1/deliveries/replay", _replay),
        ("GET", "/v1/sinks", _sinks),
        ("POST", "/v1/sinks/{uid}/test", _test),
    )
    """Method, path and handler of each."""

    def _existing(self, chosen: DeliveryFilter) -> list[Sink]:
        """The sinks that may be sent to again: a deleted one's dead letters stay where they are."""
        sinks = self._directory.sinks
        if chosen.sink is not None:
            return [sinks[chosen.sink]] if chosen.sink in sinks else []
        return [sink for sink in sinks.values() if chosen.tenant is None or sink.may_receive(chosen.tenant)]

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


def _first(query: Mapping[str, list[str]], name: str) -> str | None:
    return query[name][0] if name in query else None


def _number(text: str | None, absent: int, name: str, lowest: int, highest: int) -> int:
    if text is None:
        return absent
    if not re.fullmatch("[0-9]{1,19}", text) or not lowest <= int(text) <= highest:
        raise InvalidRequest(f"{name} is a number from {lowest} to {highest}")
    return int(text)


def _bad(error: ValidationError) -> InvalidRequest:
    one = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return InvalidRequest(f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}")


def _json(value: object) -> Response:
    return Response(200, json.dumps(value).encode())
