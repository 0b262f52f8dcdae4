"""The HTTP server: paths, keys, bodies and errors. What a call does is in `calls/facade.py`."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from eventsink.destinations.arguments import RestModel
from eventsink.resources.rules import MAX_TENANT_LENGTH
from eventsink.rest.access.authenticator import Authenticator
from eventsink.rest.access.callers import Caller
from eventsink.rest.body import read
from eventsink.rest.calls.facade import ChangeResult, Facade
from eventsink.rest.config import FacadeSettings
from eventsink.rest.errors import (
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RestError,
    ServiceUnavailable,
    TooManyRequests,
    UnsupportedMediaType,
)
from eventsink.rest.http.messages import (
    address_of,
    cookies,
    error_response,
    http_response,
    json_response,
    page_response,
    parameter,
    query_of,
)
from eventsink.rest.http.metrics import RestMetrics
from eventsink.rest.http.openapi import document
from eventsink.rest.http.operations import (
    IDEMPOTENCY_KEY_PATTERN,
    MAX_HEADER,
    MAX_PAGE_SIZE,
    MAX_PAGE_TOKEN,
    OPERATIONS,
    READ,
    Operation,
)
from eventsink.rest.models import UUID_PATTERN, CreateRequest, MuteRequest, NoContent, OneSink, UpdateRequest
from eventsink.rest.pages.docs import message_page, reference_page
from eventsink.rest.pages.slack_install import CALLBACK_PATH, COOKIE_PATH, OPEN_PATH, InstallRequest, SlackInstall
from eventsink.runtime.listener.listener import Listener
from eventsink.runtime.listener.messages import RequestHead
from eventsink.runtime.listener.messages import Response as HttpResponse
from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.listener.routes import NoRoute, Routes
from eventsink.runtime.logs import get_logger

STOP_SECONDS = 20.0
"""How long stopping waits for requests under way: a create waits up to create_wait for its verdict."""
_CHARSET = re.compile(r';\s*charset="?([A-Za-z0-9_-]{1,40})"?', re.IGNORECASE)

Response = tuple[RestModel, dict[str, str]]
"""The body and the headers of a response."""


class Call:
    """One request of an authenticated caller."""

    def __init__(self, caller: Caller, head: RequestHead, names: Mapping[str, str], query: dict[str, str], body: bytes) -> None:
        self.caller = caller
        self.query = query
        self.body = body
        self._head = head
        self._names = names

    @property
    def id(self) -> str:
        """The id in the path.

        Raises
        ------
        NotFound
            It is not an id.
        """
        text = self._names["id"].lower()
        if not re.fullmatch(UUID_PATTERN, text):
            raise NotFound("no sink has this id; ids are UUIDs")
        return text

    def header(self, name: str) -> str:
        """A header; empty where it is absent.

        Raises
        ------
        InvalidRequest
            It is empty, or too long.
        """
        key = name.lower().encode()
        value = self._head.header(key)
        if key in self._head.headers and not value.strip(" ,"):
            raise InvalidRequest(f"{name}: empty; write a value, or omit the header")
        if len(value) > MAX_HEADER:
            raise InvalidRequest(f"{name}: too long; {MAX_HEADER} characters at most")
        return value


@dataclass(frozen=True, slots=True)
class _Routed:
    """A request and what serves it."""

    name: str
    """Of the operation."""
    head: RequestHead
    names: Mapping[str, str]
    handle: Callable[[RequestHead, Mapping[str, str], bytes], Awaitable[HttpResponse]]


class RestServer:
    """Serves the calls.

    Parameters
    ----------
    install
        Slack's browser flow.
    max_connections
        Open at once.
    """

    reads = frozenset(
        {
            b"authorization",
            b"content-encoding",
            b"content-type",
            b"cookie",
            b"idempotency-key",
            b"if-match",
            b"x-forwarded-for",
        }
    )

    def __init__(
        self,
        settings: FacadeSettings,
        facade: Facade,
        authenticator: Authenticator,
        install: SlackInstall,
        metrics: RestMetrics,
        listener_metrics: ListenerMetrics,
        *,
        prefix: str,
        max_connections: int,
    ) -> None:
        self._settings = settings
        self._facade = facade
        self._authenticator = authenticator
        self._install = install
        self._metrics = metrics
        self._proxies = settings.limits.failures.networks()
        self._under_way: Counter[str] = Counter()
        self._document = json.dumps(document()).encode()
        self._reference = reference_page(document()).encode()
        self._calls: dict[str, Callable[[Call], Awaitable[Response]]] = {
            "create_event_sink": self._create,
            "list_event_sinks": self._list,
            "get_event_sink": self._get,
            "update_event_sink": self._update,
            "delete_event_sink": self._delete,
            "mute_event_sink": self._mute,
            "unmute_event_sink": self._unmute,
            "test_event_sink": self._test,
            "install_slack": self._begin_install,
        }

        pages = [
            *((method, "/openapi.json", self._openapi) for method in READ),
            *((method, "/docs", self._docs) for method in READ),
            # Each works once: a program that only looks at a link with HEAD must not use it up.
            ("GET", OPEN_PATH, self._open),
            ("GET", CALLBACK_PATH, self._callback),
        ]
        self._routes: Routes[tuple[str, Callable[[RequestHead, Mapping[str, str], bytes], Awaitable[HttpResponse]]]] = Routes(
            [(method, one.path, (one.name, self._serve(one))) for one in OPERATIONS for method in one.methods]
            + [(method, path, ("other", _without_body(handler))) for method, path, handler in pages]
        )
        limits = settings.limits.listener(prefix, max_connections)
        self._listener = Listener("rest", settings.address, limits, self, listener_metrics, process="rest")

    async def start(self) -> int:
        """Listen; returns the port.

        Raises
        ------
        OSError
            The address cannot be bound.
        """
        return await self._listener.start()

    async def stop(self) -> None:
        """Finish what is under way, and stop listening."""
        self._facade.end_waits()
        await self._listener.close(STOP_SECONDS)

    # ---- Application: what all calls share

    def admit(self, head: RequestHead) -> _Routed | HttpResponse:
        """The call that the request is for."""
        try:
            # One slash more at the end is a habit of HTTP libraries, and means nothing else here.
            (name, handle), names = self._routes.find(head.method, head.path.removesuffix("/"))
        except NoRoute as missing:
            if not missing.allowed:
                return self._counted("other", error_response(NotFound("unknown path; /docs describes the API")))
            headers = {"Allow": ",".join(missing.allowed)}
            sentence = "this path does not support this method; /docs describes the API"
            return self._counted("other", error_response(MethodNotAllowed(sentence, headers=headers)))
        if head.header(b"content-encoding").lower() not in ("", "identity"):
            sentence = "compressed bodies are not accepted: leave out Content-Encoding"
            return self._counted(name, error_response(UnsupportedMediaType(sentence)))
        return _Routed(name, head, names, handle)

    async def handle(self, admitted: _Routed, body: bytes) -> HttpResponse:
        """The response to a call: an error is JSON, too."""
        started = time.monotonic()
        try:
            response = await admitted.handle(admitted.head, admitted.names, body)
        except RestError as error:
            response = error_response(error)
        except Exception:
            get_logger().exception("request failed", operation=admitted.name)
            response = json_response({"error": "internal error; the log of the REST API has the details"}, 500)
        self._metrics.seconds.labels(admitted.name).observe(time.monotonic() - started)
        return self._counted(admitted.name, response)

    def reject(self, status: int, sentence: str, admitted: _Routed | None = None) -> HttpResponse:
        """The response to what is not a request that is served."""
        return self._counted(admitted.name if admitted is not None else "other", json_response({"error": sentence}, status))

    def later(self, sentence: str, admitted: _Routed | None = None) -> HttpResponse:
        """The response to what is too much."""
        return self._counted(admitted.name if admitted is not None else "other", error_response(ServiceUnavailable(sentence)))

    def _counted(self, name: str, response: HttpResponse) -> HttpResponse:
        self._metrics.requests.labels(name, str(response.status)).inc()
        return response

    def _serve(self, one: Operation) -> Callable[[RequestHead, Mapping[str, str], bytes], Awaitable[HttpResponse]]:
        call = self._calls[one.name]

        async def handle(head: RequestHead, names: Mapping[str, str], body: bytes) -> HttpResponse:
            caller = await self._authenticator.authenticate(head.header(b"authorization"), address_of(head, self._proxies))
            with self._slot(caller):
                query = query_of(head, one.query_names())
                content = _checked(one, head, body) if one.request is not None else b""
                response, headers = await call(Call(caller, head, names, query, content))
            text = response.model_dump_json(by_alias=True, exclude_none=True)
            return http_response(200, text.encode(), headers)

        return handle

    @contextmanager
    def _slot(self, caller: Caller) -> Iterator[None]:
        limits = self._settings.limits
        if self._under_way.total() >= limits.max_requests or self._under_way[caller.name] >= limits.max_requests_per_key:
            raise TooManyRequests("too many requests at once; wait for the responses to some of them")
        self._under_way[caller.name] += 1
        try:
            yield
        finally:
            self._under_way[caller.name] -= 1
            if not self._under_way[caller.name]:
                del self._under_way[caller.name]

    # ---- calls

    async def _create(self, call: Call) -> Response:
        key = call.header("Idempotency-Key")
        if key and not re.fullmatch(IDEMPOTENCY_KEY_PATTERN, key):
            raise InvalidRequest("Idempotency-Key: write 1 to 255 visible ASCII characters")
        return _changed(await self._facade.create(call.caller, read(CreateRequest, call.body), key))

    async def _list(self, call: Call) -> Response:
        tenant = call.query.get("tenant_id")
        if not tenant:
            raise InvalidRequest("tenant_id: this parameter is required; add it")
        if len(tenant) > MAX_TENANT_LENGTH:
            raise InvalidRequest(f"tenant_id: write {MAX_TENANT_LENGTH} characters or fewer")
        size = call.query.get("pagination[page_size]")
        token = call.query.get("pagination[page_token]", "")
        if size is not None and (not re.fullmatch("[0-9]{1,4}", size) or not 1 <= int(size) <= MAX_PAGE_SIZE):
            raise InvalidRequest(f"pagination[page_size]: write a number from 1 to {MAX_PAGE_SIZE}")
        if len(token) > MAX_PAGE_TOKEN:
            raise InvalidRequest("pagination[page_token]: invalid; start again without it")
        page_size = int(size) if size is not None else None
        return await self._facade.list_sinks(call.caller, tenant, page_size=page_size, page_token=token), {}

    async def _get(self, call: Call) -> Response:
        sink, etag = await self._facade.get(call.caller, call.id)
        return OneSink(event_sink=sink), {"ETag": etag}

    async def _update(self, call: Call) -> Response:
        uid, wanted = call.id, read(UpdateRequest, call.body)
        return _changed(await self._facade.update(call.caller, uid, wanted, call.header("If-Match")))

    async def _mute(self, call: Call) -> Response:
        uid, wanted = call.id, read(MuteRequest, call.body)
        return _changed(await self._facade.mute(call.caller, uid, wanted, call.header("If-Match")))

    async def _unmute(self, call: Call) -> Response:
        index = call.query.get("index")
        if index is not None and not re.fullmatch("[0-9]{1,2}", index):
            raise InvalidRequest("index: write the position of a mute in the list; the first one is 0")
        number = int(index) if index is not None else None
        return _changed(await self._facade.unmute(call.caller, call.id, number, call.header("If-Match")))

    async def _delete(self, call: Call) -> Response:
        return await self._facade.delete(call.caller, call.id), {}

    async def _test(self, call: Call) -> Response:
        uid = call.id
        read(NoContent, call.body)
        return await self._facade.test(call.caller, uid), {}

    async def _begin_install(self, call: Call) -> Response:
        return await self._install.begin(call.caller, read(InstallRequest, call.body)), {}

    # ---- for browsers

    async def _openapi(self, _: RequestHead) -> HttpResponse:
        return http_response(200, self._document)

    async def _docs(self, head: RequestHead) -> HttpResponse:
        if head.path.endswith("/"):  # its links are relative
            return http_response(308, b"", {"Location": "../docs"}, content_type=b"text/plain")
        return page_response(self._reference)

    async def _open(self, head: RequestHead) -> HttpResponse:
        try:
            opened = self._install.open(parameter(head, "state"))
        except RestError as error:
            return page_response(message_page("Slack is not connected", error.sentence).encode(), error.status)
        cookie = f"{opened.cookie}={opened.value}; Max-Age={opened.lasts}; Path={COOKIE_PATH}; HttpOnly; SameSite=Lax"
        # Lax: Slack sends the browser back from another site.
        headers = {
            "Location": opened.location,
            "Referrer-Policy": "no-referrer",
            "Set-Cookie": cookie + ("; Secure" if opened.secure else ""),
        }
        return http_response(303, b"", headers, content_type=b"text/plain")

    async def _callback(self, head: RequestHead) -> HttpResponse:
        try:
            sentence = await self._install.finish(
                parameter(head, "state"), parameter(head, "code"), parameter(head, "error"), cookies(head)
            )
        except RestError as error:
            return page_response(message_page("Slack is not connected", error.sentence).encode(), error.status)
        return page_response(message_page("Slack", sentence).encode())


def _checked(one: Operation, head: RequestHead, body: bytes) -> bytes:
    """The body of a request; an empty one is an empty object where none is required.

    Raises
    ------
    UnsupportedMediaType
        By its Content-Type it is not JSON.
    """
    if not body and not one.body_required:
        return b"{}"
    content_type = head.header(b"content-type")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("the body must be JSON: send Content-Type: application/json")
    charset = _CHARSET.search(content_type)
    if charset is not None and charset[1].lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("the body must be UTF-8")
    return body


def _without_body(
    handler: Callable[[RequestHead], Awaitable[HttpResponse]],
) -> Callable[[RequestHead, Mapping[str, str], bytes], Awaitable[HttpResponse]]:
    return lambda head, _names, _body: handler(head)


def _changed(result: ChangeResult) -> Response:
    return result.response, {"ETag": result.etag}
