"""The egress guard: which addresses the router may connect to, and how. It judges the address that is dialled, never a name.

Through a proxy no address is dialled but the proxy's, which looks names up itself: `sinks.proxied` judges what can be known here. The proxy's
own address is the platform's choice, and may be private, but not one of a metadata service, nor one that `deny` has.

Tenants write URLs; without a guard they could make the router call the cloud's metadata service, the API server or any pod. The standard
library's `is_global` is not enough: it lets transition forms through that lead to private IPv4 addresses.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import field_validator

from eventsink.runtime.changing_file import ChangingFile
from eventsink.runtime.settings import ConfigurationError, Settings
from eventsink.sinks.authorities import read_authorities
from eventsink.sinks.proxy import ProxySettings, open_proxy

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_AUTHORITIES_BYTES = 1 << 20
"""Of `caFile`; what the system trusts takes a fifth of that."""
MAX_REMEMBERED = 4096
"""Addresses of which the verdict is kept; to judge one takes as long as a tenth of a delivery."""

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

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: a translator sends on to the IPv4 address in the last 32 bits."""
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
"""RFC 8215: translators of a network's own; which bits hold the IPv4 address depends on the length of its prefix."""

_THIS_MACHINE = frozenset(("localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "loopback"))
_OF_THIS_MACHINE = (".localhost", ".localdomain", ".localdomain4", ".localdomain6")

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
_NEAR = [
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
]
"""Where a network's own proxy may be: private addresses, and this machine."""
_METADATA = [ipaddress.ip_network(text) for text in ("100.100.100.200", "fd00:ec2::254", "fd20:ce::254")]
"""Metadata services in these: of Alibaba Cloud, AWS and Google Cloud."""
_SPECIAL: list[tuple[Network, str]] = [
    (ipaddress.ip_network(text), why) for text, why in [*_REFUSED_IPV4.items(), *_REFUSED_IPV6.items()]
]


class EgressSettings(Settings):
    """Where the process may connect to. By default: every address of the public internet, and no other."""

    allow: tuple[str, ...] = ()
    """Networks in CIDR form that are allowed although they are not public, such as 10.96.0.0/12 for receivers in the cluster."""
    deny: tuple[str, ...] = ()
    """Networks in CIDR form that are denied, even if `allow` has them."""
    proxy: ProxySettings = ProxySettings()
    ca_file: Path | None = None
    """File with PEM certificates of authorities to trust beside the system's, for receivers whose sink names none, and for Slack. Read again
    when it changes."""

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
    """The rule of one process.

    Raises
    ------
    ConfigurationError
        A file that the settings name cannot be used.
    """

    def __init__(self, settings: EgressSettings) -> None:
        self.proxy = open_proxy(settings.proxy, "egress.proxy")
        """None: every connection is direct."""
        self.authorities = (
            ChangingFile("egress.caFile", settings.ca_file, _read_authorities) if settings.ca_file is not None else None
        )
        """PEM certificates to trust beside the system's."""
        self._allow = [_network(text) for text in settings.allow]
        self._deny = [_network(text) for text in settings.deny]
        self._judged = lru_cache(MAX_REMEMBERED)(lambda address: judge(address, self._allow, self._deny))

    def judge(self, address: str) -> Verdict:
        """Judge an IP address in text form, as a resolver gives it."""
        return self._judged(address)

    def judge_proxy(self, address: str) -> Verdict:
        """Judge an IP address of the proxy: a private one is allowed, too."""
        verdict = self.judge(address)
        if verdict.allowed or not judge(address, (*self._allow, *_NEAR), (*self._deny, *_METADATA)).allowed:
            return verdict
        return Verdict(True)

    def judge_unresolved(self, host: str) -> Verdict:
        """Judge the host of a URL whose name the proxy is going to look up: an address in any notation as that, this machine as loopback.

        Every other name is allowed here.
        """
        host = host.rstrip(".").lower()
        address = "127.0.0.1" if is_this_machine(host) else literal_address(host)
        if address is not None:
            return self.judge(address)
        last = host.rpartition(".")[2]
        if ":" in host or last.isdigit() or last.startswith("0x"):  # to some, that makes it an address
            return Verdict(False, "is not an IP address")
        return Verdict(True)


def judge(address: str, allow: Sequence[Network] = (), deny: Sequence[Network] = ()) -> Verdict:
    """Whether an address may be dialled: `deny` first, then `allow`, then whether it is public.

    A form that leads to an IPv4 address is judged as that: mapped (`::ffff:10.0.0.1`), NAT64 (`64:ff9b::10.0.0.1`), and the local NAT64 of
    a network that a list names. Such a form is denied as well where `deny` names the form itself.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Verdict(False, "is not an IP address")
    if _within(parsed, deny):
        return Verdict(False, "is in egress.deny")
    leads_to = _leads_to(parsed, (*allow, *deny))
    if leads_to is not None:
        if _within(leads_to, deny):
            return Verdict(False, f"leads to {leads_to}, which is in egress.deny")
        parsed = leads_to
    if _within(parsed, allow):
        return Verdict(True)
    form = f"leads to {leads_to}, which " if leads_to is not None else ""
    for network, why in _SPECIAL:
        if parsed.version == network.version and parsed in network:
            return Verdict(False, f"{form}is not public ({why})")
    if isinstance(parsed, ipaddress.IPv6Address) and parsed not in _GLOBAL_IPV6:
        return Verdict(False, "is not public")
    return Verdict(True)


@lru_cache(MAX_REMEMBERED)
def literal_address(host: str) -> str | None:
    """The address that a host is, also in the notations that the C library takes (127.1, 0x7f000001); None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not host[:1].isdigit():
        return None
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def is_this_machine(name: str) -> bool:
    """Whether a name is one of those for loopback in RFC 6761 and in the hosts files of Linux distributions."""
    name = name.rstrip(".").lower()
    return name in _THIS_MACHINE or name.endswith(_OF_THIS_MACHINE)


def _read_authorities(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_AUTHORITIES_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_AUTHORITIES_BYTES:
        raise ConfigurationError(f"{path}: has more than {MAX_AUTHORITIES_BYTES} bytes")
    try:
        return read_authorities(content.decode("ascii", "ignore"))
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _network(text: str) -> Network:
    """A network of a list: one of mapped or NAT64 addresses is the IPv4 network that they lead to, unless it is all of them."""
    network = ipaddress.ip_network(text)
    if (
        isinstance(network, ipaddress.IPv6Network)
        and network.prefixlen > 96
        and (network.subnet_of(_MAPPED) or network.subnet_of(_NAT64))
    ):
        return ipaddress.IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def _leads_to(address: Address, networks: Sequence[Network]) -> ipaddress.IPv4Address | None:
    """The IPv4 address that another form of it leads to."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _MAPPED or address in _NAT64:
        return _embedded(address, 96)
    if address in _LOCAL_NAT64:
        named = [
            network.prefixlen
            for network in networks
            if isinstance(network, ipaddress.IPv6Network) and address in network and network.subnet_of(_LOCAL_NAT64)
        ]
        if named:
            return _embedded(address, max(named))
    return None


def _embedded(address: ipaddress.IPv6Address, prefix: int) -> ipaddress.IPv4Address:
    """The IPv4 address behind a NAT64 prefix of a length (RFC 6052, 2.2): bits 64 to 71 are never part of it."""
    bits = int(address)
    if prefix in (48, 56, 64):
        without = (bits >> 64) << 56 | (bits & ((1 << 56) - 1))  # 120 bits: those without 64 to 71
        return ipaddress.IPv4Address(without >> (120 - prefix - 32) & 0xFFFFFFFF)
    return ipaddress.IPv4Address(bits & 0xFFFFFFFF)


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
