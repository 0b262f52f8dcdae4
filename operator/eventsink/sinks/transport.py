"""The contract of outgoing HTTP: one request to an address that the egress guard allows, one small response back.

`sinks.http1.Http1Transport` is the implementation; tests/unit/sinks/transport_contract.py is what each must pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from eventsink.sinks.hosts import canonical_host, server_name
from eventsink.sinks.shares import Bound

MAX_RESPONSE_BODY_BYTES = 64 * 1024
"""What is read of a response; the rest is not waited for, and the connection is closed."""
_SPACES_AND_CONTROLS = frozenset(map(chr, [*range(0x21), 0x7F]))


class TransportErrorKind(StrEnum):
    """Why no response came, in the words used as metric labels and condition reasons."""

    DNS = "NameNotResolved"
    EGRESS = "EgressRefused"
    """The address dialled is one that the router's settings do not allow."""
    REFUSED = "ConnectionRefused"
    CONNECT_TIMEOUT = "ConnectTimeout"
    TLS = "TLSFailed"
    """No trusted, valid connection: the certificate or its name, or the parameters of TLS."""
    CLIENT_CERTIFICATE = "ClientCertificateRequired"
    """The receiver wants a certificate of its clients (mTLS)."""
    TLS_VERSION = "TLSVersionTooOld"
    """The receiver speaks no version of TLS from 1.2 on."""
    WRONG_PROTOCOL = "WrongProtocol"
    """HTTP to a port that speaks TLS, or the reverse."""
    TIMEOUT = "Timeout"
    RESET = "ConnectionLost"
    """The connection ended before the head of the response was complete."""
    PROTOCOL = "InvalidResponse"
    """What came back is not HTTP/1.1."""
    PROXY_UNREACHABLE = "ProxyUnreachable"
    """No connection to the proxy of the network (egress.proxy), or it ended before the proxy had responded."""
    PROXY_FAILED = "ProxyFailed"
    """The proxy could not connect to the receiver, as it says itself."""
    PROXY_AUTHENTICATION = "ProxyAuthenticationRequired"
    """The proxy rejects the router's credentials, or wants some."""
    PROXY_REFUSED = "ProxyRefused"
    """The proxy's rules do not let it connect to the receiver."""
    OVERLOADED = "TooManyConnections"
    """No connection came free within the time: all of that host, or of the router, are in use by several tenants."""
    TENANT_CONNECTIONS = "TenantConnections"
    """No connection came free within the time: the tenant's own messages use its share."""
    SINK_CONNECTIONS = "SinkConnections"
    """No connection came free within the time: the sink's own messages use its share."""


WAITED_FOR = {
    Bound.FULL: (TransportErrorKind.OVERLOADED, "all connections are in use"),
    Bound.TENANT: (TransportErrorKind.TENANT_CONNECTIONS, "the tenant's share of connections is in use"),
    Bound.SHARE: (TransportErrorKind.SINK_CONNECTIONS, "the sink's share of connections is in use"),
}
"""What is said of a message that found no connection in time."""


_WORDS = {
    TransportErrorKind.DNS: "the name of the host could not be resolved",
    TransportErrorKind.EGRESS: "the router may not connect there",
    TransportErrorKind.REFUSED: "the connection was refused",
    TransportErrorKind.CONNECT_TIMEOUT: "no connection came about",
    TransportErrorKind.TLS: "no valid TLS connection",
    TransportErrorKind.CLIENT_CERTIFICATE: "the receiver asks for a client certificate",
    TransportErrorKind.TLS_VERSION: "the receiver speaks no current version of TLS",
    TransportErrorKind.WRONG_PROTOCOL: "one side speaks HTTP and the other HTTPS",
    TransportErrorKind.TIMEOUT: "no response in time",
    TransportErrorKind.RESET: "the connection was lost",
    TransportErrorKind.PROTOCOL: "the response cannot be read",
    TransportErrorKind.PROXY_UNREACHABLE: "the network's proxy cannot be reached",
    TransportErrorKind.PROXY_FAILED: "the network's proxy could not connect",
    TransportErrorKind.PROXY_AUTHENTICATION: "the network's proxy does not accept the router's credentials",
    TransportErrorKind.PROXY_REFUSED: "the network's proxy does not connect to this host",
    TransportErrorKind.OVERLOADED: "no connection came free in time",
    TransportErrorKind.TENANT_CONNECTIONS: "no connection came free in time",
    TransportErrorKind.SINK_CONNECTIONS: "no connection came free in time",
}


def failure_sentence(kind: TransportErrorKind, origin: str, detail: str = "") -> str:
    """What is said of a request without a response. The kind is shown beside it, as the reason: it is not repeated."""
    return f"{origin}: {_WORDS[kind]}" + (f": {detail}" if detail else "")


