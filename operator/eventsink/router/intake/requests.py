"""Intake over HTTP: authenticates a request, has its body accepted, and responds when everything is on disk.

    POST /v1/alerts/<source>            Authorization: Bearer <token>, or Basic with the token as the password
    POST /v1/alerts/<source>/<token>    where the source allows it; paths are never logged

Either may end in a URL suffix of the source's format, such as `/api/v2/alerts`. A body may be compressed (`Content-Encoding: gzip`).

200 {"accepted": n, "rejected": [{"index", "reason"}]}, and where there are any, "truncated", "leftOutBySource" and "moreRejected" with their
numbers; errors are {"error": "a sentence"}, or for clients of Alertmanager's API, which read nothing else, the sentence alone. What
Alertmanager should send again gets a 503 with Retry-After, never 429, which it does not retry.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

import msgspec

from eventsink.alerts.alert import OversizedPayload, Rejection, UnusablePayload
from eventsink.router.intake.compressed import expand, expand_small
from eventsink.router.intake.metrics import IntakeMetrics
from eventsink.router.planning.accept import Accepted, NothingAccepted, NotLoaded
from eventsink.router.queue.protocol import QueueError, QueueFull
from eventsink.router.sources import PostingSource, Source, authenticate
from eventsink.router.tenants import NoTenantReason
from eventsink.runtime.headers import is_among
from eventsink.runtime.listener.messages import RequestHead, Response, error
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.pending import Pending
from eventsink.runtime.retry_after import format_retry_after

PATH = "/v1/alerts/"
MAX_REJECTIONS_SHOWN = 100
"""Rejected alerts that a response lists; the others are counted in it."""
UNUSABLE = "Unusable"
"""Reason of alerts, and of whole requests, that cannot be read; the others are those of `NoTenantReason`."""
MAX_SENDER_CHARACTERS = 128
RETRY_SOON_SECONDS = 5
RETRY_LATER_SECONDS = 30
"""Asked of a source when the queue is full, which takes a while to drain."""
_CODINGS = {"": False, "identity": False, "gzip": True, "x-gzip": True}
"""Content-Encoding -> whether the body is compressed."""
_TOO_MANY = "too many requests of this source are under way (intake.maxRequestsUnderWay)"
_encoder = msgspec.json.Encoder()

Accept = Callable[[PostingSource, bytes, str], Pending[Accepted] | Coroutine[Any, Any, Accepted]]


R = TypeVar("R", Response, Response | None)


class Posting(NamedTuple):
    """Who sends a request."""

    source: PostingSource
    sender: str
    """Which of the source's programs, as in `Acceptor.accept_bytes`."""
    tokens: Sequence[bytes]
    """The source's, as they were when it was authenticated."""
    compressed: bool = False
    headers: Mapping[bytes, bytes] = MappingProxyType({})
    """Those that are part of the notification."""


