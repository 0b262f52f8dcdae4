"""A webhook receiver: checks Standard Webhooks signatures, remembers what it received, and returns the status that it was told to.

A path that begins with /open needs no signature. `receiver.py PORT SECRET_FILE`. `GET /received` returns what came, `PUT /status` with a number
changes what a POST is responded with.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOLERANCE_SECONDS = 300


class State:
    """What was received, and how to respond."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.status = 200
        self.received: list[dict[str, object]] = []
        self.lock = threading.Lock()


def verified(key: bytes, headers: dict[str, str], body: bytes) -> bool:
    """Whether one of the signatures is right and the timestamp recent."""
    identity, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    digest = hmac.new(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    return any(hmac.compare_digest(expected, one) for one in headers.get("webhook-signature", "").split())


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    state: State

    def do_POST(self) -> None:
        body = self._body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        genuine = verified(self.state.key, headers, body)
        with self.state.lock:
            status = self.state.status if genuine or self.path.startswith("/open") else 401
            alert = json.loads(body)["data"]
            told = {"name": alert["name"], "alert": alert["status"]}
            self.state.received.append({"path": self.path, "verified": genuine, "status": status, **told})
        self._respond(status)

    def do_PUT(self) -> None:
        with self.state.lock:
            self.state.status = int(self._body())
        self._respond(200)

    def do_GET(self) -> None:
        with self.state.lock:
            content = json.dumps(self.state.received).encode()
        self._respond(200, content)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _respond(self, status: int, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: the requests are remembered."""


def main() -> None:
    """Serve until SIGTERM."""
    secret = Path(sys.argv[2]).read_text().strip().removeprefix("whsec_")
    Handler.state = State(base64.b64decode(secret))
    ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