class TransportError(Exception):
    """No response. `sent`: whether the receiver may have seen the request."""

    def __init__(self, kind: TransportErrorKind, origin: str, detail: str = "", *, sent: bool = False) -> None:
        super().__init__(failure_sentence(kind, origin, detail))
        self.kind = kind
        self.origin = origin
        """Scheme and host only."""
        self.detail = detail
        """Fit to be shown: no path, no query, no header, nothing that the receiver wrote."""
        self.sent = sent


def _is_whole(netloc: str, host: str) -> bool:
    """Whether an authority is nothing but user, host and port: the parser drops what surrounds the brackets of an IPv6 address.

    Where it has a backslash, browsers end it there.
    """
    place = netloc.rpartition("@")[2].lower()
    shown = f"[{host}]" if ":" in host else host
    return "\\" not in netloc and place.startswith(shown) and place[len(shown) : len(shown) + 1] in ("", ":")


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Whom a sink trusts, and as whom the router presents itself. Connections of different options are never shared."""

    ca: str | None = field(default=None, repr=False)
    """PEM certificates to trust instead of the system's."""
    client_certificate: str | None = field(default=None, repr=False)
    """PEM certificate, its intermediates and its private key, presented to a receiver that asks for one (mTLS)."""
    server_name: str | None = None
    """What the receiver is asked for (SNI) and its certificate has to be valid for; None: the host of the URL."""


DEFAULT_TLS = TlsOptions()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL taken apart once, when a sink is opened. Its representation shows scheme and host only."""

    scheme: str
    host: str
    """In the form of `canonical_host`."""
    port: int
    target: str
    """Path and query, as they go into the request line."""
    authority: str
    """What the Host header carries: the port only where it is not the scheme's own."""
    userinfo: str = ""
    """`user:password` of the URL, percent-decoded, for basic authentication; empty where there is none."""

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Take a URL apart.

        Raises
        ------
        ValueError
            Not an absolute http or https URL with a host and a valid port. The text does not repeat the URL.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError("the URL cannot be read: check its host and port") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the URL must begin with http:// or https:// and name a host")
        if not _SPACES_AND_CONTROLS.isdisjoint(url):
            raise ValueError("the URL must not contain spaces or control characters")
        if port == 0 or not _is_whole(parts.netloc, parts.hostname):
            raise ValueError("the URL cannot be read: check its host and port")
        default = 443 if parts.scheme == "https" else 80
        host = canonical_host(parts.hostname)
        shown = f"[{host}]" if ":" in host else host
        authority = shown if port is None or port == default else f"{shown}:{port}"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not target.isascii():
            raise ValueError("the path of the URL must be percent-encoded")
        userinfo = ""
        if parts.username is not None:
            userinfo = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return cls(parts.scheme, host, port or default, target, authority, userinfo)

    @property
    def server_name(self) -> str:
        """What the receiver's certificate has to be valid for."""
        return server_name(self.host)

    @property
    def origin(self) -> str:
        """Scheme and host (and an unusual port), the most that may be shown of a sink's URL."""
        return f"{self.scheme}://{self.authority}"

    def __repr__(self) -> str:
        return f"Endpoint({self.origin})"


class Response(msgspec.Struct, frozen=True, gc=False):
    """A response whose head came: its status, a header that delivery looks at, and its body as far as it came.

    The head alone says whether the message was taken. A body that is cut short or malformed, and a head with something that is not valid
    behind its status, are no reason to send the message again.
    """

    status: int
    retry_after: str | None
    body: bytes
    """At most MAX_RESPONSE_BODY_BYTES."""


class Client(Protocol):
    """Outgoing HTTP of one sink: all its messages go to one endpoint."""

    async def post(self, headers: bytes, body: bytes, *, timeout: float) -> Response:
        """Send `body` once, with the client's method.

        Parameters
        ----------
        headers
            Header lines ready for the wire, each ended by CRLF, without Host and Content-Length, which the transport adds.
        body
            The whole body.
        timeout
            Seconds for everything: waiting for a connection, dialling, TLS, sending, and the response.

        Raises
        ------
        TransportError
            No head of a response came in time.
        """
        ...


class Transport(Protocol):
    """Outgoing HTTP of the whole process: pools connections and shares them out, applies the egress guard, follows no redirect."""

    def client(
        self, endpoint: Endpoint, *, tenant: str, tls: TlsOptions = DEFAULT_TLS, method: str = "POST", reads: bool = False
    ) -> Client:
        """What a sink sends with. It holds nothing that has to be closed.

        Parameters
        ----------
        endpoint
            Where to.
        tenant
            Whose messages these are. Tenants share no connection.
        tls
            For an https URL: whom to trust, and as whom. Connections of different options are never shared.
        method
            Of the requests.
        reads
            Whether the bodies of responses say something: they are awaited for as long as the request may take.
        """
        ...

    async def close(self) -> None:
        """End all connections."""
        ...
