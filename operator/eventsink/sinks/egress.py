"""The egress guard: which addresses the router may connect to. It judges the address that is dialled, never a name.

Tenants write URLs; without a guard they could make the router call the cloud's metadata service, the API server or any pod. The standard
library's `is_global` is not enough: it lets transition forms through that lead to private IPv4 addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import field_validator

from eventsink.runtime.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED_IPV4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by carriers",
    "127.0.0.0/8": "loopback",
    "168.63.129.16/32": "metadata of Azure, which it serves at a public address",
    "169.254.0.0/16": "link-local and metadata services",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "protocol assignments",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "AMT",
    "192.88.99.0/24": "6to4 relays",
    "192.168.0.0/16": "private",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "benchmarks",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
"""IANA's special-purpose registry for IPv4 (RFC 6890 and later), and one address that a cloud keeps for itself."""

_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
"""The only IPv6 addresses assigned to hosts of the internet; everything else is refused unnamed."""

_REFUSED_IPV6 = {
    "2001::/23": "protocol assignments and Teredo",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4, which leads to an IPv4 address",
    "2620:4f:8000::/48": "AS112",
    "3fff::/20": "documentation",
    "5f00::/16": "segment routing",
}
_SPECIAL: list[tuple[Network, str]] = [
    (ipaddress.ip_network(text), why) for text, why in [*_REFUSED_IPV4.items(), *_REFUSED_IPV6.items()]
]


class EgressSettings(Settings):
    """Where the process may connect to. By default: every address of the public internet, and no other."""

    allow: tuple[str, ...] = ()
    """Networks in CIDR form that are allowed although they are not public, such as 10.96.0.0/12 for receivers in the cluster."""
    deny: tuple[str, ...] = ()
    """Networks in CIDR form that are denied, even if `allow` has them."""

    @field_validator("allow", "deny")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for text in networks:
            try:
                ipaddress.ip_network(text)
            except ValueError:
                raise ValueError("write networks in CIDR form without host bits, such as 10.96.0.0/12 or fd00::/8") from None
        return networks


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an address may be dialled, and if not, why."""

    allowed: bool
    reason: str = ""


class EgressGuard:
    """The rule of one process."""

    def __init__(self, settings: EgressSettings) -> None:
        self._allow = [ipaddress.ip_network(text) for text in settings.allow]
        self._deny = [ipaddress.ip_network(text) for text in settings.deny]

    def judge(self, address: str) -> Verdict:
        """Judge an IP address in text form, as a resolver gives it."""
        return judge(address, self._allow, self._deny)


def judge(address: str, allow: Sequence[Network] = (), deny: Sequence[Network] = ()) -> Verdict:
    """Whether an address may be dialled: `deny` first, then `allow`, then whether it is public.

    An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is judged as the IPv4 address that it leads to.
    """
    try:
        parsed = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return Verdict(False, "is not an IP address")
    if _within(parsed, deny):
        return Verdict(False, "is in egress.deny")
    if _within(parsed, allow):
        return Verdict(True)
    for network, why in _SPECIAL:
        if parsed.version == network.version and parsed in network:
            return Verdict(False, f"is not public ({why})")
    if isinstance(parsed, ipaddress.IPv6Address) and parsed not in _GLOBAL_IPV6:
        return Verdict(False, "is not public")
    return Verdict(True)


def _unwrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
