"""Slack's API: its clients behind the egress guard, and what each documented error means for a message and its sink."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from eventsink.destinations.slack.config import SlackSettings
from eventsink.runtime.retry_after import parse_retry_after
from eventsink.sinks.guarded import RedirectRefused, failure_kind
from eventsink.sinks.sender import FAILURES_OF_SINK, Failed, FailureClass
from eventsink.sinks.transport import Endpoint, failure_sentence

_QUIET = logging.getLogger("eventsink.slack")
_QUIET.setLevel(logging.WARNING)
"""The client logs whole requests, credentials among them, at the level DEBUG: it is never set to that."""

TRANSIENT, MESSAGE, SINK = FailureClass.TRANSIENT, FailureClass.MESSAGE, FailureClass.SINK
_INVITE = "invite the app to the channel with /invite @<the app's name>"
_NEW_TOKEN = "put a valid token into the Secret that the EventSink refers to"
_SEE_CHANNEL = "check spec.slack.channel, and that the app is a member of the channel if it is private"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,79}")
"""What Slack's names of errors look like: nothing else of a response is shown."""

_TIMESTAMP = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")

ERRORS: dict[str, tuple[FailureClass, str]] = {
    # https://docs.slack.dev/reference/methods/chat.postMessage (errors), and those that each method has.
    "channel_not_found": (SINK, _SEE_CHANNEL),
    "not_in_channel": (SINK, _INVITE),
    "is_archived": (SINK, "the channel is archived: unarchive it, or name another one in spec.slack.channel"),
    "channel_is_archived": (SINK, "the channel is archived: unarchive it, or make a webhook for another one"),
    "restricted_action": (SINK, "the workspace does not let the app post in this channel: ask its owners"),
    "restricted_action_read_only_channel": (SINK, "the channel is read-only for the app: ask the workspace's owners"),
    "restricted_action_thread_only_channel": (SINK, "the channel takes threads only: name another one"),
    "restricted_action_non_threadable_channel": (SINK, "the workspace does not let the app post in this channel: ask its owners"),
    "posting_to_general_channel_denied": (SINK, "the workspace lets only some post in its general channel: name another one"),
    "action_prohibited": (SINK, "the workspace's owners restrict what this webhook may do: ask them"),
    "no_service": (SINK, "the incoming webhook is disabled or was removed: make a new one"),
    "no_service_id": (SINK, "the URL of the incoming webhook is not whole"),
    "no_team": (SINK, "the URL of the incoming webhook names no workspace"),
    "no_active_hooks": (SINK, "the incoming webhook is disabled: make a new one"),
    "team_disabled": (SINK, "the workspace is disabled"),
    "invalid_token": (SINK, "the URL of the incoming webhook is not valid any more: make a new one"),
    "user_not_found": (SINK, "the incoming webhook belongs to a user who is gone: make a new one"),
    "missing_scope": (SINK, "the app lacks the scope chat:write: add it and install the app again"),
    "not_allowed_token_type": (SINK, "the token is of another kind: a bot token (xoxb-...) is needed"),
    "not_authed": (SINK, _NEW_TOKEN),
    "invalid_auth": (SINK, _NEW_TOKEN),
    "token_revoked": (SINK, f"the token was revoked: {_NEW_TOKEN}"),
    "token_expired": (SINK, f"the token has expired: {_NEW_TOKEN}"),
    "account_inactive": (SINK, f"the app was removed from the workspace: install it again, and {_NEW_TOKEN}"),
    "access_denied": (SINK, "the workspace does not let the app do this: ask its owners"),
    "no_permission": (SINK, "the token lacks a permission: install the app again"),
    "ekm_access_denied": (SINK, "the workspace's administrators have suspended posting"),
    "org_login_required": (SINK, "the workspace is being moved into an organisation"),
    "enterprise_is_restricted": (SINK, "the method may not be called from an organisation"),
    "team_access_not_granted": (SINK, "the app was not granted access to this workspace"),
    "two_factor_setup_required": (SINK, "the workspace asks for two-factor authentication first"),
    "messages_tab_disabled": (SINK, "the app takes no direct messages: name a channel"),
    "invalid_blocks": (MESSAGE, "Slack does not accept its blocks"),
    "invalid_blocks_format": (MESSAGE, "Slack cannot read its blocks"),
    "invalid_attachments": (MESSAGE, "Slack does not accept its attachments"),
    "msg_blocks_too_long": (MESSAGE, "its blocks are too long"),
    "msg_too_long": (MESSAGE, "its text is too long"),
    "no_text": (MESSAGE, "it has no text"),
    "too_many_attachments": (MESSAGE, "it has too many attachments"),
    "invalid_payload": (MESSAGE, "the webhook does not accept its form"),
    "metadata_too_large": (MESSAGE, "its metadata is too large"),
    "invalid_arguments": (MESSAGE, "Slack does not accept an argument of the call"),
    "invalid_arg_name": (MESSAGE, "Slack does not know an argument of the call"),
    "invalid_array_arg": (MESSAGE, "an argument of the call is not a list as Slack reads it"),
    "invalid_charset": (MESSAGE, "Slack does not know the character set of the call"),
    "invalid_form_data": (MESSAGE, "Slack cannot read the call"),
    "invalid_post_type": (MESSAGE, "Slack does not take calls of this content type"),
    "missing_post_type": (MESSAGE, "the call has no content type"),
    "missing_text_or_fallback_or_attachments": (MESSAGE, "it has neither a text nor attachments"),
    "as_user_not_supported": (MESSAGE, "the app may not post as a user"),
    "ratelimited": (TRANSIENT, "these are more calls than Slack takes in this time"),
    "rate_limited": (TRANSIENT, "these are more calls than Slack takes in this time"),
    "message_limit_exceeded": (TRANSIENT, "the workspace has posted more messages than Slack takes in this time"),
    "rollup_error": (TRANSIENT, "an error at Slack"),
    "service_unavailable": (TRANSIENT, "Slack does not work at present"),
    "internal_error": (TRANSIENT, "an error at Slack"),
    "message_not_found": (MESSAGE, "somebody deleted the message: it is posted again"),
    "cant_update_message": (MESSAGE, "another app posted the message: it is posted again"),
    "edit_window_closed": (MESSAGE, "the workspace does not let so old a message be edited: it is posted again"),
    "block_mismatch": (MESSAGE, "Slack cannot change the message into this one: it is posted again"),
    "thread_not_found": (MESSAGE, "somebody deleted the message: what was to be a reply is posted in the channel"),
    "cannot_reply_to_message": (MESSAGE, "the message takes no replies: what was to be one is posted in the channel"),
    "is_inactive": (SINK, "the channel is archived: unarchive it, or name another one in spec.slack.channel"),
    "update_failed": (TRANSIENT, "Slack could not edit the message at present"),
    "external_channel_migrating": (TRANSIENT, "the channel is being moved"),
    "fatal_error": (TRANSIENT, "it may have been posted all the same"),
    "request_timeout": (TRANSIENT, "the call did not get to Slack in time or not whole"),
    "team_added_to_org": (TRANSIENT, "the workspace is being moved into an organisation"),
    "accesslimited": (TRANSIENT, "Slack limits access to the workspace at present"),
    "duplicate_channel_not_found": (TRANSIENT, "Slack does not find the channel of an earlier call"),
    "duplicate_message_not_found": (TRANSIENT, "Slack does not find the message of an earlier call"),
}
"""What no retry fixes is of the sink or of the message (docs/slack.md); an error that is not here is taken for transient."""


