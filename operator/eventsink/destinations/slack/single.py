"""One alert in a Slack message."""

from __future__ import annotations

from typing import Any

from eventsink.alerts.alert import Alert, Status
from eventsink.destinations.slack.blocks import context, context_markup
from eventsink.destinations.slack.links import actions
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


def single(alert: Alert) -> tuple[list[str], list[dict[str, Any]]]:
    """(the parts of the headline, the blocks below it)."""
    parts = [state_of(alert), one_line(alert.name, MAX_NAME), where_of(alert), summary_of(alert)]
    blocks = []
    if description := description_of(alert, MAX_DESCRIPTION):
        blocks.append(prose(description))
    blocks.append(context_markup(since_of(alert)))
    if labels := labels_line([alert], where=True):
        blocks.append(context(labels))
    return parts, blocks + actions(alert, silenced=alert.status is not Status.RESOLVED)
