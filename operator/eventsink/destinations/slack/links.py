"""Links of alerts in Slack messages: buttons, and as text what should be a link and is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from eventsink.alerts.alert import Alert, Links
from eventsink.alerts.links import DASHBOARDS, RUNBOOKS, first_of, is_web_url, silence_url
from eventsink.destinations.slack.blocks import context
from eventsink.destinations.slack.parts import common_of
from eventsink.destinations.slack.text import MAX_URL, one_line

MAX_LINK_TEXT = 500
"""Of what should be a link and is none."""
_REPLICAS = frozenset({"prometheus_replica", "replica"})
BUTTONS = (("Runbook", "runbook"), ("Dashboard", "dashboard"), ("Silence", "silence"), ("Source", "source"))
_ANNOTATIONS = {"runbook": RUNBOOKS, "dashboard": DASHBOARDS}


def actions(alert: Alert, *, silenced: bool) -> list[dict[str, Any]]:
    """Buttons that open the alert's links, and as text what is none; with one that silences it, if it may be `silenced`."""
    buttons, texts = [], []
    for text, name in BUTTONS:
        url = getattr(alert.links, name)
        if name == "silence" and not silenced:
            continue
        if len(url) <= MAX_URL and is_web_url(url):
            label = {"type": "plain_text", "text": text, "emoji": False}
            buttons.append({"type": "button", "action_id": name, "text": label, "url": url})
        elif said := one_line(first_of(alert.annotations, _ANNOTATIONS.get(name, ())), MAX_LINK_TEXT):
            texts.append(f"{text}: {said}")
    blocks = [context("\n".join(texts))] if texts else []
    return [*blocks, {"type": "actions", "elements": buttons}] if buttons else blocks


def shared(first: Alert, alerts: Sequence[Alert]) -> Alert:
    """The first, with the links and annotations that all have, and a silence for the labels that all have."""
    common = common_of([alert.labels for alert in alerts])
    linked = {name: link for _, name in BUTTONS if len({link := getattr(alert.links, name) for alert in alerts}) == 1}
    external = {alert.group.external_url if alert.group is not None else "" for alert in alerts}
    linked["silence"] = silence_url(external.pop(), common, _REPLICAS) if len(external) == 1 and common else ""
    return structs.replace(first, links=Links(**linked), annotations=common_of([alert.annotations for alert in alerts]))