class Intake:
    """Decides on requests; the `Application` of its listener.

    Parameters
    ----------
    sources
        By name.
    accept
        Accepts a body and returns when it is stored (`Acceptor.accept_bytes`).
    max_under_way
        Requests accepted at once; more get a 503. One source has at most as many as it leaves to others.
    max_body_bytes
        Of a body that was compressed.
    sender_header
        Header that tells senders apart; empty: their addresses do.
    """

    def __init__(
        self,
        sources: Mapping[str, PostingSource],
        accept: Accept,
        metrics: IntakeMetrics,
        *,
        max_under_way: int,
        max_body_bytes: int,
        sender_header: str = "",
    ) -> None:
        self._sender_header = sender_header.lower().encode()
        own = {b"authorization", b"content-encoding", self._sender_header}
        self.reads = frozenset(own).union(*[source.format.headers for source in sources.values()])
        self._sources = sources
        self._accept = accept
        self._metrics = metrics
        metrics.under_way.set_function(lambda: self.under_way)
        self._max_under_way = max_under_way
        self._max_body_bytes = max_body_bytes
        self._one_expanded = asyncio.Lock()
        self._under_way = 0
        self._of_source = dict.fromkeys(sources, 0)
        self._idle = asyncio.Event()
        self._idle.set()
        self._failed_logins = Repeated(60.0)
        self._failures = Repeated(60.0)
        self._rejections = Repeated(60.0)
        self._truncations = Repeated(60.0)
        self.stopping = False
        """Set: every request gets a 503."""

    @property
    def under_way(self) -> int:
        """Requests that are being accepted."""
        return self._under_way

    async def until_idle(self, timeout: float) -> bool:
        """Wait until no request is being accepted, at most `timeout` seconds; whether that came about."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def reject(self, status: int, sentence: str, admitted: Posting | None = None) -> Response:
        """The response to a request that is given up while it is read, counted; it would not be accepted later either."""
        source = admitted.source if admitted is not None else None
        self._metrics.requests.add(1, source.name if source is not None else "", str(status))
        if source is not None:
            self._log_rejection(source, sentence)
        return _error(source, status, sentence)

    def later(self, sentence: str, admitted: Posting | None = None) -> Response:
        """The response to what is too much at this moment, counted."""
        source = admitted.source if admitted is not None else None
        self._metrics.requests.add(1, source.name if source is not None else "", "503")
        return _later(sentence, RETRY_SOON_SECONDS, source)

    def admit(self, head: RequestHead) -> Posting | Response:
        """Decide on a request before its body is read: who sends it, or the response to give at once."""
        admitted = head.kept
        # The same head on the same connection: it is authenticated again when the tokens were read again.
        if not isinstance(admitted, Posting) or admitted.tokens is not admitted.source.tokens():
            head.kept = None
            decision = self._authenticate(head)
            if isinstance(decision, Response):
                return self._turned_away(decision)
            head.kept = admitted = decision
        if self.stopping:
            return self._turned_away(_later("the router is stopping", RETRY_SOON_SECONDS, admitted.source))
        if self._full(admitted.source):
            return self._turned_away(_later(_TOO_MANY, RETRY_SOON_SECONDS, admitted.source))
        return admitted

    def _turned_away(self, response: Response) -> Response:
        self._metrics.requests.add(1, "", str(response.status))
        return response

    def _authenticate(self, head: RequestHead) -> Posting | Response:
        if not head.path.startswith(PATH):
            return error(404, "nothing is served here; alerts are posted to /v1/alerts/<source>")
        if head.method != "POST":
            return error(405, "alerts are posted: use POST", b"Allow: POST\r\n")
        name, in_path = self._split(head.path[len(PATH) :])
        source = authenticate(self._sources, name, in_path or token_in_header(head.header(b"authorization")))
        if source is None or (in_path and not source.path_token):
            self._log_failed_login(name)
            return error(
                401,
                "unknown source or invalid token: send Authorization: Bearer <token>, or Basic with the token as the password",
                b"WWW-Authenticate: Bearer\r\n",
            )
        coding = head.header(b"content-encoding").strip().lower()
        if coding not in _CODINGS:
            return error(415, "Content-Encoding is gzip, identity or absent", b"Accept-Encoding: gzip\r\n")
        own = source.format.headers
        headers = {name: value for name, value in head.headers.items() if is_among(name, own)} if own else {}
        return Posting(source, self._sender(head), source.tokens(), _CODINGS[coding], headers)

    def _sender(self, head: RequestHead) -> str:
        named = head.header(self._sender_header) if self._sender_header else ""
        return named[:MAX_SENDER_CHARACTERS] or head.peer

    def _full(self, source: PostingSource) -> bool:
        """Whether a source has as many requests under way as it leaves to others."""
        return self._of_source[source.name] >= self._max_under_way - self._under_way

    def _split(self, rest: str) -> tuple[str, str]:
        """The source's name and the token in the path, which is empty where there is none, of a path after /v1/alerts/."""
        name, slash, rest = rest.partition("/")
        source = self._sources.get(name)
        return name, token_in_path(slash + rest, source.format.url_suffixes if source is not None else ())

    def handle(self, admitted: Posting, body: bytes) -> Response | Pending[Response] | Coroutine[Any, Any, Response]:
        """Have a body accepted, and respond when it is. Raises nothing but cancellation."""
        source = admitted.source
        if self._full(source):  # those that arrived at the same time were all admitted
            return self.later(_TOO_MANY, admitted)
        started = time.perf_counter()
        self._under_way += 1
        self._of_source[source.name] += 1
        self._idle.clear()
        try:
            expanded = self._expanded(source, expand_small(body)) if admitted.compressed else body
            if expanded is None:
                return self._response_later(source, started, self._accept_large(admitted, body))
            accepting = self._accept(source, _enveloped(admitted, expanded), admitted.sender)
        except Exception as failure:
            return self._end(source, started, self._failed(source, failure))
        if isinstance(accepting, Pending):
            return Pending(accepting.future, partial(self._response, source, started, accepting.result))
        return self._response_later(source, started, accepting)

    async def _accept_large(self, admitted: Posting, body: bytes) -> Accepted:
        """Accept what was compressed and is large: one at a time, since a small body may take as much memory as the largest."""
        async with self._one_expanded:
            expanded = await asyncio.to_thread(expand, body, self._max_body_bytes)
            self._expanded(admitted.source, expanded)
            return await self._accept(admitted.source, _enveloped(admitted, expanded), admitted.sender)

    def _expanded(self, source: PostingSource, body: bytes | None) -> bytes | None:
        if body is not None:
            self._metrics.expanded.labels(source.name).inc(len(body))
        return body

    async def _response_later(self, source: PostingSource, started: float, accepting: Coroutine[Any, Any, Accepted]) -> Response:
        response = None
        try:
            response = self._accepted(source, await accepting)
        except Exception as failure:
            response = self._failed(source, failure)
        finally:
            self._end(source, started, response)
        return response

    def _response(self, source: PostingSource, started: float, result: Callable[[], Accepted]) -> Response:
        response = None
        try:
            response = self._accepted(source, result())
        except Exception as failure:
            response = self._failed(source, failure)
        finally:
            self._end(source, started, response)
        return response

    def _end(self, source: PostingSource, started: float, response: R) -> R:
        """Count a request that is not under way any more, and return the response, None if there is none."""
        self._under_way -= 1
        self._of_source[source.name] -= 1
        if not self._under_way:
            self._idle.set()
        self._metrics.duration.observe(time.perf_counter() - started)
        if response is not None:
            self._metrics.requests.add(1, source.name, str(response.status))
        return response

    def _failed(self, source: PostingSource, failure: Exception) -> Response:
        """The response to what was not accepted."""
        match failure:
            case UnusablePayload():
                self._metrics.rejected.labels(source.name, UNUSABLE).inc()
                self._log_rejection(source, str(failure))
                return _error(source, 413 if isinstance(failure, OversizedPayload) else 400, str(failure))
            case NothingAccepted():
                self._count_rejected(source, failure.rejected, failure.reasons)
                return _error(source, 403, str(failure))
            case NotLoaded():
                return _later("the router has not loaded all sinks yet", RETRY_SOON_SECONDS, source)
            case QueueFull():
                self._log_failure(str(failure))
                return _later(str(failure), RETRY_LATER_SECONDS, source)
            case QueueError():
                self._log_failure(str(failure))
                return _later("the alerts could not be stored", RETRY_SOON_SECONDS, source)
        get_logger().error("a request failed", source=source.name, exc_info=failure)
        return _error(source, 500, "the router failed; see its log")

    def _accepted(self, source: PostingSource, accepted: Accepted) -> Response:
        """The response to what was accepted."""
        self._metrics.alerts.add(accepted.alerts, source.name)
        self._metrics.deliveries.add(accepted.deliveries, source.name)
        if not (accepted.rejected or accepted.truncated or accepted.left_out):
            return Response(200, b'{"accepted":%d,"rejected":[]}' % accepted.alerts)
        self._count_rejected(source, accepted.rejected, accepted.reasons)
        if accepted.truncated or accepted.left_out:
            self._count_truncated(source, accepted)
        return Response(200, _encoder.encode(_result(accepted)))

    def _count_rejected(self, source: Source, rejected: Sequence[Rejection], reasons: Sequence[NoTenantReason]) -> None:
        for reason in set(reasons):
            self._metrics.rejected.labels(source.name, reason.value).inc(reasons.count(reason))
        unusable = len(rejected) - len(reasons)
        if unusable:
            self._metrics.rejected.labels(source.name, UNUSABLE).inc(unusable)
        if rejected:
            # Few sources show anybody the response that they get.
            self._log_rejection(source, f"alerts[{rejected[0].index}]: {rejected[0].reason}", alerts=len(rejected))

    def _count_truncated(self, source: Source, accepted: Accepted) -> None:
        self._metrics.truncated.labels(source.name).inc(accepted.truncated)
        self._metrics.left_out.labels(source.name).inc(accepted.left_out)
        more = self._truncations.due()
        if more is not None:
            get_logger().warning(
                "alerts were truncated, or left out by their source (Alertmanager: set max_alerts to 0)",
                source=source.name,
                truncated=accepted.truncated,
                left_out=accepted.left_out,
                more=more,
            )

    def _log_rejection(self, source: Source, reason: str, **facts: int) -> None:
        more = self._rejections.due()
        if more is not None:
            get_logger().warning("alerts were rejected", source=source.name, reason=reason, more=more, **facts)

    def _log_failed_login(self, name: str) -> None:
        more = self._failed_logins.due()
        if more is not None:
            # Another name may be a token in the wrong place.
            get_logger().warning(
                "a request had an unknown source or an invalid token", source=name if name in self._sources else "", more=more
            )

    def _log_failure(self, reason: str) -> None:
        more = self._failures.due()
        if more is not None:
            get_logger().error("alerts could not be stored", reason=reason, more=more)


