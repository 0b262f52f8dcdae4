"""Where a request's head and body end, checked strictly: a peer that reads a message otherwise must not be able to hide another in it.

Bytes are counted here and not in the parser, which gets each head in one piece: it joins the pieces of a header in quadratic time.
"""

from __future__ import annotations

from typing import Self

import httptools

from eventsink.runtime.headers import is_among
from eventsink.runtime.listener.messages import RequestHead

MAX_HEAD_BYTES = 32 * 1024
"""Request line and headers."""
MAX_HEADERS = 100
MAX_CHUNK_LINE_BYTES = 256
"""The size of a chunk and its extensions."""
MAX_TRAILER_BYTES = 8 * 1024
"""Everything after the last chunk; trailers are read and dropped."""
FREE_FRAMING_BYTES = 16 * 1024
"""Chunk lines of a body, beyond as many bytes as the body itself has: its chunks have at least a few bytes each."""
MAX_LENGTH_DIGITS = 18
MAX_REMEMBERED_HEAD_BYTES = 2048
"""A longer head is parsed each time it comes."""
END_OF_HEAD = b"\r\n\r\n"

FRAMING = frozenset({b"connection", b"content-length", b"expect", b"host", b"transfer-encoding"})
"""Headers that decide where a request ends, and whether its connection is kept."""
_ONCE = frozenset(
    {b"authorization", b"content-length", b"content-type", b"expect", b"host", b"idempotency-key", b"transfer-encoding"}
)
"""Headers that must not be repeated; others are joined as lists."""
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_HEX = b"0123456789ABCDEFabcdef"
_TOKEN = _LETTERS + b"0123456789!#$%&'*+-.^_`|~"
_VISIBLE = bytes(range(0x21, 0x7F))
_FIELD = b"\t " + _VISIBLE + bytes(range(0x80, 0x100))
_AUTHORITY = _LETTERS + b"0123456789.-_~!$&'()*+,;=%:[]"
"""Of a host and port; `@` is not in it."""


def _consists_of(data: bytes, allowed: bytes) -> bool:
    return not data.translate(None, allowed)


