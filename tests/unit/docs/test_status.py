"""docs/status.md lists what the program reports in a status, and nothing else."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from eventsink.destinations.webhook.sender import classify, classify_error
from eventsink.router.dispatch.health import OUTSIDE_TIMES, TIMES_UNREADABLE
from eventsink.router.planning.matching_problem import MatchingReason
from eventsink.router.planning.quotas import QUOTA_EXCEEDED
from eventsink.sinks.sender import Failed, FailureClass
from eventsink.sinks.template_use import TemplateReason
from eventsink.sinks.transport import Response, TransportError, TransportErrorKind
from tests.unit.docs.pages import between, calls, names, page, rows, strings

STATUS = page("status.md")
EFFECTS = {"KEEP": "stays active", "GRACE": "stays active for", "WITHDRAW": "withdrawn at once"}


@cache
def problems() -> dict[str, tuple[str, str]]:
    """Reason -> the condition beside `Ready`, and what happens to the sink that was accepted before."""
    found = {}
    for call in [*calls("controller", "Problem"), *calls("destinations", "Problem")]:
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        effect = keywords.get("effect")
        may_pass = keywords.get("may_pass")
        beside = "Reconciling" if isinstance(may_pass, ast.Constant) and may_pass.value else "Stalled"
        for reason in strings(call.args[0]):
            found[reason] = (beside, EFFECTS[effect.attr if isinstance(effect, ast.Attribute) else "KEEP"])
    return found


def test_status_lists_each_reason_for_which_an_eventsink_is_not_ready() -> None:
    listed = rows(between(STATUS, "`False`; the third column", "**Stays active**"))
    assert {names(row[0])[0] for row in listed} == set(problems())
    for reason, beside, before, action in listed:
        given_beside, given_before = problems()[names(reason)[0]]
        assert names(beside) == [given_beside], reason
        assert before.startswith(given_before), reason
        assert (before == EFFECTS["KEEP"]) == (given_before == EFFECTS["KEEP"]), reason
        assert action, reason


def test_status_lists_each_reason_of_delivering_that_is_no_failure() -> None:
    reported = {reason for call in calls("router/dispatch/health.py", "DeliveringCondition") for reason in strings(call.args[1])}
    reported |= {reason.value for reason in (*MatchingReason, *TemplateReason)} | {
        OUTSIDE_TIMES,
        TIMES_UNREADABLE,
        QUOTA_EXCEEDED,
    }
    listed = {names(row[1])[0] for row in rows(between(STATUS, "## Delivering", "Failures are of three")) if names(row[1])}
    assert listed == reported


def failure_of(status: int) -> FailureClass:
    outcome = classify(Response(status, None, b""), "https://example.com", 0.0)
    assert isinstance(outcome, Failed)
    return outcome.failure


def classes_in_status() -> dict[str, FailureClass]:
    """Reason, or a hundred of them (`HTTP5xx`), -> the class under which the page lists it."""
    pieces = {
        FailureClass.SINK: between(STATUS, "**Of the sink**", "**Transient**"),
        FailureClass.TRANSIENT: between(STATUS, "**Transient**", "**Of the message**"),
        FailureClass.MESSAGE: between(STATUS, "**Of the message**", "## Dead letters"),
    }
    found: dict[str, FailureClass] = {}
    for failure, text in pieces.items():
        for row in rows(text):
            assert row[1], row[0]
            for name in names(re.sub(r"\([^)]*\)", "", row[0])):
                assert name not in found, name
                found[name] = failure
    return found


@pytest.mark.parametrize("status", [*range(300, 600)])
def test_status_lists_each_response_with_its_failure_class(status: int) -> None:
    listed = classes_in_status()
    assert listed.get(f"HTTP{status}", listed[f"HTTP{status // 100}xx"]) is failure_of(status)


@pytest.mark.parametrize("kind", TransportErrorKind)
def test_status_lists_each_error_without_a_response_with_its_failure_class(kind: TransportErrorKind) -> None:
    assert classes_in_status()[kind.value] is classify_error(TransportError(kind, "https://example.com")).failure


def failures_without_an_attempt() -> dict[str, str]:
    """Reason -> class of the failures that the sender of webhooks finds itself."""
    found: dict[str, str] = {}
    for call in (
        call for part in ("sender", "rendering", "oauth2") for call in calls(f"destinations/webhook/{part}.py", "Failed")
    ):
        if isinstance(call.args[0], ast.Attribute):
            found |= {reason: call.args[0].attr.lower() for reason in strings(call.args[1])}
    return found


def test_status_lists_no_reason_that_does_not_occur() -> None:
    responses = {f"HTTP{status}" for status in range(300, 600)} | {"HTTP3xx", "HTTP4xx", "HTTP5xx"}
    others = {name: failure for name, failure in classes_in_status().items() if name not in responses | set(TransportErrorKind)}
    assert others == failures_without_an_attempt()


def test_status_lists_each_reason_of_a_dead_letter() -> None:
    reasons = {
        reason for call in calls("router/dispatch", "dead_letter") if len(call.args) > 1 for reason in strings(call.args[1])
    }
    for call in [one for name in ("dead_letter_sink", "dead_letter_oldest", "expire") for one in calls("router/dispatch", name)]:
        reasons |= {reason for keyword in call.keywords if keyword.arg == "reason" for reason in strings(keyword.value)}
    listed = {names(row[0])[0] for row in rows(between(STATUS, "## Dead letters", "## No alert"))}
    assert listed == reasons | {"HTTP400"}
