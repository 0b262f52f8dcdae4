"""Requests that are almost right: valid ones of each listener, changed at random where parsers are tempted to trust them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

CANARY = "canary-f00d"
"""In headers that are made up: no response may repeat it."""
_STRANGE_BYTES = (
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\x7f",
    b"\x80",
    b" ",
    b"\t",
    b"%",
    b"%ff",
    b"\xf0\x9f",
)
_STRANGE_NUMBERS = (
    "0",
    "-1",
    "1e999",
    "-1e-999",
    "9" * 400,
    "1.5",
    "NaN",
    "Infinity",
    str(2**63),
    str(-(2**63)),
    str(2**64),
    "00",
)
_STRANGE_TEXTS = (
    "",
    " ",
    "\0",
    "\ud800",
    "\udfff\ud800",
    "a" * 70_000,
    "../..",
    "{{x}}",
    "%",
    "\u202e",
    "1970-01-01T00:00:00Z",
    "x" * 300,
)


@dataclass(frozen=True)
class Request:
    """A request in its parts."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: Any = None
    """A JSON value; None: no body."""
    version: str = "HTTP/1.1"
    raw: bytes | None = None
    """The body as bytes, if it is changed beyond JSON."""

    def content(self) -> bytes:
        """The body as bytes."""
        if self.raw is not None:
            return self.raw
        return b"" if self.body is None else json.dumps(self.body).encode()


