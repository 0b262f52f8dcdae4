"""The host of a URL in its only form: what the guard judges is what is looked up, dialled, sent to a proxy and checked in a certificate."""

from __future__ import annotations

import ipaddress
import re

MAX_NAME = 253
"""Characters of a name (RFC 1035)."""
_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""As the last part of a host, it makes an IPv4 address of it to some programs (WHATWG URL, 'ends in a number')."""


def canonical_host(host: str) -> str:
    """The host of a URL, given without the brackets of an IPv6 address, in the form in which it is used.

    Programs read an IPv4 address with a leading zero, in hexadecimal or with fewer parts differently, so only four plain decimal numbers
    are taken. An IPv4 address mapped into IPv6 is that IPv4 address. A name is in lower case; a dot at its end stays, for it keeps search
    domains from being tried.

    Raises
    ------
    ValueError
        It can be used in no form; the text does not repeat it.
    """
    if ":" in host:
        return _ipv6(host)
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            raise ValueError("the host of the URL is not a valid name") from None
    host = host.lower()
    if _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        return _ipv4(host)
    if _NAME.fullmatch(host) is None or len(host.removesuffix(".")) > MAX_NAME:
        raise ValueError("the host of the URL is not a valid name")
    return host


def server_name(host: str) -> str:
    """What a certificate has to be valid for, and what is sent as server name (RFC 6066 has none with a dot at its end)."""
    return host.removesuffix(".")


def _ipv4(host: str) -> str:
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise ValueError(
            "write the IPv4 address in the URL as four decimal numbers from 0 to 255 without leading zeros, such as 192.0.2.7"
        ) from None


def _ipv6(host: str) -> str:
    if "%" in host:
        raise ValueError("remove the zone (% and what follows it) from the IPv6 address in the URL")
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError("the IPv6 address in the URL is not valid") from None
    return str(address.ipv4_mapped or address)
