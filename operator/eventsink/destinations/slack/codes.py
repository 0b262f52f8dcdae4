"""Exchanges OAuth codes for tokens, each at most once, and renews tokens before they expire. Each response is stored before it is used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError

from eventsink.destinations.problem import Problem
from eventsink.destinations.slack.api import error_name, failed, web_client
from eventsink.destinations.slack.channels import text_of
from eventsink.destinations.slack.config import SlackAppSettings, SlackSettings
from eventsink.destinations.slack.tokens import StoredToken, TokenRecord, TokenStore, token_name
from eventsink.kube.api import ApiError, Conflict
from eventsink.runtime.backoff import Backoff
from eventsink.runtime.logs import get_logger
from eventsink.runtime.settings import ConfigurationError, read_secret_file

PATH = "spec.slack.oauthCodeSecretRef"
CLAIM_SECONDS = 60.0
"""So long a claim without a response may be one that is being exchanged; then the response is taken to be lost."""
ASK_AGAIN_SECONDS = 30.0
STORE_ATTEMPTS = 10
STORE_BACKOFF = Backoff(first=1.0, longest=8.0)
"""After a failed attempt to store a response of Slack; it doubles, up to a minute in all."""
RENEW_AHEAD_SECONDS = 7200.0
"""Tokens live for 12 hours: six chances an hour apart would be too few, this gives 120 a minute apart."""
MAX_LIFETIME_SECONDS = 30 * 86400.0
"""A token that is said to be valid for longer is renewed by then; Slack's are valid for 12 hours."""
LOOK_SECONDS = 60.0
LOST = "answer_lost"
"""Recorded where a code or a refresh token was used up and the response is not known."""
_PLATFORM_ERRORS = frozenset(
    {"bad_client_secret", "invalid_client_id", "bad_redirect_uri", "invalid_client", "oauth_authorization_url_mismatch"}
)
"""Slack rejected the platform's own credentials: the code is still valid."""
_UNSPENT_ERRORS = frozenset({"ratelimited", "rate_limited"})
_NEW_CODE = "install the app again and put the new code into the Secret"


