"""Looks up the destination of a Slack sink: whose token, which workspace, which channel. Asks Slack, and caches the responses for a while."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from eventsink.destinations.credentials import SecretValues, secret_text
from eventsink.destinations.problem import Effect, Problem
from eventsink.destinations.slack.api import check_hook_url, error_name, web_client
from eventsink.destinations.slack.channels import (
    ASK_AGAIN_SECONDS,
    Channel,
    Identity,
    in_workspace,
    is_channel_id,
    is_usable,
    no_workspace_named,
    problem_of,
    read_channel,
    read_identity,
    read_page,
    unseen_channel,
    usable,
)
from eventsink.destinations.slack.config import SlackPlatform
from eventsink.destinations.slack.form import SlackForm
from eventsink.destinations.slack.granted import posts_by_webhook
from eventsink.destinations.slack.spec import SlackSpec
from eventsink.destinations.slack.target import SlackTarget
from eventsink.destinations.slack.tokens import TokenRecord
from eventsink.resources.eventsink import EventSink
from eventsink.resources.model import references
from eventsink.runtime.settings import ConfigurationError, read_secret_file

PAGE = 999
"""Channels in one page, the most that Slack gives: it lets itself be asked about twenty times a minute."""
MAX_PAGES = 1000
CHANNELS_KEPT_SECONDS = 600.0
"""How long the list of a workspace's channels is used; a name that is not in it has it read again, at most once in:"""
LIST_AGAIN_SECONDS = 30.0
IDENTITY_KEPT_SECONDS = 600.0
"""How long is believed which workspace a token belongs to."""
MAX_WORKSPACES = 1000
"""Tokens of which something is remembered."""
PLATFORM_PATH = "spec.slack"
"""The field that is named where the platform's own token is meant."""


