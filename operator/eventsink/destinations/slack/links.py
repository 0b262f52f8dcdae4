"""Links of alerts in Slack messages: buttons or links in the text, and as text what should be a link and is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from eventsink.alerts.alert import Alert, Links
from eventsink.alerts.links import DASHBOARDS, RUNBOOKS, first_of, is_web_url, silence_url
from eventsink.destinations.slack.blocks import MAX_LIST, context, link, rich, run
from eventsink.destinations.slack.form import SlackForm
from eventsink.destinations.slack.parts import common_of
from eventsink.destinations.slack.text import MAX_URL, one_line

MAX_LINK_TEXT = 200
"""Of what should be a link and is none."""
MAX_LINE_URLS = 800
"""Characters of the URLs in one alert's line: more would take the place of other lines."""
MAX_LINE_TEXT = 60
MAX_LINE_BUTTON = 30
MAX_BUTTON = 75
"""Characters on a button, and of the title of a field."""
_BUILT_IN = (("Runbook", "runbook"), ("Dashboard", "dashboard"), ("Silence", "silence"), ("Source", "source"))
_ANNOTATIONS = {"runbook": RUNBOOKS, "dashboard": DASHBOARDS}


@dataclass(frozen=True, slots=True)
class AlertLink:
    """Something that the alert has where a link is expected."""

    name: str
    """Which it is: the same in every message of the sink."""
    text: str
    """What is written on the button."""
    target: str
    """The URL; or what else it says, without space around it."""

    def opens(self, longest: int) -> bool:
        """Whether it is a URL that Slack takes, of at most so many characters."""
        return len(self.target) <= min(longest, MAX_URL) and is_web_url(self.target)

    def said(self, most: int) -> str:
        """It as text."""
        return f"{self.text}: {one_line(self.target, most)}"


def link_blocks(alert: Alert, form: SlackForm, room: int, *, silenced: bool) -> list[dict[str, Any]]:
    """Everything that the alert links to.

    Parameters
    ----------
    room
        Characters that there are for it in the message: beyond them a link is shown as text.
    silenced
        Whether there is a link that silences the alert: not where it has ended.
    """
    links: list[AlertLink] = []
    texts: list[str] = []
    if form.links == "text":
        room = min(room, MAX_LIST - MAX_BUTTON * (len(_BUILT_IN) + len(form.buttons)))
    for one in _links_of(alert, form):
        if one.name == "silence" and not silenced:
            continue
        if one.opens(room):
            links.append(one)
            room -= len(one.target)
        else:
            texts.append(one.said(MAX_LINK_TEXT))
    blocks = [context("\n".join(texts))] if texts else []
    if links and form.links == "text":
        blocks.append(rich([part for one in links for part in (run(" · "), link(one.target, one.text))][1:]))
    elif links:
        blocks.append({"type": "actions", "elements": [_button(one) for one in links]})
    return blocks


def line_links(alert: Alert, form: SlackForm, common: Alert | None = None) -> Iterator[dict[str, Any]]:
    """Runbook and the sink's own links behind an alert's line, those left out that all alerts have in `common`."""
    elsewhere = {"dashboard", "silence", "source"}
    if common is not None:
        elsewhere |= {one.name for one in _links_of(common, form)}
    room = MAX_LINE_URLS
    for one in _links_of(alert, form, MAX_LINE_BUTTON):
        if one.name in elsewhere:
            continue
        yield run(" · ")
        if one.opens(room):
            room -= len(one.target)
            yield link(one.target, one.text)
        else:
            yield run(one.said(MAX_LINE_TEXT))


def shared(first: Alert, alerts: Sequence[Alert]) -> Alert:
    """The first, with the links and annotations that all have, and a silence for the labels that all have."""
    common = common_of([alert.labels for alert in alerts])
    linked = {name: link for _, name in _BUILT_IN if len({link := getattr(alert.links, name) for alert in alerts}) == 1}
    external = {alert.group.external_url if alert.group is not None else "" for alert in alerts}
    linked["silence"] = silence_url(external.pop(), common) if len(external) == 1 and common else ""
    return structs.replace(first, links=Links(**linked), annotations=common_of([alert.annotations for alert in alerts]))


def _links_of(alert: Alert, form: SlackForm, longest_text: int = MAX_BUTTON) -> Iterator[AlertLink]:
    for text, name in _BUILT_IN:
        if target := getattr(alert.links, name) or first_of(alert.annotations, _ANNOTATIONS.get(name, ())).strip():
            yield AlertLink(name, text, target)
    for number, button in enumerate(form.buttons):
        if target := alert.annotations.get(button.url_annotation, "").strip():
            yield AlertLink(f"button-{number}", one_line(button.text, longest_text) or "–", target)


def _button(one: AlertLink) -> dict[str, Any]:
    return {
        "type": "button",
        "action_id": one.name,
        "text": {"type": "plain_text", "text": one.text, "emoji": False},
        "url": one.target,
    }
