"""Decides of which alerts a sink is notified, from what it was notified of last and what the source sends now.

A pair of Alertmanagers whose halves have lost each other sends everything twice. Within the HA window, what was in a notification for the
sink and is in another one is a duplicate from the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventsink.alerts.alert import Alert, Status, epoch_micros


@dataclass(slots=True)
class Notified:
    """What a sink was last notified of, of one alert."""

    status: str
    starts_at: int
    """Microseconds since the epoch."""
    notified_at: float
    """Queue clock."""
    seen_at: float
    """Queue clock: when the alert was last in a notification for the sink, whether the sink was notified or not."""


def to_notify(
    alerts: Sequence[Alert], notified: Sequence[Notified | None], *, now: float, ha_window: float, repeat: bool
) -> list[int]:
    """Of which alerts a sink is notified, where the source decides on repeats itself (Alertmanager).

    Parameters
    ----------
    alerts
        Those of one notification that the sink wants.
    notified
        What it was notified of each, in the same order.
    now
        Queue clock.
    ha_window
        Seconds.
    repeat
        Whether nothing in the whole notification is new, also not in what other sinks want of it: then the source repeats itself.

    Returns
    -------
    list
        Indices into `alerts`.
    """
    new = new_alerts(alerts, notified, now=now, ha_window=ha_window)
    if new or not repeat:
        return new
    firing = [index for index, alert in enumerate(alerts) if alert.status is Status.FIRING]
    if all(_within_window(notified[index], now, ha_window) for index in firing):
        return []
    return firing


def heartbeats_to_notify(
    alerts: Sequence[Alert],
    notified: Sequence[Notified | None],
    *,
    now: float,
    ha_window: float,
    repeat_interval: float | None,
) -> list[int]:
    """Of which alerts a sink is notified, where the source sends what fires all the time.

    Parameters
    ----------
    alerts, notified, now, ha_window
        As in `to_notify`.
    repeat_interval
        Seconds after which the sink is notified again of what still fires; None: not again.

    Returns
    -------
    list
        Indices into `alerts`.
    """
    return [
        index
        for index, (alert, last) in enumerate(zip(alerts, notified, strict=True))
        if is_new(alert, last, now=now, ha_window=ha_window) or _is_due_again(alert, last, now, repeat_interval)
    ]


def new_alerts(alerts: Sequence[Alert], notified: Sequence[Notified | None], *, now: float, ha_window: float) -> list[int]:
    """Indices of the alerts that are new to the sink."""
    return [
        index
        for index, (alert, last) in enumerate(zip(alerts, notified, strict=True))
        if is_new(alert, last, now=now, ha_window=ha_window)
    ]


def is_new(alert: Alert, last: Notified | None, *, now: float, ha_window: float) -> bool:
    """Whether one alert says something that the sink was not notified of."""
    if alert.status is Status.RESOLVED:
        if last is None or last.status != Status.FIRING:
            return False  # a resolution goes only to sinks that were notified of the firing
        return epoch_micros(alert.starts_at) >= last.starts_at or not _within_window(last, now, ha_window)
    if last is None or epoch_micros(alert.starts_at) > last.starts_at:
        return True
    # It resolved and fires again with its old start: a late duplicate within the window, a new episode after it.
    return last.status == Status.RESOLVED and not _within_window(last, now, ha_window)


def _is_due_again(alert: Alert, last: Notified | None, now: float, repeat_interval: float | None) -> bool:
    if repeat_interval is None or last is None or not alert.status == last.status == Status.FIRING:
        return False
    return now - last.notified_at >= repeat_interval


def _within_window(last: Notified | None, now: float, ha_window: float) -> bool:
    return last is not None and now - last.seen_at <= ha_window
