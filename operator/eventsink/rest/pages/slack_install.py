"""Slack's browser flow: a program asks for a link, a person opens it, Slack asks for consent, and the sink is created.

    POST /v1/slack/install   with a key        -> link to /v1/slack/open
    GET  /v1/slack/open      in the browser    -> sets a cookie, redirects to Slack's authorize page
    GET  /v1/slack/callback  Slack sends the browser back with a code -> creates the sink, shows the outcome

Everything is in the state, which is signed; the state that Slack gets holds a digest of the cookie, so that the callback works only in
the browser that opened the link. Used links are remembered until they expire: each step works once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from eventsink.destinations.arguments import RestModel
from eventsink.destinations.slack.arguments import Channel, SlackArgs, SlackCodeArgs, SlackConfiguration
from eventsink.kube.api import Object
from eventsink.rest.access.callers import Caller, KeyCaller
from eventsink.rest.calls.facade import ChangeResult, Facade
from eventsink.rest.calls.responses import etag
from eventsink.rest.calls.specs import type_of
from eventsink.rest.config import SlackInstallSettings
from eventsink.rest.errors import Conflict, Forbidden, InvalidRequest, ServiceUnavailable
from eventsink.rest.models import (
    CreateRequest,
    Description,
    DisplayName,
    EventSinkArgs,
    EventSinkChanges,
    GivenId,
    TenantId,
    Time,
    UpdateRequest,
)
from eventsink.runtime.settings import ConfigurationError, read_secret_file
from eventsink.runtime.times import format_time

SLACK = "slack"
"""The type, as in a spec."""
CALLBACK_PATH = "/v1/slack/callback"
OPEN_PATH = "/v1/slack/open"
COOKIE_PATH = "/v1/slack"
MAX_STATE = 4000
"""Characters: it is part of URLs, whose length proxies limit."""
BROWSER_CHARACTERS = 200
"""Characters that the state grows by when it is bound to a browser."""
MAX_CODE = 1024
MAX_USED = 100_000
MIN_KEY = 32
FindCaller = Callable[[str], Caller | None]
"""Returns the caller of that name, if they are still valid."""


class InstallRequest(RestModel):
    """A Slack sink that a person connects in the browser: a new one (tenant_id, name, channel), or `id` of one to reconnect."""

    tenant_id: TenantId | None = None
    name: DisplayName | None = None
    description: Description | None = None
    channel: Channel | None = None
    id: GivenId | None = None


class InstallResponse(RestModel):
    """The link for the person."""

    url: str
    """Works once, in the browser that opens it."""
    expires_at: Time


@dataclass(frozen=True)
class Opened:
    """The redirect for the browser."""

    location: str
    cookie: str
    value: str = field(repr=False)
    lasts: int
    """Seconds."""
    secure: bool


class _State(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a link holds."""

    purpose: str = msgspec.field(name="for")
    """The step that it is for."""
    nonce: str
    until: int
    """Seconds since 1970."""
    caller: str
    request: dict[str, Any]
    version: str
    """The ETag of the sink to reconnect; empty: a new one."""
    browser: str = ""
    """The digest of the cookie, once it is bound to a browser."""


