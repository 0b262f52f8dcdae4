"""A relay between Alertmanagers and a router: adds the header that names the sender, and records what the router acknowledged."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.support.pictures import Statement, statements_of

SENDER_HEADER = "X-Half"
TIMEOUT_SECONDS = 10.0


class Relay:
    """Passes requests to `/NAME` on to one URL, as from the sender NAME; use as a context manager.

    Parameters
    ----------
    target
        Where to, and the bearer token for it.
    forwarding
        Called when a request is about to be passed on.
    """

    def __init__(self, target: str, token: str, *, forwarding: Callable[[], object] = lambda: None) -> None:
        self._host, self._path = urlsplit(target).netloc, urlsplit(target).path
        self._token = token
        self._forwarding = forwarding
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._acknowledged: list[tuple[float, str, bytes]] = []
        self._failed: list[tuple[float, int]] = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = relay.pass_on(self.path[1:], body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT_SECONDS)

    def url(self, sender: str) -> str:
        """Where a sender posts to."""
        return f"http://127.0.0.1:{self._server.server_port}/{sender}"

    def pass_on(self, sender: str, body: bytes) -> int:
        """Pass a request on; returns the router's status, 503 where it is not there."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", SENDER_HEADER: sender}
        connection = HTTPConnection(self._host, timeout=TIMEOUT_SECONDS)
        try:
            with self._sending:  # so that the times are in the order in which the router gets them
                at = time.monotonic()
                self._forwarding()
                connection.request("POST", self._path, body, headers)
            status = connection.getresponse().status
        except (OSError, HTTPException):
            status = HTTPStatus.SERVICE_UNAVAILABLE
        finally:
            connection.close()
        with self._lock:
            if status < HTTPStatus.MULTIPLE_CHOICES:
                self._acknowledged.append((at, sender, body))
            else:
                self._failed.append((at, status))
        return status

    def failed(self, start: float) -> list[tuple[float, int]]:
        """When requests that the router did not acknowledge were sent, and their statuses: 503 where there was no response."""
        with self._lock:
            return [(at - start, status) for at, status in self._failed]

    def acknowledged(self, start: float) -> list[Statement]:
        """What the router acknowledged, in the order in which it was sent; times count from `start` (monotonic)."""
        with self._lock:
            requests = sorted(self._acknowledged)
        return [
            one
            for number, (at, sender, body) in enumerate(requests)
            for one in statements_of(json.loads(body), at=at - start, sender=sender, notification=number)
        ]
