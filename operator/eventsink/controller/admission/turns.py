"""Whose turn it is: few things are done at once, and whoever asks for much delays nobody who asks for little."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Peer:
    active: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Turns:
    """Lets at most `most` in at once, of one peer at most as many as are left to others; of those that wait, one of each peer in turn.

    For one loop. How many may wait is for the caller to bound.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._active = 0
        self._peers: OrderedDict[str, _Peer] = OrderedDict()

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Wait for a turn of a peer, and have it until the block ends."""
        peer = self._peers.setdefault(key, _Peer())
        if peer.waiting or not self._may(peer):
            given = asyncio.get_running_loop().create_future()
            peer.waiting.append(given)
            try:
                await given
            except asyncio.CancelledError:
                if given.cancelled():
                    self._forget(key, peer)
                else:
                    self._end(key, peer)
                raise
        else:
            self._begin(peer)
        try:
            yield
        finally:
            self._end(key, peer)

    def _may(self, peer: _Peer) -> bool:
        return peer.active < self._most - self._active

    def _begin(self, peer: _Peer) -> None:
        peer.active += 1
        self._active += 1

    def _end(self, key: str, peer: _Peer) -> None:
        peer.active -= 1
        self._active -= 1
        self._forget(key, peer)
        self._next()

    def _forget(self, key: str, peer: _Peer) -> None:
        while peer.waiting and peer.waiting[0].done():
            peer.waiting.popleft()
        if not peer.active and not peer.waiting and self._peers.get(key) is peer:
            del self._peers[key]

    def _next(self) -> None:
        """Give turns to those that wait, as many as there are."""
        for key, peer in list(self._peers.items()):
            while peer.waiting and self._may(peer):
                given = peer.waiting.popleft()
                if not given.done():
                    self._peers.move_to_end(key)
                    self._begin(peer)
                    given.set_result(None)
                    break
            self._forget(key, peer)
