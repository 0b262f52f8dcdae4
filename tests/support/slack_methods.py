"""How the stand-in for Slack responds to each method and incoming webhook, and the failures that a test wants instead."""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.support.receiver import CannedResponse, Received
from tests.support.slack_content import SlackError
from tests.support.slack_http import HOOK_STATUSES, arguments, basic, bearer, json_response, parsed, payload, text_response
from tests.support.slack_state import ORGANISATION_NAME, Channel, Posted, SlackState, Token, Workspace, truth

WEBHOOK = "webhook"
"""Instead of a method's name: every incoming webhook."""
BUT_DONE = frozenset({"fatal_error"})
"""Some aspect of the operation may have succeeded, Slack says of it: here it has."""


@dataclass(slots=True)
class ConfiguredFailure:
    """One thing that goes wrong with the next calls of a method."""

    error: str
    left: int | None
    channel: str | None
    done: bool
    status: int | None = None
    retry_after: int | None = None
    instead: CannedResponse | None = None


class SlackMethods:
    """Responds to requests from the state; not thread-safe by itself.

    Parameters
    ----------
    state
        What the responses are made from.
    url
        Returns where the stand-in listens.
    on_message
        Called with each accepted message.

    Attributes
    ----------
    failures
        By method, or `WEBHOOK`, in the order in which they come.
    calls
        How often each was called.
    mistake
        Where the stand-in itself went wrong, if it did.
    """

    def __init__(self, state: SlackState, url: Callable[[], str], on_message: Callable[[Posted], None] | None) -> None:
        self._state, self._url, self._on_message = state, url, on_message
        self.failures: dict[str, list[ConfiguredFailure]] = {}
        self.calls: Counter[str] = Counter()
        self.mistake = ""

    def respond(self, request: Received) -> CannedResponse:
        """The response to a request for any path."""
        path = urlsplit(request.path).path
        try:
            if path.startswith("/api/"):
                return self._call(path.removeprefix("/api/"), request)
            if path.startswith("/services/"):
                return self._hooked(path, request)
        except Exception as error:  # a mistake of the stand-in must fail the test, not look like a response of Slack
            # Neither the exception itself nor its text: the arguments of its frames are shown with it, credentials among them.
            self.mistake = f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
            return CannedResponse(500)
        return CannedResponse(404)

    def _failure(self, method: str, channel: str | None) -> ConfiguredFailure | None:
        configured = self.failures.get(method, [])
        for one in configured:
            if one.channel is None or one.channel == channel:
                if one.left is not None:
                    one.left -= 1
                    if one.left <= 0:
                        configured.remove(one)
                return one
        return None

    def _call(self, method: str, request: Received) -> CannedResponse:
        self.calls[method] += 1
        try:
            form = arguments(request)
        except SlackError as error:
            return json_response(error)
        failure = self._failure(method, self._named_channel(form))
        if failure is not None and not failure.done:
            return _failed(failure)
        headers: dict[str, str] = {}
        try:
            granted = self._grant(method, form, request, headers)
        except SlackError as error:
            response = json_response(error, headers)
        else:
            response = json_response({"ok": True, **granted}, headers)
        return response if failure is None else _failed(failure)

    def _named_channel(self, form: Mapping[str, Any]) -> str | None:
        for one in self._state.channels.values():
            if form.get("channel") in (one.id, one.name, f"#{one.name}"):
                return one.id
        return None

    def _grant(self, method: str, form: Mapping[str, Any], request: Received, headers: dict[str, str]) -> dict[str, Any]:
        state = self._state
        if method == "oauth.v2.access":
            return self._authorize(form, request)
        if method not in _SCOPES:
            raise SlackError("unknown_method")
        caller = state.authenticate(bearer(form, request), *_SCOPES[method])
        headers["x-oauth-scopes"] = ",".join(sorted(caller.scopes))
        content = {name: value for name, value in form.items() if name != "token"}
        match method:
            case "auth.test":
                return _identity(self._url(), state.workspaces_of(caller)[0], caller.organisation)
            case "auth.revoke":
                caller.revoked = not truth(form.get("test"))
                return {"revoked": caller.revoked}
            case "conversations.list":
                return state.page(caller, form)
            case "conversations.info":
                return {"channel": _readable(caller, state.visible(caller, form.get("channel"))).shown()}
            case "chat.update":
                edited = state.update(caller, parsed(content))
                return {"channel": edited.channel, "ts": edited.ts, "text": edited.text, "message": dict(edited.body)}
            case "conversations.join":
                return state.join(caller, form.get("channel"))
            case _:
                posted = self._announced(state.post(caller, parsed(content)))
                return {"channel": posted.channel, "ts": posted.ts, "message": {"type": "message", **posted.body}}

    def _authorize(self, form: Mapping[str, Any], request: Received) -> dict[str, Any]:
        client_id, client_secret = basic(request) or (form.get("client_id"), form.get("client_secret"))
        self._state.check_client(client_id, client_secret)
        match form.get("grant_type") or "authorization_code":
            case "authorization_code":
                granted, grant = self._state.exchange(form.get("code"), form.get("redirect_uri"))
            case "refresh_token":
                return self._state.refresh(form.get("refresh_token"))
            case _:
                raise SlackError("invalid_grant_type")
        granted["authed_user"] = {"id": "U00000001"}
        if grant.webhook_channel is not None:
            channel = self._state.channels[grant.webhook_channel]
            granted["scope"] = ",".join([*grant.scopes, "incoming-webhook"])
            granted["incoming_webhook"] = {
                "channel": f"#{channel.name}",
                "channel_id": channel.id,
                "configuration_url": f"{self._url()}services/configure",
                "url": self._url() + self._state.issue_hook(channel.id).removeprefix("/"),
            }
        return granted

    def _hooked(self, path: str, request: Received) -> CannedResponse:
        self.calls[WEBHOOK] += 1
        failure = self._failure(WEBHOOK, self._state.hook_channel(path))
        if failure is not None and not failure.done:
            return _failed(failure, webhook=True)
        try:
            self._announced(self._state.post_by_hook(path, payload(request)))
        except SlackError as error:
            response = text_response(error.error, HOOK_STATUSES[error.error], error.retry_after)
        else:
            response = text_response("ok", 200)
        return response if failure is None else _failed(failure, webhook=True)

    def _announced(self, posted: Posted) -> Posted:
        if self._on_message is not None:
            self._on_message(posted)
        return posted


