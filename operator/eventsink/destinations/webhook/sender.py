"""Sends messages to a webhook: CloudEvents, Alertmanager's own format or what a template writes, signed as in Standard Webhooks."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from importlib import metadata

import msgspec

from eventsink.destinations.webhook import cloudevents
from eventsink.destinations.webhook.hints import PLATFORM_HINTS
from eventsink.destinations.webhook.oauth2 import TokenFailed, Tokens
from eventsink.destinations.webhook.rendering import TemplateRenderer
from eventsink.destinations.webhook.success import SuccessWhen
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.runtime.logs import get_logger
from eventsink.runtime.retry_after import parse_retry_after
from eventsink.sinks.sender import FAILURES_OF_SINK, Delivered, Failed, FailureClass, Message, Outcome, SenderContext
from eventsink.sinks.signatures import signature, signing_key
from eventsink.sinks.sink import Sink
from eventsink.sinks.transport import Client, Endpoint, Response, TlsOptions, Transport, TransportError, TransportErrorKind

USER_AGENT = f"EventSink/{metadata.version('eventsink')}"

_MESSAGE_STATUSES = frozenset({400, 405, 406, 411, 413, 414, 415, 422, 431})
_SINK_STATUSES = frozenset({401, 402, 403, 404, 407, 410, 421, 451})
_TRANSIENT_STATUSES = frozenset({408, 423, 424, 425, 429})
_HINTS = {
    401: "check the credentials in the sink's headers or auth",
    403: "check the credentials in the sink's headers or auth, and that the receiver allows them",
    404: "check the URL",
    410: "the receiver says that it is gone for good: correct the URL or delete the sink",
    413: "the receiver takes no message of this size",
}
_ERROR_HINTS = {
    **PLATFORM_HINTS,
    TransportErrorKind.TLS: "check the receiver's certificate, its authority (tls.caSecretRef) and its name (tls.serverName)",
    TransportErrorKind.CLIENT_CERTIFICATE: "name a Secret with one that the receiver accepts in tls.clientCertSecretRef",
    TransportErrorKind.TLS_VERSION: "upgrade the receiver, or what ends TLS in front of it",
    TransportErrorKind.WRONG_PROTOCOL: "check that the URL has the right port, and http or https as the receiver speaks it",
    TransportErrorKind.PROXY_FAILED: "check the host in the URL, and that the proxy can connect to it",
    TransportErrorKind.DNS: "check the host in the URL",
}

_TELLING_BODIES = {
    # What nginx, Apache and Go respond with, as a 400, where it is not the message that is wrong.
    b"plain HTTP request was sent to HTTPS port": TransportErrorKind.WRONG_PROTOCOL,
    b"speaking plain HTTP to an SSL-enabled server port": TransportErrorKind.WRONG_PROTOCOL,
    b"Client sent an HTTP request to an HTTPS server": TransportErrorKind.WRONG_PROTOCOL,
    b"No required SSL certificate was sent": TransportErrorKind.CLIENT_CERTIFICATE,
}
_TELLING_BYTES = 1024


class WebhookSender:
    """A `Sender` for one webhook.

    Parameters
    ----------
    target
        What was compiled; its secrets are known to be usable.
    transport
        Outgoing HTTP of the process.
    tenant
        Whose messages these are.
    renderer
        Of the sink's template; None: it has none.
    now
        Wall clock, seconds since the epoch, for signatures.

    Raises
    ------
    ValueError
        The URL, a header or a signing secret cannot be used; the text does not repeat it.
    """

    def __init__(
        self,
        target: WebhookTarget,
        transport: Transport,
        tenant: str,
        *,
        renderer: TemplateRenderer | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        endpoint = Endpoint.parse(target.url)
        self._origin = endpoint.origin
        tls = TlsOptions(target.ca, target.client_certificate, target.server_name)
        reads = target.success_when is not None and target.success_when.pointer is not None
        self._client: Client = transport.client(endpoint, tenant=tenant, tls=tls, method=target.method, reads=reads)
        self._tokens = (
            Tokens(target.oauth2, transport, tenant, timeout=target.timeout, user_agent=USER_AGENT, now=now)
            if target.oauth2 is not None
            else None
        )
        self._success = target.success_when
        self._renderer = renderer
        self._content_type = target.content_type.encode()
        self._now = now
        self._timeout = target.timeout
        self._keys = [signing_key(secret) for secret in target.signing_secrets]
        given = {header.name.lower(): header for header in target.headers}
        lines = [] if "user-agent" in given else [f"User-Agent: {USER_AGENT}"]
        if endpoint.userinfo and "authorization" not in given and target.oauth2 is None:
            lines.append(f"Authorization: Basic {base64.b64encode(endpoint.userinfo.encode()).decode()}")
        lines += [f"{header.name}: {header.value}" for header in target.headers]
        if any(character in line for line in lines for character in "\r\n\0"):
            raise ValueError("the value of a header holds a line break")
        self._fixed = ("\r\n".join(lines) + "\r\n").encode()

    async def send(self, message: Message) -> Outcome:
        timeout = self._timeout
        try:
            if self._renderer is None:
                content_type, body = render(message)
            else:
                began = time.monotonic()
                # Half of it is the receiver's: what is sent with no time left counts as failed, though it was taken.
                rendered = await self._renderer.render(message, timeout=timeout / 2)
                if isinstance(rendered, Failed):
                    return rendered
                content_type, body = self._content_type, rendered
                timeout -= time.monotonic() - began
            headers = self._headers(message.id, content_type, body)
            if self._tokens is None:
                response = await self._client.post(headers, body, timeout=timeout)
            else:
                response = await self._post_with_token(self._tokens, headers, body, timeout)
        except msgspec.MsgspecError:
            text = "an alert of the message cannot be read; it was queued by another version or is damaged"
            return Failed(FailureClass.MESSAGE, "InvalidMessage", text)
        except TokenFailed as error:
            return error.outcome
        except TransportError as error:
            return classify_error(error)
        except Exception as error:  # whatever it is must not end this sink's deliveries; its text may hold anything
            get_logger().error("a message could not be sent because of an unexpected error", error=type(error).__name__)
            text = f"{self._origin} was not reached: {type(error).__name__} in the router; see its log"
            return Failed(FailureClass.TRANSIENT, "InternalError", text)
        if self._success is not None:
            return judge(response, self._success, self._origin, self._now())
        if 200 <= response.status < 300:
            return Delivered(response.status)
        return classify(response, self._origin, self._now())

    async def close(self) -> None:
        """Connections belong to the transport; a request for a token ends."""
        if self._tokens is not None:
            await self._tokens.close()

    async def _post_with_token(self, tokens: Tokens, headers: bytes, body: bytes, timeout: float) -> Response:
        """With a token, and once more with a new one if the receiver does not accept it: it may have been revoked."""
        deadline = time.monotonic() + timeout
        token = await tokens.current(timeout)
        response = await self._client.post(_authorized(headers, token), body, timeout=max(0.0, deadline - time.monotonic()))
        if response.status != 401 or (self._success is not None and self._success.takes(response)):
            return response
        token = await tokens.current(deadline - time.monotonic(), instead_of=token)
        return await self._client.post(_authorized(headers, token), body, timeout=max(0.0, deadline - time.monotonic()))

    def _headers(self, message_id: str, content_type: bytes, body: bytes) -> bytes:
        timestamp = int(self._now())
        lines = b"%sContent-Type: %s\r\nwebhook-id: %s\r\nwebhook-timestamp: %d\r\n" % (
            self._fixed,
            content_type,
            message_id.encode(),
            timestamp,
        )
        if self._keys:
            lines += b"webhook-signature: %s\r\n" % signature(self._keys, message_id, timestamp, body).encode()
        return lines

    def __repr__(self) -> str:
        return f"WebhookSender({self._origin})"


def _authorized(headers: bytes, token: str) -> bytes:
    return b"%sAuthorization: Bearer %s\r\n" % (headers, token.encode())


def open_sender(sink: Sink, target: WebhookTarget, context: SenderContext) -> WebhookSender:
    """The sender of a webhook; ValueError as `WebhookSender`."""
    renderer = TemplateRenderer(sink, target, context.templates) if target.template is not None else None
    return WebhookSender(target, context.transport, sink.tenant, renderer=renderer)


def render(message: Message) -> tuple[bytes, bytes]:
    """(content type, body) of a message: the same each time."""
    if message.group is not None:
        return b"application/json", message.group
    if len(message.alerts) == 1 and not message.batched:
        return cloudevents.CONTENT_TYPE, cloudevents.event(message.alerts[0])
    return cloudevents.BATCH_CONTENT_TYPE, cloudevents.batch(message.alerts)


def classify(response: Response, origin: str, now: float) -> Outcome:
    """What a response means: a table over its status code; of the rest, Retry-After and what servers of TLS say in a 400 count."""
    status = response.status
    if status == 400:
        kind = next((kind for text, kind in _TELLING_BODIES.items() if text in response.body[:_TELLING_BYTES]), None)
        if kind is not None:
            return classify_error(TransportError(kind, origin))
    if 200 <= status < 300:
        return Delivered(status)
    retry_after = None
    text = f"{origin} responded with {status}"
    if 300 <= status < 400:
        failure = FailureClass.SINK
        text += ": redirects are not followed; write the final URL into the sink"
    elif status in _MESSAGE_STATUSES:
        failure = FailureClass.MESSAGE
    elif status in _SINK_STATUSES:
        failure = FailureClass.SINK
    elif status in _TRANSIENT_STATUSES or status >= 500 or status < 200:
        failure = FailureClass.TRANSIENT
        retry_after = parse_retry_after(response.retry_after, now)
    else:
        failure = FailureClass.MESSAGE
    if status in _HINTS:
        text += f": {_HINTS[status]}"
    return Failed(failure, f"HTTP{status}", text, status, retry_after)


def judge(response: Response, when: SuccessWhen, origin: str, now: float) -> Outcome:
    """What a response means where the sink's owner says what success is: a 2xx that is none may be one later."""
    status = response.status
    if when.takes(response):
        return Delivered(status)
    if when.takes_status(status):
        text = f"{origin} responded with {status}, but what is at successWhen.pointer is not what successWhen.equals says"
    elif 200 <= status < 300:
        text = f"{origin} responded with {status}, which is not among successWhen.statuses"
    else:
        return classify(response, origin, now)
    return Failed(FailureClass.TRANSIENT, "UnexpectedResponse", text, status, parse_retry_after(response.retry_after, now))


def classify_error(error: TransportError) -> Failed:
    """What it means that no complete response came."""
    failure = FailureClass.SINK if error.kind in FAILURES_OF_SINK else FailureClass.TRANSIENT
    text = str(error)
    if error.kind in _ERROR_HINTS:
        text += f": {_ERROR_HINTS[error.kind]}"
    return Failed(failure, error.kind.value, text)
