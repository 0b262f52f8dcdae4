"""TLS of outgoing connections: what is trusted, and what a failure means."""

from __future__ import annotations

import os
import ssl
from collections import OrderedDict
from collections.abc import Callable, Collection

from eventsink.sinks.transport import TransportErrorKind

MAX_CACHED_CONTEXTS = 256
MAX_WITH_SYSTEM_AUTHORITIES = 64
"""Of those, the contexts that trust the system's authorities: OpenSSL keeps a copy of them for each, some 0.8 MB, and reads them in 30 ms."""

_Key = tuple[str | None, str | None, str]
"""Certificates that are trusted (None: those of the system), client certificate, and the authorities beside the system's."""

_WRONG_PROTOCOL = "the port does not speak TLS"
_TOO_OLD = "the receiver speaks only versions of TLS before 1.2"
_WANTS_CERTIFICATE = "the receiver asks for a client certificate (mTLS)"
_OURS_EXPIRED = "the client certificate has expired"
_OURS_REVOKED = "the client certificate is revoked"
_REFUSED = "the receiver refused the handshake: it may ask for a client certificate (mTLS), or for a cipher that is not offered"
_MEANINGS: dict[str, tuple[TransportErrorKind, str]] = {
    # OpenSSL's names of its errors (those of an alert begin with the version in which it was introduced).
    "WRONG_VERSION_NUMBER": (TransportErrorKind.WRONG_PROTOCOL, _WRONG_PROTOCOL),
    "HTTP_REQUEST": (TransportErrorKind.WRONG_PROTOCOL, _WRONG_PROTOCOL),
    "PACKET_LENGTH_TOO_LONG": (TransportErrorKind.WRONG_PROTOCOL, _WRONG_PROTOCOL),
    "RECORD_LAYER_FAILURE": (TransportErrorKind.WRONG_PROTOCOL, _WRONG_PROTOCOL),
    "UNSUPPORTED_PROTOCOL": (TransportErrorKind.TLS_VERSION, _TOO_OLD),
    "VERSION_TOO_LOW": (TransportErrorKind.TLS_VERSION, _TOO_OLD),
    "TLSV1_ALERT_PROTOCOL_VERSION": (TransportErrorKind.TLS_VERSION, _TOO_OLD),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": (TransportErrorKind.CLIENT_CERTIFICATE, _WANTS_CERTIFICATE),
    # These say that a certificate of ours is not good enough, or that we present none.
    "SSLV3_ALERT_NO_CERTIFICATE": (TransportErrorKind.CLIENT_CERTIFICATE, _WANTS_CERTIFICATE),
    "SSLV3_ALERT_BAD_CERTIFICATE": (TransportErrorKind.CLIENT_CERTIFICATE, _WANTS_CERTIFICATE),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": (TransportErrorKind.CLIENT_CERTIFICATE, _WANTS_CERTIFICATE),
    "TLSV1_ALERT_UNKNOWN_CA": (TransportErrorKind.CLIENT_CERTIFICATE, _WANTS_CERTIFICATE),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": (TransportErrorKind.CLIENT_CERTIFICATE, _WANTS_CERTIFICATE),
    "TLSV1_ALERT_ACCESS_DENIED": (TransportErrorKind.CLIENT_CERTIFICATE, _WANTS_CERTIFICATE),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": (TransportErrorKind.CLIENT_CERTIFICATE, _OURS_EXPIRED),
    "SSLV3_ALERT_CERTIFICATE_REVOKED": (TransportErrorKind.CLIENT_CERTIFICATE, _OURS_REVOKED),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (TransportErrorKind.TLS, _REFUSED),
}


def failure(error: ssl.SSLError) -> tuple[TransportErrorKind, str]:
    """What a failure of TLS means, in a handshake or after it: its kind, and a text fit to be shown."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return TransportErrorKind.TLS, error.verify_message or "the certificate is not valid"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        # Also in the middle of a handshake this is a server that restarts, not one whose certificate is wrong.
        return TransportErrorKind.RESET, ""
    reason = error.reason or "handshake failed"
    kind, text = _MEANINGS.get(reason, (TransportErrorKind.TLS, reason.lower().replace("_", " ")))
    if reason == "SSLV3_ALERT_HANDSHAKE_FAILURE" and getattr(error, "negotiated", False):
        return TransportErrorKind.CLIENT_CERTIFICATE, _WANTS_CERTIFICATE
    return kind, text


class _Connection(ssl.SSLObject):
    """Notes on an error of the handshake whether version and cipher had been agreed on: what was refused then was our certificate."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            error.negotiated = self.cipher() is not None  # type: ignore[attr-defined]
            raise


class Contexts:
    """The contexts of TLS, one for each set of trusted certificates and each client certificate.

    Parameters
    ----------
    authorities
        Returns PEM certificates to trust beside the system's; empty: none.
    """

    def __init__(self, authorities: Callable[[], str] = lambda: "") -> None:
        self._authorities = authorities
        self._contexts: OrderedDict[_Key, ssl.SSLContext] = OrderedDict()

    def of(self, ca: str | None, client_certificate: str | None = None) -> ssl.SSLContext:
        """The context that trusts some PEM certificates; None: those of the system, and the authorities.

        Parameters
        ----------
        client_certificate
            PEM certificates and private key that are presented where the server asks for them; None: nothing is.

        Raises
        ------
        OSError (ssl.SSLError is one), ValueError, TypeError
            The certificates cannot be read.
        """
        key = (ca, client_certificate, self._authorities() if ca is None else "")
        context = self._contexts.get(key)
        if context is None:
            context = ssl.create_default_context(cadata=ca)
            if key[2]:
                context.load_verify_locations(cadata=key[2])
            if client_certificate is not None:
                present(context, client_certificate)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            context.sslobject_class = _Connection
            self._contexts[key] = context
            if ca is None:
                self._forget([one for one in self._contexts if one[0] is None], MAX_WITH_SYSTEM_AUTHORITIES)
            self._forget(self._contexts, MAX_CACHED_CONTEXTS)
        self._contexts.move_to_end(key)
        return context

    def _forget(self, keys: Collection[_Key], most: int) -> None:
        """Of too many of them, the one that was used longest ago."""
        if len(keys) > most:
            del self._contexts[next(iter(keys))]


def present(context: ssl.SSLContext, client_certificate: str) -> None:
    """Have a context present a certificate. The library reads files only: this one is in memory, so that no key is written to a disk.

    Raises
    ------
    OSError (ssl.SSLError is one), ValueError
        It cannot be presented.
    """
    file = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(file), "wb") as writer:
            writer.write(client_certificate.encode())
        # A password, lest the library asks the terminal for that of an encrypted key.
        context.load_cert_chain(f"/proc/self/fd/{file}", password="")
    finally:
        os.close(file)