@dataclass(eq=False)
class _Workspace:
    """What is remembered of one token."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    identity: Identity | None = None
    identity_at: float = 0.0
    channels: dict[str, Channel] = field(default_factory=dict)
    """Name -> channel."""
    listed_at: float | None = None
    listing: dict[str, Channel] = field(default_factory=dict)
    """What a list that is not at its end has found so far: one that Slack made wait goes on where it was."""
    cursor: str = ""
    unavailable: Problem | None = None
    """Why Slack could not be asked: until then all who share the token get the same problem, and wait for no second time-out."""
    unavailable_until: float = 0.0


class SlackLookup:
    """Makes the target of a Slack sink.

    Parameters
    ----------
    settings
        The platform's.
    session
        Outgoing HTTP behind the egress guard; the caller closes it.
    clock
        Monotonic, seconds.
    """

    def __init__(
        self, settings: SlackPlatform, session: aiohttp.ClientSession, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._session = session
        self._clock = clock
        self._workspaces: OrderedDict[str, _Workspace] = OrderedDict()

    def policy_digest(self) -> str:
        """Changes when the platform's settings or its token change."""
        token = ""
        if self._settings.token_file is not None:
            try:
                token = read_secret_file(self._settings.token_file)
            except ConfigurationError:
                pass  # reported when a sink needs it
        return hashlib.sha256(f"{self._settings.model_dump_json()}\n{token}".encode()).hexdigest()[:16]

    def problems(self, sink: EventSink) -> Sequence[Problem]:
        """What a spec shows without Slack: `target` would raise the first of them."""
        slack = sink.spec.destination
        assert isinstance(slack, SlackSpec)
        if next(references(slack), None) is not None:
            return ()
        found = [_no_workspace()] if self._settings.token_file is None else []
        if slack.channel is not None and not self._may_be_allowed(sink.spec.tenant, slack.channel):
            found.append(_not_allowed(sink.spec.tenant, slack.channel))
        return found

    async def target(
        self, sink: EventSink, secrets: SecretValues, before: SlackTarget | None, granted: TokenRecord | None = None
    ) -> SlackTarget:
        """The target of a sink whose claim was accepted.

        Parameters
        ----------
        sink
            Its spec names `slack`.
        secrets
            The Secrets that it refers to.
        before
            What was compiled of it before: a channel that was renamed since is followed by its id.
        granted
            What the sink's OAuth code was exchanged for, where it has one.

        Raises
        ------
        Problem
            Something cannot be used, or Slack cannot be asked now.
        """
        slack = sink.spec.destination
        assert isinstance(slack, SlackSpec)
        if slack.incoming_webhook_secret_ref is not None:
            return self._webhook(slack, secrets, sink.namespace)
        if granted is not None and posts_by_webhook(granted, slack.channel):
            return self._granted_webhook(slack, granted)
        path, token = self._token(slack, secrets, sink.namespace, granted)
        assert slack.channel is not None
        asked = slack.team_id or (self._settings.team_id if path == PLATFORM_PATH else "") or (granted.team_id if granted else "")
        workspace = self._workspace(token, asked)
        async with workspace.lock:
            if workspace.unavailable is not None and self._clock() < workspace.unavailable_until:
                raise workspace.unavailable
            client = web_client(self._settings, self._session, token)
            try:
                identity = in_workspace(await self._identity(client, workspace, path), asked)
                channel = await self._channel(client, workspace, identity, slack.channel, before)
            except Problem as problem:
                if problem.reason == "SlackUnavailable":
                    workspace.unavailable = problem
                    workspace.unavailable_until = self._clock() + (problem.again_after or ASK_AGAIN_SECONDS)
                raise
        own = path == PLATFORM_PATH
        # Workspaces of one organisation have channels of the same names: there, a channel given by its id has to be listed so.
        name = "" if identity.organisation and is_channel_id(slack.channel) else channel.name
        if own and not self._allowed(sink.spec.tenant, {slack.channel.removeprefix("#"), channel.id, name}):
            raise _not_allowed(sink.spec.tenant, slack.channel)
        return SlackTarget(
            token=token,
            team_id=identity.team_id,
            team_name=identity.team_name,
            channel_id=channel.id,
            channel_name=channel.name,
            channel_asked=slack.channel,
            form=SlackForm.of(slack),
            **_behaviour(slack),
        )

    def _webhook(self, slack: SlackSpec, secrets: SecretValues, namespace: str) -> SlackTarget:
        path = "spec.slack.incomingWebhookSecretRef"
        assert slack.incoming_webhook_secret_ref is not None
        url = secret_text(path, slack.incoming_webhook_secret_ref, secrets, namespace).strip()
        try:
            check_hook_url(url, self._settings)
        except ValueError as error:
            raise Problem("InvalidSecretValue", path, str(error)) from None
        return SlackTarget(webhook_url=url, form=SlackForm.of(slack), **_behaviour(slack))

    def _granted_webhook(self, slack: SlackSpec, granted: TokenRecord) -> SlackTarget:
        """Of the incoming webhook that came with a code; Slack said where it posts."""
        in_workspace(
            Identity(granted.team_id, granted.team_name, "", frozenset(), organisation=not granted.team_id), slack.team_id or ""
        )
        try:
            check_hook_url(granted.webhook_url, self._settings)
        except ValueError as error:
            raise Problem("SlackRefused", "spec.slack.oauthCodeSecretRef", f"{error} (operator setting slack.hookUrls)") from None
        return SlackTarget(
            webhook_url=granted.webhook_url,
            team_id=granted.team_id,
            team_name=granted.team_name,
            channel_id=granted.webhook_channel_id,
            channel_name=granted.webhook_channel,
            form=SlackForm.of(slack),
            **_behaviour(slack),
        )

    def _token(self, slack: SlackSpec, secrets: SecretValues, namespace: str, granted: TokenRecord | None) -> tuple[str, str]:
        """(the field that it comes from, the token)."""
        if slack.oauth_code_secret_ref is not None:
            assert granted is not None
            return "spec.slack.oauthCodeSecretRef", granted.token
        if slack.bot_token_secret_ref is not None:
            path = "spec.slack.botTokenSecretRef"
            return path, bot_token_of(path, secret_text(path, slack.bot_token_secret_ref, secrets, namespace))
        if self._settings.token_file is None:
            raise _no_workspace()
        try:
            return PLATFORM_PATH, read_secret_file(self._settings.token_file)
        except ConfigurationError:
            raise Problem(
                "SlackNotConfigured",
                PLATFORM_PATH,
                "the platform's own token cannot be read; the platform team has to fix slack.tokenFile of the operator",
                again_after=ASK_AGAIN_SECONDS,
            ) from None

    def _allowed(self, tenant: str, called: Set[str]) -> bool:
        if not self._settings.channels:
            return True
        listed = {one.removeprefix("#") for one in self._settings.channels.get(tenant, ())}
        # By what was asked for, too: a channel that was allowed and renamed since stays allowed.
        return not listed.isdisjoint(called)

    def _may_be_allowed(self, tenant: str, asked: str) -> bool:
        """Whether Slack's response may show that a channel is among those that are allowed: only Slack knows which name has which id."""
        if not self._settings.channels:
            return True
        listed = {one.removeprefix("#") for one in self._settings.channels.get(tenant, ())}
        return asked.removeprefix("#") in listed or any(is_channel_id(one) != is_channel_id(asked) for one in listed)

    def _workspace(self, token: str, team: str) -> _Workspace:
        """What is remembered of a token, and of the workspace where it is valid in several."""
        key = hashlib.sha256(f"{team} {token}".encode()).hexdigest()
        workspace = self._workspaces.setdefault(key, _Workspace())
        self._workspaces.move_to_end(key)
        if len(self._workspaces) > MAX_WORKSPACES:
            self._workspaces.popitem(last=False)
        return workspace

    async def _identity(self, client: AsyncWebClient, workspace: _Workspace, path: str) -> Identity:
        if workspace.identity is not None and self._clock() < workspace.identity_at + IDENTITY_KEPT_SECONDS:
            return workspace.identity
        try:
            workspace.identity = read_identity(await client.auth_test())
        except Exception as error:
            raise problem_of(error, path) from None
        workspace.identity_at = self._clock()
        return workspace.identity

    async def _channel(
        self, client: AsyncWebClient, workspace: _Workspace, identity: Identity, asked: str, before: SlackTarget | None
    ) -> Channel:
        name = asked.removeprefix("#")
        found: Channel | None = None
        if is_channel_id(asked):
            found = await self._by_id(client, asked, may_be_hidden=True)
        elif before is not None and before.channel_asked == asked and before.team_id == identity.team_id:
            found = await self._by_id(client, before.channel_id)
        if found is None and not is_channel_id(asked):
            found = await self._by_name(client, workspace, identity, name)
        return usable(found, asked, identity)

    async def _by_id(self, client: AsyncWebClient, identifier: str, *, may_be_hidden: bool = False) -> Channel | None:
        """The channel; `may_be_hidden`: an app that may only post need not be able to see it."""
        try:
            return read_channel((await client.conversations_info(channel=identifier)).get("channel"))
        except Exception as error:
            if isinstance(error, SlackApiError) and error_name(error) == "channel_not_found":
                return None
            if may_be_hidden and isinstance(error, SlackApiError) and error_name(error) == "missing_scope":
                return unseen_channel(identifier)
            raise problem_of(error, "spec.slack.channel") from None

    async def _by_name(self, client: AsyncWebClient, workspace: _Workspace, identity: Identity, name: str) -> Channel | None:
        if identity.organisation and not identity.team_id:
            raise no_workspace_named(identity)
        listed = workspace.listed_at
        now = self._clock()
        fresh = listed is not None and now < listed + CHANNELS_KEPT_SECONDS
        if not fresh or (
            not is_usable(workspace.channels.get(name)) and listed is not None and now >= listed + LIST_AGAIN_SECONDS
        ):
            await self._list(client, workspace, identity.team_id)
        return workspace.channels.get(name)

    async def _list(self, client: AsyncWebClient, workspace: _Workspace, team: str) -> None:
        """Read all channels that the token sees; of an archived and a living one of one name, the living one counts."""
        types = "public_channel,private_channel"
        for _ in range(MAX_PAGES):
            try:
                page, cursor = read_page(
                    await client.conversations_list(
                        types=types, exclude_archived=False, limit=PAGE, cursor=workspace.cursor or None, team_id=team or None
                    )
                )
            except Exception as error:
                name = error_name(error)
                if name == "missing_scope" and types != "public_channel":
                    types = "public_channel"  # the app may see public ones only
                    continue
                if name == "invalid_cursor":
                    workspace.listing, workspace.cursor = {}, ""
                raise problem_of(error, "spec.slack.channel") from None
            for channel in page:
                if channel.name not in workspace.listing or workspace.listing[channel.name].archived:
                    workspace.listing[channel.name] = channel
            workspace.cursor = cursor
            if not workspace.cursor:
                break
        workspace.channels, workspace.listing, workspace.cursor = workspace.listing, {}, ""
        workspace.listed_at = self._clock()


