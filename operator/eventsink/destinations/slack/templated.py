"""What a sink's own templates make of some alerts: the headline and the text below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eventsink.alerts.alert import Alert
from eventsink.destinations.slack.blocks import characters, rich, run
from eventsink.destinations.slack.fields import common_fields, fields_blocks
from eventsink.destinations.slack.form import SlackForm, TemplateForm
from eventsink.destinations.slack.links import link_blocks, shared
from eventsink.destinations.slack.markup import as_written, formatted, inert
from eventsink.destinations.slack.parts import where_of
from eventsink.destinations.slack.text import ELLIPSIS, one_line, tidy
from eventsink.templates.context import context_of
from eventsink.templates.errors import InvalidTemplate, TemplateFailed
from eventsink.templates.template import read_template
from eventsink.templates.values import Value

MAX_TITLE = 290
MAX_BODY = 2800
"""Characters, beyond which the text is cut."""
MAX_FORMATTED = 6000
"""Characters of the body with what makes its formatting: one that needs more is not formatted."""


@dataclass(frozen=True, slots=True)
class Written:
    """What the templates wrote. Without a title or a body, that part is the built-in one."""

    title: str | None = None
    body: list[dict[str, Any]] | None = None
    problem: str = ""
    """Why both are the built-in ones though there are templates: a sentence for their owner, with nothing of any alert."""


BUILT_IN = Written()


def written(form: TemplateForm, alerts: Sequence[Alert], *, sink: str, tenant: str) -> Written:
    """Evaluate the templates. Pure; a template that fails is a `problem`, and never an exception."""
    variables = context_of(alerts, sink=sink, tenant=tenant, where=where_of)
    field = "title"
    try:
        title = body = None
        if form.title is not None:
            title = one_line(as_written(_text(form.title, variables, MAX_TITLE)), MAX_TITLE)
            if not title:
                raise TemplateFailed("it writes nothing")
        field = "body"
        if form.body is not None:
            body = _body(_text(form.body, variables, MAX_BODY))
            if not body:
                raise TemplateFailed("it writes nothing")
    except (InvalidTemplate, TemplateFailed) as error:
        return Written(problem=f"spec.slack.template.{field}: {error}")
    return Written(title, body)


def body_blocks(
    body: list[dict[str, Any]], alerts: Sequence[Alert], form: SlackForm, room: int, *, silenced: bool
) -> list[dict[str, Any]]:
    """The body with what surrounds it in each message: the fields that all alerts have in common, and their links."""
    first = alerts[0] if len(alerts) == 1 else shared(alerts[0], alerts)
    blocks = [*body]
    blocks += fields_blocks(first, common_fields(alerts, form.fields), room - characters(blocks))
    return blocks + link_blocks(first, form, room - characters(blocks), silenced=silenced)


def _body(text: str) -> list[dict[str, Any]]:
    blocks = formatted(text)
    return blocks if characters(blocks) <= MAX_FORMATTED else [rich([run(as_written(text))])]


def _text(source: str, variables: dict[str, Value], most: int) -> str:
    rendered = read_template(source).render(variables, limit=4 * most, show=inert)
    return tidy(rendered.text if rendered.complete else rendered.text + ELLIPSIS, most)
