"""Certificates of authorities, as people write them into files and Secrets."""

from __future__ import annotations

import ssl


def read_authorities(text: str) -> str:
    """The certificates of authorities in a PEM text, as the library takes them: what is not ASCII in it is comment.

    Raises
    ------
    ValueError
        It holds none that can be read.
    """
    text = text.encode("ascii", "ignore").decode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=text)
        found = context.cert_store_stats()["x509"]
    except (ssl.SSLError, ValueError):
        found = 0
    if not found:
        raise ValueError("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    return text
