"""What the Trivy operator posts to its webhook: whole reports, each time that one is made or changes, and all of them when it starts.

Source of the format: the Trivy operator's documentation (`OPERATOR_WEBHOOK_BROADCAST_URL`) and its `pkg/webhook`. A report has hundreds of
findings: those of one severity are one alert, which ends when a later report has none of that severity.

What it says of deleted reports (`OPERATOR_SEND_DELETED_REPORTS`) is not believed: up to version 0.29 it names there the report that it read
last, which is another one and still there. An alert whose report is not made again ends when the report's time has passed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, Links, Severity, Status, UnusablePayload
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.limits import MAX_URL_CHARACTERS
from eventsink.alerts.links import web_url
from eventsink.alerts.objects import object_labels
from eventsink.alerts.peer_json import list_of, number_of, object_of, text_of, texts_of
from eventsink.alerts.rule_alerts import check_size, one_object, rejection_reason, time_if_any
from eventsink.alerts.severity import severity_of
from eventsink.runtime.durations import InvalidDuration, parse_duration

SEVERITIES: Mapping[str, Severity] = {
    "critical": Severity.CRITICAL,
    "high": Severity.HIGH,
    "medium": Severity.MEDIUM,
    "low": Severity.LOW,
}
"""Severities of findings, in lower case."""
LEVELS = (*SEVERITIES, "unknown")
"""Each is an alert of a report."""
FINDINGS: Mapping[str, str] = {"vulnerabilities": "vulnerabilities", "checks": "failed checks", "secrets": "exposed secrets"}
"""Members of a report that list findings -> what they are called."""
SHOWN = 20
"""Findings that a description names."""
TTL_MULTIPLE = 1.5
"""A report is made again some time after its own time has passed, when the scanner comes to it."""
_TTL = "trivy-operator.aquasecurity.github.io/report-ttl"
_KIND = "trivy-operator.resource.kind"
_NAME = "trivy-operator.resource.name"
_CONTAINER = "trivy-operator.container.name"
_WHAT = "this source takes reports of the Trivy operator (aquasecurity.github.io)"
_Members = Mapping[str, msgspec.Raw]


class _Finding(msgspec.Struct, frozen=True):
    severity: str
    text: str
    link: str = ""
    """Where a person can read on, as it is in the report."""


def parse(body: bytes, now: datetime | None = None) -> IncomingNotification:
    """Read a report; of one without findings of a kind of which somebody is notified, and of a deleted one, there is no alert.

    Parameters
    ----------
    now
        Wall clock: the end of what has ended; absent: read here.

    Raises
    ------
    OversizedPayload
        More would be made of it than `alerts.limits` allows.
    UnusablePayload
        Not the JSON of a report.
    """
    now = datetime.now(UTC) if now is None else now
    check_size(body, "it holds too many findings", "let the scanner report fewer severities (trivy.severity)")
    members = one_object(body, f"the body must be a JSON object: {_WHAT}")
    try:
        if "operatorObject" in members:
            if text_of(members.get("verb")).lower() == "delete":
                return IncomingNotification(alerts=[], rejected=[])
            members = object_of(members.get("operatorObject"))
        return IncomingNotification(alerts=_alerts(members, now), rejected=[])
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnusablePayload(f"the report cannot be used: {rejection_reason(error)}") from None


def _alerts(members: _Members, now: datetime) -> list[IncomingAlert]:
    kind = text_of(members.get("kind"))
    if not kind.endswith("Report"):
        raise ValueError(f'its "kind" is no report; {_WHAT}')
    metadata, report = object_of(members.get("metadata")), object_of(members.get("report"))
    if kind == "ClusterComplianceReport":
        report = object_of(members.get("status"))
        found, word = _of_compliance(object_of(report.get("summaryReport"))), "failed controls"
        counts = dict.fromkeys(LEVELS, 0)
    else:
        found, word = _findings(report)
        counts = _counts(object_of(report.get("summary")))
    if not found and not any(counts.values()) and "summary" not in report:
        return []  # a list of components, and whatever else finds nothing
    about = _about(members, metadata)
    image = _image(report)
    starts_at = time_if_any(report.get("updateTimestamp")) or time_if_any(metadata.get("creationTimestamp"))
    valid_for = _valid_for(texts_of(metadata.get("annotations")).get(_TTL, ""))
    alerts: list[IncomingAlert] = []
    for level in LEVELS:
        of_level = [one for one in found if one.severity == level]
        count = max(len(of_level), counts.get(level, 0))
        labels = {"alertname": kind, "severity": level, **about}
        where = " ".join(part for part in (about.get("kind", ""), about.get("name", "")) if part)
        summary = f"{count} {word} of severity {level} in {where}" if where else f"{count} {word} of severity {level}"
        link = next((one.link for one in of_level if one.link), "")
        annotations = {"count": str(count), "report": text_of(metadata.get("name")), "image": image}
        alerts.append(
            IncomingAlert(
                status=Status.FIRING if count else Status.RESOLVED,
                severity=severity_of(level, SEVERITIES),
                name=kind,
                summary=summary,
                description=_description(of_level, count),
                namespace=about.get("namespace", ""),
                labels=labels,
                annotations={name: value for name, value in annotations.items() if value},
                starts_at=starts_at or now,
                ends_at=None if count else max(now, starts_at or now),
                links=Links(source=web_url(link)),
                group=None,
                truncated=("links.source",) if len(link) > MAX_URL_CHARACTERS else (),
                valid_for=valid_for if count else None,
                start_given=starts_at is not None,
            )
        )
    return alerts


def _about(members: _Members, metadata: _Members) -> dict[str, str]:
    """Labels of the object that was scanned. The report's own namespace counts: a label could name any other one."""
    labels, annotations = texts_of(metadata.get("labels")), texts_of(metadata.get("annotations"))
    kind = labels.get(_KIND, "")
    name = labels.get(_NAME) or annotations.get(_NAME) or text_of(metadata.get("name"))
    about = object_labels(kind or text_of(members.get("kind")), text_of(metadata.get("namespace")), name)
    container = labels.get(_CONTAINER, "")
    return {**about, "container": container} if container else about


