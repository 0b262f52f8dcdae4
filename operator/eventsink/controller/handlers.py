"""kopf's side: a handler that only passes on what is news, and kopf in a thread of its own.

kopf takes over the signals of the thread that it runs in when that is the main one, and cancels other tasks of its loop when it ends; so it
gets a thread and a loop of its own. Its settings are those of handlers that only watch: nothing is remembered of an object, or compared.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf
import uvloop
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from eventsink.controller.admission.assembly import Admission
from eventsink.controller.admission.review import Reviewer
from eventsink.controller.admission.server import HANDLER, REFUSED, REVIEW_FAILED
from eventsink.kube.api import Key, Object, key_of
from eventsink.kube.http import HttpApi
from eventsink.resources.names import GROUP, PLURAL, VERSION
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.process import Stop
from eventsink.runtime.settings import ConfigurationError

STOP_SECONDS = 5.0
RECONNECT_SECONDS = 1.0
IDLE_SECONDS = 0.1
"""How long kopf keeps the task, and the last state, of an object of which it has passed on everything."""
UNAUTHORIZED_FOR_SECONDS = 15.0
"""How long a login that gets 401 is repeated: an API server that has just started accepts no token for a moment."""

Seen = Callable[[str | None, Object], None]
"""Type of the event (None: listed, ADDED, MODIFIED, DELETED) and the object."""
Knows = Callable[[Key, str], bool]
"""Whether that resourceVersion of an EventSink, or a later one, is known already; called in kopf's thread."""


_TASKS = logging.getLogger("kopf._core.reactor.running")
"""Where kopf logs that one of its tasks failed. It may wait for ever then (for another login, say) instead of ending."""


def _is_news(record: logging.LogRecord) -> bool:
    """Drops a warning of each start: that kopf leaves the signals alone is why it has a thread of its own."""
    return "OS signals are ignored" not in record.msg


class _Failures(logging.Handler):
    """Reports kopf's tasks that failed."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        super().__init__(logging.ERROR)
        self._failed = failed

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self._failed(record.exc_info[1])


class Logins:
    """Counts kopf's logins: one at the start, and one after each 401.

    kopf uses no credentials again that got a 401, and ends where a login brings no others. So for a while each login is given an
    expiration of its own, by which kopf takes the same credentials for new ones.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._unauthorized_since = self._last = 0.0

    def next(self) -> tuple[float, datetime | None]:
        """Seconds to wait before this login, and the expiration of its credentials; none at first, and where kopf is to end."""
        self._count += 1
        now, last = self._clock(), self._last
        self._last = now
        if self._count == 1:
            return 0.0, None
        if self._count == 2 or now - last > UNAUTHORIZED_FOR_SECONDS:
            self._unauthorized_since = now
        if now - self._unauthorized_since > UNAUTHORIZED_FOR_SECONDS:
            return 0.0, None
        return RECONNECT_SECONDS, datetime.max.replace(tzinfo=UTC) - timedelta(days=self._count)