def web_client(settings: SlackSettings, session: aiohttp.ClientSession, token: str | None) -> AsyncWebClient:
    """A client of the Web API that makes no retries of its own and uses no proxy from the environment."""
    client = AsyncWebClient(
        token=token,
        base_url=settings.api_url,
        session=session,  # the client's own timeout has no effect beside it: callers bound each call themselves
        retry_handlers=[],
        logger=_QUIET,
    )
    client.proxy = None
    return client


def failed(error: Exception, where: str) -> Failed:
    """What an error of a call means. Its text holds nothing that Slack or the sink's owner wrote, but for the error's documented name.

    Parameters
    ----------
    error
        What slack_sdk or the session raised.
    where
        What was asked, for the sentence: `Slack`, or a host.
    """
    if isinstance(error, SlackApiError):
        response: Any = error.response
        status = getattr(response, "status_code", None) or getattr(response, "status", None) or 0
        if 200 <= status < 300 and not error_data(error):
            return Failed(
                TRANSIENT, "InvalidResponse", f"{where} responded with something that is not a response of Slack", int(status)
            )
        return refused(error_name(error), int(status), retry_after(getattr(response, "headers", None)), where)
    if isinstance(error, RedirectRefused):
        return refused("", error.status, None, where)
    if isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
        kind, detail = failure_kind(error)
        return Failed(SINK if kind in FAILURES_OF_SINK else TRANSIENT, kind.value, failure_sentence(kind, where, detail))
    if isinstance(error, ValueError | RecursionError | AttributeError):  # slack_sdk takes any JSON, and text, for an object
        return Failed(TRANSIENT, "InvalidResponse", f"{where} responded with something that is not JSON as Slack writes it")
    return Failed(TRANSIENT, "InternalError", f"{where} was not asked: {type(error).__name__} in the router; see its log")


