"""Whether something has arrived on a connection that the event loop has not read yet."""

from __future__ import annotations

import select


class Unread:
    """Asks the operating system for all connections at once, and only after something was read.

    What it said holds until then: uvloop reads whatever is there in one part of its turn, and nothing in the other, in which messages are
    sent.

    Parameters
    ----------
    most
        Of how many connections it is asked; while more have something unread, all do.
    """

    def __init__(self, most: int) -> None:
        self._epoll = select.epoll()
        self._most = most
        self._sockets: frozenset[int] = frozenset()
        self._too_many = False
        self._current = False

    def add(self, socket: int) -> None:
        """Watch the socket of this number, until it is closed."""
        self._epoll.register(socket, select.EPOLLIN)
        self._current = False

    def changed(self) -> None:
        """Something was read, on any of the connections."""
        self._current = False

    def on(self, socket: int) -> bool:
        """Whether something has arrived on it that is still unread: a byte, or the end of the connection."""
        if not self._current:
            self._sockets = frozenset([number for number, _ in self._epoll.poll(0, self._most + 1)])
            self._too_many = len(self._sockets) > self._most
            self._current = True
        return self._too_many or socket in self._sockets
