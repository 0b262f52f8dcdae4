"""A stand-in for Slack for tests and the demo: it accepts what Slack accepts, and rejects what Slack rejects.

    with Slack() as slack:
        slack.add_workspace("T1", "Acme")
        channel = slack.add_channel("T1", "alerts")
        client = WebClient(slack.issue_token("T1"), base_url=slack.api_url)

Where its rules come from (pages of https://docs.slack.dev unless a whole address is given):

- responses are HTTP 200 with `ok` and `error`, tokens come in Authorization or in a form, never in JSON: apis/web-api; nor in a URL:
  changelog/2020-11-no-more-tokens-in-querystrings-for-newly-created-apps
- one message a second and channel, conversations.list 20 times a minute (tier 2), 429 with Retry-After in whole seconds:
  apis/web-api/rate-limits. The limit of a whole workspace is not simulated. That messages by token and
  by webhook count together is the stricter reading of "per channel".
- chat.update 50 times a minute (tier 3) of a workspace; it keeps what it is not given, and changes what the app posted by token:
  reference/methods/chat.update. A reply to a message that is gone gets thread_not_found: https://github.com/slackapi/bolt-js/issues/2307
- errors of each method: reference/methods/<method>. A revoked token gets token_revoked, one of an uninstalled app
  account_inactive, which that page says of bot tokens
- text is cut at 40,000 characters, markdown_text takes 12,000 (msg_too_long): reference/methods/chat.postMessage.
  A text to which a message is edited has 4,000 bytes at most: https://gitlab.com/gitlab-org/gitlab/-/merge_requests/258898
- msg_blocks_too_long has no number on any page: https://github.com/slackapi/bolt-js/issues/2509 saw it from 13,172
  characters on; here it comes where `tests.support.slack_limits` draws the line. That module also checks everything else in a
  message, and enforces what Slack merely recommends
- pages hold 100 channels unless asked for, at most 999 ("an integer under 1000"): reference/methods/conversations.list
- errors of a code: reference/methods/oauth.v2.access. That a code lives ten minutes and is used once is taken from the project's
  notes, and so is code_already_used: lists of that page's errors name invalid_code alone. A code issued without redirect_uri
  is rejected with one, which the page leaves open
- a rotated token lives 43,200 s; a used refresh token is void: authentication/using-token-rotation
- of an app that is installed in a whole organisation: auth.test and oauth.v2.access name the organisation, and conversations.list needs
  team_id: enterprise-grid/developing-for-enterprise-orgs, reference/methods/conversations.list. That the error without it is
  missing_argument is a guess
- what incoming webhooks return: https://api.slack.com/changelog/2016-05-17-changes-to-errors-for-incoming-webhooks;
  no_text and no_service, which came later, from the project's notes. A message with bad blocks gets invalid_payload

As a program, `python -m tests.support.slack --port N`, it prints one JSON line for each message that it accepts.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import trustme

from tests.support.receiver import DISCONNECT, HANG, POLL_SECONDS, CannedResponse, Received, Receiver
from tests.support.slack_http import HOOK_STATUSES
from tests.support.slack_methods import BUT_DONE, WEBHOOK, ConfiguredFailure, SlackMethods
from tests.support.slack_rate_limits import CallRateLimit, MessageRateLimit, SlackClock
from tests.support.slack_state import BOT_SCOPES, Channel, Grant, Posted, SlackState, Workspace
from tests.support.waiting import DEADLINE_SECONDS, wait_until

__all__ = ["WEBHOOK", "Posted", "Slack", "SlackClock"]

MESSAGE_SECONDS = 1.0
"""Between two messages of a channel. Slack lets short bursts through, and promises none."""
LISTS_PER_MINUTE = 20
"""Tier 2, which conversations.list is of."""
UPDATES_PER_MINUTE = 50
"""Tier 3, which chat.update is of."""


class Slack:
    """Listens on a free port of loopback, in a thread of its own; use as a context manager.

    Parameters
    ----------
    port
        Listen there instead.
    clock
        By which codes and tokens expire and rates are limited; a stopped one makes the limits exact.
    message_seconds, burst
        A channel accepts one message in so many seconds, after a burst of so many; 0 seconds: no limit.
    lists_per_minute
        Calls of conversations.list of a workspace in a minute; 0: no limit.
    updates_per_minute
        The same of chat.update.
    on_message
        Called with each accepted message, in the thread of the stand-in.
    authority
        Issues its certificate, for 127.0.0.1 and localhost; None: it is served without TLS.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        clock: SlackClock | None = None,
        message_seconds: float = MESSAGE_SECONDS,
        burst: int = 1,
        lists_per_minute: int = LISTS_PER_MINUTE,
        updates_per_minute: int = UPDATES_PER_MINUTE,
        on_message: Callable[[Posted], None] | None = None,
        authority: trustme.CA | None = None,
    ) -> None:
        self.clock = clock or SlackClock()
        self.state = SlackState(
            self.clock,
            MessageRateLimit(message_seconds, burst),
            CallRateLimit(lists_per_minute),
            CallRateLimit(updates_per_minute),
        )
        self._lock = threading.RLock()
        self._methods = SlackMethods(self.state, lambda: self.url, on_message)
        self._front = _Front(self._respond, port, authority)

    def __enter__(self) -> Self:
        self._front.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        if self._methods.mistake and error is None:
            raise AssertionError(f"the stand-in for Slack made a mistake: {self._methods.mistake}")

    def __repr__(self) -> str:
        return f"Slack({self.url}, {self.state})"

    def close(self) -> None:
        """Stop listening and cut all connections."""
        self._front.close()

    @property
    def port(self) -> int:
        """Where it listens on loopback."""
        return self._front.port

    @property
    def url(self) -> str:
        """Where it listens; what the URL of an incoming webhook begins with."""
        return self._front.url()

    @property
    def api_url(self) -> str:
        """Base address of its Web API."""
        return self._front.url("/api/")

    @property
    def client_id(self) -> str:
        """The app's, for oauth.v2.access."""
        return self.state.client_id

    @property
    def client_secret(self) -> str:
        """The app's, for oauth.v2.access."""
        return self.state.client_secret

    def add_workspace(self, team_id: str, name: str = "Acme", *, organisation: str = "") -> Workspace:
        """A workspace in which the app is installed, or to which an organisation's admin added it."""
        with self._lock:
            added = Workspace(team_id, name, f"U{team_id}BOT", organisation=organisation)
            self.state.workspaces[team_id] = added
            return added

    def uninstall(self, team_id: str) -> None:
        """The app is removed from the workspace: account_inactive, and no_service for webhooks."""
        with self._lock:
            self.state.workspaces[team_id].active = False

    def add_channel(
        self,
        team_id: str,
        name: str,
        *,
        private: bool = False,
        member: bool = True,
        archived: bool = False,
        restricted: bool = False,
    ) -> str:
        """A channel; returns its id.

        Parameters
        ----------
        member
            Whether the bot is in it.
        restricted
            Whether only some people may post: restricted_action, and action_prohibited for webhooks.
        """
        with self._lock:
            workspace = self.state.workspaces[team_id]
            made = Channel(f"C{len(self.state.channels) + 1:08d}", workspace.team_id, name, private, member, archived, restricted)
            self.state.channels[made.id] = made
            return made.id

    def rename(self, channel: str, name: str) -> None:
        """Give a channel another name; like `archive`, `invite` and `restrict` it takes an id or a name."""
        with self._lock:
            self.state.channel(channel).name = name

    def archive(self, channel: str, archived: bool = True) -> None:
        """Archive a channel, or unarchive it."""
        with self._lock:
            self.state.channel(channel).archived = archived

    def invite(self, channel: str, member: bool = True) -> None:
        """Add the bot to a channel, or remove it."""
        with self._lock:
            self.state.channel(channel).member = member

    def restrict(self, channel: str, restricted: bool = True) -> None:
        """Let only some people post in a channel, or all again."""
        with self._lock:
            self.state.channel(channel).restricted = restricted

    def delete(self, channel: str) -> None:
        """Remove a channel."""
        with self._lock:
            del self.state.channels[self.state.channel(channel).id]

    def issue_token(
        self,
        team_id: str,
        *,
        scopes: Iterable[str] = BOT_SCOPES,
        expires_in: float | None = None,
        organisation: bool = False,
    ) -> str:
        """A bot's token; with `expires_in` seconds one of an app with rotation, with `organisation` one of the workspace's organisation."""
        with self._lock:
            of = self.state.workspaces[team_id].organisation if organisation else ""
            return self.state.issue_token(team_id, scopes, expires_in, of)

    def revoke(self, token: str) -> None:
        """Reject a token from now on: token_revoked."""
        with self._lock:
            self.state.revoke(token)

    def expire(self, token: str) -> None:
        """Let a token expire now: token_expired."""
        with self._lock:
            self.state.expire(token)

    def issue_code(
        self,
        team_id: str,
        *,
        scopes: Iterable[str] = BOT_SCOPES,
        rotation: bool = False,
        redirect_uri: str | None = None,
        webhook_channel: str | None = None,
        organisation: bool = False,
    ) -> str:
        """A code of oauth.v2.access.

        Parameters
        ----------
        rotation
            Whether the token expires and a refresh token comes with it.
        redirect_uri
            What the exchange must repeat; absent, it must name none.
        webhook_channel
            A channel whose incoming webhook comes with the token.
        organisation
            Whether the app is installed in the whole organisation of the workspace.
        """
        with self._lock:
            channel = None if webhook_channel is None else self.state.channel(webhook_channel).id
            of = self.state.workspaces[team_id].organisation if organisation else ""
            grant = Grant(team_id, tuple(scopes), self.clock(), rotation, redirect_uri, channel, organisation=of)
            return self.state.issue_code(grant)

    def issue_webhook(self, channel: str) -> str:
        """URL of a new incoming webhook that posts to a channel."""
        with self._lock:
            return self._front.url(self.state.issue_hook(self.state.channel(channel).id))

    def remove_webhook(self, url: str) -> None:
        """Remove an incoming webhook: no_service."""
        with self._lock:
            self.state.remove_hook(urlsplit(url).path)

    def fail(
        self,
        method: str,
        error: str,
        *,
        times: int | None = 1,
        channel: str | None = None,
        retry_after: int | None = None,
        status: int | None = None,
        done: bool | None = None,
    ) -> None:
        """Fail the next calls of a method (or `WEBHOOK`) whatever they say; failures of one method come in turn.

        Parameters
        ----------
        times
            So many calls; None: all, until `clear_failures`.
        channel
            Only calls that post there: an id or a name.
        retry_after
            Seconds of the header; ratelimited has 1 by itself.
        status
            HTTP status; absent, the one that Slack has for the error.
        done
            Whether the call takes effect all the same; absent, fatal_error does.
        """
        if method == WEBHOOK and status is None and error not in HOOK_STATUSES:
            raise ValueError(f"no status is known for a webhook that returns {error}: give one")
        done = error in BUT_DONE if done is None else done
        self._put(method, ConfiguredFailure(error, times, self._id(channel), done, status, retry_after))

    def hang(self, method: str, *, times: int | None = 1, channel: str | None = None, done: bool = False) -> None:
        """Never respond to the next calls of a method; with `done` they take effect."""
        self._put(method, ConfiguredFailure("hang", times, self._id(channel), done, instead=HANG))

    def hang_up(self, method: str, *, times: int | None = 1, channel: str | None = None, done: bool = False) -> None:
        """Close the connection of the next calls of a method instead of responding; with `done` they take effect."""
        self._put(method, ConfiguredFailure("hang up", times, self._id(channel), done, instead=DISCONNECT))

    def clear_failures(self, method: str | None = None) -> None:
        """Forget the failures of a method, or of all."""
        with self._lock:
            if method is None:
                self._methods.failures.clear()
            else:
                self._methods.failures.pop(method, None)

    def calls(self, method: str) -> int:
        """How often a method (or `WEBHOOK`) was called, rejected calls included."""
        with self._lock:
            return self._methods.calls[method]

    def messages(self, channel: str | None = None) -> list[Posted]:
        """What was posted so far, in order; with an id or a name, only in that channel."""
        with self._lock:
            seen = list(self.state.messages)
            identifier = self._id(channel)
        return seen if identifier is None else [one for one in seen if one.channel == identifier]

    def shown(self, channel: str) -> list[Posted]:
        """The messages of a channel as they are now, without replies and what was deleted."""
        return self._as_they_are(channel, "")

    def replies(self, posted: Posted) -> list[Posted]:
        """The thread of a message as it is now."""
        return self._as_they_are(posted.channel, posted.ts)

    def _as_they_are(self, channel: str, thread: str) -> list[Posted]:
        with self._lock:
            found = self.state.channel(channel)
            now = {one.ts: one for one in (*self.state.messages, *self.state.edits) if one.channel == found.id}
            return [one for ts, one in now.items() if one.thread == thread and (found.id, ts) not in self.state.deleted]

    def edits(self, channel: str) -> list[Posted]:
        """What messages of a channel were changed to, in order."""
        with self._lock:
            found = self.state.channel(channel)
            return [one for one in self.state.edits if one.channel == found.id]

    def delete_message(self, posted: Posted) -> None:
        """A person deletes a message."""
        with self._lock:
            self.state.deleted.add((posted.channel, posted.ts))

    def wait_for(
        self,
        awaited: int | Callable[[list[Posted]], object],
        *,
        channel: str | None = None,
        deadline: float = DEADLINE_SECONDS,
    ) -> list[Posted]:
        """Wait until that many messages are posted, or until the predicate holds of them; returns all that are then.

        Raises
        ------
        TimeoutError
            After `deadline` seconds, with the number of messages in each channel and of the calls.
        """
        holds: Callable[[list[Posted]], object] = awaited if callable(awaited) else lambda seen: len(seen) >= awaited
        seen: list[Posted] = []

        def probe() -> bool:
            nonlocal seen
            seen = self.messages(channel)
            return bool(holds(seen))

        what = "awaited messages" if callable(awaited) else f"{awaited} messages"
        wait_until(f"{what} in {channel or 'any channel'}", probe, deadline=deadline, poll=POLL_SECONDS, show=self._shown)
        return seen

    def _shown(self) -> str:
        with self._lock:
            posted = Counter(one.channel_name for one in self.state.messages)
            calls = dict(self._methods.calls)
        messages = ", ".join(f"#{name} {count}" for name, count in posted.items()) or "none"
        return f"posted: {messages}; calls: {', '.join(f'{name} {count}' for name, count in calls.items()) or 'none'}"

    def _id(self, channel: str | None) -> str | None:
        with self._lock:
            return None if channel is None else self.state.channel(channel).id

    def _respond(self, request: Received) -> CannedResponse:
        with self._lock:
            return self._methods.respond(request)

    def _put(self, method: str, failure: ConfiguredFailure) -> None:
        with self._lock:
            self._methods.failures.setdefault(method, []).append(failure)


