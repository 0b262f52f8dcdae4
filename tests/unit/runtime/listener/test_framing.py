"""Where a request ends: one reading of each, and a limit on everything in it."""

from __future__ import annotations

import time

import pytest

from eventsink.runtime.listener.framing import (
    FRAMING,
    FREE_FRAMING_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_TRAILER_BYTES,
    BadRequest,
    Chunks,
    ParsedHead,
    RememberedHead,
    check_start,
    parse_head,
)

READS = frozenset({b"authorization", b"x-forwarded-for"}) | FRAMING


def head(*lines: str, start: str = "POST /v1/x?a=b HTTP/1.1", host: str | None = "h:80") -> ParsedHead:
    all_lines = [start, *([f"Host: {host}"] if host is not None else []), *lines]
    return parse_head("".join(f"{line}\r\n" for line in all_lines).encode("latin-1") + b"\r\n", READS, "192.0.2.1")


def test_a_head_is_read_with_the_headers_that_the_application_reads_and_no_others() -> None:
    parsed = head("Authorization: Bearer x", "Cookie: y", "Content-Length: 12", "X-Forwarded-For: a", "X-Forwarded-For: b")
    assert (parsed.head.method, parsed.head.path, parsed.head.query, parsed.head.peer) == ("POST", "/v1/x", "a=b", "192.0.2.1")
    assert parsed.head.headers.keys() - FRAMING == {b"authorization", b"x-forwarded-for"}
    assert (parsed.head.header(b"authorization"), parsed.head.header(b"x-forwarded-for")) == ("Bearer x", "a, b")
    assert (parsed.length, parsed.chunked, parsed.expects, parsed.keep_alive) == (12, False, False, True)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://h/v1/x?a", "/v1/x", "a"),
        ("HTTPS://h:1/v1/x", "/v1/x", ""),
        ("http://h?a", "/", "a"),
        ("/v1//x", "/v1//x", ""),
    ],
)
def test_an_absolute_target_means_its_path(target: str, path: str, query: str) -> None:
    parsed = head(start=f"POST {target} HTTP/1.1").head
    assert (parsed.path, parsed.query) == (path, query)


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [([], True), (["Connection: close"], False), (["Connection: x, Close"], False), (["Connection: keep-alive"], True)],
)
def test_the_client_decides_whether_the_connection_is_kept(lines: list[str], keep_alive: bool) -> None:
    assert head(*lines).keep_alive is keep_alive
    assert not head(*lines, start="GET / HTTP/1.0", host=None).keep_alive
    assert not head(*lines, "Upgrade: h2c", "Connection: Upgrade").keep_alive


