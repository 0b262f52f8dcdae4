"""The HTTP server: paths, keys, bodies and errors. What a call does is in `calls/facade.py`."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from urllib.parse import parse_qsl

from aiohttp import web

from eventsink.destinations.arguments import RestModel
from eventsink.rest.access.authenticator import Authenticator
from eventsink.rest.access.callers import Caller
from eventsink.rest.calls.facade import ChangeResult, Facade
from eventsink.rest.config import FacadeSettings
from eventsink.rest.errors import (
    ContentTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    RestError,
    TooManyRequests,
    UnsupportedMediaType,
)
from eventsink.rest.http.metrics import RestMetrics
from eventsink.rest.http.openapi import document
from eventsink.rest.http.operations import (
    IDEMPOTENCY_KEY_PATTERN,
    MAX_HEADER,
    MAX_PAGE_SIZE,
    MAX_PAGE_TOKEN,
    MAX_TENANT_LENGTH,
    OPERATIONS,
    Operation,
)
from eventsink.rest.models import UUID_PATTERN, CreateRequest, NoContent, OneSink, UpdateRequest, read
from eventsink.rest.pages.docs import SECURITY_POLICY, message_page, reference_page
from eventsink.rest.pages.slack_install import CALLBACK_PATH, COOKIE_PATH, OPEN_PATH, InstallRequest, SlackInstall
from eventsink.runtime.address import bound_port, split_address
from eventsink.runtime.logs import get_logger

BODY_SECONDS = 30.0
"""How long a body may take to arrive."""
STOP_SECONDS = 20.0
"""How long stopping waits for requests under way: a create waits up to create_wait for its verdict."""
_COMMON_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Response = tuple[RestModel, dict[str, str]]
"""The body and the headers of a response."""


class Call:
    """One request of an authenticated caller."""

    def __init__(self, caller: Caller, request: web.Request, query: dict[str, str], body: bytes) -> None:
        self.caller = caller
        self.query = query
        self.body = body
        self._request = request

    @property
    def id(self) -> str:
        """The id in the path.

        Raises
        ------
        NotFound
            It is not an id.
        """
        text = self._request.match_info["id"].lower()
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
        values = self._request.headers.getall(name, [])
        if values and not "".join(values).strip():
            raise InvalidRequest(f"{name}: empty; write a value, or omit the header")
        if sum(map(len, values)) > MAX_HEADER:
            raise InvalidRequest(f"{name}: too long; {MAX_HEADER} characters at most")
        return ", ".join(values)


class RestServer:
    """Serves the calls.

    Parameters
    ----------
    install
        Slack's browser flow.
    """

    def __init__(
        self, settings: FacadeSettings, facade: Facade, authenticator: Authenticator, install: SlackInstall, metrics: RestMetrics
    ) -> None:
        self._settings = settings
        self._facade = facade
        self._authenticator = authenticator
        self._install = install
        self._metrics = metrics
        self._proxies = settings.limits.failures.networks()
        self._under_way: Counter[str] = Counter()
        self._runner: web.AppRunner | None = None
        self._document = json.dumps(document()).encode()
        self._reference = reference_page(document()).encode()
        self._calls: dict[str, Callable[[Call], Awaitable[Response]]] = {
            "create_event_sink": self._create,
            "list_event_sinks": self._list,
            "get_event_sink": self._get,
            "update_event_sink": self._update,
            "delete_event_sink": self._delete,
            "test_event_sink": self._test,
            "install_slack": self._begin_install,
        }

    async def start(self) -> int:
        """Listen; returns the port.

        Raises
        ------
        OSError
            The address cannot be bound.
        """
        app = web.Application(middlewares=[self._errors], client_max_size=self._settings.limits.max_body_bytes)
        for one in OPERATIONS:
            app.router.add_route(one.method, one.path, self._serve(one))
        for path, handler in {
            "/openapi.json": self._openapi,
            "/docs": self._docs,
            OPEN_PATH: self._open,
            CALLBACK_PATH: self._callback,
        }.items():
            app.router.add_get(path, handler, allow_head=False)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        site = web.TCPSite(self._runner, *split_address(self._settings.address))
        await site.start()
        port = bound_port(site)
        get_logger().info("listening", part="rest", process="rest", port=port)
        return port

    async def stop(self) -> None:
        """Finish what is under way, and stop listening."""
        self._facade.end_waits()
        if self._runner is not None:
            await self._runner.cleanup()

    # ---- what all calls share

    @web.middleware
    async def _errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Turn errors into JSON; count the response and add the headers that all have."""
        started = time.monotonic()
        name = "other"
        for one in OPERATIONS:
            resource = request.match_info.route.resource
            if resource is not None and resource.canonical == one.path and request.method == one.method:
                name = one.name
        try:
            response = await handler(request)
        except RestError as error:
            response = _error(error)
        except web.HTTPException as error:
            response = _error(_translated(error))
        except Exception:
            get_logger().exception("request failed", operation=name)
            response = _json({"error": "internal error; the log of the REST API has the details"}, 500)
        self._metrics.requests.labels(name, str(response.status)).inc()
        self._metrics.seconds.labels(name).observe(time.monotonic() - started)
        for header, value in _COMMON_HEADERS.items():
            response.headers.setdefault(header, value)
        return response

    def _serve(self, one: Operation) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        call = self._calls[one.name]

        async def handle(request: web.Request) -> web.StreamResponse:
            caller = await self._authenticator.authenticate(request.headers.get("Authorization", ""), self._address_of(request))
            with self._slot(caller):
                query = _query(request, one.query_names())
                body = await self._body(request) if one.request is not None else b""
                response, headers = await call(Call(caller, request, query, body))
            text = response.model_dump_json(by_alias=True, exclude_none=True)
            return web.Response(text=text, content_type="application/json", headers=headers)

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

    async def _body(self, request: web.Request) -> bytes:
        if not request.can_read_body and request.method == "POST" and request.path.endswith("/test"):
            return b"{}"
        if request.content_type.lower() != "application/json":
            raise UnsupportedMediaType("the body must be JSON: send Content-Type: application/json")
        if request.charset is not None and request.charset.lower() not in ("utf-8", "utf8"):
            raise UnsupportedMediaType("the body must be UTF-8")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await request.read()
        except TimeoutError:
            raise InvalidRequest(f"the body did not arrive within {BODY_SECONDS:.0f} seconds") from None
        except (web.RequestPayloadError, ConnectionError):
            raise InvalidRequest("the body is incomplete") from None

    def _address_of(self, request: web.Request) -> str:
        """Where the request comes from: the last address that is not a trusted proxy."""
        address = request.remote or ""
        hops = [hop.strip() for value in request.headers.getall("X-Forwarded-For", []) for hop in value.split(",")]
        while hops and self._is_proxy(address):
            address = _without_port(hops.pop())
        return address[:64]

    def _is_proxy(self, address: str) -> bool:
        try:
            one = ip_address(address)
        except ValueError:
            return False
        return any(one in network for network in self._proxies if network.version == one.version)

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

    async def _delete(self, call: Call) -> Response:
        return await self._facade.delete(call.caller, call.id), {}

    async def _test(self, call: Call) -> Response:
        uid = call.id
        read(NoContent, call.body)
        return await self._facade.test(call.caller, uid), {}

    async def _begin_install(self, call: Call) -> Response:
        return await self._install.begin(call.caller, read(InstallRequest, call.body)), {}

    # ---- for browsers

    async def _openapi(self, request: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")

    async def _docs(self, request: web.Request) -> web.Response:
        return _page(self._reference)

    async def _open(self, request: web.Request) -> web.Response:
        try:
            opened = self._install.open(request.query.get("state", ""))
        except RestError as error:
            return _page(message_page("Slack is not connected", error.sentence).encode(), error.status)
        response = web.Response(status=303, headers={"Location": opened.location, "Referrer-Policy": "no-referrer"})
        response.set_cookie(
            opened.cookie,
            opened.value,
            max_age=opened.lasts,
            path=COOKIE_PATH,
            httponly=True,
            secure=opened.secure,
            samesite="Lax",  # Slack sends the browser back from another site
        )
        return response

    async def _callback(self, request: web.Request) -> web.Response:
        query = request.query
        try:
            sentence = await self._install.finish(
                query.get("state", ""), query.get("code", ""), query.get("error", ""), dict(request.cookies)
            )
        except RestError as error:
            return _page(message_page("Slack is not connected", error.sentence).encode(), error.status)
        return _page(message_page("Slack", sentence).encode())


def _without_port(hop: str) -> str:
    """An address as a proxy writes it: some add the port, which differs each time."""
    if found := re.fullmatch(r"\[(.*)\](?::\d+)?|([\d.]+):\d+", hop):
        return found[1] or found[2]
    return hop


def _changed(result: ChangeResult) -> Response:
    return result.response, {"ETag": result.etag}


def _query(request: web.Request, known: set[str]) -> dict[str, str]:
    """The parameters of the query.

    Raises
    ------
    InvalidRequest
        A parameter is unknown, duplicate, or not text.
    """
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise InvalidRequest("invalid query string") from None
    for name, value in pairs:
        if name not in known:
            hint = f"known: {', '.join(sorted(known))}" if known else "this call has none"
            raise InvalidRequest(f"{name[:100]}: unknown parameter; {hint}")
        if name in found:
            raise InvalidRequest(f"{name}: duplicate parameter, remove one")
        found[name] = value
    return found


def _translated(error: web.HTTPException) -> RestError:
    """The error of the REST API for one of aiohttp."""
    if error.status == 404:
        return NotFound("unknown path; /docs describes the API")
    if error.status == 405:
        headers = {"Allow": error.headers.get("Allow", "")}
        return MethodNotAllowed("this path does not support this method; /docs describes the API", headers=headers)
    if error.status == 413:
        return ContentTooLarge("the body is too large")
    if error.status == 412:
        return PreconditionFailed("a precondition of the request does not hold")
    return InvalidRequest("malformed request")


def _error(error: RestError) -> web.Response:
    response = _json({"error": error.sentence}, error.status)
    response.headers.update(error.headers)
    return response


def _json(value: dict[str, str], status: int) -> web.Response:
    return web.Response(text=json.dumps(value), status=status, content_type="application/json")


def _page(content: bytes, status: int = 200) -> web.Response:
    headers = {"Content-Security-Policy": SECURITY_POLICY, "Referrer-Policy": "no-referrer"}
    return web.Response(body=content, status=status, content_type="text/html", charset="utf-8", headers=headers)