_SCOPES: dict[str, tuple[str, ...]] = {
    "auth.test": (),
    "auth.revoke": (),
    "chat.postMessage": ("chat:write",),
    "chat.update": ("chat:write",),
    "conversations.info": (),
    "conversations.join": ("channels:join",),
    "conversations.list": (),
}
"""What a call needs whatever it asks for; conversations.list and .info need one for the kind of channel."""


def _readable(caller: Token, channel: Channel) -> Channel:
    needed = "groups:read" if channel.private else "channels:read"
    if needed not in caller.scopes:
        raise SlackError("missing_scope", needed=needed, provided=",".join(sorted(caller.scopes)))
    return channel


def _identity(url: str, workspace: Workspace, organisation: str) -> dict[str, Any]:
    """Of a token of an organisation, the team is the organisation."""
    return {
        "url": url,
        "team": ORGANISATION_NAME if organisation else workspace.name,
        "user": "eventsink",
        "team_id": organisation or workspace.team_id,
        "user_id": workspace.bot_user,
        "bot_id": f"B{workspace.team_id}BOT",
        "is_enterprise_install": bool(organisation),
    }


def _failed(failure: ConfiguredFailure, *, webhook: bool = False) -> CannedResponse:
    if failure.instead is not None:
        return failure.instead
    if webhook:
        return text_response(failure.error, failure.status or HOOK_STATUSES[failure.error], failure.retry_after)
    limited = failure.error == "ratelimited"
    headers = {"Content-Type": "application/json; charset=utf-8"}
    if limited or failure.retry_after is not None:
        headers["Retry-After"] = str(1 if failure.retry_after is None else failure.retry_after)
    body = json.dumps({"ok": False, "error": failure.error}).encode()
    return CannedResponse(failure.status or (429 if limited else 200), headers, body)
