"""What a sink's owner wants messages to show and whom to mention: a part of the compiled target."""

from __future__ import annotations

from typing import Literal, Self

from eventsink.destinations.slack.spec import DEFAULT_LINKS, SlackSpec
from eventsink.resources.model import Severity
from eventsink.sinks.target import CompiledDocument


class FieldForm(CompiledDocument):
    """A label or an annotation that is shown: exactly one of the two is set."""

    label: str | None = None
    annotation: str | None = None
    title: str | None = None
    """Before the value; None: the name."""


class ButtonForm(CompiledDocument):
    """A button that opens the URL in an annotation."""

    text: str
    url_annotation: str


class MentionForm(CompiledDocument):
    """Who is mentioned from which severity on; None: from the lowest."""

    min_severity: Severity | None = None
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    here: bool = False


class TemplateForm(CompiledDocument):
    """Templates of the headline and of what is below it; None: the built-in one."""

    title: str | None = None
    body: str | None = None


class SlackForm(CompiledDocument):
    """How messages read, beyond what an alert says. Without anything given, they are the built-in ones."""

    fields: tuple[FieldForm, ...] = ()
    buttons: tuple[ButtonForm, ...] = ()
    mentions: tuple[MentionForm, ...] = ()
    links: Literal["buttons", "text"] = DEFAULT_LINKS
    template: TemplateForm | None = None

    def labels(self) -> frozenset[str]:
        """Names of the labels that are shown with a title: they are not shown a second time."""
        return frozenset(one.label for one in self.fields if one.label is not None)

    @classmethod
    def of(cls, slack: SlackSpec) -> Self:
        """The form that a spec asks for. Members of the two have the same names."""
        return cls.model_validate(slack.model_dump(include=set(cls.model_fields), exclude_none=True))


DEFAULT_FORM = SlackForm()
