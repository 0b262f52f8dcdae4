"""Bodies that a sender has compressed (gzip), expanded within bounds: a small body must not become a large one in memory."""

from __future__ import annotations

import zlib

from eventsink.alerts.alert import OversizedPayload, UnusablePayload

MAX_RATIO = 100
"""A body expands to so many times its size at most; what senders compress, which is JSON, to a tenth of that ..."""
SMALL_BYTES = 64 * 1024
"""... or to so much. What expands to more is expanded aside of the event loop, one at a time."""
MAX_MEMBERS = 64
"""Parts that a body may consist of, each compressed by itself."""
_GZIP = 16 + zlib.MAX_WBITS


def expand_small(body: bytes) -> bytes | None:
    """What was compressed; None: it is, or may be, more than SMALL_BYTES.

    Raises
    ------
    UnusablePayload
        It is not what the header says.
    """
    return _expand(body, SMALL_BYTES) if len(body) <= SMALL_BYTES else None


def expand(body: bytes, max_bytes: int) -> bytes:
    """What was compressed.

    Raises
    ------
    OversizedPayload
        It is more than `max_bytes` (intake.maxBodyBytes), or than MAX_RATIO allows.
    UnusablePayload
        It is not what the header says.
    """
    allowed = max(SMALL_BYTES, MAX_RATIO * len(body))
    expanded = _expand(body, min(allowed, max_bytes))
    if expanded is not None:
        return expanded
    if allowed < max_bytes:
        raise OversizedPayload(f"the body expands to more than {MAX_RATIO} times its size: send it uncompressed")
    raise OversizedPayload(f"the body expands to more than {max_bytes} bytes (intake.maxBodyBytes)")


def _expand(body: bytes, most: int) -> bytes | None:
    found = bytearray()
    rest = body
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(_GZIP)
        try:
            found += member.decompress(rest, most + 1 - len(found))
        except zlib.error:
            raise UnusablePayload("the body is not gzip, as the header Content-Encoding says") from None
        if len(found) > most:
            return None
        if not member.eof:
            raise UnusablePayload("the body ends before what was compressed does")
        rest = member.unused_data
        if not rest:
            return bytes(found)
    raise UnusablePayload(f"the body consists of more than {MAX_MEMBERS} parts that are compressed by themselves")
