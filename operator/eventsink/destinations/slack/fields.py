"""Labels and annotations that a sink's owner wants shown, each with a title."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from eventsink.alerts.alert import Alert
from eventsink.destinations.slack.blocks import rich, run
from eventsink.destinations.slack.form import FieldForm
from eventsink.destinations.slack.text import one_line, some_lines, with_links

MAX_FIELDS = 2000
"""Characters of all fields of a message together, titles and values."""
MAX_TITLE = 75
MAX_LINE_TITLE = 30
MAX_LINE_VALUE = 60
"""Of a field within the line of one alert of several."""


def common_fields(alerts: Sequence[Alert], fields: Collection[FieldForm]) -> list[FieldForm]:
    """Those that all the alerts have with the same value, or none has."""
    return [field for field in fields if len({_value(alert, field) for alert in alerts}) == 1]


def fields_blocks(alert: Alert, fields: Collection[FieldForm], room: int) -> list[dict[str, Any]]:
    """A block with the fields that the alert has, a line each, in at most `room` characters; none, if it has none."""
    shown = [(field, value) for field in fields if (value := _value(alert, field))]
    parts: list[dict[str, Any]] = []
    for field, value in shown:
        title = _title(field, MAX_TITLE)
        most = min(MAX_FIELDS, room) // len(shown) - len(title) - 3
        if said := some_lines(value, max(most, MAX_LINE_VALUE)):
            parts.append({**run(f"\n{title}: " if parts else f"{title}: "), "style": {"bold": True}})
            parts += with_links(f"\n{said}" if "\n" in said else said)
    return [rich(parts)] if parts else []


def line_fields(alert: Alert, fields: Collection[FieldForm]) -> Iterator[str]:
    """The fields that the alert has, for its line among several."""
    for field in fields:
        if said := one_line(_value(alert, field), MAX_LINE_VALUE):
            yield f"{_title(field, MAX_LINE_TITLE)}: {said}"


def _value(alert: Alert, field: FieldForm) -> str:
    if field.label is not None:
        return alert.labels.get(field.label, "")
    return alert.annotations.get(field.annotation or "", "")


def _title(field: FieldForm, most: int) -> str:
    named = (one_line(text, most) for text in (field.title, field.label, field.annotation) if text is not None)
    return next(filter(None, named), "–")
