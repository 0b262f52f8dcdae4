"""What a Slack message looks like: one alert, several of one name, or a digest. Pure: the same alerts make the same message, always.

The headline is a block of its own, and `text`, which is what a locked phone shows; everything else is in one attachment, which alone has a
colour. Texts of alerts are plain_text or rich_text, in which nothing is read as markup. Limits: https://docs.slack.dev/reference/block-kit/blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from eventsink.alerts.alert import Alert, Links, Severity, Status
from eventsink.alerts.links import DASHBOARDS, RUNBOOKS, first_of, is_web_url, silence_url
from eventsink.destinations.slack.form import DEFAULT_FORM, SlackForm
from eventsink.destinations.slack.place import place_of
from eventsink.destinations.slack.text import MAX_URL, cut, date, escaped, one_line, prose, some_lines

MAX_HEADLINE = 300
MAX_NAME = 80
MAX_WHERE = 80
MAX_SUMMARY = 160
MAX_DESCRIPTION = 1200
"""A screen of a phone; the source has the rest."""
MAX_LABELS = 400
MAX_LIST = 2800
"""Of the text of one block Slack takes 3,000."""
MAX_PLAIN = 3900
"""Of a message that is text alone, escaped; Slack recommends 4,000."""
MAX_LINES = 25
MAX_LINE = 280
MAX_LISTED = 10
"""Alerts of several names that have a line each; more of them are counted by name."""
MAX_WORST = 3
"""Alerts that a digest shows all the same."""
MAX_DISTINCT = 4
"""Labels that tell an alert from others of its name."""
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
_REPLICAS = frozenset({"prometheus_replica", "replica"})
_BUTTONS = (("Runbook", "runbook"), ("Dashboard", "dashboard"), ("Silence", "silence"), ("Source", "source"))
_ANNOTATIONS = {"runbook": RUNBOOKS, "dashboard": DASHBOARDS}


@dataclass(frozen=True, slots=True)
class SlackMessage:
    """What chat.postMessage and incoming webhooks take, but for the channel."""

    text: str
    """The headline, for notifications."""
    headline: str
    attachments: list[dict[str, Any]]

    def body(self) -> dict[str, Any]:
        """As JSON. Nothing in the text is looked for: no markup, no names, no URLs."""
        return {
            "text": self.text,
            "mrkdwn": False,
            "parse": "none",
            "blocks": [_plain(self.headline)],
            "attachments": self.attachments,
            "unfurl_links": False,
            "unfurl_media": False,
        }

    def plain_body(self) -> dict[str, Any]:
        """The same as text alone, as JSON: what Slack takes when it rejects the blocks."""
        lines = [self.headline, *(line for one in self.attachments for line in _plain_lines(one["blocks"]))]
        text = cut(escaped("\n".join(lines)), MAX_PLAIN)
        return {"text": text, "mrkdwn": False, "parse": "none", "unfurl_links": False, "unfurl_media": False}


def render(alerts: Sequence[Alert], form: SlackForm = DEFAULT_FORM, *, sink: str, tenant: str, lookup: str = "") -> SlackMessage:
    """The message about some alerts. Of one alert it shows only the last: what fired and has ended is shown as resolved, once.

    Parameters
    ----------
    alerts
        One or more, the oldest first.
    form
        What the sink's owner wants shown.
    sink, tenant
        `namespace/name` of the sink, and whose it is, for the last line.
    lookup
        The command that lists everything that the message is about.
    """
    alerts = _latest(alerts)
    firing = [alert for alert in alerts if alert.status is not Status.RESOLVED]
    worst = max((alert.severity for alert in firing), key=lambda severity: severity.rank, default=None)
    if len(alerts) == 1:
        parts, blocks = _one(alerts[0])
    elif len({alert.name for alert in alerts}) == 1:
        parts, blocks = _alike(alerts, firing, lookup)
    else:
        parts, blocks = _several(alerts, firing, lookup)
    if incomplete := _incomplete(alerts):
        blocks.append(_context_plain(incomplete))
    sign = "✅" if worst is None else _EMOJI[worst]
    blocks.append(_context_plain(f"{one_line(sink, 140)} · tenant {one_line(tenant, 80)}"))
    colour = _WELL if worst is None else _COLOURS[worst]
    headline = cut(f"{sign} " + " · ".join(part for part in parts if part), MAX_HEADLINE)
    text = escaped(headline)
    return SlackMessage(text, headline, [{"color": colour, "fallback": text, "blocks": blocks}])


def _latest(alerts: Sequence[Alert]) -> Sequence[Alert]:
    """Of each alert what it was last, in the order in which they came first."""
    return list({alert.identity: alert for alert in alerts}.values())


def _one(alert: Alert) -> tuple[list[str], list[dict[str, Any]]]:
    parts = [_state(alert), one_line(alert.name, MAX_NAME), _where(alert), _summary(alert)]
    blocks = []
    if description := _description(alert, MAX_DESCRIPTION):
        blocks.append(prose(description))
    blocks.append(_context(_since(alert)))
    if labels := _labels([alert], where=True):
        blocks.append(_context_plain(labels))
    return parts, blocks + _actions(alert, silenced=alert.status is not Status.RESOLVED)


def _alike(alerts: Sequence[Alert], firing: Sequence[Alert], lookup: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Several of one name: what they share once, and a line for each with what tells it from the others."""
    first = max(firing or alerts, key=lambda alert: alert.severity.rank)
    same_summary = {alert.summary for alert in alerts} == {first.summary}
    where = _few(sorted({one_line(place_of(alert).namespace, MAX_WHERE) for alert in alerts} - {""}), 3)
    parts = [_count(alerts, firing), one_line(first.name, MAX_NAME), where, _summary(first) if same_summary else ""]
    ordered = sorted(alerts, key=_rank)
    texts = Counter(_distinct_lines(ordered, summary=not same_summary))
    lines = [[_text(text if count == 1 else f"{text} ({count:,} times)")] for text, count in texts.items()]
    blocks = [_list(lines, "more, found with: " + lookup if lookup else "more")]
    blocks.append(_context(f"since {date(min(alert.starts_at for alert in alerts))}"))
    if labels := _labels(alerts, where=False):
        blocks.append(_context_plain(labels))
    return parts, blocks + _actions(_shared(first, alerts), silenced=bool(firing))