class BadRequest(Exception):
    """What was received is not a request that is served here; the text is a sentence that repeats nothing of it."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class ParsedHead:
    """The head of a request, and how its body is framed."""

    __slots__ = (
        "_repeated",
        "_surplus",
        "_wanted",
        "chunked",
        "complete",
        "count",
        "expects",
        "head",
        "keep_alive",
        "length",
        "raw",
        "url",
    )

    def __init__(self, wanted: frozenset[bytes]) -> None:
        self._wanted = wanted
        self._repeated = b""
        self._surplus = False
        self.url = b""
        self.raw: dict[bytes, bytes] = {}
        self.count = 0
        self.complete = False
        self.head: RequestHead
        self.length = 0
        """Of the body; 0 also where it is chunked."""
        self.chunked = False
        self.expects = False
        """Whether the client waits for 100 (Continue)."""
        self.keep_alive = False

    # ---- httptools

    def on_url(self, url: bytes) -> None:
        if self.complete:
            self._surplus = True
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.count += 1
        name = name.lower()
        if not is_among(name, self._wanted):
            return
        if name in self.raw:
            if name in _ONCE:
                self._repeated = name
            value = self.raw[name] + (b"; " if name == b"cookie" else b", ") + value
        self.raw[name] = value

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_body(self, _: bytes) -> None:
        self._surplus = True

    @property
    def unclear(self) -> bool:
        """Whether the parser sees another end of the head than there is."""
        return self._surplus or not self.complete

    @property
    def repeated(self) -> bytes:
        """A header that occurs twice and must not."""
        return self._repeated


def parse_head(data: bytes, wanted: frozenset[bytes], peer: str) -> ParsedHead:
    """A head, which ends with an empty line; `wanted` are the headers that are kept (`runtime.headers`), those of `FRAMING` among them.

    Raises
    ------
    BadRequest
        It is not a request that is served here.
    """
    parsed = ParsedHead(wanted)
    parser = httptools.HttpRequestParser(parsed)
    upgrade = False
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        upgrade = True  # no other protocol is spoken: the request is read as any other, and is the connection's last
    except httptools.HttpParserCallbackError:
        raise
    except httptools.HttpParserError:
        parsed.complete = False
    version = parser.get_http_version()
    if version not in ("1.1", "1.0", "0.0"):
        raise BadRequest(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    if parsed.unclear:
        raise BadRequest(400, "the request is not HTTP/1.1")
    if parsed.count > MAX_HEADERS:
        raise BadRequest(431, f"a request has at most {MAX_HEADERS} headers")
    if parsed.repeated:
        raise BadRequest(400, f"the header {parsed.repeated.decode()} occurs more than once")
    raw = parsed.raw
    host = raw.get(b"host")
    if host is None:
        if version == "1.1":
            raise BadRequest(400, "the header host is missing")
    elif not _consists_of(host, _AUTHORITY):
        raise BadRequest(400, "the header host is not a host and port")
    _set_framing(parsed, version)
    method = parser.get_method().decode("latin-1")
    path, _, query = _origin_form(parsed.url, method).partition(b"?")
    parsed.head = RequestHead(method, path.decode("ascii"), query.decode("ascii"), raw, peer)
    # HTTP/1.0 clients that keep a connection expect a header that says so; theirs are closed, which all understand.
    options = raw.get(b"connection")
    ending = options is not None and b"close" in {option.strip() for option in options.lower().split(b",")}
    parsed.keep_alive = version == "1.1" and not (upgrade or ending)
    return parsed


class RememberedHead:
    """The last head of a connection: the next one that differs from it in the digits of Content-Length only means the same.

    That is every head of a client that keeps its connection to send the same kind of request again.
    """

    __slots__ = ("_after", "_before", "_parsed")

    def __init__(self, before: bytes, after: bytes, parsed: ParsedHead) -> None:
        self._before = before
        self._after = after
        self._parsed = parsed

    @classmethod
    def of(cls, data: bytes, parsed: ParsedHead) -> Self | None:
        """What to remember of a head that was parsed; None: nothing."""
        length = parsed.raw.get(b"content-length")
        if length is None or b"expect" in parsed.raw or len(data) > MAX_REMEMBERED_HEAD_BYTES:
            return None
        before, _, after = data.partition(length + b"\r\n")
        # Any other header or the target may have the same value.
        if not before.lower().endswith((b"\r\ncontent-length: ", b"\r\ncontent-length:")):
            return None
        return cls(before, b"\r\n" + after, parsed)

    def again(self, data: bytes) -> ParsedHead | None:
        """The parsed form of a head, if it is this one with another length, or the same; it replaces that of the last one."""
        digits = data[len(self._before) : -len(self._after)]
        if not (
            digits.isdigit() and len(digits) <= MAX_LENGTH_DIGITS and data.startswith(self._before) and data.endswith(self._after)
        ):
            return None
        self._parsed.raw[b"content-length"] = digits
        self._parsed.length = int(digits)
        return self._parsed


def _set_framing(parsed: ParsedHead, version: str) -> None:
    raw = parsed.raw
    coding, length = raw.get(b"transfer-encoding"), raw.get(b"content-length")
    if coding is not None:
        if length is not None or version == "1.0":
            raise BadRequest(400, "the length of the body is not clear: send either Content-Length or Transfer-Encoding")
        if coding.strip().lower() != b"chunked":
            raise BadRequest(501, "Transfer-Encoding is chunked, or absent")
        parsed.chunked = True
    elif length is not None:
        digits = length.strip()
        if not digits.isdigit() or len(digits) > MAX_LENGTH_DIGITS:
            raise BadRequest(400, "Content-Length is not a number of bytes")
        parsed.length = int(digits)
    expected = raw.get(b"expect")
    if expected is not None and version == "1.1":
        if expected.strip().lower() != b"100-continue":
            raise BadRequest(417, "Expect is 100-continue, or absent")
        parsed.expects = bool(parsed.length or parsed.chunked)


def _origin_form(target: bytes, method: str) -> bytes:
    """Path and query of a target."""
    if not _consists_of(target, _VISIBLE) or b"#" in target:
        raise BadRequest(400, "the request target has characters that must be percent-encoded")
    if target.startswith(b"/") or (target == b"*" and method == "OPTIONS"):
        return target
    scheme, _, rest = target.partition(b"://")
    if scheme.lower() in (b"http", b"https"):
        host = rest[: min(at if at >= 0 else len(rest) for at in (rest.find(b"/"), rest.find(b"?")))]
        if host and _consists_of(host, _AUTHORITY):
            rest = rest[len(host) :]
            return rest if rest.startswith(b"/") else b"/" + rest
    raise BadRequest(400, "the request target is neither a path nor a URL")


def check_start(data: bytes) -> None:
    """Whether an incomplete head may still become one.

    Raises
    ------
    BadRequest
        It cannot.
    """
    if len(data) > MAX_HEAD_BYTES:
        raise BadRequest(431, f"a request has at most {MAX_HEAD_BYTES} bytes of headers")
    end = data.find(b"\n")
    if not data[:1].isalpha() or end == 0 or (end > 0 and data[end - 1] != 0x0D):
        raise BadRequest(400, "the request is not HTTP/1.1")


class Chunks:
    """Decodes a chunked body."""

    def __init__(self) -> None:
        self._rest = b""
        """An incomplete line."""
        self._left = 0
        """Bytes of the current chunk that have not come yet."""
        self._at_end_of_chunk = False
        self._in_trailers = False
        self._trailer_bytes = 0
        self._framing_bytes = -FREE_FRAMING_BYTES
        """More than the bytes of the body: too many."""

    def feed(self, data: bytes, body: bytearray) -> int | None:
        """Add what is in `data` to `body`; None: the body goes on. Else it has ended, and so many bytes of `data` follow it.

        Raises
        ------
        BadRequest
            It is not a chunked body, or has too much beside its content.
        """
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                piece = data[at : at + self._left]
                body += piece
                at += len(piece)
                self._left -= len(piece)
                self._framing_bytes -= len(piece)
                self._at_end_of_chunk = not self._left
                continue
            most = MAX_TRAILER_BYTES if self._in_trailers else MAX_CHUNK_LINE_BYTES
            line_end = data.find(b"\r\n", at, at + most + 2)
            if line_end < 0:
                self._rest = data[at:]
                if len(self._rest) > most or b"\n" in self._rest:
                    raise self._broken()
                return None
            line = data[at:line_end]
            at = line_end + 2
            self._framing_bytes += len(line) + 2
            if self._framing_bytes > 0:
                raise BadRequest(400, "the chunks of the body are too small: send larger ones, or Content-Length")
            if self._in_trailers:
                if not line:
                    return end - at
                self._trailer_bytes += len(line) + 2
                if self._trailer_bytes > MAX_TRAILER_BYTES or not _is_field(line):
                    raise self._broken()
            elif self._at_end_of_chunk:
                if line:
                    raise self._broken()
                self._at_end_of_chunk = False
            else:
                size, _, extension = line.partition(b";")
                size = size.rstrip(b" \t")
                if not 0 < len(size) < 16 or not _consists_of(size, _HEX) or not _consists_of(extension, _FIELD):
                    raise self._broken()
                self._left = int(size, 16)
                self._in_trailers = not self._left
        return None

    def _broken(self) -> BadRequest:
        if self._in_trailers:
            return BadRequest(431, f"the trailers of a request are fields, and have at most {MAX_TRAILER_BYTES} bytes")
        return BadRequest(400, "the body is not chunked as its head says")


def _is_field(line: bytes) -> bool:
    name, colon, value = line.partition(b":")
    return bool(name and colon) and _consists_of(name, _TOKEN) and _consists_of(value, _FIELD)
