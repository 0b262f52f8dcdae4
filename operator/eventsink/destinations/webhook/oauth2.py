"""Access tokens for a webhook: asked for with client credentials (RFC 6749 section 4.4), kept in memory, renewed before they expire."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote_plus, urlencode

import msgspec

from eventsink.destinations.webhook.hints import PLATFORM_HINTS
from eventsink.destinations.webhook.target import OAuth2Client
from eventsink.runtime.logs import get_logger
from eventsink.runtime.patterns import Pattern
from eventsink.runtime.retry_after import parse_retry_after
from eventsink.sinks.sender import FAILURES_OF_SINK, Failed, FailureClass
from eventsink.sinks.transport import Endpoint, Response, Transport, TransportError, TransportErrorKind

RENEW_SECONDS = 60.0
"""So long before it expires a token is renewed; one that is short-lived, in the last quarter of its life."""
UNSAID_SECONDS = 300.0
"""How long a token is used whose lifetime the authorization server does not say."""
RETRY_SECONDS = 5.0
"""After a token could not be renewed, the one that is still valid is used for so long before the next attempt."""
MAX_LIFETIME_SECONDS = 86_400.0
MAX_TOKEN_LENGTH = 16_384

_TOKEN = Pattern(r"^[!-~]+$")
_OF_HEADER = ("", "invalid_client", "invalid_request")
"""Error codes, or none, with which a server responds that looks for the client in the body."""
_TRANSIENT_STATUSES = frozenset({408, 423, 424, 425, 429})
_ERRORS = {
    "invalid_client": "the authorization server does not accept the client: check clientId and the Secret of clientSecretRef",
    "invalid_grant": "the authorization server does not accept the grant: let it allow client credentials to this client",
    "invalid_request": "the authorization server misses or rejects a parameter: check endpointParams, such as audience",
    "invalid_scope": "the authorization server does not give this client these scopes: check scopes",
    "invalid_target": "the authorization server does not know the audience or resource: check endpointParams",
    "unauthorized_client": "the client may not use client credentials: allow it at the authorization server",
    "unsupported_grant_type": "the authorization server does not support client credentials: check tokenUrl",
}
"""Error codes of RFC 6749 section 5.2 and RFC 8707: the only words of a response that are shown."""
_NO_ADDRESS = frozenset({404, 405, 410})
TRANSPORT_HINTS = {
    **PLATFORM_HINTS,
    TransportErrorKind.DNS: "check the host in tokenUrl",
    TransportErrorKind.PROXY_FAILED: "check the host in tokenUrl, and that the proxy can connect to it",
    TransportErrorKind.WRONG_PROTOCOL: "check that tokenUrl has the right port, and http or https as the server speaks it",
    TransportErrorKind.TLS: "check the server's certificate and its name; the platform team can add a private authority to the router's "
    "setting egress.caFile",
    TransportErrorKind.CLIENT_CERTIFICATE: "let it take clients without one: tls.clientCertSecretRef is for the receiver only",
    TransportErrorKind.TLS_VERSION: "upgrade the server, or what ends TLS in front of it",
}


class _TokenResponse(msgspec.Struct):
    access_token: object = None
    token_type: object = None
    expires_in: object = None


class _ErrorResponse(msgspec.Struct):
    error: object = None


_token_response = msgspec.json.Decoder(_TokenResponse)
_error_response = msgspec.json.Decoder(_ErrorResponse)


class TokenFailed(Exception):
    """There is no token. `outcome`: what that means for the message."""

    def __init__(self, outcome: Failed) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Token:
    """One access token. Times are of the monotonic clock."""

    value: str = field(repr=False)
    renew_at: float
    expires_at: float


class Tokens:
    """The tokens of one sink. One request for a token at a time, whoever waits for it.

    Parameters
    ----------
    client
        Who asks, and where.
    transport
        Outgoing HTTP of the process: the authorization server is behind the same egress guard and the same shares as any receiver.
    tenant
        Whose sink it is.
    timeout
        Seconds for one request for a token.
    user_agent
        Of the requests.
    clock
        Seconds, monotonic: a jump of the wall clock expires nothing.
    now
        Seconds since 1970.

    Raises
    ------
    ValueError
        The URL cannot be used.
    """

    def __init__(
        self,
        client: OAuth2Client,
        transport: Transport,
        tenant: str,
        *,
        timeout: float,
        user_agent: str,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        endpoint = Endpoint.parse(client.token_url)
        self._origin = endpoint.origin
        self._client = transport.client(endpoint, tenant=tenant, reads=True)
        self._timeout = timeout
        self._clock, self._now = clock, now
        parameters = [("grant_type", "client_credentials"), *client.endpoint_params]
        if client.scopes:
            parameters.append(("scope", " ".join(client.scopes)))
        common = f"User-Agent: {user_agent}\r\nAccept: application/json\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        basic = base64.b64encode(f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}".encode()).decode()
        of_client = [("client_id", client.client_id), ("client_secret", client.client_secret)]
        self._in_header = (f"{common}Authorization: Basic {basic}\r\n".encode(), urlencode(parameters).encode())
        self._in_body = (common.encode(), urlencode([*parameters, *of_client]).encode())
        self._uses_body = False
        """Whether the authorization server takes the client's secret in the body, and not in the header."""
        self._token: Token | None = None
        self._request: asyncio.Task[Token] | None = None
        self._not_before = 0.0
        """When the next attempt to renew a valid token may be made."""

    async def current(self, timeout: float, *, instead_of: str | None = None) -> str:
        """A token that has not expired. While the next one is asked for, nobody waits for that: the one before is used.

        Parameters
        ----------
        timeout
            Seconds to wait for it; the request for it goes on for those who wait longer.
        instead_of
            A token that the receiver rejected: it is not used again.

        Raises
        ------
        TokenFailed
            There is none.
        """
        token, now = self._token, self._clock()
        if token is not None and (now >= token.expires_at or token.value == instead_of):
            self._token = token = None
        if token is not None and (now < token.renew_at or now < self._not_before):
            return token.value
        if self._request is None:
            self._request = asyncio.create_task(self._renewed())
            self._request.add_done_callback(self._ended)
        if token is not None:
            return token.value
        request = self._request
        await asyncio.wait([request], timeout=max(0.0, timeout))
        if not request.done():
            raise self._unreachable(TransportError(TransportErrorKind.TIMEOUT, self._origin))
        if request.cancelled():
            raise self._unreachable(TransportError(TransportErrorKind.RESET, self._origin, "the sink was closed"))
        return request.result().value

    @property
    def renewing(self) -> bool:
        """Whether a token is being asked for."""
        return self._request is not None

    async def close(self) -> None:
        """Ask for nothing any more."""
        if self._request is not None:
            self._request.cancel()

    def _ended(self, request: asyncio.Task[Token]) -> None:
        self._request = None
        if request.cancelled() or request.exception() is not None:
            self._not_before = self._clock() + RETRY_SECONDS
        else:
            self._token = request.result()

    async def _renewed(self) -> Token:
        try:
            response = await self._ask(self._in_body if self._uses_body else self._in_header)
            if response.status in (400, 401) and _code(response) in _OF_HEADER:
                # RFC 6749 section 2.3.1 has servers take the header, and some do not. A server may also be configured otherwise later.
                again = await self._ask(self._in_header if self._uses_body else self._in_body)
                if _code(again) not in _OF_HEADER or 200 <= again.status < 300:
                    response, self._uses_body = again, not self._uses_body
        except TransportError as error:
            raise self._unreachable(error) from None
        except Exception as error:  # its text may hold anything
            get_logger().error("a token could not be asked for because of an unexpected error", error=type(error).__name__)
            text = f"the authorization server {self._origin} was not reached: {type(error).__name__} in the router; see its log"
            raise TokenFailed(Failed(FailureClass.TRANSIENT, "TokenUnavailable", text)) from None
        if not 200 <= response.status < 300:
            raise TokenFailed(classify_token_response(response, self._origin, self._now()))
        return read_token(response, self._origin, self._clock())

    async def _ask(self, request: tuple[bytes, bytes]) -> Response:
        headers, body = request
        return await self._client.post(headers, body, timeout=self._timeout)

    def _unreachable(self, error: TransportError) -> TokenFailed:
        text = f"no token from the authorization server: {error}"
        if error.kind in TRANSPORT_HINTS:
            text += f": {TRANSPORT_HINTS[error.kind]}"
        if error.kind in FAILURES_OF_SINK:
            return TokenFailed(Failed(FailureClass.SINK, "TokenRejected", text))
        return TokenFailed(Failed(FailureClass.TRANSIENT, "TokenUnavailable", text))

    def __repr__(self) -> str:
        return f"Tokens({self._origin})"


