"""What the audit webhook of a Kubernetes API server posts: batches of requests, of which rules select those that somebody has to know.

Source of the format: the API `audit.k8s.io/v1`. Each selected request is an alert of the status event, once, at whichever of its stages it is
posted first. Nothing is read of what was sent or returned (`requestObject`, `responseObject`, the query of `requestURI`): it holds secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import msgspec

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, Links, Rejection, Severity, Status, UnusablePayload
from eventsink.alerts.audit_rules import SEVERITIES, AuditRule, AuditRules, AuditSettings, Request
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.peer_json import list_of, members_of, number_of, object_of, text_of
from eventsink.alerts.rule_alerts import check_size, check_usable, not_json, one_object, rejection_reason, time_of_event
from eventsink.runtime.turns import Steps, at_once

GROUP = "audit.k8s.io"
RECEIVED = "RequestReceived"
"""The stage at which it is not known yet what becomes of a request."""
NAMED = {"pods": "pod", "nodes": "node"}
"""Resources -> the label that names the object in Kubernetes' own alerts."""
_WHAT = "this source takes an EventList of audit.k8s.io, as the audit webhook of an API server posts it"
_list = msgspec.json.Decoder(list[msgspec.Raw])
_Members = Mapping[str, msgspec.Raw]


def parse(body: bytes, rules: AuditRules) -> IncomingNotification:
    """Read a batch; requests that no rule selects are no alerts.

    Raises
    ------
    OversizedPayload
        More would be made of it than `alerts.limits` allows.
    UnusablePayload
        Not the JSON of an EventList, or nothing in it can be read.
    """
    return at_once(steps(body, rules))


def steps(body: bytes, rules: AuditRules) -> Steps[IncomingNotification]:
    """As `parse`."""
    check_size(body, "it holds too many requests", "let the API server send fewer at once (--audit-webhook-batch-max-size)")
    alerts: list[IncomingAlert] = []
    rejected: list[Rejection] = []
    others: set[int] = set()
    for index, raw in enumerate(_items(body)):
        yield
        try:
            alert = _alert(members_of(raw), rules)
        except (ValueError, OverflowError, RecursionError) as error:
            rejected.append(Rejection(index, rejection_reason(error)))
            continue
        if alert is None:
            others.add(index)
        else:
            alerts.append(alert)
    if rejected and not others:
        check_usable(alerts, rejected, "")
    return IncomingNotification(alerts=alerts, rejected=rejected, absent=frozenset(others))


def _items(body: bytes) -> list[msgspec.Raw]:
    members = one_object(body, f"the body must be a JSON object: {_WHAT}")
    try:
        is_audit = text_of(members.get("apiVersion")).partition("/")[0] == GROUP
        items = _list.decode(members["items"]) if is_audit and "items" in members else None
    except msgspec.ValidationError:
        raise UnusablePayload(f'"items" must be a list: {_WHAT}') from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise not_json(body) from None
    if items is None:
        raise UnusablePayload(f"its apiVersion or its items are something else: {_WHAT}")
    return items


def _alert(members: _Members, rules: AuditRules) -> IncomingAlert | None:
    about = object_of(members.get("objectRef"))
    if text_of(members.get("stage")) == RECEIVED or "resource" not in about:
        return None
    user = object_of(members.get("user"))
    resource = "/".join(part for part in (text_of(about.get("resource")), text_of(about.get("subresource"))) if part)
    request = Request(
        verb=text_of(members.get("verb")),
        resource=resource,
        api_group=text_of(about.get("apiGroup")),
        namespace=text_of(about.get("namespace")),
        name=text_of(about.get("name")),
        user=text_of(user.get("username")),
        groups=[text_of(one) for one in list_of(user.get("groups"))],
        impersonated_user=text_of(object_of(members.get("impersonatedUser")).get("username")),
        code=number_of(object_of(members.get("responseStatus")).get("code")),
    )
    rule = rules.select(request)
    return None if rule is None else _selected(rule, request, members)


def _selected(rule: AuditRule, request: Request, members: _Members) -> IncomingAlert:
    audit_id = text_of(members.get("auditID"))
    if not audit_id:
        raise ValueError('"auditID" is absent or empty')
    resource = request.resource.partition("/")[0]
    labels = {
        "alertname": rule.name,
        "audit_id": audit_id,
        "verb": request.verb,
        "resource": request.resource,
        "api_group": request.api_group,
        "namespace": request.namespace,
        "name": request.name,
        NAMED.get(resource, ""): request.name,
        "user": request.user,
        "impersonated_user": request.impersonated_user,
        "outcome": request.outcome,
    }
    addresses = ", ".join(text_of(one) for one in list_of(members.get("sourceIPs")))
    annotations = {
        "groups": ", ".join(request.groups),
        "source_ips": addresses,
        "user_agent": text_of(members.get("userAgent")),
        "code": str(request.code or ""),
    }
    about = "/".join(part for part in (request.namespace, request.name) if part)
    who = f"{request.user} as {request.impersonated_user}" if request.impersonated_user else request.user
    summary = f"{who}: {request.verb} {request.resource} {about}".rstrip()
    summary = summary if request.outcome == "allowed" else f"{summary} ({request.outcome})"
    starts_at = time_of_event(members.get("requestReceivedTimestamp")) or time_of_event(members.get("stageTimestamp"))
    return IncomingAlert(
        status=Status.EVENT,
        severity=rule.severity or Severity.UNKNOWN,
        name=rule.name,
        summary=summary,
        description=f"{summary}, from {addresses}" if addresses else summary,
        namespace=request.namespace,
        labels={name: value for name, value in labels.items() if name and value},
        annotations={name: value for name, value in annotations.items() if value},
        starts_at=starts_at or datetime.now(UTC),
        ends_at=None,
        links=Links(),
        group=None,
        start_given=starts_at is not None,
    )


def selecting(settings: AuditSettings) -> Format:
    """The format with the rules of a source."""
    rules = AuditRules(settings)
    return replace(FORMAT, parse=partial(parse, rules=rules), steps=partial(steps, rules=rules))


_NO_RULES = AuditRules(AuditSettings())
FORMAT = Format(
    name="audit",
    parse=partial(parse, rules=_NO_RULES),
    steps=partial(steps, rules=_NO_RULES),
    repeats=Repeats.NEVER,
    severities=SEVERITIES,
)