def bot_token_of(path: str, text: str) -> str:
    """The bot token that a Secret holds.

    Raises
    ------
    Problem
        It is none; the message does not repeat it.
    """
    token = text.strip()
    if not token.startswith(("xoxb-", "xoxe.xoxb-")) or not token.isascii() or not token.isprintable() or " " in token:
        raise Problem("InvalidSecretValue", path, "is not a bot token of Slack (it begins with xoxb-)")
    return token


def _no_workspace() -> Problem:
    return Problem(
        "SlackNotConfigured",
        PLATFORM_PATH,
        "name a credential (botTokenSecretRef, incomingWebhookSecretRef or oauthCodeSecretRef): the platform has "
        "configured no workspace of its own (operator setting slack.tokenFile)",
    )


def _not_allowed(tenant: str, channel: str) -> Problem:
    return Problem(
        "ChannelNotAllowed",
        "spec.slack.channel",
        f"the platform does not allow the tenant {tenant} the channel {channel} of its workspace (operator setting slack.channels)",
        effect=Effect.WITHDRAW,
    )


def _behaviour(slack: SlackSpec) -> dict[str, Any]:
    """What the spec says of how messages follow their alerts; what it does not say, the target decides."""
    return slack.model_dump(include={"updates", "repeats"}, exclude_none=True)
