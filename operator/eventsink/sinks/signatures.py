"""Signatures of messages, as the specification of Standard Webhooks describes them (standardwebhooks.com).

Headers webhook-id, webhook-timestamp (seconds) and webhook-signature: `v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`; one for
each secret, separated by a space, while one secret replaces another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
MIN_KEY_BYTES = 16
MAX_KEY_BYTES = 256


class InvalidSigningSecret(ValueError):
    """The secret cannot sign; the text says what to do and shows nothing of it."""


def signing_key(secret: str) -> bytes:
    """The key that a secret means.

    `whsec_` and base64, as receivers' libraries know it, or any other text of at least 16 bytes, which is the key itself.

    Raises
    ------
    InvalidSigningSecret
        Too short, too long, or `whsec_` with something else than base64 behind it.
    """
    if secret.startswith(PREFIX):
        try:
            text = secret.removeprefix(PREFIX)
            key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)  # libraries take it without padding, too
        except (binascii.Error, ValueError):
            raise InvalidSigningSecret(
                'what follows "whsec_" is not base64; make one with: echo "whsec_$(head -c 24 /dev/urandom | base64)"'
            ) from None
    else:
        key = secret.encode()
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise InvalidSigningSecret(
            f"a signing secret has {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes; "
            'make one with: echo "whsec_$(head -c 24 /dev/urandom | base64)"'
        )
    return key


def signature(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of the header webhook-signature.

    Parameters
    ----------
    keys
        One for each secret, in their order.
    message_id
        The value of webhook-id.
    timestamp
        The value of webhook-timestamp: seconds since the epoch.
    body
        The body as it is sent.
    """
    signed = b"%s.%d." % (message_id.encode(), timestamp) + body
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}" for key in keys)