def _distinct_lines(alerts: Sequence[Alert], *, summary: bool) -> list[str]:
    """A line for each: where it is, and the other labels that are not the same for all; otherwise what it says."""
    names = {name for alert in alerts for name in alert.labels} - _NOISE
    differing = {name for name in names if len({alert.labels.get(name, "") for alert in alerts}) > 1}
    places = [place_of(alert) for alert in alerts]
    foreign = frozenset[str]().union(*(place.of_exporter for place in places))
    if len({place.text for place in places}) > 1 or differing - foreign:
        differing -= foreign
    same_description = len({alert.description for alert in alerts}) == 1
    lines = []
    for alert, place in zip(alerts, places, strict=True):
        others = [f"{name}={alert.labels[name]}" for name in sorted(differing - place.labels) if alert.labels.get(name)]
        text = " ".join(
            [one_line(place.text, MAX_WHERE), _few([one_line(other, MAX_WHERE) for other in others], MAX_DISTINCT)]
        ).strip()
        said = _summary(alert) if summary else ""
        if not said and not differing and not same_description:
            said = one_line(alert.description, MAX_SUMMARY)
        lines.append(f"{_sign(alert)} " + (": ".join(part for part in (text, said) if part) or _title(alert)))
    return lines


def _several(alerts: Sequence[Alert], firing: Sequence[Alert], lookup: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Of several names: a line each; of many alerts the worst, and how many there are of each name."""
    by_name: dict[str, list[Alert]] = {}
    for alert in alerts:
        by_name.setdefault(alert.name, []).append(alert)
    parts = [_count(alerts, firing), f"{len(by_name):,} names", _few(_top_names(by_name), 2)]
    since = _context(f"since {date(min(alert.starts_at for alert in alerts))}")
    if len(alerts) <= MAX_LISTED:
        return parts, [_list([_alert_line(alert) for alert in sorted(alerts, key=_rank)], "more"), since]
    blocks = []
    if worst := sorted(firing, key=_rank)[:MAX_WORST]:
        blocks.append(_list([_alert_line(alert, description=True) for alert in worst], "more"))
    ordered = sorted((*_name_line(one), len(one)) for one in by_name.values())
    blocks.append(_list([[_text(line)] for _, line, _ in ordered], "more names", [count for _, _, count in ordered]))
    blocks.append(since)
    if lookup:
        blocks.append(_context_plain(f"All of them: {one_line(lookup, 300)}"))
    return parts, blocks


def _alert_line(alert: Alert, *, description: bool = False) -> list[dict[str, Any]]:
    parts = [one_line(alert.name, MAX_NAME), _where(alert), _summary(alert)]
    line = [_text(f"{_sign(alert)} " + (" · ".join(part for part in parts if part) or _title(alert)))]
    if len(alert.links.runbook) <= MAX_URL and is_web_url(alert.links.runbook):
        line += [_text(" · "), {"type": "link", "url": alert.links.runbook, "text": "Runbook"}]
    if description and (said := one_line(_description(alert, MAX_DESCRIPTION), MAX_LINE)):
        line.append(_text(f"\n{said}"))
    return line


def _title(alert: Alert) -> str:
    return one_line(alert.name, MAX_NAME) or one_line(alert.summary, MAX_NAME) or _where(alert) or "without a name"


def _summary(alert: Alert) -> str:
    """The summary, where it says more than the name."""
    summary = one_line(alert.summary, MAX_SUMMARY)
    return "" if _same(summary, alert.name) else summary


def _description(alert: Alert, most: int) -> str:
    """The description, where it says more than name and summary, which the headline has."""
    description = some_lines(alert.description, most)
    return "" if any(_same(description, said) for said in (alert.name, _summary(alert))) else description


def _same(one: str, other: str) -> bool:
    return " ".join(one.split()).rstrip(".").casefold() == " ".join(other.split()).rstrip(".").casefold()


def _rank(alert: Alert) -> tuple[bool, int]:
    return alert.status is Status.RESOLVED, -alert.severity.rank


def _sign(alert: Alert) -> str:
    return "✅" if alert.status is Status.RESOLVED else _EMOJI[alert.severity]


def _shared(first: Alert, alerts: Sequence[Alert]) -> Alert:
    """The first, with the links and annotations that all have, and a silence for the labels that all have."""
    common = _common([alert.labels for alert in alerts])
    linked = {name: link for _, name in _BUTTONS if len({link := getattr(alert.links, name) for alert in alerts}) == 1}
    external = {alert.group.external_url if alert.group is not None else "" for alert in alerts}
    linked["silence"] = silence_url(external.pop(), common, _REPLICAS) if len(external) == 1 and common else ""
    return structs.replace(first, links=Links(**linked), annotations=_common([alert.annotations for alert in alerts]))


def _common(each: Sequence[dict[str, str]]) -> dict[str, str]:
    common = dict(each[0])
    for one in each[1:]:
        common = {name: value for name, value in common.items() if one.get(name) == value}
    return common


def _name_line(alerts: Sequence[Alert]) -> tuple[tuple[int, int, str], str]:
    """(what it is ordered by, the line) of all alerts of one name."""
    firing = [alert for alert in alerts if alert.status is not Status.RESOLVED]
    name = _title(alerts[0])
    namespaces = _few(sorted({one_line(place_of(alert).namespace, MAX_WHERE) for alert in alerts} - {""}), 3)
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
    return [_title(alerts[0]) for alerts in ordered]


def _list(lines: Sequence[list[dict[str, Any]]], rest: str, counts: Sequence[int] = ()) -> dict[str, Any]:
    """As many lines as fit, and how many more there are; with the counts of alerts behind the lines, also how many alerts those are."""
    taken: list[dict[str, Any]] = []
    length = shown = 0
    for line in lines:
        length += sum(len(part.get("text", "")) + len(part.get("url", "")) for part in line) + 1
        if shown == MAX_LINES or (length > MAX_LIST and shown):
            break
        taken += [_text("\n"), *line] if taken else line
        shown += 1
    if left := len(lines) - shown:
        taken.append(_text(f"\nand {left} {rest}" + (f", {sum(counts[shown:]):,} alerts" if counts else "")))
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": taken}]}


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
    common = _common([alert.labels for alert in alerts])
    hidden = set(_NOISE)
    for alert in alerts:
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


def _actions(alert: Alert, *, silenced: bool) -> list[dict[str, Any]]:
    """Buttons that open the alert's links, and as text what is none; with one that silences it, if it may be `silenced`."""
    buttons, texts = [], []
    for text, name in _BUTTONS:
        url = getattr(alert.links, name)
        if name == "silence" and not silenced:
            continue
        if len(url) <= MAX_URL and is_web_url(url):
            label = {"type": "plain_text", "text": text, "emoji": False}
            buttons.append({"type": "button", "action_id": name, "text": label, "url": url})
        elif said := one_line(first_of(alert.annotations, _ANNOTATIONS.get(name, ())), MAX_LINK_TEXT):
            texts.append(f"{text}: {said}")
    blocks = [_context_plain("\n".join(texts))] if texts else []
    return [*blocks, {"type": "actions", "elements": buttons}] if buttons else blocks


def _plain_lines(blocks: Sequence[dict[str, Any]]) -> Iterator[str]:
    for block in blocks:
        for one in block.get("elements", ()):
            if block["type"] == "rich_text":
                yield "".join(part["text"] if part["type"] == "text" else part["url"] for part in one["elements"])
            elif block["type"] == "actions":
                yield f"{one['text']['text']}: {one['url']}"
            elif one["type"] == "plain_text":
                yield one["text"]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "plain_text", "text": text or "–", "emoji": False}}


def _context(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text, "verbatim": True}]}


def _context_plain(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "plain_text", "text": text, "emoji": False}]}
