"""Sends messages to a Slack channel: by a bot token, or by an incoming webhook whose URL fixes the channel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
from slack_sdk.errors import SlackApiError

from eventsink.alerts.alert import Alert
from eventsink.destinations.slack.api import (
    ERRORS,
    check_hook_url,
    error_name,
    failed,
    hook_error,
    refused,
    retry_after,
    web_client,
)
from eventsink.destinations.slack.config import SlackSettings
from eventsink.destinations.slack.message import render
from eventsink.destinations.slack.objections import objections
from eventsink.destinations.slack.target import SlackTarget
from eventsink.runtime.logs import get_logger
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome, SenderContext
from eventsink.sinks.shares import Bound, Lease, Share
from eventsink.sinks.sink import Sink
from eventsink.sinks.transport import WAITED_FOR, Endpoint, failure_sentence

MAX_WEBHOOK_RESPONSE_BYTES = 1024
"""Slack's responses to incoming webhooks are single words."""
_decoder = msgspec.json.Decoder(Alert)


class SlackSender:
    """A `Sender` for one channel.

    Parameters
    ----------
    sink
        The compiled sink, which messages name.
    target
        The channel.
    settings
        Where Slack is.
    session
        Outgoing HTTP behind the egress guard; the caller closes it.
    share
        Of the session's connections; each message takes a unit.
    on_wait
        Called when a message has to wait for one.
    on_plain
        Called when Slack rejected the form of a message, with the reason: it is sent once more as text alone.

    Raises
    ------
    ValueError
        The target cannot be used: it has neither a token nor a webhook, or the webhook is not Slack's.
    """

    def __init__(
        self,
        sink: Sink,
        target: SlackTarget,
        settings: SlackSettings,
        session: aiohttp.ClientSession,
        share: Share,
        on_wait: Callable[[Bound], None] = lambda _bound: None,
        on_plain: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        if (target.token is None) == (target.webhook_url is None):
            raise ValueError("it has neither a token nor an incoming webhook")
        self._sink = f"{sink.namespace}/{sink.name}"
        self._tenant = sink.tenant
        self._target = target
        self._session = session
        self._share = share
        self._on_wait = on_wait
        self._on_plain = on_plain
        self._timeout = settings.timeout
        self._as_text = ""
        """Id of the message whose blocks Slack rejected last."""
        if target.webhook_url is not None:
            check_hook_url(target.webhook_url, settings)
            self._where = Endpoint.parse(target.webhook_url).origin
        else:
            self._where = "Slack"
            self._client = web_client(settings, session, target.token)

    async def send(self, message: Message) -> Outcome:
        try:
            alerts = [_decoder.decode(alert) for alert in message.alerts]
        except msgspec.MsgspecError:
            text = "an alert of the message cannot be read; it was queued by another version or is damaged"
            return Failed(FailureClass.MESSAGE, "InvalidMessage", text)
        if not alerts:
            return Failed(FailureClass.MESSAGE, "InvalidMessage", "a group in Alertmanager's format cannot be sent to Slack")
        lookup = f"eventsink deliveries --message {message.id}"
        rendered = render(alerts, self._target.form, sink=self._sink, tenant=self._tenant, lookup=lookup)
        lease: Lease | None = None
        try:
            async with asyncio.timeout(self._timeout):
                lease = await self._share.wait(self._on_wait)
                if self._session.closed:  # slack_sdk would open one of its own, without the egress guard
                    raise aiohttp.ClientConnectionError
                if message.id != self._as_text:
                    outcome = await self._post(rendered.body())
                    if not (isinstance(outcome, Failed) and outcome.failure is FailureClass.MESSAGE):
                        return outcome
                    self._as_text = message.id  # also after a retry: Slack counts the rejected message for its rate
                    self._on_plain(outcome.reason)
                return await self._post(rendered.plain_body())
        except Exception as error:
            if lease is None and isinstance(error, TimeoutError):
                kind, detail = WAITED_FOR[self._share.bound or Bound.FULL]
                return Failed(FailureClass.TRANSIENT, kind.value, failure_sentence(kind, self._where, detail))
            if not isinstance(error, SlackApiError | aiohttp.ClientError | TimeoutError | OSError | ValueError):
                get_logger().error("a Slack message could not be sent because of an unexpected error", error=type(error).__name__)
            return failed(error, self._where)
        finally:
            if lease is not None:
                self._share.release(lease)

    async def _post(self, body: dict[str, Any]) -> Outcome:
        if self._target.webhook_url is not None:
            return await self._post_to_webhook(body)
        try:
            posted = await self._client.chat_postMessage(channel=self._target.channel_id, **body)
        except SlackApiError as error:
            return self._rejected(failed(error, self._where), error_name(error), body, error.response.data)
        return Delivered(200, f"{self._target.channel_id}/{posted.get('ts') or ''}")

    async def _post_to_webhook(self, body: dict[str, Any]) -> Outcome:
        # slack_sdk's webhook client offers no way to leave redirects alone: the URL is a credential, and must not be carried on.
        assert self._target.webhook_url is not None
        async with self._session.post(
            self._target.webhook_url,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json; charset=utf-8"},
            allow_redirects=False,
        ) as response:
            if 200 <= response.status < 300:
                return Delivered(response.status)
            said = await response.content.read(MAX_WEBHOOK_RESPONSE_BYTES)
            name = hook_error(said)
            return self._rejected(refused(name, response.status, retry_after(response.headers), self._where), name, body)

    def _rejected(self, failed: Failed, name: str, body: dict[str, Any], data: object = None) -> Failed:
        """Log what is wrong with a message that Slack takes for malformed: a defect of this program."""
        if failed.failure is FailureClass.MESSAGE:
            get_logger().error(
                "Slack rejected the form of a message",
                error=name if name in ERRORS else failed.reason,
                objections=objections(data, body),
                text_alone=not body.keys() & {"blocks", "attachments"},
                sink=self._sink,
            )
        return failed

    async def close(self) -> None:
        """The session belongs to the process: nothing to give back."""

    def __repr__(self) -> str:
        return f"SlackSender({self._where})"


def open_sender(sink: Sink, target: SlackTarget, context: SenderContext) -> SlackSender:
    """The sender of a channel; ValueError as `SlackSender`."""
    limit = context.session_limit
    share = Share(sink.tenant, (limit,), limit.most)
    return SlackSender(
        sink, target, context.settings_of(SlackSettings), context.session, share, context.on_wait, context.on_plain
    )
