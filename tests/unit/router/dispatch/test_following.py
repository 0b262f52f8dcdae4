"""A message is of alerts that no post announced, or of those of one post: the new ones first, and of each alert up to its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec
import pytest

from eventsink.router.dispatch import dispatcher, rate_limiter, sending
from eventsink.router.dispatch.following import groups
from eventsink.router.dispatch.outgoing import Item
from eventsink.router.queue.posts import PostRef
from eventsink.router.queue.protocol import Batch, Delivery, NewDelivery, Payload, PayloadKind
from eventsink.sinks.post import Post
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome
from tests.unit.router.dispatch.dispatching import HANG, DispatchUnderTest, MakeDispatch, ScriptedSender
from tests.unit.router.sinks import sink, slack_sink, uid

NOON = 43_200 * 10**6
ANNOUNCED = {"a": PostRef(1, True, NOON), "b": PostRef(1, True, NOON), "c": PostRef(2, False, NOON)}
"""Posts that announced alerts which fire since noon of the first day."""


def item(seq: int, change: str) -> Item:
    """A delivery: `a+` fires since noon, `a*` since later, `a-` has ended."""
    key, sign = change[0], change[1]
    body = f'{{"startsAt": "1970-01-01T{13 if sign == "*" else 12}:00:00Z", "name": "{key}"}}'
    status = "resolved" if sign == "-" else "firing"
    return Item(Delivery(seq, f"d{seq}", "s", "acme", key, status, PayloadKind.ALERT, body.encode(), 0.0, 1e9))


@pytest.mark.parametrize(
    ("changes", "ends_are_sent", "expected"),
    [
        ("x+ y+", True, "new: x+ y+"),
        ("a- x+ c- b- y-", True, "new: x+ y-; 1: a- b-; 2: c-"),
        ("c+ a+", True, "2: c+; 1: a+"),
        ("a+ a- a* a-", True, "1: a+ a-"),
        ("a- a*", True, "1: a-"),
        ("a* a-", True, "1: a* a-"),
        ("a+ a*", True, "1: a+ a*"),
        ("x+ x- x*", True, "new: x+ x- x*"),
        ("a+", False, "1: a+"),
        ("a* a-", False, "new: a* a-"),
        ("a+ a*", False, "1: a+"),
    ],
)
def test_a_message_is_of_what_is_new_or_of_one_post(changes: str, ends_are_sent: bool, expected: str) -> None:
    items = [item(seq, change) for seq, change in enumerate(changes.split())]
    named = dict(zip(range(len(items)), changes.split(), strict=True))
    found = [
        f"{'new' if ref is None else ref.id}: {' '.join(named[one.delivery.seq] for one in chosen)}"
        for ref, chosen in groups(items, ANNOUNCED, {}, ends_are_sent=ends_are_sent)
    ]
    assert "; ".join(found) == expected


def test_an_alert_that_cannot_be_read_is_left_to_the_sender() -> None:
    unreadable = Item(Delivery(1, "d1", "s", "acme", "a", "firing", PayloadKind.ALERT, b"{}", 0.0, 1e9))
    assert list(groups([unreadable], ANNOUNCED, {}, ends_are_sent=False)) == [(ANNOUNCED["a"], [unreadable])]


@dataclass
class FollowedSender(ScriptedSender):
    """Records what fires in each new message, and what a message follows."""

    messages: list[str] = field(default_factory=list)
    """`<alerts>`, or `<alerts> of <post>`."""

    async def send(self, message: Message) -> Outcome:
        outcome = await super().send(message)
        if isinstance(outcome, Failed):
            return outcome
        changes = [msgspec.json.decode(body)["change"] for body in message.alerts]
        said, post = " ".join(changes), message.post
        self.messages.append(said if post is None else f"{said} of {post.reference}")
        if post is None:
            shown = {change[0]: NOON for change in changes}
            return Delivered(200, changes[0][0], Post(changes[0][0], message.id, shown, len(shown), alerts=tuple(message.alerts)))
        left = {name: start for name, start in post.open.items() if f"{name}-" not in changes}
        return Delivered(200, post.reference, msgspec.structs.replace(post, open=left))


async def put(dispatch: DispatchUnderTest, changes: str, *, to: str = "s", max_age: float = 1e6) -> None:
    payloads, deliveries = [], []
    for number, change in enumerate(changes.split()):
        body = msgspec.json.encode({"startsAt": "1970-01-01T12:00:00Z", "change": change})
        payloads.append(Payload(PayloadKind.ALERT, body, change))
        status = "resolved" if change[1] == "-" else "firing"
        deliveries.append(NewDelivery(number, uid(to), "acme", change[0], status, max_age))
    await dispatch.queue.put(Batch(payloads, deliveries))


def followed(make_dispatch: MakeDispatch) -> tuple[DispatchUnderTest, FollowedSender]:
    dispatch, sender = make_dispatch(slack_sink(), rateLimitInterval="1ms"), FollowedSender()
    dispatch.senders["s"] = sender
    return dispatch, sender


async def test_what_becomes_of_alerts_follows_the_messages_that_announced_them_also_after_a_restart(
    make_dispatch: MakeDispatch,
) -> None:
    dispatch, sender = followed(make_dispatch)
    await dispatch.start()
    await put(dispatch, "a+ b+")
    await dispatch.until_empty()
    await dispatch.stop()
    await dispatch.start()
    await put(dispatch, "a- c+ b+")
    await dispatch.until_empty()
    await put(dispatch, "b-")
    await dispatch.until_empty()
    await put(dispatch, "b+")
    await dispatch.until_empty()
    assert sender.messages == ["a+ b+", "c+", "a- b+ of a", "b- of a", "b+"]


async def test_edits_are_spaced_out_while_new_messages_leave_and_each_is_made_once_of_the_newest_state(
    make_dispatch: MakeDispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "EDIT_INTERVAL_SECONDS", 0.3)
    dispatch, sender = followed(make_dispatch)
    await dispatch.start()
    for change in ("a+", "b+"):
        await put(dispatch, change)
        await dispatch.until_empty()
    await put(dispatch, "a-")
    await dispatch.until(lambda: len(sender.messages) == 3)
    await put(dispatch, "b+")
    await put(dispatch, "c+")
    await dispatch.until(lambda: len(sender.messages) == 4)
    await put(dispatch, "b-")
    await dispatch.until_empty()
    assert sender.messages == ["a+", "b+", "a- of a", "c+", "b+ b- of b"]
    assert sender.times[4] - sender.times[2] > 0.28
    assert dispatch.metric("edit_waits_total") > 0


async def test_a_refused_edit_waits_for_as_long_as_asked_and_holds_no_new_message(make_dispatch: MakeDispatch) -> None:
    dispatch, sender = followed(make_dispatch)
    await dispatch.start()
    await put(dispatch, "a+")
    await dispatch.until_empty()
    sender.script = [Failed(FailureClass.TRANSIENT, "RateLimited", "Slack asks to wait", 429, 0.5, of_edits=True)]
    await put(dispatch, "a-")
    await dispatch.until(lambda: len(sender.times) == 2)
    await put(dispatch, "b+")
    await dispatch.until_empty()
    assert sender.messages == ["a+", "b+", "a- of a"]
    assert sender.times[3] - sender.times[1] > 0.48
    health = dispatch.dispatcher.health(uid("s"))
    assert health is not None
    assert not health.held


async def test_a_new_message_leaves_before_edits_that_wait_though_memory_is_scarce(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(slack_sink(), sink("dead"), rateLimitInterval="1ms", maxInMemory=1000)
    sender, dead = FollowedSender(), ScriptedSender(script=[HANG])
    dispatch.senders.update({"s": sender, "dead": dead})
    await dispatch.start()
    names = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL"
    for name in names:
        await put(dispatch, f"{name}+")
        await dispatch.until_empty()
    await dispatch.put(*(f"x{number}" for number in range(1000)), sinks=("dead",))
    sender.script = [Failed(FailureClass.TRANSIENT, "RateLimited", "Slack asks to wait", 429, 3600.0, of_edits=True)]
    await put(dispatch, f"{' '.join(f'{name}-' for name in names)} 1+")
    await dispatch.until(lambda: len(sender.messages) > len(names))
    assert sender.messages[-1] == "1+"


async def test_a_sink_that_points_elsewhere_follows_nothing_there(make_dispatch: MakeDispatch) -> None:
    dispatch, sender = followed(make_dispatch)
    await dispatch.start()
    await put(dispatch, "a+")
    await dispatch.until_empty()
    dispatch.directory.put(slack_sink(channel="C2"))
    await put(dispatch, "a-")
    await dispatch.until_empty()
    assert sender.messages == ["a+", "a-"]


async def test_a_message_that_was_under_way_when_the_sink_was_pointed_elsewhere_is_not_followed_there(
    make_dispatch: MakeDispatch,
) -> None:
    dispatch, sender = followed(make_dispatch)
    await dispatch.start()

    async def point_elsewhere() -> Outcome:
        dispatch.directory.put(slack_sink(channel="C2"))
        return Delivered(200)

    sender.script = [lambda _message: point_elsewhere()]
    await put(dispatch, "a+")
    await dispatch.until_empty()
    await put(dispatch, "a-")
    await dispatch.until_empty()
    assert sender.messages == ["a+", "a-"]


async def test_no_end_waits_for_as_long_as_new_alerts_come(make_dispatch: MakeDispatch) -> None:
    dispatch, sender = followed(make_dispatch)
    await dispatch.start()
    await put(dispatch, "a+")
    await dispatch.until_empty()
    new = iter("cdefgh")

    async def another_comes() -> Outcome:
        if name := next(new, None):
            await put(dispatch, f"{name}+")
        return Delivered(200)

    sender.script = [lambda _message: another_comes()] * 10
    await put(dispatch, "a- b+")
    await dispatch.until_empty()
    assert sender.messages[:4] == ["a+", "b+", "a- of a", "c+ d+"]


async def test_what_failed_together_is_one_message_after_a_restart_too(make_dispatch: MakeDispatch) -> None:
    dispatch, sender = followed(make_dispatch)
    sender.script = [Failed(FailureClass.TRANSIENT, "HTTP503", "Slack responded with 503", 503, retry_after=1.0)]
    await dispatch.start()
    await put(dispatch, "a+ b+ c+")
    await dispatch.until(lambda: dispatch.dispatcher.last_error(uid("s")))
    await dispatch.queue.flush()
    await dispatch.stop()
    await dispatch.start()
    await dispatch.until_empty()
    assert sender.messages == ["a+ b+ c+"]


async def test_alerts_are_sent_although_it_cannot_be_read_which_message_announced_them(
    make_dispatch: MakeDispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "READ_AGAIN_SECONDS", 0.1)
    dispatch, sender = followed(make_dispatch)
    await dispatch.start()
    await put(dispatch, "a+")
    await dispatch.until_empty()
    dispatch.queue.posts_unreadable = True
    await put(dispatch, "a- b+")
    await dispatch.until_empty()
    dispatch.queue.posts_unreadable = False
    await put(dispatch, "b-")
    await dispatch.until_empty()
    assert sender.messages == ["a+", "a- b+", "b- of a"]


async def test_a_sink_whose_edits_became_too_old_keeps_no_other_from_its_turn(
    make_dispatch: MakeDispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "EDIT_INTERVAL_SECONDS", 2.0)
    monkeypatch.setattr(rate_limiter, "OVERTAKE_SECONDS", 3600.0)
    dispatch = make_dispatch(slack_sink(), slack_sink("other", "C2"), rateLimitInterval="1ms")
    sender, other = FollowedSender(), FollowedSender()
    dispatch.senders.update({"s": sender, "other": other})
    await dispatch.start()
    await put(dispatch, "a+")
    await put(dispatch, "x+", to="other")
    await dispatch.until_empty()
    await put(dispatch, "a-")
    await dispatch.until_empty()
    await put(dispatch, "x-", to="other", max_age=0.0)
    await dispatch.until(lambda: dispatch.metric("edit_waits_total"))
    expiry = asyncio.ensure_future(dispatch.dispatcher.watch_expiry())
    await dispatch.until(lambda: dispatch.queue.depth().dead == 1)
    expiry.cancel()
    await put(dispatch, "b+")
    await dispatch.until_empty()
    await put(dispatch, "b-")
    await dispatch.until_empty()
    assert sender.messages == ["a+", "a- of a", "b+", "b- of b"]