class SlackInstall:
    """The flow.

    Parameters
    ----------
    find_caller
        The key that asked for a link may have been revoked since.

    Raises
    ------
    ConfigurationError
        The file of the state key is not usable.
    """

    def __init__(
        self, settings: SlackInstallSettings, facade: Facade, find_caller: FindCaller, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._facade = facade
        self._find_caller = find_caller
        self._clock = clock
        self._used: OrderedDict[str, float] = OrderedDict()
        self._key = secrets.token_bytes(32)
        if settings.state_key_file is not None:
            text = read_secret_file(settings.state_key_file)
            if len(text) < MIN_KEY:
                raise ConfigurationError(f"slackInstall.stateKeyFile: the key needs {MIN_KEY} characters or more")
            self._key = hashlib.sha256(text.encode()).digest()

    @property
    def offered(self) -> bool:
        """Whether the platform has configured it."""
        return bool(self._settings.client_id and self._settings.redirect_url)

    async def begin(self, caller: Caller, request: InstallRequest) -> InstallResponse:
        """A link for a person's browser.

        Raises
        ------
        RestError
            The link could not work.
        """
        if not self.offered:
            raise Conflict("Slack's browser flow is not configured; the platform team sets slackInstall.clientId and redirectUrl")
        if not isinstance(caller, KeyCaller):
            raise Forbidden("only API keys can request a link: their access is checked again when the browser comes back")
        version = ""
        if request.id is not None:
            if request.tenant_id is not None or request.name is not None or request.description is not None:
                raise InvalidRequest("id: reconnects a sink, whose tenant and name stay; remove tenant_id, name and description")
            version = etag(await self._slack_sink(caller, request.id.lower()))
        else:
            for name in ("tenant_id", "name", "channel"):
                if getattr(request, name) is None:
                    raise InvalidRequest(f"{name}: this field is required; add it")
            await self._facade.check_create(caller, self._wanted(request, "code"))
        expires = int(self._clock() + self._settings.lasts)
        state = self._sign(
            _State("open", secrets.token_urlsafe(16), expires, caller.name, request.model_dump(exclude_none=True), version)
        )
        if len(state) > MAX_STATE - BROWSER_CHARACTERS:
            raise InvalidRequest("description: too long for a link; shorten it, and change it later")
        outer = self._settings.redirect_url.removesuffix(CALLBACK_PATH)
        return InstallResponse(
            url=f"{outer}{OPEN_PATH}?{urlencode({'state': state})}",
            expires_at=format_time(expires),
        )

    def open(self, state: str) -> Opened:
        """Bind an opened link to this browser, and redirect it to Slack.

        Raises
        ------
        RestError
            The link is invalid, has expired, or was opened before.
        """
        found, _ = self._read(state, "open")
        self._use(found, "open")
        value = secrets.token_urlsafe(32)
        bound = msgspec.structs.replace(found, purpose="callback", browser=hashlib.sha256(value.encode()).hexdigest())
        query = {
            "client_id": self._settings.client_id,
            "scope": ",".join(self._settings.scopes),
            "state": self._sign(bound),
            "redirect_uri": self._settings.redirect_url,
        }
        return Opened(
            location=f"{self._settings.authorize_url}?{urlencode(query)}",
            cookie=_cookie_name(found),
            value=value,
            lasts=max(1, int(found.until - self._clock())),
            secure=urlsplit(self._settings.redirect_url).scheme == "https",
        )

    async def finish(self, state: str, code: str, error: str, cookies: dict[str, str]) -> str:
        """Handle the browser that Slack sent back; returns a sentence on the outcome.

        Raises
        ------
        RestError
            Nothing was created or changed.
        """
        found, request = self._read(state, "callback")
        value = cookies.get(_cookie_name(found), "")
        if not hmac.compare_digest(hashlib.sha256(value.encode("utf-8", "replace")).hexdigest().encode(), found.browser.encode()):
            raise Forbidden(
                "this link was opened in another browser; ask for a new one, and open and finish it in the same browser"
            )
        self._use(found, "callback")
        if error:
            raise InvalidRequest("access was denied at Slack; nothing was changed. Ask for a new link to try again")
        if not code or len(code) > MAX_CODE:
            raise InvalidRequest("Slack sent no code; ask for a new link")
        caller = self._find_caller(found.caller)
        if caller is None:
            raise Forbidden("the API key that asked for this link was revoked; nothing was changed")
        if request.id is not None:
            # Another replica may have served this link, too: it changes the sink only if it is as it was then.
            result = await self._reconnect(caller, request.id.lower(), code, request.channel, found.version)
        else:
            result = await self._facade.create(caller, self._wanted(request, code), f"slack-install-{found.nonce}")
        sink = result.response.event_sink
        slack: SlackConfiguration = sink.configuration.value
        channel = slack.channel_name or slack.channel
        if not sink.ready:
            return f"The sink {sink.name} was saved, but is not ready yet. {sink.reason}"
        return f"Connected: the sink {sink.name} sends alerts of {sink.tenant_id} to {channel}. You can close this page."

    async def _slack_sink(self, caller: Caller, uid: str) -> Object:
        """The EventSink that a new code is for."""
        obj = await self._facade.read_for_update(caller, uid)
        if type_of(obj.get("spec") or {}) != SLACK:
            raise InvalidRequest("id: not a Slack sink")
        return obj

    async def _reconnect(self, caller: Caller, uid: str, code: str, channel: str | None, if_match: str) -> ChangeResult:
        """Give a Slack sink a new OAuth code, and a channel unless it keeps its own."""
        obj = await self._slack_sink(caller, uid)
        wanted = channel or (obj.get("spec") or {}).get("slack", {}).get("channel")
        if not wanted:
            raise InvalidRequest("channel: this field is required; the sink has none yet")
        args = SlackCodeArgs(channel=wanted, slack_oauth_code=code)
        return await self._facade.update(
            caller, uid, UpdateRequest(id=uid, event_sink_args=EventSinkChanges.of(SLACK, args)), if_match
        )

    @staticmethod
    def _wanted(request: InstallRequest, code: str) -> CreateRequest:
        assert request.tenant_id is not None
        assert request.name is not None
        slack = SlackArgs(channel=request.channel, slack_oauth_code=code)
        return CreateRequest(
            tenant_id=request.tenant_id,
            name=request.name,
            description=request.description,
            event_sink_args=EventSinkArgs.of(SLACK, slack),
        )

    # ---- state

    def _sign(self, state: _State) -> str:
        body = base64.urlsafe_b64encode(msgspec.json.encode(state)).decode().rstrip("=")
        return f"{body}.{self._mac(body)}"

    def _mac(self, body: str) -> str:
        return hmac.new(self._key, body.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def _read(self, state: str, purpose: str) -> tuple[_State, InstallRequest]:
        body, _, mac = state.partition(".")
        if len(state) > MAX_STATE or not hmac.compare_digest(self._mac(body), mac.encode("ascii", "replace").decode()):
            raise InvalidRequest("this link is invalid or incomplete; ask for a new one")
        try:
            found = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_State)
            request = InstallRequest.model_validate(found.request)
        except (ValueError, msgspec.DecodeError, RecursionError):  # signed by another version
            raise InvalidRequest("this link is incomplete; ask for a new one") from None
        if found.purpose != purpose:
            raise InvalidRequest("this link is for another step; ask for a new one")
        if self._clock() >= found.until:
            raise InvalidRequest("this link has expired; ask for a new one")
        return found, request

    def _use(self, state: _State, step: str) -> None:
        """Mark this step as used.

        Raises
        ------
        RestError
            It was used before, or too many links are open to remember another.
        """
        now = self._clock()
        while self._used and next(iter(self._used.values())) < now:
            self._used.popitem(last=False)
        mark = f"{state.nonce} {step}"
        if mark in self._used:
            raise InvalidRequest("this link was already used; ask for a new one")
        if len(self._used) >= MAX_USED:
            raise ServiceUnavailable("too many links are open; try again in a few minutes", retry_after=60)
        self._used[mark] = state.until


def _cookie_name(state: _State) -> str:
    """Name of the cookie that binds a link: each has its own, so that several can be open in one browser."""
    return f"eventsink_install_{hashlib.sha256(state.nonce.encode()).hexdigest()[:12]}"
