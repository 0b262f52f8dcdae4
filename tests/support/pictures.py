"""What a receiver was notified of, as statements about alerts, and what is missing of it at another receiver."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


@dataclass(frozen=True)
class Delivered:
    """What a sink got of one alert, at some second."""

    at: float
    labels: Labels
    status: str


@dataclass(frozen=True)
class Phase:
    """A sink from some second on, as far as what it gets depends on it.

    Attributes
    ----------
    active
        Whether it exists and is not suspended.
    wants
        Its match.
    fresh
        Whether it is another sink than before, under the same name: what that one got does not count.
    """

    since: float = 0.0
    active: bool = True
    wants: Callable[[Mapping[str, str]], bool] = lambda labels: True
    fresh: bool = False


@dataclass(frozen=True)
class Wanted:
    """What a sink asks for, and how the router is set up.

    Attributes
    ----------
    window
        Seconds within which the other half's duplicates are suppressed, and late ones held.
    slack
        Seconds that something may take while the router runs.
    downs
        From when to when it did not run, in order.
    dropped
        Labels in which the replicas of one alert differ.
    """

    window: float
    slack: float = 0.0
    send_resolved: bool = True
    dropped: frozenset[str] = frozenset()
    phases: Sequence[Phase] = (Phase(),)
    downs: Sequence[tuple[float, float]] = ()

    def until(self, at: float) -> float:
        """Until when something that was due at this second may arrive."""
        until = at + self.slack
        for stopped, started in self.downs:
            if at < started and stopped < until:
                until += started - max(at, stopped)
        return until

    def phase_of(self, at: float) -> Phase:
        """The one at this second."""
        return max((one for one in self.phases if one.since <= at), key=lambda one: one.since, default=Phase(active=False))

    def undisturbed(self, since: float, until: float) -> bool:
        """Whether the sink did not change between these seconds."""
        return not any(since < one.since <= until for one in self.phases)


def missing(webhook: Sequence[Statement], sink: Sequence[Delivered], wanted: Wanted) -> list[str]:
    """What a sink did not get, or got wrongly, compared with a webhook that is attached directly to the Alertmanagers.

    Both end when nothing happened any more for longer than the window.

    Returns
    -------
    list
        A sentence for each; none: the sink differs from the webhook only as it asks to.
    """
    return [
        f"{shown(labels)}: {sentence}" for labels, alert in _alerts(webhook, sink, wanted).items() for sentence in alert.missing()
    ]


def differing(webhook: Sequence[Statement], sink: Sequence[Delivered], wanted: Wanted) -> list[str]:
    """Of which alerts a sink shows something else in the end than the webhook: a sentence for each."""
    return [
        f"{shown(labels)}: {sentence}" for labels, alert in _alerts(webhook, sink, wanted).items() for sentence in alert.final()
    ]


def _alerts(webhook: Sequence[Statement], sink: Sequence[Delivered], wanted: Wanted) -> dict[Labels, _Alert]:
    notifications = list(_notifications(webhook))
    news = _news(notifications)
    notified: dict[Labels, list[Statement]] = {}
    got: dict[Labels, list[Delivered]] = {}
    for one in webhook:
        notified.setdefault(_without(one.labels, wanted.dropped), []).append(one)
    for delivered in sink:
        got.setdefault(_without(delivered.labels, wanted.dropped), []).append(delivered)
    return {
        labels: _Alert(notified.get(labels, []), got.get(labels, []), notifications, news, wanted)
        for labels in sorted(notified.keys() | got.keys(), key=shown)
    }


def _without(labels: Labels, dropped: frozenset[str]) -> Labels:
    return frozenset((name, value) for name, value in labels if name not in dropped) if dropped else labels


def _notifications(webhook: Sequence[Statement]) -> Iterable[Sequence[Statement]]:
    found: dict[int, list[Statement]] = {}
    for one in webhook:
        found.setdefault(one.notification, []).append(one)
    return found.values()


def _news(notifications: Iterable[Sequence[Statement]]) -> set[Statement]:
    """The firing statements that are due to everyone: those that are new in their group, or all of a notification that has nothing new."""
    due: set[Statement] = set()
    last: dict[str, dict[Labels, str]] = {}
    of_sender: dict[tuple[str, str], dict[Labels, str]] = {}
    for statements in notifications:
        group, sender = statements[0].group, statements[0].sender
        said = {one.labels: one.status for one in statements}
        before = last.get(group, {})
        new = {labels for labels, status in said.items() if before.get(labels) != status}
        repeats = not new and of_sender.get((group, sender)) == said
        due |= {one for one in statements if one.status == "firing" and (one.labels in new or repeats)}
        last[group] = of_sender[group, sender] = said
    return due


class _Alert:
    """One alert: what the webhook was notified of, and what the sink got."""

    def __init__(
        self,
        notified: Sequence[Statement],
        got: Sequence[Delivered],
        notifications: Sequence[Sequence[Statement]],
        news: set[Statement],
        wanted: Wanted,
    ) -> None:
        self._all_notified = notified
        self._notifications = notifications
        self._notified = self._effective(notified)
        self._got = got
        self._news = news
        self._wanted = wanted

    def missing(self) -> Iterator[str]:
        """As the function."""
        for one in self._notified:
            if one.status == "firing":
                yield from self._firing(one)
            else:
                yield from self._end(one)
        for phase in self._wanted.phases[1:]:
            if phase.active:
                yield from self._catch_up(phase)
        yield from self.final()
        yield from self._unwanted()

    @staticmethod
    def _effective(notified: Sequence[Statement]) -> list[Statement]:
        """Without ends of one replica while another one fires."""
        effective: list[Statement] = []
        fires: set[Labels] = set()
        for one in notified:
            if one.status == "firing":
                fires.add(one.labels)
            else:
                fires.discard(one.labels)
            if one.status == "firing" or not fires:
                effective.append(one)
        return effective

    def _firing(self, one: Statement) -> Iterator[str]:
        until = self._wanted.until(one.at + self._wanted.window)
        phase = self._wanted.phase_of(one.at)
        if not (phase.active and phase.wants(dict(one.labels)) and self._wanted.undisturbed(one.at, until)):
            return
        ended = any(other.status == "resolved" and one.at <= other.at <= until for other in self._notified)
        fired = self._state(one.at) == "firing" or any(
            one.at <= delivery.at <= until and delivery.status == "firing" for delivery in self._got
        )
        if not fired and not ended:
            yield f"the webhook was notified at {one.at:.2f} s that it fires, and the sink took it for ended"
        if one not in self._news or self._wanted.dropped:
            return
        before = [
            other.at for other in self._notified if other.sender == one.sender and other.at < one.at and other.status == "firing"
        ]
        since = max(one.at - self._wanted.window, max(before, default=-1.0) + 0.001)
        got = any(since <= delivery.at <= until and delivery.status == "firing" for delivery in self._got)
        if not got and not ended:
            yield f"the firing notification of {one.at:.2f} s from {one.sender} did not arrive"

    def _end(self, one: Statement) -> Iterator[str]:
        until = self._wanted.until(one.at)
        if not self._wanted.phase_of(one.at).active or not self._wanted.undisturbed(one.at, until):
            return
        if not self._wanted.send_resolved or self._state(one.at) != "firing":
            return
        ended = any(one.at <= delivery.at <= until and delivery.status == "resolved" for delivery in self._got)
        fires = any(one.at < other.at <= until and other.status == "firing" for other in self._notified)
        if not ended and not fires:
            yield f"the resolution of {one.at:.2f} s from {one.sender} did not arrive"

    def _catch_up(self, phase: Phase) -> Iterator[str]:
        last = next((one for one in reversed(self._notified) if one.at <= phase.since), None)
        doubtful = any(phase.since - self._wanted.window <= one.at < phase.since for one in self._notified)
        until = self._wanted.until(phase.since + (self._wanted.window if doubtful else 0.0))
        if last is None or not self._wanted.undisturbed(phase.since, until):
            return
        state = self._state(phase.since)
        notified = any(phase.since <= one.at <= until and one.status == last.status for one in self._got)
        if notified or any(phase.since < one.at <= until and one.status != last.status for one in self._notified):
            return
        if last.status == "firing" and state != "firing" and phase.wants(dict(last.labels)) and self._is_named(phase.since):
            yield f"the sink that changed at {phase.since:.2f} s was not notified that it fires"
        if last.status == "resolved" and state == "firing" and self._wanted.send_resolved:
            yield f"the sink that changed at {phase.since:.2f} s was not notified of the end that it had missed"

    def final(self) -> Iterator[str]:
        """What is different in the end."""
        phase = self._wanted.phases[-1]
        if not self._notified or not phase.active:
            return
        last, state = self._notified[-1], self._state(math.inf)
        silenced = last.at <= phase.since and not self._is_named(math.inf)
        if last.status == "firing" and phase.wants(dict(last.labels)) and state != "firing" and not silenced:
            yield f"it fires in the end, and for the sink it is {state or 'unknown'}"
        if last.status == "resolved" and state == "firing" and self._wanted.send_resolved:
            yield "it has ended in the end, and for the sink it fires"

    def _unwanted(self) -> Iterator[str]:
        for one in self._got:
            wants = any(phase.active and phase.wants(dict(one.labels)) for phase in self._wanted.phases)
            if not wants:
                yield f"the sink got it at {one.at:.2f} s and does not want it"
            if one.status == "resolved" and not self._wanted.send_resolved:
                yield f"the sink got its end at {one.at:.2f} s and wants none"
        if self._got and self._got[0].status == "resolved":
            yield "the sink got its end first"

    def _is_named(self, at: float) -> bool:
        """Whether the last notification of a group of it named it: if not, it may be silenced, and a sink that changed need not know."""
        groups = {one.group for one in self._all_notified}
        named = False
        for statements in self._notifications:
            if statements[0].at <= at and statements[0].group in groups:
                named = any(one.status == "firing" and one in self._all_notified for one in statements)
        return named

    def _state(self, at: float) -> str | None:
        """What the sink was notified of last before this second."""
        since = max((phase.since for phase in self._wanted.phases if phase.fresh and phase.since <= at), default=0.0)
        return next((one.status for one in reversed(self._got) if since <= one.at < at), None)