def _findings(report: _Members) -> tuple[list[_Finding], str]:
    """What was found, and what that is called."""
    for name, word in FINDINGS.items():
        if name in report:
            return [one for raw in list_of(report.get(name)) if (one := _finding(texts_of(raw))) is not None], word
    return [], "findings"


def _finding(texts: Mapping[str, str]) -> _Finding | None:
    """One finding. Never what a secret's `match` is: it holds part of the secret."""
    if texts.get("success", "").lower() == "true":
        return None
    identity = texts.get("vulnerabilityID") or texts.get("checkID") or texts.get("ruleID", "")
    parts = [identity]
    if resource := texts.get("resource", ""):
        fixed = texts.get("fixedVersion")
        version = f"{texts.get('installedVersion', '')} -> {fixed}" if fixed else f"{texts.get('installedVersion', '')}, no fix"
        parts.append(f"{resource} {version}:")
    elif target := texts.get("target", ""):
        parts.append(f"{target}:")
    parts.append(texts.get("title", ""))
    text = " ".join(part for part in parts if part).rstrip(":")
    return _Finding(_level(texts.get("severity", "")), text, texts.get("primaryLink", ""))


def _of_compliance(summary: _Members) -> list[_Finding]:
    return [
        _Finding(
            _level(texts.get("severity", "")),
            f"{texts.get('id', '')} {texts.get('name', '')} ({texts['totalFail']} failed)".strip(),
        )
        for raw in list_of(summary.get("controlCheck"))
        if (texts := texts_of(raw)).get("totalFail", "0") not in ("0", "")
    ]


def _level(word: str) -> str:
    word = word.strip().lower()
    return word if word in SEVERITIES else "unknown"


def _counts(summary: _Members) -> dict[str, int]:
    """How many the report says there are: it may list fewer."""
    return {level: max(0, number_of(summary.get(f"{level}Count"))) for level in LEVELS}


def _description(found: Sequence[_Finding], count: int) -> str:
    lines = [one.text for one in found[:SHOWN]]
    more = count - len(lines)
    return "\n".join([*lines, f"and {more} more"] if lines and more else lines)


def _image(report: _Members) -> str:
    artifact, registry = texts_of(report.get("artifact")), texts_of(report.get("registry"))
    repository = "/".join(part for part in (registry.get("server", ""), artifact.get("repository", "")) if part)
    if tag := artifact.get("tag", ""):
        return f"{repository}:{tag}"
    return f"{repository}@{artifact['digest']}" if artifact.get("digest") else repository


def _valid_for(ttl: str) -> float:
    """Seconds for which a report counts that is not made again, by its own time to live (`24h0m0s`); without one: without end."""
    try:
        seconds = parse_duration(ttl)
    except InvalidDuration:
        return math.inf
    return seconds * TTL_MULTIPLE or math.inf


FORMAT = Format(name="trivy-operator", parse=parse, repeats=Repeats.HEARTBEAT, severities=SEVERITIES, replicas=False)
