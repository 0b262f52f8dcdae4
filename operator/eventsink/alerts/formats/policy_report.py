"""PolicyReports and their like as JSON: what `kubectl get -o json` prints, and what a watch gives.

Source of the format: the APIs `wgpolicyk8s.io/v1alpha2` and `openreports.io/v1alpha1`. A report says how things are: a result that fails is an
alert that fires, and one that passes, or is skipped, ends it. Who posts reports may do so as often as they like.

Who posts all that there are says so: {"round": ID} before the first, {"round": ID, "ends": true} after the last. What fires and was not in it
has ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice

import msgspec

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, Links, Rejection, Round, Status, UnusablePayload
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.objects import object_labels
from eventsink.alerts.peer_json import list_of, members_of, number_of, object_of, text_of, texts_of
from eventsink.alerts.policy_results import PASSED, SEVERITIES, result_of
from eventsink.alerts.rule_alerts import check_size, check_usable, not_json, one_object, rejection_reason, time_if_any
from eventsink.alerts.severity import severity_of
from eventsink.runtime.turns import Steps, at_once

GROUPS = ("wgpolicyk8s.io", "openreports.io")
"""API groups whose reports are read, in any version."""
KINDS = ("PolicyReport", "ClusterPolicyReport", "Report", "ClusterReport")
MAX_ALERTS = 5000
"""Of one report: whoever may write it can name a hundred thousand objects in it. What is beyond it is left out, and marked."""
DELETED = "DELETED"
"""What a watch says of a report that is not there any more: all of its alerts have ended."""
MAX_ROUND_CHARACTERS = 64
"""Of the name of a round."""
_WHAT = (
    "this source takes PolicyReports of wgpolicyk8s.io or Reports of openreports.io: one, a List of them, or the event of a watch"
)
_Members = Mapping[str, msgspec.Raw]


class _Report(msgspec.Struct, frozen=True):
    namespace: str
    """Empty: of no namespace."""
    name: str
    engine: str
    scope: dict[str, str]
    """The object that all results are about; empty: each says it."""
    created: msgspec.Raw | None
    deleted: bool
    results: list[msgspec.Raw]
    truncated: tuple[str, ...] = ()


def parse(body: bytes, now: datetime | None = None) -> IncomingNotification:
    """Read the results of one report or of several; a result about several objects is an alert for each.

    Parameters
    ----------
    now
        Wall clock: the end of what has ended; absent: read here.

    Raises
    ------
    OversizedPayload
        More would be made of it than `alerts.limits` allows.
    UnusablePayload
        No report in it, or none of its results can be used.
    """
    return at_once(steps(body, now))


def steps(body: bytes, now: datetime | None = None) -> Steps[IncomingNotification]:
    """As `parse`."""
    now = datetime.now(UTC) if now is None else now
    check_size(body, "it holds too many results", "post fewer reports at once")
    alerts: list[IncomingAlert] = []
    rejected: list[Rejection] = []
    try:
        members = one_object(body, f"the body must be a JSON object: {_WHAT}")
        if "round" in members:
            return IncomingNotification(alerts=[], rejected=[], round=_round(members))
        results = list(_results(members))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise not_json(body) from None
    check_size(body, "it holds too many results", "post fewer reports at once", len(results))
    for index, (report, result) in enumerate(results):
        yield
        try:
            if report is None:
                raise ValueError("is no report: its apiVersion, its kind or its results are something else")
            alerts.append(_incoming(report, *result, now))
        except (ValueError, OverflowError, RecursionError) as error:
            rejected.append(Rejection(index, rejection_reason(error)))
    if rejected:
        check_usable(alerts, rejected, "")
    return IncomingNotification(alerts=alerts, rejected=rejected)


def _round(members: _Members) -> Round:
    identity, ends = text_of(members["round"]), text_of(members.get("ends"))
    if not 0 < len(identity) <= MAX_ROUND_CHARACTERS or ends not in ("", "true", "false"):
        raise UnusablePayload(f'"round" must be a text of 1 to {MAX_ROUND_CHARACTERS} characters, "ends" true, false or absent')
    return Round(identity, ends == "true")


def _results(members: _Members) -> Iterator[tuple[_Report | None, tuple[_Members, dict[str, str]]]]:
    """Each result with its report and one object that it is about; without a report: what is none."""
    nothing: tuple[_Members, dict[str, str]] = ({}, {})
    for raw, deleted in _documents(members):
        report = _report(raw, deleted=deleted)
        if report is None:
            yield None, nothing
            continue
        found = list(islice(_results_of(report), MAX_ALERTS + 1))
        if len(found) > MAX_ALERTS:
            report = msgspec.structs.replace(report, truncated=("results",))
        for one in found[:MAX_ALERTS]:
            yield report, one


def _results_of(report: _Report) -> Iterator[tuple[_Members, dict[str, str]]]:
    for raw in report.results:
        try:
            result = members_of(raw)
        except msgspec.ValidationError:
            yield {}, {}
            continue
        objects = list_of(result.get("resources"))
        for one in objects:
            yield result, texts_of(one)
        if not objects:
            yield result, report.scope


def _documents(members: _Members) -> Iterator[tuple[_Members, bool]]:
    """The reports, and of each whether it was deleted."""
    deleted = False
    if "object" in members:
        deleted = text_of(members.get("type")) == DELETED
        members = object_of(members["object"])
    if "items" not in members:
        yield members, deleted
        return
    for item in list_of(members.get("items")):
        yield object_of(item), deleted


def _report(members: _Members, *, deleted: bool) -> _Report | None:
    group = text_of(members.get("apiVersion")).partition("/")[0]
    if group not in GROUPS or text_of(members.get("kind")) not in KINDS:
        return None
    metadata = object_of(members.get("metadata"))
    return _Report(
        namespace=text_of(metadata.get("namespace")),
        name=text_of(metadata.get("name")),
        engine=text_of(members.get("source")),
        scope=texts_of(members.get("scope")),
        created=metadata.get("creationTimestamp"),
        deleted=deleted,
        results=list_of(members.get("results")),
    )


def _incoming(report: _Report, members: _Members, about: dict[str, str], now: datetime) -> IncomingAlert:
    found = result_of(members, result="result", engine=report.engine)
    passed = report.deleted or found.result in PASSED
    # Who may write a report in a namespace could name any other one in it.
    namespace = report.namespace or about.get("namespace", "")
    labels = {
        "alertname": found.name,
        "rule": found.rule,
        "engine": found.engine,
        **object_labels(about.get("kind", ""), namespace, about.get("name", "")),
    }
    annotations = {"result": found.result, "category": found.category, "report": report.name, **found.properties}
    starts_at = _time(members.get("timestamp")) or _time(report.created)
    return IncomingAlert(
        status=Status.RESOLVED if passed else Status.FIRING,
        severity=severity_of(found.severity, SEVERITIES),
        name=found.name,
        summary=found.summary,
        description=found.message,
        namespace=namespace,
        labels={name: value for name, value in labels.items() if value},
        annotations={name: value for name, value in annotations.items() if value},
        starts_at=starts_at or now,
        ends_at=max(now, starts_at or now) if passed else None,
        links=Links(runbook=found.runbook),
        group=None,
        truncated=report.truncated,
        valid_for=None if passed else math.inf,
        start_given=starts_at is not None,
    )


def _time(raw: msgspec.Raw | None) -> datetime | None:
    """A time, also as seconds and nanoseconds since 1970; None: there is none, or it cannot be read."""
    seconds = number_of(object_of(raw).get("seconds"))
    return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else time_if_any(raw)


FORMAT = Format(name="policy-report", parse=parse, steps=steps, repeats=Repeats.HEARTBEAT, severities=SEVERITIES, replicas=False)
