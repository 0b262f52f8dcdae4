"""Where a sink says what success is, a response is judged by that, and redirects and failures mean what they always mean."""

from __future__ import annotations

import pytest

from eventsink.destinations.webhook.sender import WebhookSender, judge
from eventsink.destinations.webhook.success import SuccessWhen
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.sinks.sender import Delivered, Failed, FailureClass
from eventsink.sinks.target import Target
from eventsink.sinks.transport import MAX_RESPONSE_BODY_BYTES, Response
from tests.unit.destinations.sender_contract import CANARY, ScriptedTransport, SenderContract, response

OK = SuccessWhen(pointer="/ok", equals="true")
TRANSIENT, SINK, OF_MESSAGE = FailureClass.TRANSIENT, FailureClass.SINK, FailureClass.MESSAGE


def outcome(when: SuccessWhen, status: int, body: bytes = b"") -> FailureClass | None:
    judged = judge(Response(status, "7", body), when, "https://example.com", 0.0)
    assert judged.status_code == status
    if isinstance(judged, Delivered):
        return None
    assert CANARY not in judged.message
    assert judged.message.startswith(f"https://example.com responded with {status}")
    if judged.failure is TRANSIENT:
        assert judged.retry_after == 7.0
    return judged.failure


@pytest.mark.parametrize(
    ("statuses", "status", "expected"),
    [
        ((200, 202), 200, None),
        ((200, 202), 202, None),
        ((200, 202), 204, TRANSIENT),
        ((409,), 409, None),
        ((409,), 200, TRANSIENT),
        ((200,), 302, SINK),
        ((200,), 401, SINK),
        ((200,), 400, OF_MESSAGE),
        ((200,), 503, TRANSIENT),
        ((503,), 503, None),
        ((), 299, None),
        ((), 302, SINK),
    ],
)
def test_a_status_is_a_success_if_it_is_listed(statuses: tuple[int, ...], status: int, expected: FailureClass | None) -> None:
    assert outcome(SuccessWhen(statuses=statuses), status) is expected


@pytest.mark.parametrize(
    ("pointer", "equals", "body", "success"),
    [
        ("/ok", "true", b'{"ok": true}', True),
        ("/ok", "true", b'{"ok": "true"}', True),
        ("/ok", "true", b'{"ok": false, "canary": 1}', False),
        ("/ok", "true", b"{}", False),
        ("/code", "0", b'{"code": 0}', True),
        ("/code", "0", b'{"code": false}', False),
        ("/code", "1.5", b'{"code": 1.5}', True),
        ("/error", "null", b'{"error": null}', True),
        ("/error", "null", b"{}", False),
        ("/a~1b/m~0n", "x", b'{"a/b": {"m~n": "x"}}', True),
        ("/", "x", b'{"": "x"}', True),
        ("/results/0/status", "success", b'{"results": [{"status": "success"}]}', True),
        ("/results/1/status", "success", b'{"results": [{"status": "success"}]}', False),
        ("/results/-", "a", b'{"results": ["a"]}', False),
        ("/ok", "{}", b'{"ok": {}}', False),
        ("/ok/more", "true", b'{"ok": true}', False),
        ("/ok", "true", b'{"ok": true', False),
        ("/ok", "true", b"ok canary", False),
        ("/ok", "true", b"", False),
        ("/ok", "true", b"[" * MAX_RESPONSE_BODY_BYTES, False),
    ],
)
def test_a_body_is_a_success_if_it_says_so_where_the_pointer_points(
    pointer: str, equals: str, body: bytes, success: bool
) -> None:
    assert outcome(SuccessWhen(pointer=pointer, equals=equals), 200, body) is (None if success else TRANSIENT)


def test_status_and_body_must_both_be_those_of_success() -> None:
    both = SuccessWhen(statuses=(200, 409), pointer="/ok", equals="true")
    assert outcome(both, 409, b'{"ok": true}') is None
    assert outcome(both, 409, b'{"ok": false}') is TRANSIENT
    assert outcome(both, 201, b'{"ok": true}') is TRANSIENT
    assert outcome(OK, 500, b'{"ok": true}') is TRANSIENT


def test_what_is_no_success_has_a_reason_of_its_own() -> None:
    for when, status in ((OK, 200), (SuccessWhen(statuses=(202,)), 200)):
        judged = judge(Response(status, None, b"{}"), when, "https://example.com", 0.0)
        assert isinstance(judged, Failed)
        assert judged.reason == "UnexpectedResponse"
        assert "successWhen" in judged.message


@pytest.mark.parametrize(("when", "reads"), [(None, False), (SuccessWhen(statuses=(202,)), False), (OK, True)])
def test_a_body_is_awaited_only_where_it_says_something(when: SuccessWhen | None, reads: bool) -> None:
    transport = ScriptedTransport()
    WebhookSender(WebhookTarget(url="https://example.com/", success_when=when), transport, "acme")
    assert transport.reads is reads


class TestSenderThatReadsResponses(SenderContract):
    success = response(200, b'{"ok": true}')
    delivered_by_head = False
    delivered_by_malformed_head = False

    def target(self, url: str, timeout: float) -> Target:
        return WebhookTarget(url=f"{url}{CANARY}?token={CANARY}", timeout=timeout, success_when=OK)

    def expected(self, status: int) -> FailureClass | None:
        if status in (408, 423, 424, 425, 429) or status < 300 or status >= 500:
            return TRANSIENT
        return SINK if status in (401, 402, 403, 404, 407, 410, 421, 451) or status < 400 else OF_MESSAGE
