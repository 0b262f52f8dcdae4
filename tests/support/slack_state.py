"""What the stand-in for Slack knows, workspaces, channels, tokens, codes and messages, and what it decides about them.

Nothing here knows of HTTP. A rejection is raised as `SlackError` with the error's documented name. The docstring of
`tests.support.slack` says where each rule comes from.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.slack_content import SlackError, check
from tests.support.slack_rate_limits import CallRateLimit, MessageRateLimit, SlackClock

CODE_SECONDS = 600.0
"""A code of an installation is good for ten minutes."""
ROTATED_TOKEN_SECONDS = 43_200
"""A token of an app with rotation lives twelve hours."""
DEFAULT_LIMIT, MAX_LIMIT = 100, 999
"""Channels on one page of conversations.list: unless asked for, and at most ("an integer under 1000")."""
MAX_TEXT = 40_000
"""Characters of a text; what is beyond is cut, not rejected."""
MAX_EDITED_TEXT = 4000
"""Bytes of a text to which a message is edited."""
ORGANISATION_NAME = "Acme Holding"
BOT_SCOPES = ("chat:write", "channels:read", "groups:read")
"""What the documentation of the Slack sinks asks for."""
TYPE_SCOPES = {
    "public_channel": "channels:read",
    "private_channel": "groups:read",
    "mpim": "mpim:read",
    "im": "im:read",
}


@dataclass(slots=True)
class Workspace:
    """A team and the app's bot in it."""

    team_id: str
    name: str
    bot_user: str
    active: bool = True
    """False: the app was uninstalled."""
    organisation: str = ""
    """Id of the organisation (Enterprise Grid) that it belongs to; empty: none."""


@dataclass(slots=True)
class Channel:
    """A channel and what the bot may do in it."""

    id: str
    team_id: str
    name: str
    private: bool = False
    member: bool = True
    archived: bool = False
    restricted: bool = False
    """Only some people may post."""

    def shown(self) -> dict[str, Any]:
        """As conversations.list and conversations.info show it."""
        return {
            "id": self.id,
            "name": self.name,
            "name_normalized": self.name,
            "is_channel": not self.private,
            "is_group": self.private,
            "is_im": False,
            "is_mpim": False,
            "is_private": self.private,
            "is_archived": self.archived,
            "is_member": self.member,
            "context_team_id": self.team_id,
        }


@dataclass(slots=True)
class Token:
    """A bot's token, without its text, which is the key it is found by."""

    team_id: str
    """Empty: it is one of an organisation."""
    scopes: frozenset[str]
    expires: float | None = None
    revoked: bool = False
    organisation: str = ""
    """Id of the organisation in which the app is installed as a whole; empty: it is installed in one workspace."""


@dataclass(slots=True)
class Grant:
    """What an OAuth code is worth."""

    team_id: str
    scopes: tuple[str, ...]
    issued: float
    rotation: bool
    redirect_uri: str | None
    webhook_channel: str | None
    used: bool = False
    organisation: str = ""
    """As in `Token`."""


@dataclass(frozen=True, slots=True)
class Posted:
    """One message that a channel got.

    Attributes
    ----------
    channel
        The channel's id.
    ts
        Slack's name for the message: seconds and a count, unique and rising.
    via
        `token` or `webhook`.
    body
        What was sent, without the credential.
    """

    team_id: str
    channel: str
    channel_name: str
    ts: str
    via: str
    body: Mapping[str, Any]

    @property
    def thread(self) -> str:
        """The message that it replies to; empty: none."""
        return str(self.body.get("thread_ts") or "")

    @property
    def text(self) -> str:
        """Its text, empty where there is none."""
        return str(self.body.get("text") or "")


