"""Posts to the router until it has accepted or rejected what is sent: what it rejects for good is counted, everything else tried again."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import aiohttp
from prometheus_client import Counter, Gauge

from eventsink.events.config import SourceSettings
from eventsink.runtime.backoff import Backoff, Chance
from eventsink.runtime.changing_file import ChangingFile
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.responses import read_body
from eventsink.runtime.retry_after import parse_retry_after
from eventsink.runtime.settings import ConfigurationError, read_secret_file

MAX_RESPONSE_BYTES = 256 * 1024
BACKOFF = Backoff(first=0.5, longest=30.0, jitter=0.5)
NOT_LEADING_SECONDS = 0.5
"""Between two looks whether this replica is sure again that it leads."""
_NEVER_ACCEPTED = frozenset({400, 403, 422})
"""Responses that are about what is sent, and not about who sends it, if they are the router's; a proxy before it knows nothing of alerts."""


class Response(NamedTuple):
    """What the router said."""

    status: int
    """0: there was no response."""
    body: bytes = b""
    retry_after: float | None = None
    untrusted: bool = False
    """There was no response, since the certificate was not valid."""

    @property
    def accepted(self) -> bool:
        """Whether something of it was."""
        return 200 <= self.status < 300

    @property
    def decided(self) -> bool:
        """Whether the router says the same when it is sent again."""
        return self.accepted or self.status == 413 or (self.status in _NEVER_ACCEPTED and bool(error_of(self.body)))


class Item(NamedTuple):
    """Something that is posted in a list."""

    body: bytes
    """JSON."""
    alerts: int = 1
    """How many are made of it."""


class PostMetrics(NamedTuple):
    """What is counted of one source."""

    sent: Counter
    rejected: Counter
    requests: Counter
    """By `code`."""
    sending_failed: Gauge
    """Since when, in seconds since the epoch."""


class Messages(NamedTuple):
    """What is logged."""

    failing: str
    recovered: str
    rejected: str


OF_EVENTS = Messages(
    "Events cannot be sent to the router, retrying", "the router accepts Events again", "the router does not accept some Events"
)
OF_REPORTS = Messages(
    "policy reports cannot be sent to the router, retrying",
    "the router accepts policy reports again",
    "the router does not accept some policy reports",
)


