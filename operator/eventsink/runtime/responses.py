"""Responses that other programs write, of which only so much is read."""

from __future__ import annotations

import aiohttp


async def read_body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, or its first `most` bytes. One call of aiohttp's own `read(n)` returns what has arrived, which may be a part."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= most:
            break
    return bytes(body[:most])
