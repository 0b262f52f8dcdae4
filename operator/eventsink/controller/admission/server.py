"""Serves the admission webhook: HTTPS requests of API servers become calls of kopf's handlers.

kopf's own server has no bounds on what a client may send, and any pod may reach the port; the program's listener has them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import kopf

from eventsink.controller.admission.messages import NoReview, TooLarge, read_review
from eventsink.controller.admission.turns import Turns
from eventsink.controller.metrics import OperatorMetrics
from eventsink.runtime.listener.listener import Listener
from eventsink.runtime.listener.messages import RequestHead, Response, error
from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.listener.settings import ListenerLimits
from eventsink.runtime.listener.shares import peer_key
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.process import ExitStatus, Stop
from eventsink.runtime.settings import ConfigurationError

HANDLER = "validate"
"""Id of kopf's handler."""
PATH = f"/{HANDLER}"
REFUSED = 422
"""The code of a refusal; the API server gives it to whoever applies."""
REVIEW_FAILED = 500
"""The code by which a handler says that it could not review: it is no refusal, and the API server does as its configuration says."""
LIMITS = ListenerLimits(
    "",
    max_connections=256,
    # A change has two objects, each with up to 256 KiB of annotations, and the largest spec that the CRD lets pass (300 KiB).
    max_body_bytes=2 * 1024**2,
    max_held_bytes=16 * 1024**2,
    read_timeout=5.0,
    write_timeout=5.0,
    idle_timeout=120.0,
)
REVIEW_SECONDS = 4.0
"""A review takes no longer: an API server waits for 5 s, as it is configured."""
MAX_AT_ONCE = 8
"""Reviews under way, of one client at most as many as are left to others; what waits longer than REVIEW_SECONDS is not reviewed."""
FILE_SECONDS = 0.2
"""Between two looks for the files of the certificate, while they are absent."""
CLOSE_SECONDS = 2.0
"""How long the end waits for reviews that are under way."""


class AdmissionServer:
    """A server for kopf (`settings.admission.server`). It runs in kopf's loop.

    Parameters
    ----------
    address
        `host:port`; port 0 takes a free one.
    certificate
        PEM files of certificate and key; they may appear later, and be renewed at any time.
    """

    def __init__(
        self, address: str, certificate: tuple[Path, Path], listener_metrics: ListenerMetrics, metrics: OperatorMetrics
    ) -> None:
        self._address = address
        self._certificate = certificate
        self._listener_metrics = listener_metrics
        self._metrics = metrics
        self.missing: str | None = "the admission webhook does not listen yet"
        """Why it does not serve; None: it does."""

    async def __call__(self, review: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        """Serve until closed; yields once, when it listens.

        Raises
        ------
        Stop
            The address cannot be bound.
        ConfigurationError
            The certificate cannot be used.
        """
        for file in self._certificate:
            self.missing = f"the admission webhook waits for the file {file}"
            while not file.exists():  # noqa: ASYNC110  # another thread, or another program, writes them
                await asyncio.sleep(FILE_SECONDS)
        listener = Listener(
            "admission",
            self._address,
            LIMITS,
            AdmissionApplication(review, self._metrics),
            self._listener_metrics,
            process="operator",
            certificate=self._certificate,
        )
        try:
            await listener.start()
        except OSError as failed:
            raise Stop(ExitStatus.USAGE, f"admission.address: cannot listen there: {failed.strerror or failed}") from None
        except ConfigurationError as failed:
            raise ConfigurationError(f"admission: {failed}") from None
        self.missing = None
        try:
            yield {}
            await asyncio.Event().wait()
        finally:
            self.missing = "the admission webhook has stopped"
            await listener.close(CLOSE_SECONDS)


class AdmissionApplication:
    """Passes AdmissionReviews on; what is no AdmissionReview, or cannot be reviewed, is an HTTP error, and decides about nothing."""

    reads: frozenset[bytes] = frozenset()

    def __init__(self, review: kopf.WebhookFn, metrics: OperatorMetrics) -> None:
        self._review = review
        self._metrics = metrics
        self._turns = Turns(MAX_AT_ONCE)
        self._trouble = Repeated(60.0)

    def admit(self, head: RequestHead) -> Response | str:
        """Whether it is a request for a review: then, whose."""
        if head.path != PATH:
            return self.reject(404, f"nothing is served here; {PATH} is")
        return peer_key(head.peer) if head.method == "POST" else error(405, "use POST", b"Allow: POST\r\n")

    async def handle(self, admitted: str, body: bytes) -> Response:
        """The response to an AdmissionReview."""
        try:
            async with asyncio.timeout(REVIEW_SECONDS), self._turns.turn(admitted):
                request = read_review(body)
                with self._metrics.admission_duration.time():
                    reviewed: Any = await self._review(request)
        except NoReview as none:
            return self.reject(400, str(none))
        except TooLarge as large:
            return self._failed(str(large), 413)
        except TimeoutError:
            return self._failed("it took too long")
        except Exception as unexpected:  # kopf rejects what it cannot read by exceptions of many classes
            return self._failed(type(unexpected).__name__)
        response = reviewed["response"]
        if response.get("status", {}).get("code") == REVIEW_FAILED:
            return self._failed("the review failed")
        outcome = "refused" if not response["allowed"] else "warned" if response.get("warnings") else "accepted"
        self._metrics.admissions.labels(outcome).inc()
        return Response(200, json.dumps(reviewed).encode())

    def reject(self, status: int, sentence: str, admitted: str | None = None) -> Response:
        """The response to what is no AdmissionReview."""
        return error(status, sentence)

    def later(self, sentence: str, admitted: str | None = None) -> Response:
        """The response to what is too much."""
        self._metrics.admissions.labels("failed").inc()
        return error(503, sentence, b"Retry-After: 1\r\n")

    def _failed(self, reason: str, status: int = 500) -> Response:
        self._metrics.admissions.labels("failed").inc()
        if (more := self._trouble.due()) is not None:
            get_logger().warning("an EventSink could not be reviewed at admission", reason=reason, more=more)
        return error(status, f"the EventSink could not be reviewed: {reason}")
