"""Alerts as CloudEvents 1.0 in structured JSON (specification: cloudevents.io, JSON event format and HTTP binding)."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

CONTENT_TYPE = b"application/cloudevents+json"
BATCH_CONTENT_TYPE = b"application/cloudevents-batch+json"
TYPE_PREFIX = "dev.eventsink.alert."
TYPE_VERSION = ".v1"
"""Rises with an incompatible change of `data`."""


class _Seen(msgspec.Struct, rename="camel"):
    """The members of an alert that the envelope repeats."""

    id: str
    fingerprint: str
    source: str
    tenant: str
    status: str
    severity: str
    starts_at: str
    ends_at: str | None = None
    cluster: str = ""


class _Event(msgspec.Struct):
    id: str
    source: str
    type: str
    subject: str
    time: str
    tenant: str
    severity: str
    data: msgspec.Raw
    cluster: str | msgspec.UnsetType = msgspec.UNSET
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


_seen = msgspec.json.Decoder(_Seen)
_encoder = msgspec.json.Encoder()


def event(alert: bytes) -> bytes:
    """One event: its `data` is the alert's JSON as it is, its id the alert's, its subject the fingerprint.

    `time` is when the alert began, or ended where it is resolved; `tenant` and `severity`, and `cluster` where the router has a name
    for its cluster, are extension attributes.
    """
    return _encoder.encode(_event(alert))


def batch(alerts: Sequence[bytes]) -> bytes:
    """Several events in one body."""
    return _encoder.encode([_event(alert) for alert in alerts])


def _event(alert: bytes) -> _Event:
    seen = _seen.decode(alert)
    return _Event(
        id=seen.id,
        source=f"/eventsink/{quote(seen.cluster, safe='')}/{seen.source}" if seen.cluster else f"/eventsink/{seen.source}",
        type=f"{TYPE_PREFIX}{seen.status}{TYPE_VERSION}",
        subject=seen.fingerprint,
        time=seen.ends_at or seen.starts_at,
        tenant=seen.tenant,
        severity=seen.severity,
        cluster=seen.cluster or msgspec.UNSET,
        data=msgspec.Raw(alert),
    )
