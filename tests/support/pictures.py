"""What a receiver was notified of, as statements about alerts, and what is missing of it at another receiver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Labels = frozenset[tuple[str, str]]
NO_YEAR = 1
"""The year of Go's zero time, which means that there is none."""


@dataclass(frozen=True)
class Statement:
    """That an alert has a status, as one notification says it.

    Attributes
    ----------
    at
        Seconds since some start at which it arrived.
    sender
        The Alertmanager that it came from; empty where the receiver cannot know.
    notification
        Number of the notification, from 0, in the order of arrival.
    """

    at: float
    sender: str
    notification: int
    group: str
    labels: Labels
    status: str
    starts_at: datetime
    ends_at: datetime | None

    def __str__(self) -> str:
        return (
            f"{self.at:7.2f} s  {self.sender or '-'}  {self.status:8}  {shown(self.labels)}  since {self.starts_at:%H:%M:%S.%f}"
        )


def shown(labels: Labels) -> str:
    """Labels for a person."""
    pairs = dict(labels)
    name = pairs.pop("alertname", "")
    return f"{name}{{{', '.join(f'{key}={value}' for key, value in sorted(pairs.items()))}}}"


def statements_of(body: Mapping[str, Any], *, at: float, sender: str = "", notification: int = 0) -> list[Statement]:
    """The statements of a notification in Alertmanager's webhook format."""
    return [
        Statement(
            at,
            sender,
            notification,
            body["groupKey"],
            frozenset(alert["labels"].items()),
            alert["status"],
            datetime.fromisoformat(alert["startsAt"]),
            _end(alert),
        )
        for alert in body["alerts"]
    ]


def _end(alert: Mapping[str, Any]) -> datetime | None:
    end = datetime.fromisoformat(alert["endsAt"])
    return None if end.year == NO_YEAR or alert["status"] != "resolved" else end
