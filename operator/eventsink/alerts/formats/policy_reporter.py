"""What the webhook target of Policy Reporter posts: each result of a policy by itself, and heartbeats.

Source of the format: Policy Reporter's documentation and its `pkg/target/http`. Version 2 says `priority`, version 3 has it empty and says
`severity`. It posts what is new and never says that something has ended: each result is an alert of the status event.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, Links, Status, UnusablePayload
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.objects import object_labels
from eventsink.alerts.peer_json import text_of, texts_of
from eventsink.alerts.policy_results import PASSED, SEVERITIES, PolicyResult, result_of
from eventsink.alerts.rule_alerts import check_size, one_object, rejection_reason, time_of_event
from eventsink.alerts.severity import severity_of

CLUSTER = "cluster"
"""A custom field that becomes a label."""
_NO_TIME = 1970
"""The year of the time of a result that has none."""


def parse(body: bytes) -> IncomingNotification:
    """Read a result, or a heartbeat, in which there is no alert.

    Raises
    ------
    OversizedPayload
        More would be made of it than `alerts.limits` allows.
    UnusablePayload
        Not the JSON of a result.
    """
    check_size(body, "it holds too many members", "let the policy report fewer properties")
    members = one_object(body, "the body must be one JSON object, as Policy Reporter's webhook sends it")
    try:
        if "policy" not in members and text_of(members.get("event")) == "heartbeat":
            return IncomingNotification(alerts=[], rejected=[])
        return IncomingNotification(alerts=[_incoming(members)], rejected=[])
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnusablePayload(f"the result cannot be used: {rejection_reason(error)}") from None


def _incoming(members: Mapping[str, msgspec.Raw]) -> IncomingAlert:
    found = result_of(members, result="status")
    resource = texts_of(members.get("resource"))
    labels = {
        "alertname": found.name,
        "rule": found.rule,
        "result": found.result,
        "category": found.category,
        "engine": found.engine,
        "severity": found.severity,
        "cluster": found.properties.get(CLUSTER, ""),
        **object_labels(resource.get("kind", ""), resource.get("namespace", ""), resource.get("name", "")),
    }
    starts_at = time_of_event(members.get("creationTimestamp"))
    if starts_at is not None and starts_at.year == _NO_TIME:
        starts_at = None
    return IncomingAlert(
        status=Status.EVENT,
        severity=severity_of(_word(found, members), SEVERITIES),
        name=found.name,
        summary=found.summary,
        description=found.message,
        namespace=labels.get("namespace", ""),
        labels={name: value for name, value in labels.items() if value},
        annotations=found.properties,
        starts_at=starts_at or datetime.now(UTC),
        ends_at=None,
        links=Links(runbook=found.runbook),
        group=None,
        start_given=starts_at is not None,
    )


def _word(found: PolicyResult, members: Mapping[str, msgspec.Raw]) -> str:
    if found.result in PASSED:
        return "info"
    return found.severity or text_of(members.get("priority"))


FORMAT = Format(name="policy-reporter", parse=parse, repeats=Repeats.NEVER, severities=SEVERITIES)
