"""What a Slack message looks like: one alert, several of one name, or a digest. Pure: the same alerts make the same message, always.

The headline is a block of its own, and `text`, which is what a locked phone shows; everything else is in one attachment, which alone has a
colour. Texts of alerts are plain_text or rich_text, in which nothing is read as markup. Limits: https://docs.slack.dev/reference/block-kit/blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eventsink.alerts.alert import Alert, Severity, Status
from eventsink.destinations.slack.blocks import characters, context, plain_lines, rich, section
from eventsink.destinations.slack.form import DEFAULT_FORM, SlackForm
from eventsink.destinations.slack.mentions import NOBODY, Mentioned, mentioned
from eventsink.destinations.slack.parts import EMOJI, MAX_WHERE, WELL_EMOJI, few
from eventsink.destinations.slack.several import alike, several
from eventsink.destinations.slack.single import single
from eventsink.destinations.slack.templated import BUILT_IN, Written, body_blocks, written
from eventsink.destinations.slack.text import cut, cut_escaped, escaped, one_line, with_links
from eventsink.resources.names import ALL_TENANTS

MAX_HEADLINE = 300
MAX_CLUSTERS = 3
MAX_CLUSTER = 60
MAX_TENANTS = 3
"""Of the alerts of one message, named in its last line; of the others, their number."""
MAX_ALL = 9500
"""Characters of a message; from roughly 10,000 on Slack was seen to return msg_blocks_too_long."""
_REST = 1500
"""Of them for the headline, and what is said of every message."""
MAX_PLAIN = 3900
"""Of a message that is text alone, escaped; Slack recommends 4,000."""
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


def colour_of(worst: Severity | None) -> str:
    """Of a message with firing alerts of this severity at most; None: nothing in it fires any more."""
    return _WELL if worst is None else _COLOURS[worst]


@dataclass(frozen=True, slots=True)
class SlackMessage:
    """What chat.postMessage and incoming webhooks take, but for the channel."""

    text: str
    """The headline, for notifications."""
    headline: str
    attachments: list[dict[str, Any]]
    mentions: Mentioned = NOBODY
    template_problem: str = ""
    """Why the sink's own templates were not used: a sentence for their owner; empty: they were, or there are none."""

    def body(self) -> dict[str, Any]:
        """As JSON. Nothing in the text is looked for: no markup, no names, no URLs. What mentions somebody has a block of its own."""
        return {
            "text": self.text,
            "mrkdwn": False,
            "parse": "none",
            "blocks": [_first_line(self.headline), *self.mentions.blocks()],
            "attachments": self.attachments,
            "unfurl_links": False,
            "unfurl_media": False,
        }

    def plain_body(self) -> dict[str, Any]:
        """The same as text alone, as JSON: what Slack takes when it rejects the blocks."""
        lines = "\n".join(line for one in self.attachments for line in plain_lines(one["blocks"]))
        text = "\n".join(filter(None, [escaped(self.headline), self.mentions.as_text()]))
        text = f"{text}\n{cut_escaped(lines, MAX_PLAIN - len(text) - 1)}"
        return {"text": text, "mrkdwn": False, "parse": "none", "unfurl_links": False, "unfurl_media": False}


def render(
    alerts: Sequence[Alert],
    form: SlackForm = DEFAULT_FORM,
    *,
    sink: str,
    tenant: str,
    lookup: str = "",
    own: Written | None = None,
) -> SlackMessage:
    """The message about some alerts. Of one alert it shows only the last: what fired and has ended is shown as resolved, once.

    Parameters
    ----------
    alerts
        One or more, the oldest first.
    form
        What the sink's owner wants shown.
    sink, tenant
        `namespace/name` of the sink, and whose alerts it receives, for the last line.
    lookup
        The command that lists everything that the message is about.
    own
        What the templates of the form have written of the alerts; None: they are evaluated now.
    """
    alerts = _latest(alerts)
    firing = [alert for alert in alerts if alert.status is not Status.RESOLVED]
    worst = max((alert.severity for alert in firing), key=lambda severity: severity.rank, default=None)
    mentions = mentioned(firing, form.mentions)
    room = MAX_ALL - _REST - characters(mentions.blocks())
    if len(alerts) == 1:
        parts, blocks = single(alerts[0], form, room)
    elif len({alert.name for alert in alerts}) == 1:
        parts, blocks = alike(alerts, firing, lookup, form, room)
    else:
        parts, blocks = several(alerts, firing, lookup, form, room)
    if clusters := _clusters(alerts):
        parts.insert(1, clusters)
    if own is None:
        own = written(form.template, alerts, sink=sink, tenant=tenant) if form.template is not None else BUILT_IN
    if own.title is not None:
        parts = [own.title]
    if own.body is not None:
        blocks = body_blocks(own.body, alerts, form, room, silenced=bool(firing))
    if incomplete := _incomplete(alerts):
        blocks.append(context(incomplete))
    sign = WELL_EMOJI if worst is None else EMOJI[worst]
    blocks.append(context(f"{one_line(sink, 140)} · {_tenants(tenant, alerts)}"))
    colour = colour_of(worst)
    headline = cut(f"{sign} " + " · ".join(part for part in parts if part), MAX_HEADLINE)
    text = escaped(headline)
    return SlackMessage(text, headline, [{"color": colour, "fallback": text, "blocks": blocks}], mentions, own.problem)


def _first_line(headline: str) -> dict[str, Any]:
    """The headline, in which URLs are links: an alert may have them in its summary alone."""
    parts = list(with_links(headline))
    return rich(parts) if any(part["type"] == "link" for part in parts) else section(headline)


def _clusters(alerts: Sequence[Alert]) -> str:
    """The clusters that these are from, where the router has a name for its own."""
    return few([one_line(name, MAX_CLUSTER) for name in dict.fromkeys(alert.cluster for alert in alerts) if name], MAX_CLUSTERS)


def _tenants(tenant: str, alerts: Sequence[Alert]) -> str:
    """Whose alerts these are: of a sink that receives those of all tenants, each alert says it."""
    names = [tenant] if tenant != ALL_TENANTS else list(dict.fromkeys(alert.tenant for alert in alerts))
    return f"{'tenant' if len(names) == 1 else 'tenants'} {few([one_line(name, 80) for name in names], MAX_TENANTS)}"


def _latest(alerts: Sequence[Alert]) -> Sequence[Alert]:
    """Of each alert what it was last, in the order in which they came first."""
    return list({alert.identity: alert for alert in alerts}.values())


def _incomplete(alerts: Sequence[Alert]) -> str:
    """What the message cannot say, since its source left alerts out or an alert exceeds a limit."""
    parts = []
    # The notifications of one group say so again and again.
    if left_out := sum({alert.group.key: alert.group.truncated for alert in alerts if alert.group is not None}.values()):
        parts.append(f"{left_out:,} more {'alert was' if left_out == 1 else 'alerts were'} left out by the source.")
    if marks := list(dict.fromkeys(mark for alert in alerts for mark in alert.truncated)):
        parts.append(f"Too long, and therefore cut: {few([one_line(mark, MAX_WHERE) for mark in marks], 3)}.")
    return " ".join(parts)