class KopfThread:
    """Watches EventSinks with kopf; `seen` is called in the loop that made this, with what is not known already."""

    def __init__(self, api: HttpApi, seen: Seen, knows: Knows, admission: Admission | None = None) -> None:
        self._api = api
        self._seen = seen
        self._knows = knows
        self._admission = admission
        self._logins = Logins()
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    async def run(self) -> None:
        """Watch until cancelled; raises what ended kopf."""
        listening = _Failures(self._failed)
        _TASKS.addHandler(listening)
        _TASKS.addFilter(_is_news)
        self._thread.start()
        try:
            await asyncio.shield(self._ended)
        finally:
            _TASKS.removeHandler(listening)
            _TASKS.removeFilter(_is_news)
            self._stop.set()
            await self._loop.run_in_executor(None, self._thread.join, STOP_SECONDS)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(
                    kopf.operator(
                        registry=self._registry(),
                        settings=_settings(self._admission),
                        memories=NoMemories(),
                        clusterwide=True,
                        standalone=True,
                        stop_flag=self._stop,
                        ready_flag=self._ready,
                    )
                )
        except BaseException as caught:
            error = caught
        try:
            self._loop.call_soon_threadsafe(self._finish, error)
        except RuntimeError:
            pass  # the loop has ended before

    def _failed(self, error: BaseException) -> None:
        try:
            self._loop.call_soon_threadsafe(self._finish, error)
        except RuntimeError:
            pass  # the loop has ended before

    def _finish(self, error: BaseException | None) -> None:
        if not self._ended.done():
            if isinstance(error, Stop | ConfigurationError):
                self._ended.set_exception(error)
            elif error is not None and not isinstance(error, asyncio.CancelledError):
                self._ended.set_exception(RuntimeError(f"kopf ended: {type(error).__name__}"))
            else:
                self._ended.set_result(None)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            wait, expiration = self._logins.next()
            await asyncio.sleep(wait)
            access = await self._api.access()
            return kopf.ConnectionInfo(
                server=access.server,
                ca_path=access.ca,
                certificate_path=access.certificate,
                private_key_path=access.key,
                scheme="Bearer" if access.token else None,
                token=access.token,
                insecure=access.insecure,
                expiration=expiration,
            )

        def is_news(event: kopf.RawEvent, **_: Any) -> bool:
            obj: Object = dict(event["object"])
            return event["type"] == "DELETED" or not self._knows(key_of(obj), obj["metadata"]["resourceVersion"])

        # A function that is not a coroutine would run in yet another thread.
        @kopf.on.event(GROUP, VERSION, PLURAL, when=is_news, registry=registry)
        async def seen(event: kopf.RawEvent, **_: Any) -> None:
            self._loop.call_soon_threadsafe(self._seen, event["type"], dict(event["object"]))

        if self._admission is not None:
            _register(self._admission.reviewer, registry)
        return registry


def _register(reviewer: Reviewer, registry: kopf.OperatorRegistry) -> None:
    """Have kopf review what is created or changed. What is deleted is not reviewed."""
    trouble = Repeated(60.0)

    @kopf.on.validate(GROUP, VERSION, PLURAL, id=HANDLER, operations=["CREATE", "UPDATE"], registry=registry)
    async def validate(*, warnings: list[str], **given: Any) -> None:
        new, old = given["new"], given["old"]
        try:
            verdict = await reviewer.review(dict(new), dict(old) if old is not None else None)
        except Exception:
            if trouble.due() is not None:
                get_logger().exception("a review at admission failed")
            raise kopf.AdmissionError("the review failed", code=REVIEW_FAILED) from None
        warnings.extend(verdict.warnings)
        if verdict.refusals:
            raise kopf.AdmissionError(verdict.message, code=REFUSED)


def _is_no_refusal(record: logging.LogRecord) -> bool:
    """Drops kopf's line about each EventSink that is refused: whoever applied it reads why."""
    return "failed permanently" not in str(record.msg)


logging.getLogger("kopf.objects").addFilter(_is_no_refusal)


class NoMemories(ResourceMemories):
    """kopf remembers what it did with each object, for handlers of other kinds than those here, which are for what only watches and reviews.

    `kopf.operator` takes memories, but kopf 1.45 exports neither of the two classes and has no setting for this.
    """

    async def recall(self, *args: Any, **given: Any) -> ResourceMemory:
        """What kopf knows of an object: nothing."""
        return await super().recall(*args, **{**given, "ephemeral": True})


class NoDifferences(kopf.DiffBaseStorage):
    """kopf compares each object with what it was, for handlers of changes, and copies it three times to do so."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        return


def _settings(admission: Admission | None) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.watching.reconnect_backoff = RECONNECT_SECONDS
    settings.watching.chunk_size = 500
    # Handlers only enqueue: a worker per object need not live on.
    settings.queueing.idle_timeout = IDLE_SECONDS
    settings.persistence.diffbase_storage = NoDifferences()
    if admission is not None:
        # `admission.managed` stays unset: kopf would write the configuration as it sees fit.
        settings.admission.server = admission.server
    return settings
