"""Alerts as a group in Alertmanager's webhook format, version 4, for sinks of groups: those of a group that is split between sinks, and
those of a source that sends no groups. Only the members of the documented format are written.

Source of the format: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from eventsink.alerts.alert import CLUSTER_LABEL, Alert, Group, IncomingAlert, Status
from eventsink.alerts.limits import MAX_URL_CHARACTERS

VERSION = "4"
FINGERPRINT_DIGITS = 16
"""Alertmanager's own fingerprints have 64 bits."""
NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time: the end of what has not ended."""
_encoder = msgspec.json.Encoder()


class _Original(msgspec.Struct, rename="camel"):
    """What of a received alert is passed on as the source wrote it: its times have more digits than ours."""

    starts_at: str
    ends_at: str = NEVER
    generator_url: str = msgspec.field(default="", name="generatorURL")
    fingerprint: str = ""


_original = msgspec.json.Decoder(_Original)


def group_of(alerts: Sequence[Alert], *, key: str, receiver: str) -> dict[str, Any]:
    """Alerts as one group, as the members of its JSON.

    The format has no events: they are firing alerts that never resolve. Where an alert has no annotations of the names, its summary and
    its description become the annotations `summary` and `description`.

    Parameters
    ----------
    alerts
        At least one; if they came in a group, all in the same.
    key
        `groupKey`: the same for every group of these alerts.
    receiver
        `receiver`, which is Alertmanager's word for the part of its configuration that it sends from.
    """
    members = [_member(alert) for alert in alerts]
    common = _common([alert.labels for alert in alerts])
    group = alerts[0].group
    labels = {"alertname": alerts[0].name} if group is None else group.labels
    resolved = all(alert.status is Status.RESOLVED for alert in alerts)
    return {
        "version": VERSION,
        "groupKey": key,
        "truncatedAlerts": 0,
        "status": (Status.RESOLVED if resolved else Status.FIRING).value,
        "receiver": receiver,
        "groupLabels": labels,
        "commonLabels": common,
        "commonAnnotations": _common([member["annotations"] for member in members]),
        "externalURL": group.external_url if group is not None else "",
        "alerts": members,
    }


def _member(alert: Alert) -> dict[str, Any]:
    texts = {"summary": alert.summary, "description": alert.description}
    return {
        "status": (Status.RESOLVED if alert.status is Status.RESOLVED else Status.FIRING).value,
        "labels": alert.labels,
        "annotations": {**{name: text for name, text in texts.items() if text}, **alert.annotations},
        "startsAt": alert.starts_at,
        "endsAt": alert.ends_at if alert.ends_at is not None else NEVER,
        "generatorURL": alert.links.source,
        "fingerprint": alert.fingerprint[:FINGERPRINT_DIGITS],
    }


def encoded_group(alerts: Sequence[Alert], *, key: str, receiver: str) -> bytes:
    """`group_of` as JSON."""
    return _encoder.encode(group_of(alerts, key=key, receiver=receiver))


def encoded_part(group: Group, alerts: Sequence[tuple[IncomingAlert, Alert]], *, status: Status) -> bytes:
    """Some alerts of a received group as a group of their own, as JSON.

    What they have in common is determined again: nothing of the alerts that are left out is in it. An alert's labels are all that it came with,
    so that its identity stays the same, and the one that the router adds; annotations are within the limits.
    """
    common = _common([_labels(incoming, alert) for incoming, alert in alerts])
    return _encoder.encode(
        {
            "version": VERSION,
            "groupKey": group.key,
            "truncatedAlerts": group.truncated,
            "status": status.value,
            "receiver": group.receiver,
            "groupLabels": {name: value for name, value in group.labels.items() if common.get(name) == value},
            "commonLabels": common,
            "commonAnnotations": _common([alert.annotations for _, alert in alerts]),
            "externalURL": group.external_url,
            "alerts": [_part(incoming, alert) for incoming, alert in alerts],
        }
    )


def adds_label(incoming: IncomingAlert, alert: Alert) -> bool:
    """Whether an alert has a label that it did not come with: the name of the cluster."""
    return bool(alert.cluster) and not incoming.labels.get(CLUSTER_LABEL)


def _labels(incoming: IncomingAlert, alert: Alert) -> dict[str, str]:
    return {**incoming.labels, CLUSTER_LABEL: alert.cluster} if adds_label(incoming, alert) else incoming.labels


def _part(incoming: IncomingAlert, alert: Alert) -> dict[str, Any]:
    starts_at: Any = incoming.starts_at
    ends_at: Any = incoming.ends_at if incoming.ends_at is not None else NEVER
    generator_url, fingerprint = incoming.links.source, ""
    if incoming.raw is not None:
        try:
            original = _original.decode(incoming.raw)
        except (ValueError, RecursionError):
            pass  # another type than the format says, or no UTF-8: as it was understood
        else:
            starts_at, ends_at = original.starts_at, original.ends_at
            fingerprint = original.fingerprint[:FINGERPRINT_DIGITS]
            if len(original.generator_url) <= MAX_URL_CHARACTERS:
                generator_url = original.generator_url
    return {
        "status": incoming.status.value,
        "labels": _labels(incoming, alert),
        "annotations": alert.annotations,
        "startsAt": starts_at,
        "endsAt": ends_at,
        "generatorURL": generator_url,
        "fingerprint": fingerprint or alert.fingerprint[:FINGERPRINT_DIGITS],
    }


def _common(each: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The members that all have, with one value."""
    first, *others = each
    common = dict(first)
    for one in others:
        if not common:
            break
        common = {name: value for name, value in common.items() if one.get(name) == value}
    return common
