"""One attempt to send a message: its bodies, its form, its sender, and the outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from eventsink.router.dispatch.following import Following
from eventsink.router.dispatch.forms import Forms, UnreadableDelivery
from eventsink.router.dispatch.outgoing import OutgoingMessage
from eventsink.router.dispatch.settlement import Settlement
from eventsink.router.dispatch.window import READ_AGAIN_SECONDS
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.router.metrics import DispatchMetrics
from eventsink.router.queue.protocol import Queue, QueueError
from eventsink.runtime.logs import get_logger
from eventsink.sinks.post import Post
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome, Sender
from eventsink.sinks.target import PayloadKind

NONE_READ: Mapping[int, bytes] = MappingProxyType({})


class Sending:
    """Sends messages, each once."""

    def __init__(
        self, queue: Queue, forms: Forms, following: Following, settlement: Settlement, metrics: DispatchMetrics
    ) -> None:
        self._queue = queue
        self._forms = forms
        self._following = following
        self._settlement = settlement
        self._metrics = metrics

    async def send(self, worker: SinkWorker, outgoing: OutgoingMessage) -> Outcome | None:
        """Send a message; None: it was not sent, and was dead-lettered or waits as before.

        Raises
        ------
        QueueError
            The queue could not be used; the message waits for a while.
        """
        lane, sink, sender = worker.lane, worker.sink, worker.sender
        missing: list[int] = []
        stray = False
        for item in outgoing.items:
            delivery = item.delivery
            stray = stray or delivery.sink != sink.uid or delivery.tenant != sink.tenant
            if delivery.left_out:
                missing.append(delivery.seq)
        if stray:
            lane.drop(outgoing)
            get_logger().error("a delivery does not belong to its sink and was not sent", delivery=outgoing.id)
            text = "the sink's tenant is not the one that this was queued for"
            await self._settlement.dead_letter(outgoing.seqs, "TenantMismatch", text)
            return None
        try:
            if sender is None:
                lane.returned(outgoing)
                return None
            if len(outgoing.items) > 1 and sink.dispatch.payload is PayloadKind.GROUP:
                lane.take_apart(outgoing)  # composed when the sink took several alerts in a message
                await self._queue.bind(outgoing.seqs, "")
                return None
            is_alert = outgoing.items[0].delivery.kind is PayloadKind.ALERT
            if lane.limits.batch > 1 and not lane.limits.recomposes and not outgoing.bound and is_alert:
                await self._queue.bind(outgoing.seqs, outgoing.id)
                outgoing.bound = True
            bodies = await self._read_bodies(worker, outgoing, missing) if missing else NONE_READ
            if bodies is None:
                return None
            post: Post | None = None
            if sink.dispatch.follows_posts and is_alert:
                chosen, post = await self._following.choose(worker, sink, outgoing, bodies)
                if not chosen:
                    return None
            messages = self._forms.messages(outgoing, bodies, sink)
            if post is not None:
                messages = [msgspec.structs.replace(one, post=post) for one in messages]
            outcome = await (sender.send(messages[0]) if len(messages) == 1 else _send_all(sender, messages))
        except QueueError:
            if outgoing.in_flight:
                lane.returned(outgoing, not_before=self._queue.clock() + READ_AGAIN_SECONDS)
            raise
        except UnreadableDelivery:
            text = "it was queued in another form than the sink takes now, and cannot be turned into that"
            outcome = Failed(FailureClass.MESSAGE, "InvalidMessage", text)
        except Exception as error:  # a sender must not raise; if one does, its message must not come back at once, for ever
            get_logger().exception("a sender failed", **worker.names())
            outcome = Failed(FailureClass.TRANSIENT, "InternalError", f"the router failed to send it ({type(error).__name__})")
        except BaseException:
            if outgoing.in_flight:
                lane.returned(outgoing)
            raise
        self._metrics.attempts.add(1, worker.kind, "delivered" if isinstance(outcome, Delivered) else outcome.failure.value)
        return outcome

    async def _read_bodies(
        self, worker: SinkWorker, outgoing: OutgoingMessage, missing: Sequence[int]
    ) -> Mapping[int, bytes] | None:
        """The bodies that are not in memory; None: some are gone from the queue, and the others wait to be sent without them."""
        try:
            bodies = await self._queue.read_bodies(missing)
        except QueueError:
            worker.unreadable()
            raise
        gone = [seq for seq in missing if seq not in bodies]
        if not gone:
            return bodies
        worker.lane.returned(outgoing)
        _, void = worker.lane.discard(gone)
        await self._queue.bind(void, "")
        return None


async def _send_all(sender: Sender, messages: Sequence[Message]) -> Outcome:
    """Send one after the other: what is rejected does not keep back the rest, any other failure does."""
    rejected: Failed | None = None
    outcome: Outcome = Delivered()
    for message in messages:
        outcome = await sender.send(message)
        if isinstance(outcome, Failed):
            if outcome.failure is not FailureClass.MESSAGE:
                return outcome
            rejected = outcome
    return rejected or outcome
