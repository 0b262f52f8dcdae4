"""The REST arguments of a Slack channel, and how they become its field of the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.alias_generators import to_camel, to_snake

from eventsink.destinations.arguments import (
    Credential,
    Credentials,
    DestinationArguments,
    InvalidArguments,
    RestModel,
    bounds,
    choices,
)
from eventsink.destinations.slack.spec import ButtonSpec, FieldSpec, MentionSpec, SlackSpec, SlackStatus, TemplateSpec

Channel = Annotated[str, Field(min_length=1, **bounds(SlackSpec, "channel"))]
_CREDENTIALS = {
    "slack_oauth_code": ("oauthCodeSecretRef", "code"),
    "bot_token": ("botTokenSecretRef", "token"),
    "incoming_webhook_url": ("incomingWebhookSecretRef", "url"),
}
"""Argument -> field of the spec, and key of the Secret."""
_NEW_CREDENTIAL = "create the sink again with a valid token, which a change does not replace"


_FORM = {
    "fields": "slack_fields",
    "buttons": "slack_buttons",
    "mentions": "slack_mentions",
    "links": "slack_links",
    "teamId": "slack_team_id",
    "updates": "slack_updates",
    "repeats": "slack_repeats",
    "template": "slack_template",
}
"""Field of the spec -> argument of the same shape."""


class SlackFieldArgs(RestModel):
    """A label or an annotation that messages show: exactly one of the two."""

    label: Annotated[str, Field(**bounds(FieldSpec, "label"))] | None = None
    annotation: Annotated[str, Field(**bounds(FieldSpec, "annotation"))] | None = None
    title: Annotated[str, Field(min_length=1, **bounds(FieldSpec, "title"))] | None = None
    """What is shown before the value; default: the name."""


class SlackButtonArgs(RestModel):
    """A button that opens the URL in an annotation."""

    text: Annotated[str, Field(min_length=1, **bounds(ButtonSpec, "text"))]
    url_annotation: Annotated[str, Field(**bounds(ButtonSpec, "url_annotation"))]
    """Name of the annotation."""


class SlackMentionArgs(RestModel):
    """Whom messages mention while an alert fires."""

    min_severity: Annotated[str, Field(json_schema_extra={"enum": choices(MentionSpec, "min_severity")})] | None = None
    """Lowest severity that mentions; default: every firing alert."""
    users: Annotated[list[str], Field(**bounds(MentionSpec, "users"))] | None = None
    """Ids, such as U0123456789."""
    groups: Annotated[list[str], Field(**bounds(MentionSpec, "groups"))] | None = None
    """Ids of user groups, such as S0123456789."""
    here: bool | None = None
    """Whether the active members of the channel are mentioned."""


class SlackTemplateArgs(RestModel):
    """What messages say, in Liquid: at least one of the two."""

    title: Annotated[str, Field(**bounds(TemplateSpec, "title"))] | None = None
    """Template of the first line."""
    body: Annotated[str, Field(**bounds(TemplateSpec, "body"))] | None = None
    """Template of the text below it."""


SlackFields = Annotated[list[SlackFieldArgs], Field(**bounds(SlackSpec, "fields"))]
SlackButtons = Annotated[list[SlackButtonArgs], Field(**bounds(SlackSpec, "buttons"))]
SlackMentions = Annotated[list[SlackMentionArgs], Field(**bounds(SlackSpec, "mentions"))]
SlackLinks = Annotated[str, Field(json_schema_extra={"enum": choices(SlackSpec, "links")})]
SlackUpdates = Annotated[str, Field(json_schema_extra={"enum": choices(SlackSpec, "updates")})]
SlackRepeats = Annotated[str, Field(json_schema_extra={"enum": choices(SlackSpec, "repeats")})]


SlackTeam = Annotated[str, Field(min_length=1, **bounds(SlackSpec, "team_id"))]


class SlackFormArgs(RestModel):
    """How messages read, beyond what an alert says."""

    slack_fields: SlackFields | None = None
    """Labels and annotations that messages show."""
    slack_buttons: SlackButtons | None = None
    """Buttons that open URLs in annotations."""
    slack_mentions: SlackMentions | None = None
    """Whom messages mention while alerts fire."""
    slack_links: SlackLinks | None = None
    """How links are shown: buttons (default), or text for an app without an interactivity URL."""
    slack_team_id: SlackTeam | None = None
    """Id of the workspace that has the channel, where the app is installed in a whole organisation (Enterprise Grid)."""
    slack_updates: SlackUpdates | None = None
    """What becomes of a message when its alerts change: edit (default), thread, or message."""
    slack_repeats: SlackRepeats | None = None
    """Where a repeat of what still fires goes: thread (default), or channel for the channel as well."""
    slack_template: SlackTemplateArgs | None = None
    """What messages say instead of the built-in headline and description."""


class SlackArgs(SlackFormArgs):
    """A Slack channel, and at most one credential; without one, the workspace that the platform configured is used."""

    channel: Channel | None = None
    """Name (#security-alerts) or id; omitted with an incoming webhook, whose URL determines it, and with a code that comes with one."""
    slack_oauth_code: Credential | None = None
    """An OAuth code, exchanged once for a token."""
    bot_token: Credential | None = None
    """A bot token (xoxb-...)."""
    incoming_webhook_url: Credential | None = None
    """The URL of an incoming webhook of Slack."""


class SlackChangeArgs(SlackFormArgs):
    """What can be changed of a Slack sink: the credential stays."""

    channel: Channel | None = None
    """Name (#security-alerts) or id."""


class SlackCodeArgs(SlackChangeArgs):
    """How the browser flow reconnects a sink."""

    slack_oauth_code: Credential


class SlackConfiguration(SlackFormArgs):
    """Where a Slack sink posts, and what its messages show."""

    channel: str
    """As requested; empty for an incoming webhook."""
    channel_id: str | None = None
    channel_name: str | None = None
    team_id: str | None = None
    team_name: str | None = None


def _new(args: SlackArgs, credentials: Credentials) -> dict[str, Any]:
    given = [name for name in _CREDENTIALS if getattr(args, name) is not None]
    if len(given) > 1:
        raise InvalidArguments(f"write at most one of {' and '.join(given)}")
    spec: dict[str, Any] = {} if args.channel is None else {"channel": args.channel}
    for name in given:
        field, key = _CREDENTIALS[name]
        spec[field] = credentials.keep(key, getattr(args, name))
    _set_form(spec, args)
    return spec


def _changed(before: Mapping[str, Any], args: SlackChangeArgs, credentials: Credentials) -> dict[str, Any]:
    spec = dict(before)
    if args.channel is not None:
        spec["channel"] = args.channel
    elif "channel" in args.model_fields_set:
        raise InvalidArguments("required; write the name or id of a channel", field="channel")
    _set_form(spec, args)
    if isinstance(args, SlackCodeArgs):
        spec.pop("botTokenSecretRef", None)
        spec.pop("incomingWebhookSecretRef", None)
        spec["oauthCodeSecretRef"] = credentials.keep("code", args.slack_oauth_code)
    return spec


def _set_form(spec: dict[str, Any], args: SlackFormArgs) -> None:
    """What is given replaces what was there; null clears."""
    given = args.model_dump(exclude_none=True)
    for name, argument in _FORM.items():
        if argument in given:
            spec[name] = _named(given[argument], to_camel)
        elif argument in args.model_fields_set:
            spec.pop(name, None)


def _named(value: Any, name_of: Callable[[str], str]) -> Any:
    """The value with other names of the members of the objects in it."""
    if isinstance(value, list):
        return [_named(one, name_of) for one in value]
    return {name_of(name): one for name, one in value.items()} if isinstance(value, dict) else value


def _form_shown(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Those arguments of the form that the spec has in their shape."""
    shown = {}
    for name, argument in _FORM.items():
        try:
            shown[argument] = getattr(SlackFormArgs.model_validate({argument: _named(spec.get(name), to_snake)}), argument)
        except ValidationError:
            pass  # written by hand, and reported in the sink's status
    return shown


def _shown(spec: Mapping[str, Any], status: SlackStatus | None) -> SlackConfiguration:
    channel = spec.get("channel")
    return SlackConfiguration(
        channel=channel if isinstance(channel, str) else "",
        channel_id=status.channel_id if status else None,
        channel_name=status.channel_name if status else None,
        team_id=status.team_id if status else None,
        team_name=status.team_name if status else None,
        **_form_shown(spec),
    )


ARGUMENTS = DestinationArguments(
    display_name="Slack",
    create=SlackArgs,
    change=SlackChangeArgs,
    configuration=SlackConfiguration,
    new_spec=_new,
    changed_spec=_changed,
    shown=_shown,
    fields={field: name for name, (field, _) in _CREDENTIALS.items()},
    renamed=_FORM,
    sentences={
        "put a valid one into the Secret": _NEW_CREDENTIAL,
        "put a valid token into the Secret that the EventSink refers to": _NEW_CREDENTIAL,
        "install the app again and put the new code into the Secret": "install the app again, and create the sink again with the "
        "new code",
    },
)
