"""What follows from the outcome of an attempt: for the lane, the queue, the metrics and the sink's health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from eventsink.router.dispatch import health
from eventsink.router.dispatch.following import Following
from eventsink.router.dispatch.outgoing import OutgoingMessage
from eventsink.router.dispatch.rate_limiter import RateLimiter
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.router.metrics import DispatchMetrics
from eventsink.router.queue.posts import PostChange
from eventsink.router.queue.protocol import Arrival, DeadLetter, Queue, Retry
from eventsink.runtime.logs import get_logger
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Outcome
from eventsink.sinks.sink import Sink

MAX_UNRECORDED = 1000
"""Rejected messages that wait for the disk without keeping their share of the messages in flight; further ones keep it."""

EDIT_AGAIN_SECONDS = 30.0
"""After a destination refused to change messages for now, and did not say for how long."""


class Settlement:
    """Records outcomes.

    Parameters
    ----------
    wall
        Seconds since the epoch.
    spawn
        Runs in the background what nobody waits for.
    """

    def __init__(
        self,
        queue: Queue,
        metrics: DispatchMetrics,
        rate_limiter: RateLimiter,
        following: Following,
        wall: Callable[[], float],
        spawn: Callable[[Awaitable[object]], object],
    ) -> None:
        self._queue = queue
        self._metrics = metrics
        self._rate_limiter = rate_limiter
        self._following = following
        self._wall = wall
        self._spawn = spawn
        self._unrecorded = 0

    async def settle(
        self, worker: SinkWorker, sink: Sink, outgoing: OutgoingMessage, outcome: Outcome, *, watched: bool = False
    ) -> None:
        """Record the outcome of an attempt. The lane has taken it in before the first `await`.

        Where it is `watched`, whatever is to be seen of it in the queue is there when this returns.

        Parameters
        ----------
        sink
            The worker's, as the message was sent to it: it may be another one by now.

        Raises
        ------
        QueueError
            It is not in the queue: after a restart the message is sent again.
        """
        if isinstance(outcome, Delivered):
            self._delivered(worker, outgoing)
            await self._queue.settle(outgoing.seqs, _arrival(sink, outgoing, outcome))
            return
        self._metrics.failures.labels(outcome.failure.value, outcome.reason).inc()
        worker.failed(outcome)
        if outcome.failure is FailureClass.MESSAGE:
            await self._rejected(worker, outgoing, outcome, watched=watched)
        elif outcome.failure is FailureClass.SINK:
            await self._failed_for_the_sink(worker, outgoing, outcome)
        else:
            await self._failed_transiently(worker, sink, outgoing, outcome)

    async def dead_letter(self, seqs: Iterable[int], reason: str, detail: str, *, attempted: bool = False) -> None:
        """Dead-letter deliveries, and count them; `attempted`: an attempt led to it that is not recorded yet."""
        dead_letters = [DeadLetter(seq, reason, detail, attempts=int(attempted)) for seq in seqs]
        self._metrics.dead.labels(reason).inc(len(dead_letters))
        await self._queue.dead_letter(dead_letters)

    def dead(self, reason: str, count: int) -> None:
        """Count deliveries that the queue has dead-lettered by itself."""
        self._metrics.dead.labels(reason).inc(count)

    async def dead_letter_sink(self, uid: str) -> None:
        """Dead-letter whatever waits for a sink that was deleted."""
        count = await self._queue.dead_letter_sink(
            uid, reason="SinkDeleted", detail="the EventSink was deleted before this was delivered"
        )
        if count:
            self._metrics.dead.labels("SinkDeleted").inc(count)
            get_logger().info("the deliveries of a deleted sink became dead letters", sink=uid, count=count)

    def _delivered(self, worker: SinkWorker, outgoing: OutgoingMessage) -> None:
        was_held = worker.lane.pace.held
        worker.lane.delivered(outgoing)
        now = self._wall()
        for item in outgoing.items:
            self._metrics.latency.observe(max(0.0, now - item.delivery.created))
        self._metrics.delivered.add(len(outgoing.items), worker.kind)
        worker.delivered(now)
        if was_held:
            get_logger().info("a sink is no longer held", **worker.names())

    async def _rejected(self, worker: SinkWorker, outgoing: OutgoingMessage, failed: Failed, *, watched: bool) -> None:
        dead = worker.lane.failed_for_good(outgoing)
        if not dead:
            # Taken apart: each part is sent alone. Each delivery in it was attempted all the same.
            await self._queue.retry([Retry(seq, self._queue.clock(), failed.reason, failed.message) for seq in outgoing.seqs])
            await self._queue.bind(outgoing.seqs, "")
            return
        if worker.lane.pace.rejects_everything:
            worker.report(health.rejecting(failed))
        self._unrecorded += 1  # before it is recorded: many may be rejected until that begins
        record = self._record_rejected(worker, outgoing.id, [item.delivery.seq for item in dead], failed)
        if self._unrecorded <= MAX_UNRECORDED and not watched:
            self._spawn(record)  # a dead letter waits until it is on disk, and others wait for the share of this message
        else:
            await record

    async def _record_rejected(self, worker: SinkWorker, message: str, seqs: Iterable[int], failed: Failed) -> None:
        try:
            await self.dead_letter(seqs, failed.reason, failed.message, attempted=True)
        finally:
            self._unrecorded -= 1
        get_logger().warning("a message became a dead letter", reason=failed.reason, delivery=message, **worker.names())

    async def _failed_for_the_sink(self, worker: SinkWorker, outgoing: OutgoingMessage, failed: Failed) -> None:
        was_held = worker.lane.pace.held
        now = self._queue.clock()
        worker.lane.failed_for_the_sink(outgoing, failed, now)
        worker.report(health.held(failed))
        if was_held != failed.reason:
            get_logger().warning("a sink is held", reason=failed.reason, **worker.names())
        await self._retry(outgoing, failed, now)

    async def _failed_transiently(self, worker: SinkWorker, sink: Sink, outgoing: OutgoingMessage, failed: Failed) -> None:
        now = self._queue.clock()
        if failed.of_edits:
            worker.lane.put_off(outgoing, self._following.pause(sink, failed.retry_after or EDIT_AGAIN_SECONDS))
            await self._retry(outgoing, failed, now)
            return
        worker.lane.failed_transiently(outgoing, failed, now)
        if worker.rate_limit_key and failed.retry_after:
            self._rate_limiter.pause(worker.rate_limit_key, now + failed.retry_after)
        if worker.lane.pace.slow:
            worker.report(health.failing(failed))
        await self._retry(outgoing, failed, now)

    async def _retry(self, outgoing: OutgoingMessage, failed: Failed, now: float) -> None:
        # Of the wait, only what the receiver asked for survives a restart: that may have been made to fix whatever failed.
        due = now + (failed.retry_after or 0.0)
        await self._queue.retry([Retry(seq, due, failed.reason, failed.message) for seq in outgoing.seqs])


def _arrival(sink: Sink, outgoing: OutgoingMessage, delivered: Delivered) -> Arrival | None:
    """What is recorded of a message that arrived; of one that follows a post, under the name of that post."""
    if not sink.dispatch.keeps_receipts:
        return None
    post = delivered.post if sink.dispatch.follows_posts else None
    if post is None:
        return Arrival(outgoing.id, delivered.reference)
    return Arrival(post.message, delivered.reference, PostChange(sink.uid, sink.destination, post))
