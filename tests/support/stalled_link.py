"""A network path to a server that can stall: what was sent is kept, and arrives when it goes on."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Self

PIECE_BYTES = 64 * 1024
TIMEOUT_SECONDS = 120.0


class StalledLink:
    """Passes connections on to a server at 127.0.0.1; use as a context manager.

    Parameters
    ----------
    port
        Of the server.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._flowing = threading.Event()
        self._flowing.set()
        self._ends = ExitStack()
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, name="link", daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listening.getsockname()[1])

    def stall(self) -> None:
        """Let nothing through, in either direction."""
        self._flowing.clear()

    def go_on(self) -> None:
        """Let through what was kept, and everything from now on."""
        self._flowing.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._listening.close()
        self.go_on()
        self._ends.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target), TIMEOUT_SECONDS)
            except OSError:
                return  # closed
            for one in (client, server):
                one.settimeout(TIMEOUT_SECONDS)
                self._ends.callback(one.close)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, sink), name="link", daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(PIECE_BYTES):
                self._flowing.wait(TIMEOUT_SECONDS)
                sink.sendall(piece)
            self._flowing.wait(TIMEOUT_SECONDS)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one of the two has ended it
