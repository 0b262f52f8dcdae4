"""The conditions of an EventSink are such that kstatus, `kubectl wait` and people read them correctly."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from eventsink.resources.crd import structural_schema
from eventsink.resources.status import (
    Condition,
    EventSinkStatus,
    ready,
    reconciling,
    stalled,
)

EARLIER = datetime(2026, 3, 1, 8, 0, 0, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 9, 30, 15, 999_000, tzinfo=UTC)


def shown(conditions: tuple[Condition, ...]) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.last_transition_time) for condition in conditions}


def test_a_ready_sink_has_only_the_condition_ready() -> None:
    assert shown(ready("Active.", generation=3, now=NOW)) == {"Ready": ("True", "2026-03-01T09:30:15Z")}


def test_a_sink_that_waits_is_not_ready_and_reconciling() -> None:
    conditions = reconciling("SecretNotFound", "Create the Secret hook.", generation=3, now=NOW)
    assert [condition.to_dict() for condition in conditions] == [
        {
            "type": kind,
            "status": status,
            "reason": "SecretNotFound",
            "message": "Create the Secret hook.",
            "lastTransitionTime": "2026-03-01T09:30:15Z",
            "observedGeneration": 3,
        }
        for kind, status in [("Ready", "False"), ("Reconciling", "True")]
    ]


def test_a_sink_that_needs_a_person_is_not_ready_and_stalled() -> None:
    assert set(shown(stalled("InvalidURL", "Fix it.", generation=1, now=NOW))) == {"Ready", "Stalled"}


def test_an_unchanged_condition_keeps_its_transition_time() -> None:
    before = reconciling("SecretNotFound", "Create it.", generation=1, now=EARLIER)
    after = reconciling("SecretKeyNotFound", "Add the key.", generation=2, now=NOW, previous=before)
    assert shown(after) == shown(before)
    assert {condition.reason for condition in after} == {"SecretKeyNotFound"}
    assert {condition.observed_generation for condition in after} == {2}


def test_a_changed_condition_gets_a_new_transition_time() -> None:
    before = reconciling("SecretNotFound", "Create it.", generation=1, now=EARLIER)
    assert shown(stalled("TenantNotOwned", "Ask.", generation=1, now=NOW, previous=before)) == {
        "Ready": ("False", "2026-03-01T08:00:00Z"),
        "Stalled": ("True", "2026-03-01T09:30:15Z"),
    }
    assert shown(ready("Active.", generation=1, now=NOW, previous=before)) == {"Ready": ("True", "2026-03-01T09:30:15Z")}


def test_the_routers_condition_is_not_copied() -> None:
    delivering = Condition(
        type="Delivering", status="True", reason="Delivered", message="", last_transition_time="2026-03-01T08:00:00Z"
    )
    assert set(shown(ready("Active.", generation=1, now=NOW, previous=[delivering]))) == {"Ready"}


def test_a_long_message_is_truncated_to_the_limit_of_the_crd() -> None:
    (condition,) = ready("x" * 10_000, generation=1, now=NOW)
    assert len(condition.message) == structural_schema(Condition)["properties"]["message"]["maxLength"]
    assert condition.message.endswith("…")


def test_unknown_fields_of_a_status_are_ignored() -> None:
    status = EventSinkStatus.model_validate(
        {
            "observedGeneration": 2,
            "novelty": {"a": 1},
            "delivery": {"lastError": "HTTP503: no", "more": 1},
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Accepted",
                    "message": "",
                    "lastTransitionTime": "2026-03-01T08:00:00Z",
                    "weight": 7,
                }
            ],
        }
    )
    assert status.observed_generation == 2
    assert status.delivery is not None
    assert status.delivery.last_error == "HTTP503: no"
    condition = status.condition("Ready")
    assert condition is not None
    assert condition.reason == "Accepted"
    assert status.condition("Stalled") is None


def test_a_condition_without_a_transition_time_is_rejected() -> None:
    with pytest.raises(ValidationError):
        Condition.model_validate({"type": "Ready", "status": "True", "reason": "A", "message": ""})
