"""One alert in a Slack message."""

from __future__ import annotations

from typing import Any

from eventsink.alerts.alert import Alert, Status
from eventsink.destinations.slack.blocks import characters, context, context_markup
from eventsink.destinations.slack.fields import fields_blocks
from eventsink.destinations.slack.form import SlackForm
from eventsink.destinations.slack.links import link_blocks
from eventsink.destinations.slack.parts import (
    MAX_DESCRIPTION,
    MAX_NAME,
    description_of,
    labels_line,
    since_of,
    state_of,
    summary_of,
    where_of,
)
from eventsink.destinations.slack.text import one_line, prose


def single(alert: Alert, form: SlackForm, room: int) -> tuple[list[str], list[dict[str, Any]]]:
    """(the parts of the headline, the blocks below it), which have room for so many characters."""
    parts = [state_of(alert), one_line(alert.name, MAX_NAME), where_of(alert), summary_of(alert)]
    blocks = []
    if description := description_of(alert, MAX_DESCRIPTION):
        blocks.append(prose(description))
    blocks += fields_blocks(alert, form.fields, room - characters(blocks))
    blocks.append(context_markup(since_of(alert)))
    if labels := labels_line([alert], form.labels(), where=True):
        blocks.append(context(labels))
    return parts, blocks + link_blocks(alert, form, room - characters(blocks), silenced=alert.status is not Status.RESOLVED)
