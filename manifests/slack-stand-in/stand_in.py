"""As much of Slack as a sink needs to become Ready and deliver; prints the text of each message, and that a code was exchanged.
Not for real credentials.
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

MAX_BODY_BYTES = 1024 * 1024
SCOPES = "chat:write,chat:write.public,channels:read"
CHANNELS = ("general", "alerts", "security-alerts")


def respond(path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The response to a call of Slack's Web API."""
    channels = [
        {"id": f"C0000000{number:02}", "name": name, "is_member": True, "is_archived": False}
        for number, name in enumerate(CHANNELS)
    ]
    match path.rpartition("/")[2]:
        case "auth.test":
            return {"ok": True, "team": "Stand-in", "team_id": "T00000000", "user": "eventsink", "user_id": "U00000000"}
        case "oauth.v2.access":
            team = {"id": "T00000000", "name": "Stand-in"}
            show("oauth.v2.access", {"text": "a code was exchanged"})
            return {"ok": True, "access_token": "xoxb-stand-in", "token_type": "bot", "scope": SCOPES, "team": team}
        case "conversations.list":
            return {"ok": True, "channels": channels, "response_metadata": {"next_cursor": ""}}
        case "conversations.info":
            found = [one for one in channels if one["id"] == arguments.get("channel")]
            return {"ok": True, "channel": found[0]} if found else {"ok": False, "error": "channel_not_found"}
        case "chat.postMessage":
            show(str(arguments.get("channel")), arguments)
            return {"ok": True, "channel": arguments.get("channel"), "ts": f"{time.time():.6f}"}
        case _:
            return {"ok": False, "error": "unknown_method"}


def show(where: str, message: dict[str, Any]) -> None:
    """Print a message."""
    sys.stdout.write(f"{where}: {message.get('text', '')}\n")
    sys.stdout.flush()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Respond to a call without a body."""
        self.call({})

    def do_POST(self) -> None:
        """Respond to a call, or take a message of an incoming webhook."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            self.send(413, b"too_large", "text/plain")
            return
        body = self.rfile.read(length)
        is_json = self.headers.get_content_type() == "application/json"
        arguments = json.loads(body or b"{}") if is_json else dict(parse_qsl(body.decode()))
        if urlsplit(self.path).path.startswith("/services/"):
            show("incoming webhook", arguments)
            self.send(200, b"ok", "text/plain")
            return
        self.call(arguments)

    def call(self, arguments: dict[str, Any]) -> None:
        """Respond to a call of the Web API."""
        split = urlsplit(self.path)
        self.send(200, json.dumps(respond(split.path, dict(parse_qsl(split.query)) | arguments)).encode(), "application/json")

    def send(self, status: int, body: bytes, kind: str) -> None:
        """Send a response."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-OAuth-Scopes", SCOPES)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests are not logged: they may hold credentials."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
