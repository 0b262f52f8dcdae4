"""The certificates of the admission webhook, as they are in their Secret, and when a new one is due. Pure.

Each serving certificate has an authority of its own, whose key is thrown away once it has signed: whoever reads the Secret can sign
nothing. A renewed certificate is stored, and its authority published, before it is served; so an API server trusts it by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=90)
RENEW_AHEAD = timedelta(days=30)
"""So long before its end, a certificate is renewed."""
PUBLISHED_BEFORE = timedelta(minutes=10)
"""For so long a new certificate's authority is published before the certificate is served."""
CLOCK_SKEW = timedelta(hours=1)
"""A certificate is valid from so long before it was made: the API server's clock may be late."""
MAX_AUTHORITIES = 8
"""Authorities that are published at once, the newest; two are in use at most, and three at the moment of a renewal."""

_CERTIFICATE, _KEY, _AUTHORITIES = "tls.crt", "tls.key", "ca.crt"
_NEXT_CERTIFICATE, _NEXT_KEY = "next.crt", "next.key"


@dataclass(frozen=True, slots=True)
class Issued:
    """A serving certificate and its key, in PEM form."""

    certificate: str
    key: str = field(repr=False)

    def parsed(self) -> x509.Certificate:
        """The certificate."""
        return x509.load_pem_x509_certificate(self.certificate.encode())

    def made(self) -> datetime:
        """When it was made."""
        return self.parsed().not_valid_before_utc + CLOCK_SKEW

    def is_valid(self, now: datetime) -> bool:
        """Whether its time has begun, and is not over. One from the future was made by a replica whose clock was wrong."""
        return self.parsed().not_valid_before_utc <= now < self.expires()

    def is_signed_by(self, authorities: Iterable[str]) -> bool:
        """Whether one of these authorities, in PEM form, signed it."""
        for one in authorities:
            try:
                self.parsed().verify_directly_issued_by(x509.load_pem_x509_certificate(one.encode()))
            except (ValueError, TypeError, InvalidSignature):
                continue
            return True
        return False

    def expires(self) -> datetime:
        """When its time is over."""
        return self.parsed().not_valid_after_utc

    def names(self) -> set[str]:
        """The names and addresses that it is valid for."""
        extension = self.parsed().extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return {str(one.value) for one in extension.value}


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the Secret holds."""

    current: Issued
    """The one that is served."""
    authorities: tuple[str, ...]
    """In PEM form, the newest first: whoever connects has to trust all of them."""
    next: Issued | None = None
    """The one that is served soon."""

    @property
    def bundle(self) -> str:
        """All authorities, in one PEM text."""
        return "".join(self.authorities)

    def to_data(self) -> dict[str, str]:
        """As the data of the Secret, not encoded."""
        data = {_CERTIFICATE: self.current.certificate, _KEY: self.current.key, _AUTHORITIES: self.bundle}
        if self.next is not None:
            data |= {_NEXT_CERTIFICATE: self.next.certificate, _NEXT_KEY: self.next.key}
        return data


def read_certificates(data: Mapping[str, bytes]) -> Certificates | None:
    """What a Secret holds; None: nothing that can be used."""
    try:
        text = {name: value.decode() for name, value in data.items()}
        current = _readable(Issued(text[_CERTIFICATE], text[_KEY]))
        found = x509.load_pem_x509_certificates(text[_AUTHORITIES].encode())
        following = _readable(Issued(text[_NEXT_CERTIFICATE], text[_NEXT_KEY])) if _NEXT_CERTIFICATE in text else None
        authorities = tuple(dict.fromkeys(_pem(one) for one in found))[:MAX_AUTHORITIES]
        for one in (current, following):
            if one is not None and not one.is_signed_by(authorities):
                return None  # no API server would trust it
    except Exception:  # people and programs may have written anything there, and the parsers raise errors of many classes
        return None
    return Certificates(current, authorities, following)


def due(stored: Certificates | None, names: Sequence[str], now: datetime, *, published: bool) -> Certificates | None:
    """What has to be stored instead; None: nothing is due.

    Parameters
    ----------
    stored
        What the Secret holds.
    names
        The names and addresses that the certificate must have.
    published
        Whether the API server was given all authorities of `stored`.
    """
    if stored is None or not set(names) <= stored.current.names() or not stored.current.is_valid(now):
        # What is there is of no use to anybody: there is nothing to wait for.
        issued, authority = issue(names, now)
        return Certificates(issued, _living((authority, *(stored.authorities if stored is not None else ())), now))
    following = stored.next
    if following is None:
        if now < stored.current.expires() - RENEW_AHEAD:
            return None
        issued, authority = issue(names, now)
        return Certificates(stored.current, _living((authority, *stored.authorities), now), issued)
    if not set(names) <= following.names() or not following.is_valid(now):
        return Certificates(stored.current, stored.authorities)
    if published and now >= following.made() + PUBLISHED_BEFORE:
        return Certificates(following, _living(stored.authorities, now))
    return None


def issue(names: Sequence[str], now: datetime) -> tuple[Issued, str]:
    """A new serving certificate, and the authority that signed it, in PEM form.

    Parameters
    ----------
    names
        The first one is its common name, too.
    """
    begins, ends = now - CLOCK_SKEW, now + LIFETIME
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    # Each authority has a name of its own: of several with one name, a client may try one that did not sign.
    authority_name = _name(f"eventsink admission {begins:%Y-%m-%d} {x509.random_serial_number():x}"[:64])
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key(), begins, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _builder(_name(names[0][:64]), authority_name, key.public_key(), begins, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Issued(_pem(certificate), private.decode()), _pem(authority)


def service_names(service: str, namespace: str) -> tuple[str, ...]:
    """The names that an API server and others may call a Service by; the API server's is the first."""
    return tuple(f"{service}.{namespace}{suffix}" for suffix in (".svc", ".svc.cluster.local", ""))


def _readable(issued: Issued) -> Issued:
    """The certificate, if it, its names and its key can be read and belong together."""
    key = serialization.load_pem_private_key(issued.key.encode(), None)
    if issued.parsed().public_key() != key.public_key():
        raise ValueError("the key is another one's")
    issued.names()
    return issued


def _living(authorities: Sequence[str], now: datetime) -> tuple[str, ...]:
    """Those whose time is not over, the newest."""
    ends = [(one, x509.load_pem_x509_certificate(one.encode()).not_valid_after_utc) for one in authorities]
    return tuple(one for one, end in ends if end > now)[:MAX_AUTHORITIES]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins.astimezone(UTC))
        .not_valid_after(ends.astimezone(UTC))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