class Poster:
    """Posts to one source; an asynchronous context manager, in which it keeps its connections.

    Parameters
    ----------
    setting
        The name of `settings`, for messages.
    may_send
        Whether this replica is sure that it leads.

    Raises
    ------
    ConfigurationError
        The token or the authority cannot be read.
    """

    def __init__(
        self,
        settings: SourceSettings,
        metrics: PostMetrics,
        *,
        setting: str = "router",
        messages: Messages = OF_EVENTS,
        may_send: Callable[[], bool] = lambda: True,
        chance: Chance = random.random,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._setting = setting
        self._messages = messages
        self._token = ChangingFile(f"{setting}.tokenFile", settings.token_file, read_secret_file)
        self._tls = _tls(settings, setting)
        self._may_send = may_send
        self._chance = chance
        self._session: aiohttp.ClientSession | None = None
        self._is_failing = False
        self._failures = Repeated(60.0)
        self._rejections = Repeated(60.0)
        self.problem: str | None = None
        """Why the router does not accept what is sent, where somebody has to do something about it."""

    async def __aenter__(self) -> Self:
        # A proxy of the environment is not for the router, which is in the cluster.
        self._session = aiohttp.ClientSession(trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, items: Sequence[Item]) -> None:
        """Post these in one list until the router has decided on each of them."""
        response = await self._post_until_decided(b'{"items":[' + b",".join([one.body for one in items]) + b"]}")
        alerts = sum([one.alerts for one in items])
        if response.accepted:
            self._accepted(response, alerts)
        elif len(items) > 1 and response.status != 403:
            # One that the router cannot read must not keep back the others.
            middle = len(items) // 2
            await self.send(items[:middle])
            await self.send(items[middle:])
        else:
            self._recovered()
            self._rejected(alerts, error_of(response.body))

    async def say(self, body: bytes) -> bool:
        """Post this until the router has decided on it; whether it has accepted it."""
        response = await self._post_until_decided(body)
        self._recovered()
        return response.accepted

    async def _post_until_decided(self, body: bytes) -> Response:
        failures = 0
        while True:
            if not self._may_send():
                await asyncio.sleep(NOT_LEADING_SECONDS)
                continue
            response = await self._post(body)
            self._metrics.requests.labels(str(response.status)).inc()
            if response.decided:
                return response
            failures += 1
            self._failed(response)
            await asyncio.sleep(response.retry_after or BACKOFF.wait(failures, self._chance))

    async def _post(self, body: bytes) -> Response:
        assert self._session is not None
        try:
            async with self._session.post(
                self._settings.url,
                data=body,
                headers={"Authorization": f"Bearer {self._token.current()}", "Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout),
                allow_redirects=False,
                ssl=self._tls,
            ) as response:
                said = await read_body(response, MAX_RESPONSE_BYTES)
                return Response(response.status, said, parse_retry_after(response.headers.get("Retry-After"), time.time()))
        except aiohttp.ClientSSLError:
            return Response(0, untrusted=True)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Response(0)

    def _accepted(self, response: Response, count: int) -> None:
        self._recovered()
        rejected, reason = rejected_of(response.body)
        self._metrics.sent.inc(max(0, count - rejected))
        if rejected:
            self._rejected(rejected, reason)

    def _rejected(self, count: int, reason: str) -> None:
        self._metrics.rejected.inc(count)
        if (more := self._rejections.due()) is not None:
            get_logger().warning(self._messages.rejected, count=count, reason=reason, more=more)

    def _failed(self, response: Response) -> None:
        if not self._is_failing:
            self._is_failing = True
            self._metrics.sending_failed.set(time.time())
        self.problem = self._problem_of(response)
        if (more := self._failures.due()) is not None:
            reason = self.problem or ("no response" if not response.status else f"status {response.status}")
            get_logger().warning(self._messages.failing, reason=reason, more=more)

    def _recovered(self) -> None:
        self.problem = None
        if self._is_failing:
            self._is_failing = False
            self._metrics.sending_failed.set(0)
            get_logger().info(self._messages.recovered)
            self._failures = Repeated(60.0)

    def _problem_of(self, response: Response) -> str | None:
        """What somebody has to do about a response; None: to wait suffices."""
        url, setting = f"{self._setting}.url", self._setting
        if response.untrusted:
            return (
                f"the certificate of the router is not valid for the name in {url}, or not of the authority in {setting}.caFile"
            )
        match response.status:
            case 401:
                return f"the router does not know the token: {setting}.tokenFile must hold one of the source that {url} names"
            case 404 | 405:
                return f"the router does not take alerts there: correct {url}"
            case status if 300 <= status < 400:
                return f"the response is a redirect: {url} must be the router's own address"
            case status if status in _NEVER_ACCEPTED:
                return (
                    f"something before the router responds with {status}, such as a proxy or a service mesh: let this pod through"
                )
        return None


def rejected_of(body: bytes) -> tuple[int, str]:
    """How many alerts the router has not accepted, and why not the first."""
    try:
        content = json.loads(body)
        rejected = content.get("rejected") or []
        count = len(rejected) + max(0, int(content.get("moreRejected") or 0))
        return count, str(rejected[0]["reason"]) if rejected else ""
    except (ValueError, OverflowError, AttributeError, TypeError, KeyError, RecursionError):
        return 0, ""


def error_of(body: bytes) -> str:
    """Why the router has accepted none of them; empty: it does not say."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def _tls(settings: SourceSettings, setting: str) -> ssl.SSLContext | bool:
    if settings.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(settings.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{setting}.caFile: {settings.ca_file} cannot be used: {error.strerror or 'it holds no certificate'}"
        ) from None