def _enveloped(admitted: Posting, body: bytes) -> bytes:
    """What the source's format reads of a request."""
    enveloped = admitted.source.format.enveloped
    return body if enveloped is None else enveloped(admitted.headers, body)


def token_in_path(rest: str, suffixes: Iterable[str]) -> str:
    """The token in what follows a source's name in a path: all of it but the slash in front and the format's suffix; empty: none."""
    for suffix in suffixes:
        if rest.endswith(suffix):
            rest = rest.removesuffix(suffix)
            break
    return unquote(rest.removeprefix("/"))


def token_in_header(authorization: str) -> str:
    """The token of `Bearer <token>`, or of `Basic`, where it is the password and the user name says nothing; empty: none."""
    scheme, _, credentials = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic":
            try:
                return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
            except ValueError:
                return ""
    return ""


def _error(source: PostingSource | None, status: int, sentence: str, headers: bytes = b"") -> Response:
    """An error as the clients of the source read it."""
    if source is None or not source.format.api_errors:
        return error(status, sentence, headers)
    return Response(400 if status == 403 else status, _encoder.encode(sentence), headers)


def _later(sentence: str, seconds: int, source: PostingSource | None = None) -> Response:
    headers = f"Retry-After: {format_retry_after(seconds)}\r\n".encode()
    return _error(source, 503, f"{sentence}; send it again later", headers)


def _result(accepted: Accepted) -> dict[str, object]:
    shown = accepted.rejected[:MAX_REJECTIONS_SHOWN]
    result: dict[str, object] = {
        "accepted": accepted.alerts,
        "rejected": [{"index": one.index, "reason": one.reason} for one in shown],
    }
    more = {
        "moreRejected": len(accepted.rejected) - len(shown),
        "truncated": accepted.truncated,
        "leftOutBySource": accepted.left_out,
    }
    return result | {name: number for name, number in more.items() if number}