def refused(name: str, status: int, wait: float | None, where: str) -> Failed:
    """What an error of Slack means: a table over the error's name, then over the status.

    Parameters
    ----------
    name
        `error` of the response, or the text of an incoming webhook's response; empty: there is none.
    status
        HTTP status.
    wait
        Seconds that Slack asked to wait.
    """
    if name in ERRORS:
        failure, hint = ERRORS[name]
        return Failed(
            failure, camel(name), f"{where} responded with {name}: {hint}", status or None, wait if failure is TRANSIENT else None
        )
    name = name if _NAME.fullmatch(name) else ""
    said = f"{where} responded with {status}" + (f" ({name})" if name else "")
    if status == 429:
        return Failed(TRANSIENT, "RateLimited", f"{where} asks to wait", status, wait)
    if status in (401, 403, 404, 410) or 300 <= status < 400:
        return Failed(SINK, f"HTTP{status}", said, status)
    if status in (400, 413):
        return Failed(MESSAGE, f"HTTP{status}", said, status)
    if status >= 500:
        return Failed(TRANSIENT, f"HTTP{status}", said, status, wait)
    # An error that Slack documents later: a person sees that it fails, and nothing is lost meanwhile.
    said = f"{where} responded with {name or 'an error'}, which this version does not know; see docs.slack.dev"
    return Failed(TRANSIENT, "UnknownError", said, status or None, wait)


def error_data(error: Exception) -> Mapping[str, Any]:
    """The members of the response that an error is about; none where it is no JSON object."""
    data = getattr(getattr(error, "response", None), "data", None)
    return data if isinstance(data, dict) else {}


def error_name(error: Exception) -> str:
    """Slack's name of an error; empty where there is none that may be shown."""
    name = error_data(error).get("error")
    return name if isinstance(name, str) and _NAME.fullmatch(name) else ""


def timestamp(value: object) -> str:
    """Slack's name for a message within its channel; empty where a response has none."""
    return value if isinstance(value, str) and _TIMESTAMP.fullmatch(value) else ""


def hook_error(said: bytes) -> str:
    """Slack's name of an error in the response of an incoming webhook, which is a single word; empty where it is something else."""
    name = said.decode("ascii", "replace").strip()
    return name if name in ERRORS or ("_" in name and _NAME.fullmatch(name)) else ""


def camel(name: str) -> str:
    """`channel_not_found` -> `ChannelNotFound`; what Slack writes in two ways has one reason."""
    name = "rate_limited" if name == "ratelimited" else name
    return "".join(part.capitalize() for part in name.split("_"))


def retry_after(headers: Any) -> float | None:
    """Seconds of the header Retry-After; None where there is none that can be read."""
    for name, value in (headers or {}).items():
        if str(name).lower() == "retry-after":
            return parse_retry_after(str(value[0] if isinstance(value, list) else value), time.time())
    return None


def check_hook_url(url: str, settings: SlackSettings) -> None:
    """Whether a URL can be that of an incoming webhook of Slack.

    Raises
    ------
    ValueError
        It cannot; the text does not repeat it.
    """
    Endpoint.parse(url)
    if not url.startswith(settings.hook_urls):
        wanted = " or ".join(settings.hook_urls)
        raise ValueError(f"the URL is not one of an incoming webhook of Slack: it must begin with {wanted}")
