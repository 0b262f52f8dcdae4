"""When a certificate is made, renewed and served, and which authorities are published meanwhile."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest

from eventsink.controller.admission.certificates import (
    CLOCK_SKEW,
    LIFETIME,
    MAX_AUTHORITIES,
    PUBLISHED_BEFORE,
    RENEW_AHEAD,
    Certificates,
    Issued,
    due,
    issue,
    read_certificates,
    service_names,
)

NAMES = service_names("webhook", "system")
START = datetime(2026, 1, 1, tzinfo=UTC)
RENEWAL = START + LIFETIME - RENEW_AHEAD


def stored_at(begin: datetime, names: tuple[str, ...] = NAMES) -> Certificates:
    made = due(None, names, begin, published=False)
    assert made is not None
    return made


def trusts(certificates: Certificates, served: Issued) -> bool:
    """Whether a client with the published authorities trusts a certificate."""
    return served.is_signed_by(certificates.authorities)


def test_the_certificate_is_valid_for_the_names_of_the_service() -> None:
    assert stored_at(START).current.names() == {"webhook.system", "webhook.system.svc", "webhook.system.svc.cluster.local"}


def test_the_certificate_can_be_valid_for_an_address_too() -> None:
    assert stored_at(START, ("webhook.system.svc", "127.0.0.1")).current.names() == {"webhook.system.svc", "127.0.0.1"}


def test_what_is_stored_is_read_back() -> None:
    stored = stored_at(START)
    renewing = due(stored, NAMES, RENEWAL, published=True)
    assert renewing is not None
    for one in (stored, renewing):
        assert read_certificates({name: text.encode() for name, text in one.to_data().items()}) == one


@pytest.mark.parametrize(
    ("name", "value"),
    [("tls.crt", b"no certificate"), ("tls.key", b""), ("ca.crt", b"\xff"), ("next.crt", b"half"), ("tls.key", "another key")],
)
def test_a_secret_that_cannot_be_used_is_made_new(name: str, value: bytes | str) -> None:
    data = {key: text.encode() for key, text in stored_at(START).to_data().items()}
    data[name] = issue(NAMES, START)[0].key.encode() if isinstance(value, str) else value
    assert read_certificates(data) is None
    assert read_certificates({}) is None


def data_of(certificates: Certificates) -> dict[str, bytes]:
    return {name: text.encode() for name, text in certificates.to_data().items()}


def damaged(pem: bytes, before: str, after: str) -> bytes:
    """The first object of a PEM text, with other bytes in it, given in hexadecimal digits."""
    pem = pem.partition(b"-----END")[0] + b"-----END"
    label = pem.splitlines()[0].decode().strip("-").removeprefix("BEGIN ")
    der = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    changed = der.replace(bytes.fromhex(before), bytes.fromhex(after))
    assert changed != der
    return f"-----BEGIN {label}-----\n{base64.encodebytes(changed).decode()}-----END {label}-----\n".encode()


EC_KEY, UNKNOWN_KEY = "06072a8648ce3d0201", "06072a8648ce3d0209"
VERSION_3, VERSION_81 = "a003020102", "a003020150"


@pytest.mark.parametrize("name", ["tls.crt", "ca.crt", "next.crt"])
@pytest.mark.parametrize(("before", "after"), [(EC_KEY, UNKNOWN_KEY), (VERSION_3, VERSION_81)], ids=["key", "version"])
def test_a_certificate_of_a_kind_that_nobody_knows_is_made_new(name: str, before: str, after: str) -> None:
    renewing = due(stored_at(START), NAMES, RENEWAL, published=True)
    assert renewing is not None
    data = data_of(renewing)
    assert read_certificates(data | {name: damaged(data[name], before, after)}) is None


def test_a_certificate_that_none_of_the_authorities_signed_is_made_new() -> None:
    data = data_of(stored_at(START))
    assert read_certificates(data | {"ca.crt": data_of(stored_at(START))["ca.crt"]}) is None


def test_a_bounded_number_of_authorities_is_read() -> None:
    data = data_of(stored_at(START))
    others = b"".join(issue(NAMES, START)[1].encode() for _ in range(MAX_AUTHORITIES))
    read = read_certificates(data | {"ca.crt": data["ca.crt"] + others})
    assert read is not None
    assert len(read.authorities) == MAX_AUTHORITIES


def test_a_certificate_from_the_future_is_replaced_at_once() -> None:
    """A node whose clock was wrong at its start made it."""
    stored = stored_at(START + timedelta(days=3650))
    replaced = due(stored, NAMES, START, published=True)
    assert replaced is not None
    assert replaced.current.is_valid(START)
    assert due(replaced, NAMES, START, published=True) is None
    assert due(stored_at(START + CLOCK_SKEW), NAMES, START, published=True) is None, "clocks differ a little"


def test_nothing_is_due_before_the_certificate_is_to_be_renewed() -> None:
    stored = stored_at(START)
    for moment in (START, RENEWAL - timedelta(seconds=1)):
        assert due(stored, NAMES, moment, published=True) is None


def test_a_renewed_certificate_is_served_only_after_its_authority_was_published_for_a_while() -> None:
    stored = stored_at(START)
    renewing = due(stored, NAMES, RENEWAL, published=True)
    assert renewing is not None
    assert renewing.current == stored.current
    assert renewing.next is not None
    assert renewing.authorities[1:] == stored.authorities
    assert trusts(renewing, renewing.current)
    assert trusts(renewing, renewing.next)
    soon = RENEWAL + PUBLISHED_BEFORE
    assert due(renewing, NAMES, soon - timedelta(seconds=1), published=True) is None
    assert due(renewing, NAMES, soon, published=False) is None
    renewed = due(renewing, NAMES, soon, published=True)
    assert renewed == Certificates(renewing.next, renewing.authorities)
    assert trusts(renewed, stored.current), "another replica may serve the old one still"


def test_an_authority_is_published_no_longer_than_it_is_valid() -> None:
    certificates, moment = stored_at(START), START
    for _ in range(20):
        moment += timedelta(days=10)
        for _ in range(2):
            certificates = due(certificates, NAMES, moment, published=True) or certificates
            moment += PUBLISHED_BEFORE
        assert certificates.current.expires() > moment
        assert len(certificates.authorities) <= 3


@pytest.mark.parametrize(
    ("names", "moment"),
    [(("other.system.svc",), START), (NAMES, START + LIFETIME)],
    ids=["another Service", "expired"],
)
def test_a_certificate_that_nobody_can_use_is_replaced_at_once(names: tuple[str, ...], moment: datetime) -> None:
    stored = stored_at(START)
    replaced = due(stored, names, moment, published=False)
    assert replaced is not None
    assert replaced.next is None
    assert replaced.current.names() == set(names)
    assert trusts(replaced, replaced.current)


def test_two_replicas_that_want_different_names_publish_a_bounded_number_of_authorities() -> None:
    certificates = stored_at(START)
    for round_ in range(2 * MAX_AUTHORITIES):
        wanted = (f"webhook-{round_}.system.svc",)
        certificates = due(certificates, wanted, START, published=False) or certificates
    assert len(certificates.authorities) == MAX_AUTHORITIES


def test_a_next_certificate_for_a_former_name_is_dropped() -> None:
    both = (*NAMES, "more.system.svc")
    stored = stored_at(START, both)
    renewing = due(stored, NAMES, RENEWAL, published=True)
    assert renewing is not None
    dropped = due(renewing, both, RENEWAL, published=True)
    assert dropped is not None
    assert dropped.next is None
    assert dropped.current == stored.current


def test_no_text_shows_a_key() -> None:
    assert "PRIVATE" not in repr(stored_at(START))