class SlackState:
    """All of it, not thread-safe by itself.

    Parameters
    ----------
    clock
        What the time is.
    message_rate, listing_rate, update_rate
        How often a channel may be posted to, channels be listed, and messages be changed.
    """

    def __init__(
        self, clock: SlackClock, message_rate: MessageRateLimit, listing_rate: CallRateLimit, update_rate: CallRateLimit
    ) -> None:
        self.clock, self.message_rate, self.listing_rate, self.update_rate = clock, message_rate, listing_rate, update_rate
        self.client_id = "1000.2000"
        self.client_secret = f"canary-{secrets.token_hex(8)}"
        self.workspaces: dict[str, Workspace] = {}
        self.channels: dict[str, Channel] = {}
        self.messages: list[Posted] = []
        """As they were posted."""
        self.edits: list[Posted] = []
        """As messages were after each change, in order."""
        self.deleted: set[tuple[str, str]] = set()
        """Channel and timestamp of messages that a person deleted."""
        self.tokens: dict[str, Token] = {}
        self._refreshes: dict[str, Token] = {}
        self.grants: dict[str, Grant] = {}
        self._hooks: dict[str, Channel] = {}
        self._issued_hooks = 0
        self._last_ts = 0

    def __repr__(self) -> str:
        return f"SlackState({len(self.workspaces)} workspaces, {len(self.channels)} channels, {len(self.messages)} messages)"

    def channel(self, channel: str) -> Channel:
        """The channel of an id or, where it is unique, of a name.

        Raises
        ------
        KeyError
            There is none, or there are several of the name.
        """
        if channel in self.channels:
            return self.channels[channel]
        found = [one for one in self.channels.values() if one.name == channel.removeprefix("#")]
        if len(found) != 1:
            raise KeyError(f"{len(found)} channels are named {channel}")
        return found[0]

    def issue_token(self, team_id: str, scopes: Iterable[str], expires_in: float | None = None, organisation: str = "") -> str:
        """A new token; its text says that it is no real one."""
        rotates = "xoxe." if expires_in is not None else ""
        text = f"{rotates}xoxb-canary-{secrets.token_hex(12)}"
        expires = None if expires_in is None else self.clock() + expires_in
        team = "" if organisation else self.workspaces[team_id].team_id
        self.tokens[text] = Token(team, frozenset(scopes), expires, organisation=organisation)
        return text

    def issue_code(self, grant: Grant) -> str:
        """A new code that is worth `grant`."""
        text = f"canary.code.{secrets.token_hex(12)}"
        self.grants[text] = grant
        return text

    def issue_hook(self, channel_id: str) -> str:
        """Path of a new incoming webhook."""
        channel = self.channels[channel_id]
        self._issued_hooks += 1
        path = f"/services/{channel.team_id}/B{self._issued_hooks:08d}/canary{secrets.token_hex(9)}"
        self._hooks[path] = channel
        return path

    def hook_channel(self, path: str) -> str | None:
        """Id of the channel that a webhook posts to."""
        found = self._hooks.get(path)
        return None if found is None else found.id

    def remove_hook(self, path: str) -> None:
        """The webhook was removed in Slack."""
        if self._hooks.pop(path, None) is None:
            raise KeyError("no such webhook")

    def revoke(self, token: str) -> None:
        """From now on the token is rejected."""
        self._issued(token).revoked = True

    def expire(self, token: str) -> None:
        """The token expires now."""
        self._issued(token).expires = self.clock()

    def _issued(self, token: str) -> Token:
        if token not in self.tokens:
            raise KeyError("no such token")
        return self.tokens[token]

    def authenticate(self, token: str | None, *needed: str) -> Token:
        """Whose call it is.

        Raises
        ------
        SlackError
            The token is not valid for it.
        """
        if not token:
            raise SlackError("not_authed")
        found = self.tokens.get(token)
        if found is None:
            raise SlackError("invalid_auth")
        if found.revoked:
            raise SlackError("token_revoked")
        if not any(one.active for one in self.workspaces_of(found)):
            raise SlackError("account_inactive")
        if found.expires is not None and found.expires <= self.clock():
            raise SlackError("token_expired")
        for scope in needed:
            if scope not in found.scopes:
                raise SlackError("missing_scope", needed=scope, provided=",".join(sorted(found.scopes)))
        return found

    def workspaces_of(self, token: Token) -> list[Workspace]:
        """Where a token is valid."""
        if token.organisation:
            return [one for one in self.workspaces.values() if one.organisation == token.organisation]
        return [self.workspaces[token.team_id]]

    def visible(self, caller: Token, channel: object, *, by_name: bool = False) -> Channel:
        """The channel that a call names, as far as its bot can see it."""
        teams = {one.team_id for one in self.workspaces_of(caller)}
        mine = [one for one in self.channels.values() if one.team_id in teams and (one.member or not one.private)]
        for one in mine:
            if one.id == channel or (by_name and isinstance(channel, str) and one.name == channel.removeprefix("#")):
                return one
        raise SlackError("channel_not_found")

    def page(self, caller: Token, form: Mapping[str, Any]) -> dict[str, Any]:
        """One page of conversations.list."""
        types = [one.strip() for one in str(form.get("types") or "public_channel").split(",")]
        if any(one not in TYPE_SCOPES for one in types):
            raise SlackError("invalid_types")
        for one in types:
            if TYPE_SCOPES[one] not in caller.scopes:
                raise SlackError("missing_scope", needed=TYPE_SCOPES[one], provided=",".join(sorted(caller.scopes)))
        limit = _whole(form.get("limit"), DEFAULT_LIMIT)
        if not 1 <= limit <= MAX_LIMIT:
            raise SlackError("invalid_limit")
        team = str(form.get("team_id") or "") if caller.organisation else caller.team_id
        if not team:
            raise SlackError("missing_argument")
        if team not in {one.team_id for one in self.workspaces_of(caller)}:
            raise SlackError("team_access_not_granted")
        wait = self.listing_rate.take(team, self.clock())
        if wait:
            raise SlackError("ratelimited", retry_after=wait)
        found = [one for one in self.channels.values() if one.team_id == team]
        found = [one for one in found if one.member or not one.private]
        found = [one for one in found if ("private_channel" if one.private else "public_channel") in types]
        if truth(form.get("exclude_archived")):
            found = [one for one in found if not one.archived]
        after = _read_cursor(form.get("cursor"))
        rest = [one for one in sorted(found, key=lambda one: one.id) if one.id > after]
        more = base64.b64encode(f"after:{rest[limit - 1].id}".encode()).decode() if len(rest) > limit else ""
        return {"channels": [one.shown() for one in rest[:limit]], "response_metadata": {"next_cursor": more}}

    def join(self, caller: Token, channel: object) -> dict[str, Any]:
        """conversations.join."""
        found = self.visible(caller, channel)
        if found.private:
            raise SlackError("method_not_supported_for_channel_type")
        if found.archived:
            raise SlackError("is_archived")
        warning = {"warning": "already_in_channel"} if found.member else {}
        found.member = True
        return {"channel": found.shown(), **warning}

    def post(self, caller: Token, body: Mapping[str, Any]) -> Posted:
        """chat.postMessage."""
        if not body.get("channel"):
            raise SlackError("invalid_arguments", response_metadata={"messages": ["[ERROR] missing required field: channel"]})
        channel = self.visible(caller, body["channel"], by_name=True)
        if channel.archived:
            raise SlackError("is_archived")
        if channel.restricted:
            raise SlackError("restricted_action")
        if not channel.member and "chat:write.public" not in caller.scopes:
            raise SlackError("not_in_channel")
        if body.get("thread_ts"):
            self.find(channel, str(body["thread_ts"]), "thread_not_found")
        return self._keep(channel, "token", {name: value for name, value in body.items() if name != "channel"})

    def update(self, caller: Token, body: Mapping[str, Any]) -> Posted:
        """chat.update."""
        channel = self.visible(caller, body.get("channel"))
        wait = self.update_rate.take(caller.team_id, self.clock())
        if wait:
            raise SlackError("ratelimited", retry_after=wait)
        before = self.find(channel, str(body.get("ts")), "message_not_found")
        if channel.archived:
            raise SlackError("is_inactive")
        if before.via != "token":
            raise SlackError("cant_update_message")
        changes = {name: value for name, value in body.items() if name not in ("channel", "ts")}
        if len(str(body.get("text") or "").encode()) > MAX_EDITED_TEXT:
            raise SlackError("msg_too_long")
        after = {**before.body, **changes}
        check(after, webhook=False)
        edited = Posted(before.team_id, before.channel, before.channel_name, before.ts, before.via, after)
        self.edits.append(edited)
        return edited

    def find(self, channel: Channel, ts: str, missing: str) -> Posted:
        """A message as it is now; `missing`: the error if there is none (any more)."""
        found = [one for one in (*self.messages, *self.edits) if (one.channel, one.ts) == (channel.id, ts)]
        if not found or (channel.id, ts) in self.deleted:
            raise SlackError(missing)
        return found[-1]

    def post_by_hook(self, path: str, body: Mapping[str, Any]) -> Posted:
        """An incoming webhook's message: its own channel, whatever the body says."""
        channel = self._hooks.get(path)
        if channel is None or not self.workspaces[channel.team_id].active:
            raise SlackError("no_service")
        if channel.id not in self.channels:
            raise SlackError("channel_not_found")
        if channel.archived:
            raise SlackError("channel_is_archived")
        if channel.restricted:
            raise SlackError("action_prohibited")
        return self._keep(channel, "webhook", body)

    def delete_channel(self, channel_id: str) -> None:
        """As if it had never been."""
        del self.channels[channel_id]

    def _keep(self, channel: Channel, via: str, body: Mapping[str, Any]) -> Posted:
        wait = self.message_rate.take(channel.id, self.clock())
        if wait:
            raise SlackError("ratelimited", retry_after=wait)
        check(body, webhook=via == "webhook")
        # Microseconds since the epoch, advanced where the clock does not move: unique and rising.
        self._last_ts = max(self._last_ts + 1, int(self.clock() * 1_000_000))
        seconds, rest = divmod(self._last_ts, 1_000_000)
        kept = dict(body)
        if isinstance(kept.get("text"), str):
            kept["text"] = kept["text"][:MAX_TEXT]
        posted = Posted(channel.team_id, channel.id, channel.name, f"{seconds}.{rest:06d}", via, kept)
        self.messages.append(posted)
        return posted

    def check_client(self, client_id: object, client_secret: object) -> None:
        """Whether a call of oauth.v2.access comes from the app."""
        if client_id != self.client_id:
            raise SlackError("invalid_client_id")
        if client_secret != self.client_secret:
            raise SlackError("bad_client_secret")

    def exchange(self, code: object, redirect_uri: object) -> tuple[dict[str, Any], Grant]:
        """A code for a token, once."""
        grant = self.grants.get(str(code))
        if grant is None:
            raise SlackError("invalid_code")
        if grant.used:
            raise SlackError("code_already_used")
        if self.clock() - grant.issued >= CODE_SECONDS:
            raise SlackError("invalid_code")
        if (redirect_uri or None) != grant.redirect_uri:
            raise SlackError("bad_redirect_uri")
        grant.used = True
        return self._granted(grant.team_id, grant.scopes, rotation=grant.rotation, organisation=grant.organisation), grant

    def refresh(self, refresh_token: object) -> dict[str, Any]:
        """A refresh token for new ones; it is invalid from then on, while the access token is valid until it expires."""
        old = self._refreshes.pop(str(refresh_token), None)
        if old is None or old.revoked or not any(one.active for one in self.workspaces_of(old)):
            raise SlackError("invalid_refresh_token")
        team = old.team_id or self.workspaces_of(old)[0].team_id
        return self._granted(team, sorted(old.scopes), rotation=True, organisation=old.organisation)

    def _granted(self, team_id: str, scopes: Iterable[str], *, rotation: bool, organisation: str) -> dict[str, Any]:
        scopes = tuple(scopes)
        workspace = self.workspaces[team_id]
        access_token = self.issue_token(team_id, scopes, ROTATED_TOKEN_SECONDS if rotation else None, organisation)
        granted: dict[str, Any] = {
            "access_token": access_token,
            "token_type": "bot",
            "scope": ",".join(scopes),
            "bot_user_id": workspace.bot_user,
            "app_id": "A00000001",
            "team": None if organisation else {"id": workspace.team_id, "name": workspace.name},
            "enterprise": {"id": organisation, "name": ORGANISATION_NAME} if organisation else None,
            "is_enterprise_install": bool(organisation),
        }
        if rotation:
            refresh_token = f"xoxe-1-canary-{secrets.token_hex(12)}"
            self._refreshes[refresh_token] = self.tokens[access_token]
            granted |= {"expires_in": ROTATED_TOKEN_SECONDS, "refresh_token": refresh_token}
        return granted


def truth(value: object) -> bool:
    """A boolean argument, as JSON or forms carry it."""
    return value is True or str(value).lower() in ("1", "true")


def _whole(value: object, absent: int) -> int:
    if value is None or value == "":
        return absent
    try:
        return int(str(value))
    except ValueError:
        raise SlackError("invalid_limit") from None


def _read_cursor(value: object) -> str:
    if not value:
        return ""
    try:
        before, _, after = base64.b64decode(str(value), validate=True).decode().partition(":")
    except ValueError:
        raise SlackError("invalid_cursor") from None
    if before != "after" or not after:
        raise SlackError("invalid_cursor")
    return after
