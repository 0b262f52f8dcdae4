"""Of a response, everything is read that there is, up to a bound."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import pytest

from eventsink.runtime.responses import read_body


class InPieces:
    """A response whose body arrives piece by piece."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.content = self

    async def iter_any(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


@pytest.mark.parametrize(("most", "read"), [(100, b"one response"), (12, b"one response"), (6, b"one re"), (3, b"one")])
async def test_what_arrives_in_pieces_is_read_up_to_the_bound(most: int, read: bytes) -> None:
    response = cast(aiohttp.ClientResponse, InPieces(b"one", b" resp", b"onse"))
    assert await read_body(response, most) == read