class _Front(Receiver):
    """A receiver whose responses a function makes and which keeps no requests, since they hold credentials."""

    def __init__(self, respond: Callable[[Received], CannedResponse], port: int, authority: trustme.CA | None) -> None:
        super().__init__(port=port, authority=authority)
        self._respond_to = respond

    def take(self, request: Received) -> CannedResponse:
        return self._respond_to(request)


def line(posted: Posted) -> str:
    """A message as the program prints it."""
    shown = {"team": posted.team_id, "channel": f"#{posted.channel_name}", "channel_id": posted.channel, "ts": posted.ts}
    return json.dumps(shown | {"via": posted.via, "message": posted.body}, ensure_ascii=False)


def main(options: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; credentials go to a file that only its owner reads, never to the output."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.slack", description="A stand-in for Slack on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--channel", action="append", help="a channel's name; may be repeated (default: alerts)")
    parser.add_argument("--credentials", type=Path, help="write addresses, a token, a code and webhooks into this file")
    wanted = parser.parse_args(options)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with Slack(port=wanted.port, on_message=lambda posted: print(line(posted), flush=True)) as slack:
        slack.add_workspace("T00000001", "Acme")
        channels = {name: slack.add_channel("T00000001", name) for name in wanted.channel or ["alerts"]}
        if wanted.credentials is not None:
            known = {
                "api_url": slack.api_url,
                "url": slack.url,
                "client_id": slack.client_id,
                "client_secret": slack.client_secret,
                "token": slack.issue_token("T00000001"),
                "code": slack.issue_code("T00000001"),
                "webhooks": {name: slack.issue_webhook(identifier) for name, identifier in channels.items()},
            }
            descriptor = os.open(wanted.credentials, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                os.fchmod(descriptor, 0o600)  # it may have been there before
                json.dump(known, file)
        print(json.dumps({"event": "listening", "part": "slack", "port": slack.port}), file=sys.stderr, flush=True)
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
