"""What to do about a request that got no response, where that does not depend on what was asked for."""

from __future__ import annotations

from eventsink.sinks.transport import TransportErrorKind

PLATFORM_HINTS = {
    TransportErrorKind.EGRESS: "the platform team can allow the address in the router's setting egress.allow",
    TransportErrorKind.PROXY_REFUSED: "the platform team can allow the host at the proxy",
    TransportErrorKind.PROXY_AUTHENTICATION: "the platform team corrects the credentials in the router's setting egress.proxy.urlFile",
    TransportErrorKind.PROXY_UNREACHABLE: "the platform team checks the router's setting egress.proxy",
}
