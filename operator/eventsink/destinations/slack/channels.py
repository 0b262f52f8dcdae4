"""Reads what Slack says about tokens and channels, and decides which of them can be used and what a person has to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from eventsink.destinations.problem import Problem
from eventsink.destinations.slack.api import error_data, error_name, failed
from eventsink.runtime.patterns import utf8
from eventsink.sinks.sender import FailureClass

_SETTINGS = {
    "EgressRefused": "egress.allow",
    "ProxyRefused": "egress.proxy",
    "ProxyAuthenticationRequired": "egress.proxy.urlFile",
}
"""What a person has to look at who runs the platform, by the reason of a failure."""
ASK_AGAIN_SECONDS = 60.0
"""After a problem that is fixed in Slack, which the cluster does not notice."""
TEAM_PATH = "spec.slack.teamId"
_CHANNEL_ID = "CG"
"""Ids of public and private channels begin with one of these, and hold upper-case letters and digits only."""
_TEAM_ERRORS = frozenset({"team_access_not_granted", "team_not_found", "invalid_team_id"})
_CREDENTIAL_ERRORS = frozenset(
    {
        "invalid_auth",
        "not_authed",
        "token_revoked",
        "token_expired",
        "account_inactive",
        "not_allowed_token_type",
        "no_permission",
    }
)


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as a token sees it."""

    id: str
    name: str
    archived: bool
    member: bool
    private: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token is."""

    team_id: str
    team_name: str
    bot_name: str
    scopes: frozenset[str]
    organisation: bool = False
    """Whether the app is installed in a whole organisation (Enterprise Grid): its token is valid in several workspaces."""


def is_channel_id(text: str) -> bool:
    """Whether a channel is given by its id (`C024BE91L`), which no name can be: names have no upper-case letters."""
    return len(text) >= 9 and text[0] in _CHANNEL_ID and text.isascii() and text.isalnum() and text == text.upper()


def read_page(response: Any) -> tuple[list[Channel], str]:
    """The channels of a response to conversations.list, and the cursor of the next page; ValueError: it is not one."""
    channels, metadata = response.get("channels"), response.get("response_metadata")
    if not isinstance(channels, list):
        raise ValueError("it has no channels")
    return [read_channel(one) for one in channels], text_of(metadata.get("next_cursor")) if isinstance(metadata, dict) else ""


def read_identity(response: Any) -> Identity:
    """Who a token is, by a response to auth.test; ValueError: it is not one."""
    headers = {str(name).lower(): value for name, value in response.headers.items()}
    scopes = frozenset(scope.strip() for scope in str(headers.get("x-oauth-scopes", "")).split(","))
    return Identity(
        text_of(response.get("team_id")),
        text_of(response.get("team")),
        text_of(response.get("user")) or "the app",
        scopes - {""},
        bool(response.get("is_enterprise_install")),
    )


def read_channel(one: object) -> Channel:
    """A channel of conversations.list or conversations.info; ValueError: it is none."""
    if not isinstance(one, dict) or not text_of(one.get("id")):
        raise ValueError("it is no channel")
    return Channel(
        id=text_of(one.get("id")),
        name=text_of(one.get("name")),
        archived=bool(one.get("is_archived")),
        member=bool(one.get("is_member")),
        private=bool(one.get("is_private")),
    )


def unseen_channel(identifier: str) -> Channel:
    """A channel of which an app with the scope chat:write alone knows the id: whether it can post there shows when it does."""
    return Channel(identifier, "", archived=False, member=True, private=False)


def in_workspace(identity: Identity, asked: str) -> Identity:
    """Who the token is in the workspace that was asked for; empty: none was. The team of an organisation may stay empty.

    Raises
    ------
    Problem
        The token belongs to another workspace.
    """
    if identity.organisation:
        # Of such a token, auth.test returns the organisation's id as the team's.
        return replace(identity, team_id=asked or ("" if identity.team_id.startswith("E") else identity.team_id))
    if asked and asked != identity.team_id:
        raise Problem(
            "SlackTeamInvalid",
            TEAM_PATH,
            f"the token belongs to the workspace {identity.team_name} ({identity.team_id}), and not to {asked}; correct or remove teamId",
            again_after=ASK_AGAIN_SECONDS * 5,
        )
    return identity


def no_workspace_named(identity: Identity) -> Problem:
    """The problem of a channel's name with a token that is valid in several workspaces."""
    return Problem(
        "SlackTeamInvalid",
        TEAM_PATH,
        f"the app is installed in the whole organisation {identity.team_name}, and a channel's name is looked up in one workspace: "
        "set teamId to the id of the workspace (T...), or channel to the channel's id",
    )


