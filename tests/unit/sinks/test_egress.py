"""The egress guard allows public addresses and denies all others."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from eventsink.sinks.egress import EgressGuard, EgressSettings, judge, literal_address

PUBLIC = ["1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "11.0.0.1", "223.255.255.255"]
PUBLIC += ["2606:4700::1111", "2a00:1450:4001::1", "2620:4f:7fff::1", "::ffff:8.8.8.8"]
DENIED = ["0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254"]
DENIED += ["168.63.129.16", "::ffff:168.63.129.16"]
DENIED += [
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.170",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
]
DENIED += ["198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"]
DENIED += [
    "::",
    "::1",
    "::10.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
]
DENIED += [
    "100::1",
    "2001::1",
    "2001:0:4136:e378::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:a00:1::",
    "2002:7f00:1::1",
]
DENIED += [
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "4000::1",
    "not-an-address",
    "",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert judge(address).allowed


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("8.8.8.8", True),
        ("10.0.0.1", True),
        ("::ffff:192.168.0.1", True),
        ("fd12::5", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("100.64.0.1", True),
        ("10.9.0.1", False),
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
        ("100.100.100.200", False),
        ("fd00:ec2::254", False),
        ("fd20:ce::254", False),
        ("fe80::1%eth0", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
    ],
)
def test_the_platforms_proxy_may_have_a_private_address_but_none_of_a_metadata_service(address: str, allowed: bool) -> None:
    verdict = EgressGuard(EgressSettings(deny=("10.9.0.0/16",))).judge_proxy(address)
    assert (verdict.allowed, bool(verdict.reason)) == (allowed, not allowed)


@pytest.mark.parametrize("address", DENIED)
def test_every_other_address_is_denied_with_a_reason(address: str) -> None:
    verdict = judge(address)
    assert not verdict.allowed
    assert verdict.reason


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.96.0.20", True),
        ("10.112.0.1", False),
        ("::ffff:10.96.0.20", True),
        ("10.96.66.6", False),
        ("fd12::5", True),
        ("8.8.8.8", False),
        ("127.0.0.1", False),
    ],
)
def test_the_settings_allow_more_and_deny_overrides_allow(address: str, allowed: bool) -> None:
    guard = EgressGuard(EgressSettings(allow=("10.96.0.0/12", "fd00::/8"), deny=("10.96.66.0/24", "8.0.0.0/8")))
    assert guard.judge(address).allowed is allowed


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("64:ff9b::8.8.8.8", True),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::10.96.0.20", True),
        ("64:ff9b::10.96.66.6", False),
        ("64:ff9b::9.9.9.9", False),
        ("64:ff9b::1.1.1.1", False),
        ("::ffff:9.9.9.9", False),
        ("::ffff:1.1.1.1", False),
        ("1.1.1.1", False),
        ("::ffff:192.168.7.7", True),
        ("192.168.7.7", True),
        ("64:ff9b::192.168.7.7", True),
        ("::ffff:192.168.8.7", False),
        ("64:ff9b:1::8.8.8.8", True),
        ("64:ff9b:1::10.96.0.20", True),
        ("64:ff9b:1::10.0.0.1", False),
        ("64:ff9b:1::9.9.9.9", False),
        ("64:ff9b:1:1::8.8.8.8", False),
        ("64:ff9b:2::8.8.8.8", False),
    ],
)
def test_forms_that_lead_to_an_ipv4_address_are_judged_as_that_address(address: str, allowed: bool) -> None:
    allow = ("10.96.0.0/12", "::ffff:192.168.7.0/120", "64:ff9b:1::/96")
    deny = ("10.96.66.0/24", "9.0.0.0/8", "64:ff9b::1.1.1.0/120")
    verdict = EgressGuard(EgressSettings(allow=allow, deny=deny)).judge(address)
    assert verdict.allowed is allowed, verdict.reason


@pytest.mark.parametrize(
    ("network", "address"),
    [
        # RFC 6052, 2.4, with the prefix of RFC 8215.
        ("64:ff9b:1::/48", "64:ff9b:1:{0:02x}{1:02x}:{2:x}:{3:02x}00::"),
        ("64:ff9b:1:100::/56", "64:ff9b:1:1{0:02x}:{1:02x}:{2:02x}{3:02x}::"),
        ("64:ff9b:1:122::/64", "64:ff9b:1:122:{0:x}:{1:02x}{2:02x}:{3:02x}00::"),
        ("64:ff9b:1:122::/96", "64:ff9b:1:122::{0:02x}{1:02x}:{2:02x}{3:02x}"),
    ],
)
def test_a_local_nat64_network_that_is_allowed_leads_to_what_its_ipv4_address_may(network: str, address: str) -> None:
    guard = EgressGuard(EgressSettings(allow=(network,)))
    public, private = address.format(192, 0, 66, 33), address.format(10, 0, 66, 33)
    assert guard.judge(public).allowed
    verdict = guard.judge(private)
    assert (verdict.allowed, verdict.reason) == (False, "leads to 10.0.66.33, which is not public (private)")
    assert not judge(public).allowed


def test_a_list_that_denies_all_nat64_addresses_denies_no_other() -> None:
    guard = EgressGuard(EgressSettings(deny=("64:ff9b::/96",)))
    assert not guard.judge("64:ff9b::8.8.8.8").allowed
    assert guard.judge("8.8.8.8").allowed


def test_a_list_that_allows_all_nat64_or_mapped_addresses_allows_no_private_one() -> None:
    guard = EgressGuard(EgressSettings(allow=("64:ff9b::/96", "::ffff:0:0/96")))
    assert not any(guard.judge(address).allowed for address in ("64:ff9b::10.0.0.1", "::ffff:127.0.0.1", "10.0.0.1"))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "everything", "10.0.0.0/33", ""])
def test_an_invalid_network_is_rejected_with_an_explanation(text: str) -> None:
    with pytest.raises(ValidationError, match="CIDR form"):
        EgressSettings(allow=(text,))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("::1", "::1"),
        ("a.example", None),
        ("1.2.3.4.5", None),
        ("64\0", None),
        ("1\ud800", None),
    ],
)
def test_a_host_is_an_address_in_any_notation_of_the_c_library(host: str, address: str | None) -> None:
    assert literal_address(host) == address


@pytest.mark.parametrize("host", ["localhost.", "127.1.", "0x7f", "1.2.3.999", "::1", "::1%", "::1%.", "10::1%."])
def test_a_host_that_a_proxy_could_take_for_an_address_is_not_taken_for_a_name(host: str) -> None:
    assert not EgressGuard(EgressSettings()).judge_unresolved(host).allowed
