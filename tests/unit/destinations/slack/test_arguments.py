"""REST shows what messages of a sink show, whoever wrote it."""

from __future__ import annotations

from typing import Any

import pytest

from eventsink.destinations.slack.arguments import ARGUMENTS

FORM = {
    "fields": [{"annotation": "value", "title": "Value"}],
    "buttons": [{"text": "Logs", "urlAnnotation": "logs_url"}],
    "mentions": [{"minSeverity": "high", "users": ["U012"]}],
    "links": "text",
}


def shown(spec: dict[str, Any]) -> dict[str, Any]:
    return ARGUMENTS.shown(spec, None).model_dump(exclude_none=True)


def test_the_configuration_shows_the_form_as_arguments() -> None:
    assert shown({"channel": "#a", **FORM}) == {
        "channel": "#a",
        "slack_fields": [{"annotation": "value", "title": "Value"}],
        "slack_buttons": [{"text": "Logs", "url_annotation": "logs_url"}],
        "slack_mentions": [{"min_severity": "high", "users": ["U012"]}],
        "slack_links": "text",
    }


@pytest.mark.parametrize(
    "mistake",
    [{"fields": "team"}, {"fields": [1]}, {"buttons": [{"url": "x"}]}, {"mentions": {"users": []}}, {"links": {"a": 1}}],
    ids=lambda mistake: str(mistake),
)
def test_what_is_not_valid_is_not_shown_and_hides_nothing_else(mistake: dict[str, Any]) -> None:
    [argument] = [f"slack_{name}" for name in mistake]
    assert shown({"channel": "#a", **FORM, **mistake}).keys() == shown({"channel": "#a", **FORM}).keys() - {argument}
