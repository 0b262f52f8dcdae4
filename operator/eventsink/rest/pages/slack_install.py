"""Slack's browser flow: a program asks for a link, a person opens it, Slack asks them, and the sink is made.

    POST /v1/slack/install   with a key        -> link to /v1/slack/open
    GET  /v1/slack/open      in the browser    -> sets a cookie, goes on to Slack's authorize page
    GET  /v1/slack/callback  Slack sends the browser back with a code -> makes the sink, says what happened

All that is to be known stands in the state, signed; the state that Slack gets holds a digest of the cookie, so that the callback counts
only in the browser that opened the link. Who opened a link or came back is remembered until the state is over: each counts once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from eventsink.rest.access.callers import Caller, KeyCaller
from eventsink.rest.calls.facade import Facade
from eventsink.rest.calls.responses import etag
from eventsink.rest.config import SlackInstallSettings
from eventsink.rest.errors import Away, Conflicting, InvalidRequest, NotPermitted
from eventsink.rest.models import CreateRequest, EventSinkArgs, InstallAnswer, InstallRequest, SlackArgs
from eventsink.runtime.settings import ConfigurationError, read_secret_file
from eventsink.runtime.times import format_time

CALLBACK_PATH = "/v1/slack/callback"
OPEN_PATH = "/v1/slack/open"
COOKIE_PATH = "/v1/slack"
MAX_STATE = 4000
"""Characters: it travels in addresses, which not every proxy takes at any length."""
BROWSER_CHARACTERS = 200
"""By which the state grows when it is bound to a browser."""
MAX_CODE = 1024
MAX_USED = 100_000
MIN_KEY = 32
FindCaller = Callable[[str], Caller | None]
"""The caller of that name, if they would still be let in."""


@dataclass(frozen=True)
class Opened:
    """What the browser gets."""

    location: str
    cookie: str
    value: str = field(repr=False)
    lasts: int
    """Seconds."""
    secure: bool


class SlackInstall:
    """The flow.

    Parameters
    ----------
    find_caller
        Who asked for a link may have lost the key since.

    Raises
    ------
    ConfigurationError
        The file of the key cannot be used.
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
        """Whether the platform has set it up."""
        return bool(self._settings.client_id and self._settings.redirect_url)

    async def begin(self, caller: Caller, request: InstallRequest) -> InstallAnswer:
        """A link for a person's browser.

        Raises
        ------
        Refused
            It would lead nowhere.
        """
        if not self.offered:
            raise Conflicting(
                "Slack's browser flow is not set up here; the platform team sets slackInstall.clientId and redirectUrl"
            )
        if not isinstance(caller, KeyCaller):
            raise NotPermitted("links are given for API keys only, whose rights are looked at again when the browser comes back")
        meant = ""
        if request.id is not None:
            if request.tenant_id is not None or request.name is not None or request.description is not None:
                raise InvalidRequest(
                    "id: connects a sink anew, whose tenant and name stay; remove tenant_id, name and description"
                )
            meant = etag(await self._facade.check_reconnect(caller, request.id))
        else:
            for name in ("tenant_id", "name", "channel"):
                if getattr(request, name) is None:
                    raise InvalidRequest(f"{name}: this field is required; add it")
            await self._facade.check_create(caller, self._wanted(request, "code"))
        expires = int(self._clock() + self._settings.lasts)
        payload = {
            "for": "open",
            "nonce": secrets.token_urlsafe(16),
            "until": expires,
            "caller": caller.name,
            "request": request.model_dump(exclude_none=True),
            "meant": meant,
        }
        state = self._sign(payload)
        if len(state) > MAX_STATE - BROWSER_CHARACTERS:
            raise InvalidRequest("description: is too long for a link; shorten it, and change it later")
        outer = self._settings.redirect_url.removesuffix(CALLBACK_PATH)
        return InstallAnswer(
            url=f"{outer}{OPEN_PATH}?{urlencode({'state': state})}",
            expires_at=format_time(expires),
        )

    def open(self, state: str) -> Opened:
        """The link was opened: bind it to this browser, and send it on.

        Raises
        ------
        Refused
            The link is none, is over, or was opened before.
        """
        payload = self._read(state, "open")
        self._use(payload, "open")
        value = secrets.token_urlsafe(32)
        bound = {**payload, "for": "callback", "browser": hashlib.sha256(value.encode()).hexdigest()}
        query = {
            "client_id": self._settings.client_id,
            "scope": ",".join(self._settings.scopes),
            "state": self._sign(bound),
            "redirect_uri": self._settings.redirect_url,
        }
        return Opened(
            location=f"{self._settings.authorize_url}?{urlencode(query)}",
            cookie=cookie_name(payload),
            value=value,
            lasts=max(1, int(payload["until"] - self._clock())),
            secure=urlsplit(self._settings.redirect_url).scheme == "https",
        )

    async def finish(self, state: str, code: str, error: str, cookies: dict[str, str]) -> str:
        """Slack sent the browser back; returns a sentence on what happened.

        Raises
        ------
        Refused
            Nothing was made or changed.
        """
        payload = self._read(state, "callback")
        value = cookies.get(cookie_name(payload), "")
        if not hmac.compare_digest(hashlib.sha256(value.encode("utf-8", "replace")).hexdigest(), str(payload.get("browser"))):
            raise NotPermitted("this link was opened in another browser; ask for a new one, and open and finish it in the same")
        self._use(payload, "callback")
        if error:
            raise InvalidRequest("Slack was not allowed to connect: nothing was changed. Ask for a new link to try again")
        if not code or len(code) > MAX_CODE:
            raise InvalidRequest("Slack sent no code; ask for a new link")
        caller = self._find_caller(payload["caller"])
        request = InstallRequest.model_validate(payload["request"])
        if caller is None:
            raise NotPermitted("the API key that asked for this link was revoked; nothing was changed")
        if request.id is not None:
            # Another replica may have seen this link, too: it changes the sink only as it was then.
            written = await self._facade.reconnect(caller, request.id, code, request.channel, str(payload["meant"]))
        else:
            written = await self._facade.create(caller, self._wanted(request, code), f"slack-install-{payload['nonce']}")
        sink = written.answer.event_sink
        slack = sink.configuration.slack
        channel = (slack.channel_name or slack.channel) if slack is not None else ""
        if not sink.ready:
            return f"The sink {sink.name} is there, but not ready yet. {sink.reason}"
        return f"Connected: alerts of {sink.tenant_id} go to {channel} by the sink {sink.name}. You can close this page."

    @staticmethod
    def _wanted(request: InstallRequest, code: str) -> CreateRequest:
        assert request.tenant_id is not None
        assert request.name is not None
        slack = SlackArgs(channel=request.channel, slack_oauth_code=code)
        return CreateRequest(
            tenant_id=request.tenant_id,
            name=request.name,
            description=request.description,
            event_sink_args=EventSinkArgs(slack=slack),
        )

    # ---- state

    def _sign(self, payload: dict[str, Any]) -> str:
        body = (
            base64.urlsafe_b64encode(json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()).decode().rstrip("=")
        )
        return f"{body}.{self._mac(body)}"

    def _mac(self, body: str) -> str:
        return hmac.new(self._key, body.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def _read(self, state: str, purpose: str) -> dict[str, Any]:
        body, _, mac = state.partition(".")
        if len(state) > MAX_STATE or not hmac.compare_digest(self._mac(body), mac.encode("ascii", "replace").decode()):
            raise InvalidRequest("this link was not made here, or is not whole; ask for a new one")
        try:
            payload: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (ValueError, binascii.Error):
            raise InvalidRequest("this link is not whole; ask for a new one") from None
        if payload.get("for") != purpose:
            raise InvalidRequest("this link is for another step; ask for a new one")
        if self._clock() >= payload["until"]:
            raise InvalidRequest("this link is over; ask for a new one")
        return payload

    def _use(self, payload: dict[str, Any], step: str) -> None:
        """Count this step as done.

        Raises
        ------
        Refused
            It was done before, or too many links are open to remember another.
        """
        now = self._clock()
        while self._used and next(iter(self._used.values())) < now:
            self._used.popitem(last=False)
        mark = f"{payload['nonce']} {step}"
        if mark in self._used:
            raise InvalidRequest("this link was used already; ask for a new one")
        if len(self._used) >= MAX_USED:
            raise Away("too many links are open; try again in some minutes", retry_after=60)
        self._used[mark] = payload["until"]


def cookie_name(payload: dict[str, Any]) -> str:
    """Of the cookie that binds a link: its own, so that several can be open in one browser."""
    return f"eventsink_install_{hashlib.sha256(payload['nonce'].encode()).hexdigest()[:12]}"
