"""Parts of requests, and responses, of the REST API as HTTP has them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from urllib.parse import parse_qs, parse_qsl

from eventsink.rest.errors import InvalidRequest, RestError
from eventsink.rest.pages.docs import SECURITY_POLICY
from eventsink.runtime.listener.messages import JSON, RequestHead
from eventsink.runtime.listener.messages import Response as HttpResponse

MAX_ADDRESS = 64
"""Characters of the address of a caller."""
_COMMON_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def parameter(head: RequestHead, name: str) -> str:
    """A parameter of a browser's request; empty where it is absent."""
    try:
        found = parse_qs(head.query, keep_blank_values=True, errors="replace", max_num_fields=100).get(name)
    except ValueError:
        return ""
    return found[0] if found else ""


def cookies(head: RequestHead) -> dict[str, str]:
    """The cookies of a request."""
    pairs = (pair.strip().partition("=") for pair in head.header(b"cookie").split(";"))
    return {name: value for name, _, value in pairs}


def address_of(head: RequestHead, proxies: Sequence[IPv4Network | IPv6Network]) -> str:
    """Where a request comes from: the last address that is not a trusted proxy."""
    address = head.peer
    hops = [hop.strip() for hop in head.header(b"x-forwarded-for").split(",") if hop.strip()]
    while hops and _is_in(proxies, address):
        address = _without_port(hops.pop())
    return address[:MAX_ADDRESS]


def _is_in(networks: Sequence[IPv4Network | IPv6Network], address: str) -> bool:
    try:
        one = ip_address(address)
    except ValueError:
        return False
    return any(one in network for network in networks if network.version == one.version)


def _without_port(hop: str) -> str:
    """An address as a proxy writes it: some add the port, which differs each time."""
    if found := re.fullmatch(r"\[(.*)\](?::\d+)?|([\d.]+):\d+", hop):
        return found[1] if found[1] is not None else found[2]
    return hop


def query_of(head: RequestHead, known: set[str]) -> dict[str, str]:
    """The parameters of the query.

    Raises
    ------
    InvalidRequest
        A parameter is unknown, duplicate, or not text.
    """
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(head.query, keep_blank_values=True, errors="strict", max_num_fields=100)
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


def error_response(error: RestError) -> HttpResponse:
    """An error of the API, as JSON."""
    return json_response({"error": error.sentence}, error.status, error.headers)


def json_response(value: dict[str, str], status: int, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """A response with a JSON object."""
    return http_response(status, json.dumps(value).encode(), headers)


def page_response(content: bytes, status: int = 200) -> HttpResponse:
    """A page for a browser."""
    headers = {"Content-Security-Policy": SECURITY_POLICY, "Referrer-Policy": "no-referrer"}
    return http_response(status, content, headers, content_type=b"text/html; charset=utf-8")


def http_response(
    status: int, body: bytes, headers: Mapping[str, str] | None = None, *, content_type: bytes = JSON
) -> HttpResponse:
    """A response with the headers that all have."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**_COMMON_HEADERS, **(headers or {})}.items())
    return HttpResponse(status, body, lines.encode("latin-1"), content_type)