class SlackCodes:
    """Gives the token of a code.

    Parameters
    ----------
    app
        The platform's app.
    slack
        Where Slack is.
    store
        Where tokens are kept.
    session
        Outgoing HTTP behind the egress guard; the caller closes it.
    check_leader
        Raises an ApiError where another replica may be leading. A response of Slack is stored all the same.
    now
        Wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        app: SlackAppSettings,
        slack: SlackSettings,
        store: TokenStore,
        session: aiohttp.ClientSession,
        *,
        check_leader: Callable[[], object] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._slack = slack
        self._store = store
        self._session = session
        self._check_leader = check_leader
        self._now = now
        self._started = now()
        self._under_way: dict[str, asyncio.Task[StoredToken]] = {}

    async def token(self, code: str, *, namespace_uid: str, tenant: str) -> StoredToken:
        """The token of a code, exchanged now or earlier.

        Parameters
        ----------
        code
            As the Secret holds it.
        namespace_uid, tenant
            Who brings it: nobody else gets its token.

        Raises
        ------
        Problem
            There is no token, or not yet; the message says what to do.
        ApiError
            The store cannot be asked.
        """
        name = token_name(code)
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._obtain(name, code, namespace_uid, tenant))
            self._under_way[name] = task
            task.add_done_callback(lambda done: self._finished(name, done))
        # What was begun goes on when the caller is cancelled: the response must be stored.
        stored = await asyncio.shield(task)
        return self._checked(stored, namespace_uid, tenant)

    async def finish(self, timeout: float) -> None:
        """Wait for exchanges that are under way."""
        if self._under_way:
            await asyncio.wait(list(self._under_way.values()), timeout=timeout)

    async def keep(self, used: Callable[[], Collection[str]]) -> None:
        """Renew what expires and drop what nobody needs, for ever; `used` gives the names of the records that EventSinks need.

        It begins when this replica begins to lead.
        """
        self._started = self._now()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look(used())
            except ApiError as error:
                get_logger().warning("Slack tokens could not be looked at", reason=str(error))

    async def look(self, used: Collection[str]) -> None:
        """One look at all tokens."""
        now = self._now()
        for stored in await self._store.list():
            if stored.name in self._under_way:
                continue
            self._check_leader()
            record = stored.record
            if stored.name in used:
                if record.unused_since is not None:
                    stored = await self._store.replace(stored, record.model_copy(update={"unused_since": None}))
                if renewal_due(stored.record, now):
                    await self._renew(stored)
            elif record.unused_since is None:
                await self._store.replace(stored, record.model_copy(update={"unused_since": now}))
            elif now >= record.unused_since + self._app.token_retention:
                await self._revoke(stored)

    def _finished(self, name: str, task: asyncio.Task[StoredToken]) -> None:
        self._under_way.pop(name, None)
        if not task.cancelled():
            task.exception()  # seen, also where everybody who waited is gone

    def _checked(self, stored: StoredToken, namespace_uid: str, tenant: str) -> StoredToken:
        record = stored.record
        if (record.namespace_uid, record.tenant) != (namespace_uid, tenant):
            raise Problem("CodeTaken", PATH, f"the code was used by another namespace or tenant already; {_NEW_CODE}")
        if record.token or record.webhook_url:
            return stored
        if record.error and record.error != LOST:
            raise Problem(
                "CodeRefused",
                PATH,
                f"Slack rejected the code ({record.error}); a code is valid for ten minutes and one exchange: {_NEW_CODE}",
            )
        # One operator leads at a time: who claimed before this one began to is gone. Its clock may have been ahead.
        now = self._now()
        if not record.error and max(self._started, now - CLAIM_SECONDS) < record.claimed_at < now + CLAIM_SECONDS:
            raise Problem("SlackUnavailable", PATH, "the code is being exchanged", may_pass=True, again_after=CLAIM_SECONDS / 4)
        raise Problem(
            "CodeSpent",
            PATH,
            f"the code was sent to Slack and the response was lost; a code is valid for one exchange: {_NEW_CODE}",
        )

    async def _obtain(self, name: str, code: str, namespace_uid: str, tenant: str) -> StoredToken:
        stored = await self._store.read(name)
        if stored is not None:
            return stored
        secret = self._client_secret()
        self._check_leader()
        claim = TokenRecord(namespace_uid=namespace_uid, tenant=tenant, claimed_at=self._now())
        claimed = await self._store.create(name, claim)
        if claimed is None:
            stored = await self._store.read(name)
            if stored is None:
                raise Problem("SlackUnavailable", PATH, "the code is being exchanged", may_pass=True, again_after=1.0)
            return stored
        return await self._exchange(claimed, code, secret)

    def _client_secret(self) -> str:
        try:
            if self._app.client_id and self._app.client_secret_file is not None:
                return read_secret_file(self._app.client_secret_file)
        except ConfigurationError:
            pass
        raise no_app()

    async def _exchange(self, claimed: StoredToken, code: str, secret: str) -> StoredToken:
        await self._check_claim(claimed)
        form = {"code": code} | ({"redirect_uri": self._app.redirect_url} if self._app.redirect_url else {})
        try:
            response = await self._access(secret, form)
        except ApiError:  # this replica led no longer when the code could have been sent
            await self._store.delete(claimed)
            raise
        except Exception as error:
            return await self._refused(claimed, error)
        record = granted(claimed.record, response, self._now())
        stored = await self._save(claimed, record)
        get_logger().info("an OAuth code was exchanged", tenant=record.tenant, token=stored.name)
        return stored

    async def _check_claim(self, claimed: StoredToken) -> None:
        """Whether the code may be sent. If not, the claim goes: whoever leads now would take the code for one that was sent."""
        try:
            self._check_leader()
        except ApiError:
            await self._store.delete(claimed)
            raise

    async def _access(self, secret: str, form: dict[str, str]) -> dict[str, Any]:
        """oauth.v2.access; the client's own method uses what aiohttp is about to drop."""
        credentials = {"client_id": self._app.client_id, "client_secret": secret}
        response = await web_client(self._slack, self._session, None).api_call("oauth.v2.access", data=credentials | form)
        return response.data if isinstance(response.data, dict) else {}

    async def _refused(self, claimed: StoredToken, error: Exception) -> StoredToken:
        """What a failed exchange leaves behind: nothing where the code is still good, else why it is not."""
        name = error_name(error)
        if name in _PLATFORM_ERRORS:
            await self._store.delete(claimed)
            raise Problem(
                "SlackNotConfigured",
                PATH,
                f"Slack rejects the platform's app ({name}); the platform team has to fix slackApp in the operator's settings",
                again_after=ASK_AGAIN_SECONDS,
            ) from None
        if name in _UNSPENT_ERRORS or isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            await self._store.delete(claimed)
            failure = failed(error, "Slack")
            wait = failure.retry_after or ASK_AGAIN_SECONDS
            raise Problem("SlackUnavailable", PATH, f"{failure.message}; retrying", may_pass=True, again_after=wait) from None
        known = name if isinstance(error, SlackApiError) and name and name not in UNCERTAIN else LOST
        get_logger().warning("an OAuth code gave no token", reason=known, tenant=claimed.record.tenant)
        return await self._save(claimed, claimed.record.model_copy(update={"error": known}))

    async def _save(self, stored: StoredToken, record: TokenRecord) -> StoredToken:
        """Store what cannot be asked a second time; tries for about a minute."""
        for attempt in range(STORE_ATTEMPTS):
            try:
                return await self._store.replace(stored, record)
            except ApiError as error:
                get_logger().warning("could not store the response of Slack, retrying", reason=str(error))
                if isinstance(error, Conflict):
                    stored = await self._as_it_is(stored)
                if attempt == STORE_ATTEMPTS - 1:
                    raise
                await asyncio.sleep(STORE_BACKOFF.wait(attempt + 1))
        raise AssertionError("unreachable")

    async def _as_it_is(self, stored: StoredToken) -> StoredToken:
        """The record's version now; the response of Slack counts, whatever else was recorded meanwhile."""
        try:
            return await self._store.read(stored.name) or stored
        except ApiError:
            return stored

    async def _renew(self, stored: StoredToken) -> None:
        record = stored.record
        try:
            secret = self._client_secret()
        except Problem as problem:
            get_logger().warning("a Slack token cannot be renewed", reason=problem.message, token=stored.name)
            return
        try:
            response = await self._access(secret, {"grant_type": "refresh_token", "refresh_token": record.refresh_token})
        except Exception as error:
            name = error_name(error)
            get_logger().warning("a Slack token was not renewed", reason=name or type(error).__name__, token=stored.name)
            if name == "invalid_refresh_token":
                await self._give_up_renewing(stored, name)
            return
        await self._save(stored, granted(record, response, self._now()))
        get_logger().info("a Slack token was renewed", token=stored.name)

    async def _give_up_renewing(self, stored: StoredToken, error: str) -> None:
        """Slack knows the refresh token no more. Another replica may have used it meanwhile, and stored what it got instead."""
        try:
            await self._store.replace(stored, stored.record.model_copy(update={"error": error, "refresh_token": ""}))
        except Conflict:
            pass  # what is stored now is looked at the next time

    async def _revoke(self, stored: StoredToken) -> None:
        if stored.record.token:
            try:
                await web_client(self._slack, self._session, stored.record.token).auth_revoke()
            except Exception as error:
                if not isinstance(error, SlackApiError):
                    return  # Slack could not be asked: at the next look
        await self._store.delete(stored)
        get_logger().info("a Slack token that nobody needs was revoked", token=stored.name)


