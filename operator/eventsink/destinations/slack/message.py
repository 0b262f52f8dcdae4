"""What a Slack message looks like: one alert, several of one name, or a digest. Pure: the same alerts make the same message, always.

The headline is in `text`, which is also what a locked phone shows; everything else is in one attachment, which alone has a colour.
Texts of alerts are plain_text wherever there is a choice. Limits: https://docs.slack.dev/reference/block-kit/blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from eventsink.alerts.alert import Alert, Severity, Status
from eventsink.alerts.links import DASHBOARDS, RUNBOOKS, first_of, is_web_url
from eventsink.destinations.slack.place import place_of
from eventsink.destinations.slack.text import cut, date, inert, one_line, some_lines

MAX_HEADLINE = 300
MAX_NAME = 80
MAX_WHERE = 80
MAX_SUMMARY = 160
MAX_DESCRIPTION = 1200
"""A screen of a phone; the source has the rest."""
MAX_LABELS = 400
MAX_LIST = 2800
"""Of the text of one block Slack takes 3,000."""
MAX_LINES = 25
MAX_URL = 3000
"""Of a button, in characters."""
MAX_LINK_TEXT = 500
"""Of what should be a link and is none."""

_EMOJI = {
    Severity.FATAL: "🚨",
    Severity.CRITICAL: "🔴",
    Severity.HIGH: "🟠",
    Severity.MEDIUM: "🟡",
    Severity.LOW: "🔵",
    Severity.INFORMATIONAL: "⚪",
    Severity.UNKNOWN: "❔",
}
_COLOURS = {
    Severity.FATAL: "#7b1fa2",
    Severity.CRITICAL: "#d32f2f",
    Severity.HIGH: "#f57c00",
    Severity.MEDIUM: "#fbc02d",
    Severity.LOW: "#1976d2",
    Severity.INFORMATIONAL: "#90a4ae",
    Severity.UNKNOWN: "#90a4ae",
}
_WELL = "#2e7d32"
_NOISE = frozenset({"alertname", "severity", "namespace", "prometheus", "endpoint", "uid", "prometheus_replica", "replica"})
_BUTTONS = (("Runbook", "runbook"), ("Dashboard", "dashboard"), ("Silence", "silence"), ("Source", "source"))
_ANNOTATIONS = {"runbook": RUNBOOKS, "dashboard": DASHBOARDS}


@dataclass(frozen=True, slots=True)
class SlackMessage:
    """What chat.postMessage and incoming webhooks take, but for the channel."""

    text: str
    """The headline."""
    attachments: list[dict[str, Any]]

    def body(self) -> dict[str, Any]:
        """As JSON."""
        return {"text": self.text, "attachments": self.attachments, "unfurl_links": False, "unfurl_media": False}


def render(alerts: Sequence[Alert], *, sink: str, tenant: str, lookup: str = "") -> SlackMessage:
    """The message about some alerts. Of one alert it shows only the last: what fired and has ended is shown as resolved, once.

    Parameters
    ----------
    alerts
        One or more, the oldest first.
    sink, tenant
        `namespace/name` of the sink, and whose it is, for the last line.
    lookup
        The command that lists everything that the message is about.
    """
    alerts = _latest(alerts)
    firing = [alert for alert in alerts if alert.status is not Status.RESOLVED]
    worst = max((alert.severity for alert in firing), key=lambda severity: severity.rank, default=None)
    names = {alert.name for alert in alerts}
    if len(alerts) == 1:
        headline, blocks = _one(alerts[0])
    elif len(names) == 1:
        headline, blocks = _alike(alerts, firing, lookup)
    else:
        headline, blocks = _digest(alerts, firing, lookup)
    if incomplete := _incomplete(alerts):
        blocks.append(_context_plain(incomplete))
    sign = "✅" if worst is None else _EMOJI[worst]
    blocks.append(_context(f"{inert(one_line(sink, 140))} · tenant {inert(one_line(tenant, 80))}"))
    colour = _WELL if worst is None else _COLOURS[worst]
    return SlackMessage(f"{sign} {headline}", [{"color": colour, "fallback": f"{sign} {headline}", "blocks": blocks}])


def _latest(alerts: Sequence[Alert]) -> Sequence[Alert]:
    """Of each alert what it was last, in the order in which they came first."""
    return list({alert.identity: alert for alert in alerts}.values())


def _one(alert: Alert) -> tuple[str, list[dict[str, Any]]]:
    where = _where(alert)
    parts = [_state(alert), one_line(alert.name, MAX_NAME), where, one_line(alert.summary, MAX_SUMMARY)]
    blocks = []
    if description := some_lines(alert.description, MAX_DESCRIPTION):
        blocks.append(_plain(description))
    blocks.append(_context(_since(alert)))
    if labels := _labels([alert], where=True):
        blocks.append(_context_plain(labels))
    return _headline(parts), blocks + _actions(alert)


def _alike(alerts: Sequence[Alert], firing: Sequence[Alert], lookup: str) -> tuple[str, list[dict[str, Any]]]:
    """Several of one name: what they share once, and a line for each."""
    first = max(firing or alerts, key=lambda alert: alert.severity.rank)
    same_summary = {alert.summary for alert in alerts} == {first.summary}
    namespaces = sorted({alert.namespace for alert in alerts} - {""})
    where = _few([one_line(namespace, MAX_WHERE) for namespace in namespaces], 3)
    parts = [
        _count(alerts, firing),
        one_line(first.name, MAX_NAME),
        where,
        one_line(first.summary, MAX_SUMMARY) if same_summary else "",
    ]
    ordered = sorted(alerts, key=lambda alert: (alert.status is Status.RESOLVED, -alert.severity.rank))
    lines = [
        line if count == 1 else f"{line} ({count:,} times)"
        for line, count in Counter(_line(alert, summary=not same_summary) for alert in ordered).items()
    ]
    blocks = [_plain(_fitting(lines, "more, found with: " + lookup if lookup else "more"))]
    earliest = min(alerts, key=lambda alert: alert.starts_at)
    blocks.append(_context(f"since {date(earliest.starts_at)}"))
    if labels := _labels(alerts, where=False):
        blocks.append(_context_plain(labels))
    return _headline(parts), blocks + _actions(first, shared=True)


def _digest(alerts: Sequence[Alert], firing: Sequence[Alert], lookup: str) -> tuple[str, list[dict[str, Any]]]:
    """Many: by name with counts, the most severe first."""
    by_name: dict[str, list[Alert]] = {}
    for alert in alerts:
        by_name.setdefault(alert.name, []).append(alert)
    ordered = sorted((*_name_line(one), len(one)) for one in by_name.values())
    blocks = [_plain(_fitting([line for _, line, _ in ordered], "more names", [count for _, _, count in ordered]))]
    earliest = min(alerts, key=lambda alert: alert.starts_at)
    blocks.append(_context(f"since {date(earliest.starts_at)}"))
    if lookup:
        blocks.append(_context_plain(f"All of them: {one_line(lookup, 300)}"))
    return _headline([_count(alerts, firing), f"{len(by_name):,} names", _few(_top_names(by_name), 2)]), blocks


def _name_line(alerts: Sequence[Alert]) -> tuple[tuple[int, int, str], str]:
    """(what it is ordered by, the line) of all alerts of one name."""
    firing = [alert for alert in alerts if alert.status is not Status.RESOLVED]
    name = one_line(alerts[0].name, MAX_NAME)
    namespaces = _few(sorted({one_line(alert.namespace, MAX_WHERE) for alert in alerts} - {""}), 3)
    over = len(alerts) - len(firing)
    counts = f"{len(firing):,} × {name}" if firing else f"{over:,} × {name} resolved"
    if firing and over:
        counts += f", {over:,} resolved"
    worst = max(firing, key=lambda alert: alert.severity.rank).severity if firing else None
    sign = "✅" if worst is None else _EMOJI[worst]
    rank = -1 if worst is None else worst.rank
    return (-rank, -len(firing), name), f"{sign} {counts}" + (f" · {namespaces}" if namespaces else "")


def _top_names(by_name: dict[str, list[Alert]]) -> list[str]:
    ordered = sorted(by_name.values(), key=lambda alerts: _name_line(alerts)[0])
    return [one_line(alerts[0].name, MAX_NAME) for alerts in ordered]


def _line(alert: Alert, *, summary: bool) -> str:
    sign = "✅" if alert.status is Status.RESOLVED else _EMOJI[alert.severity]
    text = _where(alert) or one_line(alert.name, MAX_NAME)
    if summary and alert.summary:
        text += f": {one_line(alert.summary, MAX_SUMMARY)}"
    return f"{sign} {text}"


def _fitting(lines: Sequence[str], rest: str, counts: Sequence[int] = ()) -> str:
    """As many lines as fit, and how many more there are; with the counts of alerts behind the lines, also how many alerts those are."""
    taken: list[str] = []
    length = 0
    for line in lines:
        if len(taken) == MAX_LINES or length + len(line) + 1 > MAX_LIST - len(rest) - 40:
            break
        taken.append(line)
        length += len(line) + 1
    if len(taken) < len(lines):
        left = f"{len(lines) - len(taken):,} {rest}"
        taken.append(f"and {left}, {sum(counts[len(taken) :]):,} alerts" if counts else f"and {left}")
    return cut("\n".join(taken), MAX_LIST)


def _count(alerts: Sequence[Alert], firing: Sequence[Alert]) -> str:
    over = len(alerts) - len(firing)
    if not firing:
        return f"{over:,} resolved"
    return f"{len(firing):,} firing" + (f", {over:,} resolved" if over else "")


def _state(alert: Alert) -> str:
    if alert.status is Status.RESOLVED:
        return "Resolved"
    return "Alert" if alert.severity is Severity.UNKNOWN else alert.severity.value.capitalize()


def _where(alert: Alert) -> str:
    return one_line(place_of(alert).text, MAX_WHERE)


def _since(alert: Alert) -> str:
    if alert.status is Status.RESOLVED and alert.ends_at is not None:
        return f"from {date(alert.starts_at)} to {date(alert.ends_at)}"
    return f"{'at' if alert.status is Status.EVENT else 'since'} {date(alert.starts_at)}"


def _labels(alerts: Sequence[Alert], *, where: bool) -> str:
    """The labels that all have in common, without those that say nothing, and those that `where` has said."""
    common = dict(alerts[0].labels)
    hidden = set(_NOISE)
    for alert in alerts:
        common = {name: value for name, value in common.items() if alert.labels.get(name) == value}
        hidden |= place_of(alert).of_exporter
        if where:
            hidden |= place_of(alert).labels
    shown = [f"{name}={value}" for name, value in sorted(common.items()) if value and name not in hidden]
    return one_line("  ".join(shown), MAX_LABELS)


def _incomplete(alerts: Sequence[Alert]) -> str:
    """What the message cannot say, since its source left alerts out or an alert exceeds a limit."""
    parts = []
    # The notifications of one group say so again and again.
    if left_out := sum({alert.group.key: alert.group.truncated for alert in alerts if alert.group is not None}.values()):
        parts.append(f"{left_out:,} more {'alert was' if left_out == 1 else 'alerts were'} left out by the source.")
    if marks := list(dict.fromkeys(mark for alert in alerts for mark in alert.truncated)):
        parts.append(f"Too long, and therefore cut: {_few([one_line(mark, MAX_WHERE) for mark in marks], 3)}.")
    return " ".join(parts)


def _few(texts: Sequence[str], most: int) -> str:
    return ", ".join(texts[:most]) + (f" +{len(texts) - most}" if len(texts) > most else "")


def _headline(parts: Iterable[str]) -> str:
    return inert(cut(" · ".join(part for part in parts if part), MAX_HEADLINE))


def _actions(alert: Alert, *, shared: bool = False) -> list[dict[str, Any]]:
    """Buttons that open the alert's links, and as text what is none; of several alerts, only what is not about one of them alone."""
    buttons, texts = [], []
    for text, name in _BUTTONS:
        url = getattr(alert.links, name)
        if name == "silence" and (shared or alert.status is Status.RESOLVED):
            continue
        if len(url) <= MAX_URL and is_web_url(url):
            label = {"type": "plain_text", "text": text, "emoji": False}
            buttons.append({"type": "button", "action_id": name, "text": label, "url": url})
        elif said := one_line(first_of(alert.annotations, _ANNOTATIONS.get(name, ())), MAX_LINK_TEXT):
            texts.append(f"{text}: {said}")
    blocks = [_context_plain("\n".join(texts))] if texts else []
    return [*blocks, {"type": "actions", "elements": buttons}] if buttons else blocks


def _plain(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "plain_text", "text": text or "–", "emoji": False}}


def _context(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text, "verbatim": True}]}


def _context_plain(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "plain_text", "text": text, "emoji": False}]}
