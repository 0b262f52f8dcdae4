"""An authorization server that is strict about RFC 6749 section 4.4 (client credentials), and a receiver that takes its tokens only."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from tests.unit.sinks.transport_contract import Reader, Writer


class AuthorizationServer:
    """Gives tokens to one client. `token` and `receive` are handlers of connections, for two servers.

    Parameters
    ----------
    client, secret
        Whom it knows.
    takes
        Where it looks for them: the header, as each server has to, or the body only, as some do.
    """

    def __init__(self, client: str, secret: str, *, takes: str = "header") -> None:
        self._client, self._secret, self.takes = client, secret, takes
        self.issued: list[str] = []
        self.valid: set[str] = set()
        self.requests: list[dict[str, str]] = []
        """Parameters of each request for a token."""
        self.received: list[str] = []
        """Authorization of each message, accepted or not."""
        self.answers: list[bytes] = []
        """Sent instead of its own responses to requests for tokens, in order."""
        self.extra: dict[str, Any] = {"token_type": "Bearer", "expires_in": 3600}
        """Of each response with a token."""
        self.hangs = asyncio.Event()
        self.hangs.set()
        """Cleared: requests for tokens are not responded to."""

    async def token(self, reader: Reader, writer: Writer) -> None:
        """Responds to requests for tokens."""
        while True:
            head, headers, body = await _request(reader)
            parameters = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
            self.requests.append(parameters)
            await self.hangs.wait()
            writer.write(self.answers.pop(0) if self.answers else self._answer(head, headers, parameters))
            await writer.drain()

    async def receive(self, reader: Reader, writer: Writer) -> None:
        """Takes messages with a valid token."""
        while True:
            _, headers, _ = await _request(reader)
            self.received.append(headers.get("authorization", ""))
            kind, _, token = self.received[-1].partition(" ")
            writer.write(answer(204) if kind == "Bearer" and token in self.valid else answer(401))
            await writer.drain()

    def _answer(self, head: str, headers: dict[str, str], parameters: dict[str, str]) -> bytes:
        if not head.startswith("POST ") or headers.get("content-type") != "application/x-www-form-urlencoded":
            return answer(415)
        kind, _, given = headers.get("authorization", "").partition(" ")
        if self.takes == "header":
            user, _, password = base64.b64decode(given).decode().partition(":") if kind == "Basic" else ("", "", "")
            known = (unquote_plus(user), unquote_plus(password)) == (self._client, self._secret)
        else:
            known = not kind and (parameters.get("client_id"), parameters.get("client_secret")) == (self._client, self._secret)
        if not known:
            return answer(401, {"error": "invalid_client", "error_description": "canary"})
        if parameters.get("grant_type") != "client_credentials":
            return answer(400, {"error": "unsupported_grant_type"})
        self.issued.append(f"canary-token-{len(self.issued)}")
        self.valid.add(self.issued[-1])
        return answer(200, {"access_token": self.issued[-1], **self.extra})


def answer(status: int, document: Any = None) -> bytes:
    """A response."""
    body = b"" if document is None else document if isinstance(document, bytes) else json.dumps(document).encode()
    return b"HTTP/1.1 %d Canary\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


async def _request(reader: Reader) -> tuple[str, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return first, headers, await reader.readexactly(int(headers.get("content-length", "0")))