def no_app() -> Problem:
    """The problem of a code where there is no app that it could be exchanged for."""
    return Problem(
        "SlackNotConfigured",
        PATH,
        "the platform has configured no Slack app that codes could be exchanged for (operator settings slackApp.clientId "
        "and slackApp.clientSecretFile); use botTokenSecretRef or incomingWebhookSecretRef",
        again_after=ASK_AGAIN_SECONDS * 10,
    )


UNCERTAIN = frozenset({"service_unavailable", "internal_error", "fatal_error", "request_timeout", "team_added_to_org"})
"""Errors after which Slack may or may not have used the code up."""


def renewal_due(record: TokenRecord, now: float) -> bool:
    """Whether a token is to be renewed now: it expires soon, and can be."""
    return bool(record.refresh_token) and record.expires_at is not None and now >= record.expires_at - RENEW_AHEAD_SECONDS


def granted(record: TokenRecord, response: dict[str, Any], now: float) -> TokenRecord:
    """The record with the response of oauth.v2.access: https://docs.slack.dev/reference/methods/oauth.v2.access."""
    token, refresh, expires = (
        text_of(response.get("access_token")),
        text_of(response.get("refresh_token")),
        response.get("expires_in"),
    )
    hook, team = _members(response, "incoming_webhook"), _members(response, "team")
    url = text_of(hook.get("url")) or record.webhook_url  # a renewed token comes without it
    if not token and not url:
        return record.model_copy(update={"error": "no_bot_token"})
    scopes = tuple(scope.strip() for scope in text_of(response.get("scope")).split(",") if scope.strip())
    return record.model_copy(
        update={
            "token": token,
            "refresh_token": refresh,
            # What is no number (NaN) has expired.
            "expires_at": now + min(max(0, expires), MAX_LIFETIME_SECONDS)
            if isinstance(expires, int | float) and refresh
            else None,
            "scopes": scopes or record.scopes,
            "team_id": text_of(team.get("id")) or record.team_id,
            "team_name": text_of(team.get("name")) or record.team_name,
            "webhook_url": url,
            "webhook_channel": text_of(hook.get("channel")).removeprefix("#") or record.webhook_channel,
            "webhook_channel_id": text_of(hook.get("channel_id")) or record.webhook_channel_id,
            "error": "",
        }
    )


def _members(response: dict[str, Any], name: str) -> dict[str, Any]:
    value = response.get(name)
    return value if isinstance(value, dict) else {}
