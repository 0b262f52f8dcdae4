"""Sends messages to a Slack channel: by a bot token, or by an incoming webhook whose URL fixes the channel."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
from msgspec import structs
from slack_sdk.errors import SlackApiError

from eventsink.alerts.alert import Alert
from eventsink.destinations.slack.api import (
    ERRORS,
    camel,
    check_hook_url,
    error_data,
    error_name,
    failed,
    hook_error,
    refused,
    retry_after,
    timestamp,
    web_client,
)
from eventsink.destinations.slack.config import SlackSettings
from eventsink.destinations.slack.message import SlackMessage
from eventsink.destinations.slack.objections import objections
from eventsink.destinations.slack.rendering import Renderer
from eventsink.destinations.slack.replies import all_ended, what_changed
from eventsink.destinations.slack.target import SlackTarget
from eventsink.destinations.slack.text import cut_bytes
from eventsink.destinations.slack.updates import NO_THREAD, NOT_EDITABLE, Known, Reply, announced, follow, latest
from eventsink.runtime.logs import get_logger
from eventsink.runtime.responses import read_body
from eventsink.sinks.post import Post
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome, SenderContext
from eventsink.sinks.shares import Bound, Lease, Share
from eventsink.sinks.sink import Sink
from eventsink.sinks.template_use import TemplateUse
from eventsink.sinks.transport import WAITED_FOR, Endpoint, failure_sentence

MAX_WEBHOOK_RESPONSE_BYTES = 1024
"""Slack's responses to incoming webhooks are single words."""
MAX_EDITED = 64
"""Edits that are remembered, so that they are not repeated when what follows them failed."""
MAX_EDITED_TEXT = 4000
"""Bytes of a text to which a message is edited, escaped; of more, chat.update makes msg_too_long, unlike chat.postMessage."""
_decoder = msgspec.json.Decoder(Alert)
_NOT_EDITABLE, _NO_THREAD = frozenset(map(camel, NOT_EDITABLE)), frozenset(map(camel, NO_THREAD))
"""As reasons of `Failed`."""
_NOT_FOLLOWABLE = _NOT_EDITABLE | _NO_THREAD


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
        templates: TemplateUse | None = None,
    ) -> None:
        if (target.token is None) == (target.webhook_url is None):
            raise ValueError("it has neither a token nor an incoming webhook")
        self._sink = f"{sink.namespace}/{sink.name}"
        self._renderer = Renderer(sink, target.form, templates or TemplateUse())
        self._target = target
        self._session = session
        self._share = share
        self._on_wait = on_wait
        self._on_plain = on_plain
        self._timeout = settings.timeout
        self._as_text: dict[str, str] = {}
        """Kind of call -> id of the message whose blocks Slack rejected last in such a call."""
        self._edited: dict[str, bytes] = {}
        """Reference of a message that was edited -> digest of what it was edited to: a retry does not repeat that."""
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
        known = latest(alerts, message.alerts)
        await self._renderer.prepare()
        lease: Lease | None = None
        try:
            async with asyncio.timeout(self._timeout):
                lease = await self._share.wait(self._on_wait)
                if self._session.closed:  # slack_sdk would open one of its own, without the egress guard
                    raise aiohttp.ClientConnectionError
                if message.post is None:
                    return await self._announce(message, known)
                return await self._follow(message, message.post, known)
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

    async def _announce(self, message: Message, known: Known) -> Outcome:
        """Post a new message, which later ones may follow."""
        outcome = await self._in_a_form_that_is_taken("post", message, self._render(known, message.id), self._post)
        if isinstance(outcome, Failed) or self._target.webhook_url is not None or self._target.updates == "message":
            return outcome
        if not _timestamp(outcome.reference):
            return outcome  # nothing can follow it
        return structs.replace(outcome, post=announced(known, message.id, outcome.reference, self._target.updates))

    async def _follow(self, message: Message, post: Post, known: Known) -> Outcome:
        """Do with a post, and in its thread, what is to be done when this becomes of its alerts."""
        shown = self._shown(post) if self._target.updates == "edit" else {}
        plan = follow(post, shown, known, self._target.repeats)
        if plan.after and (rendered := self._render(plan.after, post.message)) != self._render(plan.before, post.message):
            edited = await self._edit(message, post.reference, rendered)
            if isinstance(edited, Failed):
                if edited.reason in _NOT_EDITABLE:
                    return await self._post_again(message, plan.post, rendered)
                if edited.failure is not FailureClass.MESSAGE or plan.reply is None:
                    return structs.replace(edited, of_edits=edited.reason == "RateLimited")
                # What changed is said all the same, and shown with the next change: what is recorded is what it is to show.
        if plan.reply is not None:
            rendered = self._reply_of(plan.reply, plan.post)
            thread = {"thread_ts": _timestamp(post.reference), "reply_broadcast": plan.reply.to_channel}

            async def reply(body: dict[str, Any]) -> Outcome:
                return await self._post({**body, **thread})

            replied = await self._in_a_form_that_is_taken("reply", message, rendered, reply)
            if isinstance(replied, Failed):
                if replied.reason not in _NO_THREAD:
                    return replied
                again = self._render(known, post.message)
                return await self._post_again(message, plan.post, again, instead=not plan.after)
        return Delivered(200, post.reference, plan.post)

    async def _post_again(self, message: Message, post: Post, rendered: SlackMessage, *, instead: bool = True) -> Outcome:
        """Post as a new message what cannot be an edit or a reply; `instead`: what follows is to follow that one."""
        outcome = await self._in_a_form_that_is_taken("post", message, rendered, self._post)
        if isinstance(outcome, Failed) or not _timestamp(outcome.reference):
            return outcome
        get_logger().info("a Slack message can be followed no more, and was posted again", sink=self._sink)
        return structs.replace(outcome, post=structs.replace(post, reference=outcome.reference) if instead else post)

    def _shown(self, post: Post) -> Known:
        """What a post shows; nothing, if another version recorded it in another form."""
        try:
            return latest([_decoder.decode(alert) for alert in post.alerts], post.alerts)
        except msgspec.MsgspecError:
            return {}

    def _render(self, known: Known, lookup: str) -> SlackMessage:
        """`lookup`: id of the message by which its alerts are found."""
        alerts = [alert for alert, _ in known.values()]
        found_with = f"eventsink deliveries --message {lookup}"
        return self._renderer.render(alerts, lookup=found_with)

    def _reply_of(self, reply: Reply, post: Post) -> SlackMessage:
        if not reply.changed:
            return all_ended(post)
        if not reply.to_channel:
            return what_changed(post, [alert for alert, _ in reply.changed.values()])
        return self._render(reply.changed, post.message)

    async def _in_a_form_that_is_taken(
        self, call: str, message: Message, rendered: SlackMessage, send: Callable[[dict[str, Any]], Awaitable[Outcome]]
    ) -> Outcome:
        """Send with blocks; once Slack has rejected those of the message in such a call, as text alone."""
        if self._as_text.get(call) != message.id:
            outcome = await send(rendered.body())
            malformed = isinstance(outcome, Failed) and outcome.failure is FailureClass.MESSAGE
            if not isinstance(outcome, Failed) or not malformed or outcome.reason in _NOT_FOLLOWABLE:
                return outcome
            self._as_text[call] = message.id  # also after a retry: Slack counts the rejected message for its rate
            self._on_plain(outcome.reason)
        return await send(rendered.plain_body())

    async def _edit(self, message: Message, reference: str, rendered: SlackMessage) -> Outcome:
        digest = hashlib.blake2b(json.dumps(rendered.body()).encode(), digest_size=16).digest()
        if self._edited.get(reference) == digest:
            return Delivered(200, reference)

        async def update(body: dict[str, Any]) -> Outcome:
            # What is left out would stay as it is.
            text = cut_bytes(body["text"], MAX_EDITED_TEXT)
            content = {"text": text, "blocks": body.get("blocks", []), "attachments": body.get("attachments", [])}
            try:
                await self._client.chat_update(channel=self._target.channel_id, ts=_timestamp(reference), parse="none", **content)
            except SlackApiError as error:
                return self._rejected(failed(error, self._where), error_name(error), body, error_data(error))
            return Delivered(200, reference)

        outcome = await self._in_a_form_that_is_taken("edit", message, rendered, update)
        if isinstance(outcome, Delivered):
            self._edited[reference] = digest
            if len(self._edited) > MAX_EDITED:
                del self._edited[next(iter(self._edited))]
        return outcome

    async def _post(self, body: dict[str, Any]) -> Outcome:
        if self._target.webhook_url is not None:
            return await self._post_to_webhook(body)
        try:
            posted = await self._client.chat_postMessage(channel=self._target.channel_id, **body)
        except SlackApiError as error:
            return self._rejected(failed(error, self._where), error_name(error), body, error_data(error))
        return Delivered(200, f"{self._target.channel_id}/{timestamp(posted.get('ts'))}")

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
            said = await read_body(response, MAX_WEBHOOK_RESPONSE_BYTES)
            name = hook_error(said)
            return self._rejected(refused(name, response.status, retry_after(response.headers), self._where), name, body)

    def _rejected(self, failed: Failed, name: str, body: dict[str, Any], data: object = None) -> Failed:
        """Log what is wrong with a message that Slack takes for malformed: a defect of this program."""
        if failed.failure is FailureClass.MESSAGE and failed.reason not in _NOT_FOLLOWABLE:
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


def _timestamp(reference: str) -> str:
    """Slack's name for a message within its channel."""
    return reference.rpartition("/")[2]


def open_sender(sink: Sink, target: SlackTarget, context: SenderContext) -> SlackSender:
    """The sender of a channel; ValueError as `SlackSender`."""
    limit = context.session_limit
    share = Share(sink.tenant, (limit,), limit.most)
    return SlackSender(
        sink,
        target,
        context.settings_of(SlackSettings),
        context.session,
        share,
        context.on_wait,
        context.on_plain,
        context.templates,
    )
