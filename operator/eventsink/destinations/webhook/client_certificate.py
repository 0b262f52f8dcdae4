"""The client certificate of a webhook: read from a Secret, checked, and put into the form in which it is presented."""

from __future__ import annotations

import ssl
import warnings
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from eventsink.sinks.tls import present

EXPIRES_SOON = timedelta(days=7)
"""So long before a certificate expires, the status of its sink says so."""


class InvalidCertificate(ValueError):
    """It cannot be presented. The text says what to do and shows nothing of it."""


class ExpiredCertificate(InvalidCertificate):
    """It is not valid any more."""


class CertificateNotYetValid(InvalidCertificate):
    """It is valid later: in most cases at once, since the clock of whoever issued it is ahead."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds
        """Until then."""


def client_certificate(certificates: str, key: str, now: datetime) -> str:
    """PEM certificates and their key as one text.

    Raises
    ------
    InvalidCertificate
        They are none, do not belong together, or are not valid at that time.
    """
    first = _first(certificates)
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except TypeError:
        raise InvalidCertificate("the private key in tls.key is encrypted; store it without a password") from None
    except Exception:  # the library has many kinds, and their texts may show what they found
        raise InvalidCertificate("tls.key holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)") from None
    try:
        is_pair = _spki(private.public_key()) == _spki(first.public_key())
    except Exception:  # as above
        raise InvalidCertificate("the certificate in tls.crt has a key of an unknown kind; use RSA, ECDSA or Ed25519") from None
    if not is_pair:
        raise InvalidCertificate("the private key in tls.key is not that of the first certificate in tls.crt; store a pair")
    if now >= first.not_valid_after_utc:
        raise ExpiredCertificate(f"the certificate in tls.crt expired on {_shown(first.not_valid_after_utc)}; renew it")
    if now < first.not_valid_before_utc:
        text = f"the certificate in tls.crt is valid from {_shown(first.not_valid_before_utc)} on, not before"
        raise CertificateNotYetValid(text, (first.not_valid_before_utc - now).total_seconds())
    made = f"{certificates.strip()}\n{key.strip()}\n"
    try:
        present(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), made)
    except (OSError, ValueError):
        raise InvalidCertificate(
            "TLS cannot present the certificate in tls.crt: store certificates only in it, and a key of at least 2048 bits (RSA) "
            "or 256 bits (ECDSA) in tls.key"
        ) from None
    return made


def expires(client_certificate: str) -> datetime:
    """When a client certificate that was accepted expires."""
    return _first(client_certificate).not_valid_after_utc


def expiry_remark(expires: datetime, now: datetime) -> str:
    """What is reported of a certificate that expires soon; empty: nothing."""
    if now >= expires:
        return f"the client certificate expired on {_shown(expires)}: renew it in the Secret of tls.clientCertSecretRef"
    if expires - now > EXPIRES_SOON:
        return ""
    return f"the client certificate expires on {_shown(expires)}: renew it in the Secret of tls.clientCertSecretRef"


def _first(certificates: str) -> x509.Certificate:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about certificates that are odd but can be presented
            found = x509.load_pem_x509_certificates(certificates.encode())
    except Exception:  # as above
        found = []
    if not found:
        raise InvalidCertificate("tls.crt holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    return found[0]


def _spki(public: object) -> bytes:
    encoded: bytes = public.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _shown(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
