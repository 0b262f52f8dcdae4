"""Alerts as a group in Alertmanager's webhook format, version 4, for sinks of groups: made where the source sends no groups.

Source of the format: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

from typing import Any

import msgspec

from eventsink.alerts.alert import Alert, Status

VERSION = "4"
FINGERPRINT_DIGITS = 16
"""Alertmanager's own fingerprints have 64 bits."""
NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time: the end of what has not ended."""
_encoder = msgspec.json.Encoder()


def group_of(alert: Alert, *, key: str, receiver: str) -> dict[str, Any]:
    """A group of one alert, as the members of its JSON.

    The format has no events: they are firing alerts that never resolve. Where the alert has no annotations of the names, its summary and
    its description become the annotations `summary` and `description`.

    Parameters
    ----------
    key
        `groupKey`: the same for every group of this alert.
    receiver
        `receiver`, which is Alertmanager's word for the part of its configuration that it sends from.
    """
    status = Status.RESOLVED if alert.status is Status.RESOLVED else Status.FIRING
    texts = {"summary": alert.summary, "description": alert.description}
    annotations = {**{name: text for name, text in texts.items() if text}, **alert.annotations}
    return {
        "version": VERSION,
        "groupKey": key,
        "truncatedAlerts": 0,
        "status": status.value,
        "receiver": receiver,
        "groupLabels": {"alertname": alert.name},
        "commonLabels": alert.labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [
            {
                "status": status.value,
                "labels": alert.labels,
                "annotations": annotations,
                "startsAt": alert.starts_at,
                "endsAt": alert.ends_at if alert.ends_at is not None else NEVER,
                "generatorURL": alert.links.source,
                "fingerprint": alert.fingerprint[:FINGERPRINT_DIGITS],
            }
        ],
    }


def encoded_group(alert: Alert, *, key: str, receiver: str) -> bytes:
    """`group_of` as JSON."""
    return _encoder.encode(group_of(alert, key=key, receiver=receiver))