@pytest.mark.parametrize(
    ("lines", "start", "host", "status", "sentence"),
    [
        ([], "POST / HTTP/1.1", None, 400, "host is missing"),
        (["Host: h"], "POST / HTTP/1.1", "h", 400, "host occurs more than once"),
        ([], "POST / HTTP/1.1", "h/x", 400, "host and port"),
        ([], "POST / HTTP/1.1", "u@h", 400, "host and port"),
        ([], "POST / HTTP/1.1", "h\u00e4", 400, "host and port"),
        (["Authorization: a", "Authorization: b"], "POST / HTTP/1.1", "h", 400, "authorization occurs more than once"),
        (["Content-Length: 1", "Content-Length: 1"], "POST / HTTP/1.1", "h", 400, "not HTTP/1.1"),
        (["Content-Length: +1"], "POST / HTTP/1.1", "h", 400, "not HTTP/1.1"),
        (["Content-Length: 1, 1"], "POST / HTTP/1.1", "h", 400, "not HTTP/1.1"),
        ([f"Content-Length: {'0' * 5000}"], "POST / HTTP/1.1", "h", 400, "Content-Length"),
        (["Content-Length: 1", "Transfer-Encoding: chunked"], "POST / HTTP/1.1", "h", 400, "the"),
        (["Transfer-Encoding: chunked"], "POST / HTTP/1.0", "h", 400, "length of the body is not clear"),
        (["Transfer-Encoding: gzip, chunked"], "POST / HTTP/1.1", "h", 501, "chunked, or absent"),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], "POST / HTTP/1.1", "h", 400, "not HTTP/1.1"),
        (["Expect: 200-ok"], "POST / HTTP/1.1", "h", 417, "100-continue"),
        (["X: a\nY: b"], "POST / HTTP/1.1", "h", 400, "not HTTP/1.1"),
        (["X: a\rY: b"], "POST / HTTP/1.1", "h", 400, "not HTTP/1.1"),
        (["X: \0"], "POST / HTTP/1.1", "h", 400, "not HTTP/1.1"),
        (["X : a"], "POST / HTTP/1.1", "h", 400, "not HTTP/1.1"),
        (["X: a", " folded"], "POST / HTTP/1.1", "h", 400, "not HTTP/1.1"),
        (["no colon"], "POST / HTTP/1.1", "h", 400, "not HTTP/1.1"),
        ([], "POST / HTTP/2.0", "h", 505, "only HTTP/1.1"),
        ([], "PRI * HTTP/2.0", None, 505, "only HTTP/1.1"),
        ([], "POST / HTTP/0.9", "h", 505, "only HTTP/1.1"),
        ([], "POST /", "h", 505, "only HTTP/1.1"),
        ([], "POST ftp://h/x HTTP/1.1", "h", 400, "neither a path nor a URL"),
        ([], "POST http://u@h/x HTTP/1.1", "h", 400, "neither a path nor a URL"),
        ([], "CONNECT h:80 HTTP/1.1", "h", 400, "neither a path nor a URL"),
        ([], "POST /\u00e4 HTTP/1.1", "h", 400, "not HTTP/1.1"),
        (["X: y"] * (MAX_HEADERS + 1), "POST / HTTP/1.1", "h", 431, f"at most {MAX_HEADERS} headers"),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_rejected_without_repeating_it(
    lines: list[str], start: str, host: str | None, status: int, sentence: str
) -> None:
    with pytest.raises(BadRequest, match=sentence) as raised:
        head(*lines, start=start, host=host)
    assert raised.value.status == status
    assert "u@" not in raised.value.sentence


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"\x16\x03\x01", 400), (b"GET / HTTP/1.1\nHost: x", 400), (b"\n", 400), (b"A" * (MAX_HEAD_BYTES + 1), 431)],
)
def test_what_cannot_become_a_head_is_rejected_before_it_is_complete(data: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as raised:
        check_start(data)
    assert raised.value.status == status


LINES = b"POST /x?12 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x\r\n"
LAST = LINES + b"Content-Length: 12\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "again", "length"),
    [
        (LAST, LAST, 12),
        (LAST, LINES + b"Content-Length: 0\r\n\r\n", 0),
        (LINES + b"content-length:12\r\nX: 12\r\n\r\n", LINES + b"content-length:3456\r\nX: 12\r\n\r\n", 3456),
    ],
)
def test_a_head_that_comes_again_with_another_length_means_the_same(data: bytes, again: bytes, length: int) -> None:
    remembered = RememberedHead.of(data, parse_head(data, READS, "192.0.2.1"))
    assert remembered is not None
    known, fresh = remembered.again(again), parse_head(again, READS, "192.0.2.1")
    assert known is not None
    assert (known.length, fresh.length) == (length, length)
    assert (known.head, known.keep_alive, known.chunked, known.expects) == (fresh.head, fresh.keep_alive, False, False)


