"""The receiver records what it gets and responds as configured, so that tests can rely on it."""

from __future__ import annotations

import http.client
import ssl
import time

import pytest
import trustme

from tests.support.receiver import DISCONNECT, HANG, CannedResponse, Receiver, redirect, retry_after


def post(receiver: Receiver, path: str, body: bytes = b"{}", timeout: float = 30) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=timeout)
    try:
        connection.request("POST", path, body, {"X-Team": "acme"})
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


def test_a_request_is_recorded_completely() -> None:
    with Receiver() as receiver:
        assert post(receiver, "/hook?a=1", b'{"a": 1}').status == 200
        [request] = receiver.wait_for(1)
    assert (request.method, request.path, request.json()) == ("POST", "/hook?a=1", {"a": 1})
    assert request.headers["x-team"] == "acme"
    assert request.time <= time.monotonic()


def test_each_path_gets_its_responses_in_turn_and_the_last_is_repeated() -> None:
    with Receiver() as receiver:
        receiver.respond_with(503, retry_after(7, 429), 204, path="/a")
        receiver.respond_with(redirect("http://127.0.0.1/elsewhere"))
        responses = [post(receiver, "/a") for _ in range(4)]
        assert [response.status for response in responses] == [503, 429, 204, 204]
        assert responses[1].headers["Retry-After"] == "7"
        other = post(receiver, "/b")
        assert (other.status, other.headers["Location"]) == (307, "http://127.0.0.1/elsewhere")
        assert [one.path for one in receiver.requests("/b")] == ["/b"]


def test_it_hangs_or_disconnects_as_configured() -> None:
    with Receiver() as receiver:
        receiver.respond_with(HANG, DISCONNECT)
        with pytest.raises(TimeoutError):
            post(receiver, "/", timeout=0.2)
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            post(receiver, "/")
        assert len(receiver.requests()) == 2


def test_it_delays_and_sends_large_bodies() -> None:
    with Receiver() as receiver:
        receiver.respond_with(CannedResponse(body=b"x" * 5_000_000, delay=0.3))
        started = time.monotonic()
        assert int(post(receiver, "/").headers["Content-Length"]) == 5_000_000
        assert time.monotonic() - started >= 0.3


def test_requests_record_their_connection() -> None:
    with Receiver() as receiver:
        kept = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=30)
        for _ in range(2):
            kept.request("POST", "/", b"")
            kept.getresponse().read()
        post(receiver, "/")
        kept.close()
        assert [one.connection for one in receiver.requests()] == [1, 1, 2]


def test_it_serves_tls_with_a_private_authority(tmp_path: object) -> None:
    authority = trustme.CA()
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    with Receiver(authority=authority) as receiver:
        assert receiver.url("/hook") == f"https://127.0.0.1:{receiver.port}/hook"
        connection = http.client.HTTPSConnection("127.0.0.1", receiver.port, timeout=30, context=trusted)
        connection.request("POST", "/hook", b"{}")
        assert connection.getresponse().status == 200
        connection.close()
        receiver.wait_for(1, path="/hook")


def test_a_wait_that_times_out_reports_what_was_received() -> None:
    with Receiver() as receiver:
        post(receiver, "/a")
        with pytest.raises(TimeoutError, match=r"no 2 requests to any path within 0.1 s; last state:\n1 came: /a 1"):
            receiver.wait_for(2, deadline=0.1)


def test_the_port_of_a_closed_receiver_can_be_reused() -> None:
    with Receiver() as first:
        post(first, "/")
    with Receiver(port=first.port) as second:
        assert second.port == first.port
        assert post(second, "/").status == 200
