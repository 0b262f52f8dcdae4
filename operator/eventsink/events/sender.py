"""Posts Events to the router, in order and until it has accepted them: what it has rejected for good is counted, everything else tried again."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import aiohttp
import msgspec

from eventsink.alerts.formats.kubernetes_events import SUPPRESSED
from eventsink.events.checkpoint import Checkpoint
from eventsink.events.config import SourceSettings
from eventsink.events.metrics import EventsMetrics
from eventsink.events.window import Read, Window
from eventsink.runtime.backoff import Backoff, Chance
from eventsink.runtime.changing_file import ChangingFile
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.responses import read_body
from eventsink.runtime.retry_after import parse_retry_after
from eventsink.runtime.settings import ConfigurationError, read_secret_file

BATCH = 250
"""Events of one request: below what the router takes in one turn."""
BATCH_BYTES = 2 * 1024**2
"""About what one request has at most, and one Event more."""
MAX_RESPONSE_BYTES = 256 * 1024
BACKOFF = Backoff(first=0.5, longest=30.0, jitter=0.5)
NOT_LEADING_SECONDS = 0.5
"""Between two looks whether this replica is sure again that it leads."""
_NEVER_ACCEPTED = frozenset({400, 403, 422})
"""Responses that are about the Events, and not about who sends them, if they are the router's; a proxy before it knows nothing of Events."""
_encoder = msgspec.json.Encoder()


class Response(NamedTuple):
    """What the router said."""

    status: int
    """0: there was no response."""
    body: bytes = b""
    retry_after: float | None = None
    untrusted: bool = False
    """There was no response, since the certificate was not valid."""


class Sender:
    """Takes what waits in the window and posts it; `run` is a task for ever.

    Parameters
    ----------
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
        window: Window,
        checkpoint: Checkpoint,
        metrics: EventsMetrics,
        *,
        may_send: Callable[[], bool] = lambda: True,
        chance: Chance = random.random,
    ) -> None:
        self._settings = settings
        self._token = ChangingFile("router.tokenFile", settings.token_file, read_secret_file)
        self._tls = _tls(settings)
        self._window = window
        self._checkpoint = checkpoint
        self._metrics = metrics
        self._may_send = may_send
        self._chance = chance
        self._session: aiohttp.ClientSession | None = None
        self._is_failing = False
        self._failures = Repeated(60.0)
        self._rejections = Repeated(60.0)
        self.problem: str | None = None
        """Why the router does not accept what is sent, where somebody has to do something about it."""

    async def run(self) -> None:
        """Send until cancelled."""
        # A proxy of the environment is not for the router, which is in the cluster.
        async with aiohttp.ClientSession(trust_env=False) as session:
            self._session = session
            while True:
                reads = await self._window.take(BATCH, BATCH_BYTES)
                if events := encoded(reads):
                    await self._send(events)
                self._checkpoint.advance({one.collection: one.version for one in reads if one.version})

    async def _send(self, events: Sequence[bytes]) -> None:
        """Post until the router has decided on each of them."""
        failures = 0
        while True:
            if not self._may_send():
                await asyncio.sleep(NOT_LEADING_SECONDS)
                continue
            response = await self._post(events)
            self._metrics.requests.labels(str(response.status)).inc()
            if 200 <= response.status < 300:
                self._accepted(response, len(events))
                return
            decided = response.status == 413 or (response.status in _NEVER_ACCEPTED and bool(error_of(response.body)))
            if decided and len(events) > 1 and response.status != 403:
                # One that the router cannot read must not keep back the others.
                middle = len(events) // 2
                await self._send(events[:middle])
                await self._send(events[middle:])
                return
            if decided:
                self._recovered()
                self._rejected(len(events), error_of(response.body))
                return
            failures += 1
            self._failed(response)
            await asyncio.sleep(response.retry_after or BACKOFF.wait(failures, self._chance))

    async def _post(self, events: Sequence[bytes]) -> Response:
        assert self._session is not None
        try:
            async with self._session.post(
                self._settings.url,
                data=b'{"items":[' + b",".join(events) + b"]}",
                headers={"Authorization": f"Bearer {self._token.current()}", "Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout),
                allow_redirects=False,
                ssl=self._tls,
            ) as response:
                body = await read_body(response, MAX_RESPONSE_BYTES)
                return Response(response.status, body, parse_retry_after(response.headers.get("Retry-After"), time.time()))
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
            get_logger().warning("the router does not accept some Events", count=count, reason=reason, more=more)

    def _failed(self, response: Response) -> None:
        if not self._is_failing:
            self._is_failing = True
            self._metrics.sending_failed.set(time.time())
        self.problem = problem_of(response)
        if (more := self._failures.due()) is not None:
            reason = self.problem or ("no response" if not response.status else f"status {response.status}")
            get_logger().warning("Events cannot be sent to the router, retrying", reason=reason, more=more)

    def _recovered(self) -> None:
        self.problem = None
        if self._is_failing:
            self._is_failing = False
            self._metrics.sending_failed.set(0)
            get_logger().info("the router accepts Events again")
            self._failures = Repeated(60.0)


def encoded(reads: Sequence[Read]) -> list[bytes]:
    """The Events of some steps as JSON; of one that is there several times, the last, which has the largest count."""
    last: dict[str, Read] = {}
    suppressed: dict[str, int] = {}
    for number, one in enumerate(reads):
        if one.event is None:
            continue
        name = one.uid or str(number)
        suppressed[name] = suppressed.get(name, 0) + one.suppressed
        last.pop(name, None)
        last[name] = one
    return [_encoder.encode(_marked(one.event or {}, suppressed[name])) for name, one in last.items()]


def _marked(event: dict[str, Any], suppressed: int) -> dict[str, Any]:
    if not suppressed:
        return event
    return {**event, "metadata": {**event["metadata"], "annotations": {SUPPRESSED: str(suppressed)}}}


def problem_of(response: Response) -> str | None:
    """What somebody has to do about a response; None: to wait suffices."""
    if response.untrusted:
        return "the certificate of the router is not valid for the name in router.url, or not of the authority in router.caFile"
    match response.status:
        case 401:
            return "the router does not know the token: router.tokenFile must hold one of the source that router.url names"
        case 404 | 405:
            return "the router does not take alerts there: correct router.url"
        case status if 300 <= status < 400:
            return "the response is a redirect: router.url must be the router's own address"
        case status if status in _NEVER_ACCEPTED:
            return f"something before the router responds with {status}, such as a proxy or a service mesh: let this pod through"
    return None


def rejected_of(body: bytes) -> tuple[int, str]:
    """How many Events the router has not accepted, and why not the first."""
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


def _tls(settings: SourceSettings) -> ssl.SSLContext | bool:
    if settings.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(settings.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"router.caFile: {settings.ca_file} cannot be used: {error.strerror or 'it holds no certificate'}"
        ) from None