def usable(channel: Channel | None, asked: str, identity: Identity) -> Channel:
    """The channel, if the app can post in it.

    Raises
    ------
    Problem
        It is not there, archived, or the app is not in it; the message says what to do.
    """
    path = "spec.slack.channel"
    if channel is None:
        raise Problem(
            "ChannelNotFound",
            path,
            f"the workspace {identity.team_name} has no channel {asked} that the app can see; correct the name, or if it is a private "
            f"channel, invite the app there with /invite @{identity.bot_name}",
            again_after=ASK_AGAIN_SECONDS,
        )
    if channel.archived:
        raise Problem(
            "ChannelArchived",
            path,
            f"the channel {asked} is archived; unarchive it, or name another one",
            again_after=ASK_AGAIN_SECONDS,
        )
    if not channel.member and (channel.private or "chat:write.public" not in identity.scopes):
        raise Problem(
            "NotInChannel",
            path,
            f"the app is not in the channel {asked}; invite the app with /invite @{identity.bot_name}",
            again_after=ASK_AGAIN_SECONDS,
        )
    return channel


def problem_of(error: Exception, path: str) -> Problem:
    """What an error of a call means for the sink."""
    name = error_name(error)
    if name in _CREDENTIAL_ERRORS:
        return Problem(
            "SlackTokenInvalid",
            path,
            f"Slack rejects the token ({name}); put a valid one into the Secret",
            again_after=ASK_AGAIN_SECONDS * 5,
        )
    if name == "missing_scope":
        needed = text_of(error_data(error).get("needed"))
        scopes = needed if needed and all(part.isalnum() or part in ":,._ " for part in needed) else "channels:read"
        return Problem(
            "SlackScopeMissing",
            path,
            f"the Slack app lacks the scope {scopes[:200]}; add it to the app and install it again",
            again_after=ASK_AGAIN_SECONDS * 5,
        )
    if name in _TEAM_ERRORS:
        return Problem(
            "SlackTeamInvalid",
            TEAM_PATH,
            f"Slack rejects the workspace ({name}); correct teamId, or have the organisation's admin add the app to the workspace",
            again_after=ASK_AGAIN_SECONDS,
        )
    failure = failed(error, "Slack")
    if failure.reason in _SETTINGS:
        return Problem(
            "SlackUnavailable",
            path,
            f"{failure.message} (operator setting {_SETTINGS[failure.reason]})",
            again_after=ASK_AGAIN_SECONDS,
        )
    if failure.failure is FailureClass.TRANSIENT:
        wait = failure.retry_after or ASK_AGAIN_SECONDS / 2
        return Problem("SlackUnavailable", path, f"{failure.message}; retrying", may_pass=True, again_after=wait)
    return Problem("SlackRefused", path, f"{failure.message}", again_after=ASK_AGAIN_SECONDS)


def is_usable(channel: Channel | None) -> bool:
    return channel is not None and channel.member and not channel.archived


def text_of(value: object) -> str:
    """A text of a response, in UTF-8, so that it can be stored; empty for anything else."""
    return utf8(value).decode() if isinstance(value, str) else ""