@pytest.mark.parametrize(
    "data",
    [
        LINES + b"Content-Length: 12\r\nX: y\r\n\r\n",
        LINES + b"Content-Length: +2\r\n\r\n",
        LINES + b"Content-Length: 1\r\nX: 2\r\n\r\n",
        LINES + b"Content-Length: \r\n\r\n",
        LINES + b"Content-Length: " + b"1" * 19 + b"\r\n\r\n",
        LAST.replace(b"Bearer x", b"Bearer y"),
        LAST[:-4],
        b"\r\n\r\n",
    ],
)
def test_a_head_that_differs_in_more_is_parsed(data: bytes) -> None:
    remembered = RememberedHead.of(LAST, parse_head(LAST, READS, "192.0.2.1"))
    assert remembered is not None
    assert remembered.again(data) is None


@pytest.mark.parametrize(
    "data",
    [
        LINES + b"Content-Length: 12\r\nExpect: 100-continue\r\n\r\n",
        LINES + b"Transfer-Encoding: chunked\r\n\r\n",
        LINES + b"X-Content-Length: 12\r\nContent-Length: 12\r\n\r\n",
        LINES + b"\r\n",
        LINES + b"X: " + b"y" * 4000 + b"\r\nContent-Length: 12\r\n\r\n",
    ],
)
def test_a_head_that_decides_more_than_a_length_is_not_remembered(data: bytes) -> None:
    assert RememberedHead.of(data, parse_head(data, READS, "192.0.2.1")) is None


def test_the_beginning_of_a_head_is_waited_for() -> None:
    for data in (b"P", b"POST / HTTP/1.1\r", b"POST / HTTP/1.1\r\nHost: x\r\n"):
        check_start(data)


def decoded(pieces: list[bytes]) -> tuple[bytes, int | None]:
    """The body, and how many bytes follow it."""
    chunks, body = Chunks(), bytearray()
    for number, piece in enumerate(pieces):
        after = chunks.feed(piece, body)
        if after is not None:
            return bytes(body), after + sum(map(len, pieces[number + 1 :]))
    return bytes(body), None


CHUNKED = b"3;x=y\r\nabc\r\nA \r\n0123456789\r\n0\r\nX-Trailer: y\r\n\r\nNEXT"


def test_a_chunked_body_is_the_same_however_it_is_cut() -> None:
    for first in range(len(CHUNKED)):
        for second in range(first, len(CHUNKED)):
            pieces = [piece for piece in (CHUNKED[:first], CHUNKED[first:second], CHUNKED[second:]) if piece]
            assert decoded(pieces) == (b"abc0123456789", 4)
    assert decoded([bytes([byte]) for byte in CHUNKED]) == (b"abc0123456789", 4)
    assert decoded([CHUNKED[:-6]]) == (b"abc0123456789", None)


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"-1\r\n",
        b"0x3\r\nabc\r\n",
        b"3\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabc\r\r\n",
        b"f" * 16 + b"\r\n",
        b"1;" + b"x" * 300,
        b"1;\0\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nX: y\n\r\n\r\n",
        b"0\r\nX: " + b"y" * MAX_TRAILER_BYTES + b"\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * MAX_TRAILER_BYTES,
        b"1\r\nx\r\n" * FREE_FRAMING_BYTES,
        b"1;" + b"x" * 200 + b"\r\nx\r\n" + (b"1;" + b"x" * 200 + b"\r\nx\r\n") * FREE_FRAMING_BYTES,
    ],
)
def test_chunks_that_are_not_clear_or_mostly_framing_are_rejected(data: bytes) -> None:
    for size in (len(data), 1448, 7):
        with pytest.raises(BadRequest) as raised:
            decoded([data[at : at + size] for at in range(0, len(data), size)])
        assert raised.value.status in (400, 431)


def test_endless_trailers_cost_nothing() -> None:
    began = time.process_time()
    for beginning in (b"0\r\n", b"0\r\nX: ", b"5;"):
        with pytest.raises(BadRequest):
            decoded([beginning, *[b"y" * 1448] * 8000])
    assert time.process_time() - began < 2.0  # 17 s before