def read_token(response: Response, origin: str, now: float) -> Token:
    """The token of a response with a status of success. Pure.

    Parameters
    ----------
    now
        Of the monotonic clock.

    Raises
    ------
    TokenFailed
        It holds none that can be used.
    """
    try:
        found = _token_response.decode(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = _TokenResponse()
    value = found.access_token
    if not isinstance(value, str) or len(value) > MAX_TOKEN_LENGTH or not _TOKEN.search(value):
        raise _unusable(origin, "holds no token: check tokenUrl")
    if isinstance(found.token_type, str) and found.token_type.lower() != "bearer":
        raise _unusable(origin, "holds a token of another type than Bearer: let it give such tokens to this client")
    lifetime = lifetime_of(found.expires_in)
    return Token(value, renew_at=now + lifetime - min(RENEW_SECONDS, lifetime / 4), expires_at=now + lifetime)


def _unusable(origin: str, what: str) -> TokenFailed:
    text = f"the response of the authorization server {origin} {what}"
    return TokenFailed(Failed(FailureClass.SINK, "TokenRejected", text))


def lifetime_of(expires_in: object) -> float:
    """Seconds for which a token is used: as the response says, as a number or a text of digits."""
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit():
        expires_in = int(expires_in[:12])
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or not expires_in > 0:
        return UNSAID_SECONDS
    return float(min(expires_in, MAX_LIFETIME_SECONDS))


def classify_token_response(response: Response, origin: str, now: float) -> Failed:
    """What it means that the authorization server gives no token. Pure."""
    status = response.status
    text = f"the authorization server {origin} responded with {status}"
    if status in _TRANSIENT_STATUSES or status >= 500 or status < 200:
        retry_after = parse_retry_after(response.retry_after, now)
        return Failed(FailureClass.TRANSIENT, "TokenUnavailable", text, None, retry_after)
    if 300 <= status < 400:
        return Failed(
            FailureClass.SINK, "TokenRejected", f"{text}: redirects are not followed; write the final URL into tokenUrl"
        )
    if code := _code(response):
        hint = f"{code}: {_ERRORS[code]}"
    elif status in (401, 403):
        hint = "check clientId and the Secret of clientSecretRef"
    elif status in _NO_ADDRESS:
        hint = "it gives no tokens at this address: check the path in tokenUrl"
    else:
        hint = "check scopes, endpointParams and tokenUrl"
    return Failed(FailureClass.SINK, "TokenRejected", f"{text}: {hint}")


def _code(response: Response) -> str:
    """The error code of a response; empty: none that is known."""
    try:
        code = _error_response.decode(response.body).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return code if isinstance(code, str) and code in _ERRORS else ""
