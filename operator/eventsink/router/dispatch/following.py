"""Which deliveries are sent in one message to a sink whose messages follow each other: those that no post announced, or those of one post.

A post is a message that announced firing alerts. What is new leaves first, as one new message; then what became of the alerts of the oldest
post, and the new and the old go on in turns: one message each time the channel's rate allows one, composed again of all that waits. So nothing
new waits behind many changes of old messages, no end waits for as long as new alerts come, and of each alert the newest state is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from eventsink.alerts.alert import Status, epoch_micros
from eventsink.router.dispatch.outgoing import Item, OutgoingMessage
from eventsink.router.dispatch.rate_limiter import RateLimiter
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.router.metrics import DispatchMetrics
from eventsink.router.queue.posts import PostRef
from eventsink.router.queue.protocol import Queue, QueueError
from eventsink.sinks.post import Post
from eventsink.sinks.sink import Sink


class _Start(msgspec.Struct, rename="camel", gc=False):
    """What has to be known of an alert: the rest is not decoded."""

    starts_at: datetime


_start = msgspec.json.Decoder(_Start)


class Following:
    """Chooses what of a message is sent now.

    Parameters
    ----------
    edits
        Spaces out changes of messages, by `DispatchParameters.edit_rate_limit_key`.
    """

    def __init__(self, queue: Queue, edits: RateLimiter, metrics: DispatchMetrics) -> None:
        self._queue = queue
        self._edits = edits
        self._metrics = metrics

    async def choose(
        self, worker: SinkWorker, sink: Sink, outgoing: OutgoingMessage, bodies: Mapping[int, bytes]
    ) -> tuple[bool, Post | None]:
        """Reduce a message to what is sent in one now.

        Parameters
        ----------
        sink
            The worker's, as the message is sent to it: it may be another one by now.
        bodies
            seq -> body of each delivery that is in memory without it.

        Returns
        -------
        bool
            Whether anything is: if not, all of it waits until messages may be changed again.
        Post or None
            The post that it follows.

        Raises
        ------
        QueueError
            The record cannot be read. If that is so the next time too, nothing waits for it: all is sent as if it were new.
        """
        try:
            chosen = await self._choose(worker, sink, outgoing, bodies)
        except QueueError:
            if worker.posts_unreadable:
                return True, None
            worker.posts_unreadable = True
            raise
        worker.posts_unreadable = False
        return chosen

    async def _choose(
        self, worker: SinkWorker, sink: Sink, outgoing: OutgoingMessage, bodies: Mapping[int, bytes]
    ) -> tuple[bool, Post | None]:
        lane = worker.lane
        keys = list({item.delivery.key: None for item in outgoing.items})
        announced = await self._queue.announced(sink.uid, sink.destination, keys)
        if not announced:
            return True, None
        key, turn_at = sink.dispatch.edit_rate_limit_key, 0.0
        found = list(groups(outgoing.items, announced, bodies, ends_are_sent=sink.delivery.send_resolved))
        if worker.change_is_next and found[0][0] is None:
            found.append(found.pop(0))
        for ref, items in found:
            if ref is not None and ref.is_edited and key:
                turn = turn_at or self._edits.turn(key, sink.uid, self._queue.clock())
                if turn is not None:
                    turn_at = turn
                    continue
            worker.change_is_next = ref is None and len(found) > 1
            lane.keep(outgoing, items)
            return True, await self._queue.post(sink.uid, ref.id) if ref is not None else None
        self._metrics.edit_waits.inc()
        lane.put_off(outgoing, turn_at)
        return False, None

    def pause(self, sink: Sink, seconds: float) -> float:
        """The destination asks to change no message for so long; returns until when, on the queue clock."""
        self._metrics.edit_waits.inc()
        until = self._queue.clock() + seconds
        self._edits.pause(sink.dispatch.edit_rate_limit_key, until)
        return until

    def leave(self, worker: SinkWorker) -> None:
        """The sink has nothing to change at present."""
        if key := worker.sink.dispatch.edit_rate_limit_key:
            self._edits.leave(key, worker.sink.uid)


def groups(
    items: Sequence[Item], announced: Mapping[str, PostRef], bodies: Mapping[int, bytes], *, ends_are_sent: bool = True
) -> Iterator[tuple[PostRef | None, list[Item]]]:
    """What can be sent in one message, in the order in which it is to be sent: what no post announced, then by post.

    What comes behind the end of an alert that a post announced is about another episode, and waits. Where ends are not sent, an alert that fires
    since a later time than its post says is new.
    """
    new: list[Item] = []
    of_posts: dict[int, tuple[PostRef, list[Item]]] = {}
    begun: set[str] = set()
    followed: set[str] = set()
    over: set[str] = set()
    for item in items:
        delivery = item.delivery
        key = delivery.key
        ref = announced.get(key)
        if ref is None or key in begun:
            new.append(item)
        elif key in over:
            continue
        elif not ends_are_sent and _begins(item, ref, bodies):
            if key in followed:
                over.add(key)
            else:
                begun.add(key)
                new.append(item)
        else:
            followed.add(key)
            of_posts.setdefault(ref.id, (ref, []))[1].append(item)
            if delivery.status == Status.RESOLVED:
                over.add(key)
    if new:
        yield None, new
    yield from of_posts.values()


def _begins(item: Item, ref: PostRef, bodies: Mapping[int, bytes]) -> bool:
    """Whether a firing alert fires since a later time than its post says: its end was not sent."""
    delivery = item.delivery
    body = bodies.get(delivery.seq, b"") if delivery.left_out else delivery.body
    try:
        return epoch_micros(_start.decode(body).starts_at) > ref.starts_at
    except msgspec.MsgspecError:
        return False  # the sender will say that it cannot be read