@dataclass
class Mutator:
    """Makes bytes of requests; the same for the same seed.

    Parameters
    ----------
    seed
        Of the random numbers.
    """

    seed: int
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def bytes_of(self, request: Request) -> bytes:
        """A request as bytes, changed in some ways, or in one time of ten in none."""
        changes: Sequence[Callable[[Request], Request]] = (
            self._method,
            self._target,
            self._version,
            self._header,
            self._header,
            self._header,
            self._json,
            self._json,
            self._raw,
        )
        if self.chance.random() < 0.9:
            for _ in range(self.chance.choice((1, 1, 1, 2, 3))):
                request = self.chance.choice(changes)(request)
        data = self._framed(request)
        return self._bytes(data) if self.chance.random() < 0.15 else data

    def _strange(self) -> bytes:
        return self.chance.choice(_STRANGE_BYTES)

    def _method(self, request: Request) -> Request:
        return replace(
            request, method=self.chance.choice(("GET", "PUT", "HEAD", "OPTIONS", "CONNECT", "PRI", "get", "X" * 40, ""))
        )

    def _target(self, request: Request) -> Request:
        target = request.target
        at = self.chance.randrange(len(target) + 1)
        strange = self._strange().decode("latin-1")
        return replace(
            request,
            target=self.chance.choice(
                (
                    target[:at] + strange + target[at:],
                    f"http://{CANARY}{target}",
                    f"http://{CANARY}@h{target}",
                    target + "/" + strange,
                    f"{target}{'&' if '?' in target else '?'}limit={self.chance.choice(_STRANGE_NUMBERS)}&state=%ed%a0%80{strange}",
                    target + "?" + "a=b&" * self.chance.choice((1, 99, 2000)),
                    target + "/x" * self.chance.choice((10, 20_000)),
                    "*",
                    "",
                    target.replace("/", "//"),
                    target.replace("/", "%2f"),
                )
            ),
        )

    def _version(self, request: Request) -> Request:
        return replace(
            request, version=self.chance.choice(("HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/11", "http/1.1", ""))
        )

    def _header(self, request: Request) -> Request:
        headers = list(request.headers)
        at = self.chance.randrange(len(headers))
        name, value = headers[at]
        choice = self.chance.randrange(9)
        if choice == 0:
            headers.append(headers[at])
        elif choice == 1:
            del headers[at]
        elif choice == 2:
            cut = self.chance.randrange(len(value) + 1)
            headers[at] = (name, value[:cut] + self._strange() + value[cut:])
        elif choice == 3:
            headers[at] = (name + self._strange(), value)
        elif choice == 4:
            headers[at] = (name, value + b"x" * self.chance.choice((100, 9000, 40_000)))
        elif choice == 5:
            headers += [(b"X-%d" % number, CANARY.encode()) for number in range(self.chance.choice((1, 50, 200)))]
        elif choice == 6:
            known = (
                b"Expect",
                b"Upgrade",
                b"Connection",
                b"Content-Encoding",
                b"Cookie",
                b"Idempotency-Key",
                b"If-Match",
                b"X-Forwarded-For",
            )
            words = (
                b"100-continue",
                b"h2c",
                b"close, upgrade",
                b"gzip",
                b"a=b; \xff=\xfe",
                CANARY.encode(),
                b"\xff\xfe",
                b"::ffff:1.2.3.4, [::1]:9",
            )
            headers.append((self.chance.choice(known), self.chance.choice(words)))
        elif choice == 7:
            tokens = (
                b"Bearer \xff\xfe",
                b"Bearer",
                b"bearer  x y",
                b"Basic eDp5",
                b"Bearer " + "\ud800".encode("utf-8", "surrogatepass"),
                b"",
            )
            headers = [(n, self.chance.choice(tokens) if n == b"Authorization" else v) for n, v in headers]
        else:
            self.chance.shuffle(headers)
        return replace(request, headers=tuple(headers))

    def _json(self, request: Request) -> Request:
        """Change one node of the body."""
        if request.body is None:
            return replace(request, body=self._value(0))
        body = json.loads(json.dumps(request.body))
        nodes = list(_nodes(body))
        container, key = self.chance.choice(nodes) if nodes else ([body], 0)
        choice = self.chance.randrange(5)
        if choice == 0 and isinstance(container, dict):
            container[self.chance.choice(_STRANGE_TEXTS)] = container.pop(key)
        elif choice == 1:
            del container[key]
        elif choice == 2 and isinstance(container, list):
            container.extend([container[key]] * self.chance.choice((1, 50, 500)))
        else:
            container[key] = self._value(0)
        return replace(request, body=body)

    def _value(self, depth: int) -> Any:
        leaves: list[Any] = [None, True, 0, -1, 1.5, 10**300, [], {}, self.chance.choice(_STRANGE_TEXTS)]
        if depth > 3 or self.chance.random() < 0.8:
            return self.chance.choice(leaves)
        return self.chance.choice(([self._value(depth + 1)] * 3, {"x": self._value(depth + 1), "": self._value(depth + 1)}))

    def _raw(self, request: Request) -> Request:
        """Change the text of the body."""
        text = request.content() or b"{}"
        at = self.chance.randrange(len(text) + 1)
        strings = [index for index in range(len(text)) if text[index : index + 1] == b'"']
        inside = self.chance.choice(strings) + 1 if strings else at
        return replace(
            request,
            raw=self.chance.choice(
                (
                    text[:inside] + self._strange() + text[inside:],
                    text[:inside] + self._strange() + text[inside:],
                    text[:at] + self._strange() + text[at:],
                    text[:at],
                    text[:at] + self.chance.choice(_STRANGE_NUMBERS).encode() + text[at:],
                    text + text,
                    b"\xef\xbb\xbf" + text,
                    b"[" * self.chance.choice((10, 5000, 100_000)),
                    b'{"a":' * self.chance.choice((10, 5000, 50_000)),
                    text.decode("utf-8", "replace").encode("utf-16"),
                    text[:inside] + rb"\ud800" + text[inside:],
                    text.replace(b":", b":" + self.chance.choice(_STRANGE_NUMBERS).encode() + b",", 1),
                    b"{" + text[1:-1] + b"," + text[1:-1] + b"}",
                    b" " * 100_000 + text,
                )
            ),
        )

    def _framed(self, request: Request) -> bytes:
        content = request.content()
        framing = self.chance.random()
        headers = list(request.headers)
        body = content
        if framing < 0.65:
            length = len(content)
            if self.chance.random() < 0.1:
                words = (
                    str(length + 1),
                    str(max(0, length - 1)),
                    "-1",
                    "x",
                    "1,1",
                    "9" * 30,
                    "0" * 5000,
                    f"+{length}",
                    f" {length} ",
                    "",
                )
                headers.append((b"Content-Length", self.chance.choice(words).encode()))
            elif content or self.chance.random() < 0.5:
                headers.append((b"Content-Length", str(length).encode()))
        else:
            headers.append(
                (b"Transfer-Encoding", self.chance.choice((b"chunked",) * 8 + (b"gzip, chunked", b"identity", b"Chunked ")))
            )
            body = self._chunked(content)
            if self.chance.random() < 0.05:
                headers.append((b"Content-Length", str(len(content)).encode()))
        lines = [f"{request.method} {request.target} {request.version}".encode("utf-8", "surrogatepass")]
        lines += [name + b": " + value for name, value in headers]
        end = self.chance.choice((b"\r\n",) * 30 + (b"\n", b"\r"))
        return end.join(lines) + end + end + body

    def _chunked(self, content: bytes) -> bytes:
        pieces, at = [], 0
        while at < len(content):
            size = self.chance.choice((1, 7, 100, 5000))
            piece = content[at : at + size]
            at += size
            line = b"%x" % len(piece)
            if self.chance.random() < 0.02:
                line = self.chance.choice(
                    (b"", b"-1", b"0x1", b"f" * 17, b"g", line + b";" + b"e" * 400, line + b";a=\xff", b" " + line)
                )
            pieces.append(line + b"\r\n" + piece + self.chance.choice((b"\r\n",) * 100 + (b"\n", b"", b"\r\n\r\n")))
        trailers = self.chance.choice(
            (b"",) * 8
            + (b"X: y\r\n", b"X: " + b"y" * 20_000 + b"\r\n", b"X: y\r\n" * 3000, b"nonsense\r\n", b"Content-Length: 1\r\n")
        )
        return b"".join(pieces) + b"0\r\n" + trailers + b"\r\n"

    def _bytes(self, data: bytes) -> bytes:
        at = self.chance.randrange(len(data))
        to = min(len(data), at + self.chance.choice((1, 2, 10, 200)))
        return self.chance.choice(
            (
                data[:at],
                data[:at] + data[to:],
                data[:at] + self._strange() + data[at:],
                data[:to] + data[at:],
                data[:at] + self._strange() + data[to:],
                data * 2,
            )
        )


def _nodes(value: Any) -> Any:
    """Container and key of each node of a JSON value."""
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    for key, inner in pairs:
        yield value, key
        yield from _nodes(inner)
