"""What every implementation of the queue must pass: subclass `QueueContract` and give it a way to open one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from eventsink.router.queue.delivery_log import DeliveryFilter, DeliveryState
from eventsink.router.queue.posts import PostChange
from eventsink.router.queue.protocol import (
    Arrival,
    Batch,
    DeadLetter,
    Delivery,
    NewDelivery,
    Payload,
    PayloadKind,
    Queue,
    QueueFull,
    QueueUnavailable,
    Retry,
)
from eventsink.router.queue.states import NO_BODY, AlertState, AlertStateWrite, GroupState, Notified, SinkReport, SinkState
from eventsink.sinks.post import Post

DAY = 86400.0


class QueueClocks:
    """Two clocks that a test moves by hand."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.wall = 1_800_000_000.0


@dataclass
class QueueUnderTest:
    """A queue under test and what its listener was given."""

    queue: Queue
    queued: list[Delivery]
    clocks: QueueClocks
    reopen: Callable[[], Awaitable[QueueUnderTest]]


CHANGES = [("a", "firing"), ("b", "firing"), ("c", "resolved")]


def alert(name: str, sinks: Sequence[str] = ("s1",), *, status: str = "firing", key: str = "", max_age: float = DAY) -> Batch:
    """One alert for some sinks."""
    deliveries = [NewDelivery(0, sink, "acme", key or name, status, max_age) for sink in sinks]
    return Batch([Payload(PayloadKind.ALERT, f'{{"name":"{name}"}}'.encode(), name)], deliveries)


def state(row: int, status: str = "firing", sinks: Sequence[str] = ("s1",)) -> AlertState:
    """The state of an alert of which these sinks were notified."""
    notified = tuple(Notified(sink, status, 5, 1.0, "10.0.0.1") for sink in sinks)
    return AlertState(row, f"f{row}", "acme", "alertmanager", status, 5, 0, "", 1.0, notified=notified)


async def names(queue: Queue, sink: str = "s1") -> list[str]:
    records = await queue.look_up(DeliveryFilter(sink=sink, state=DeliveryState.WAITING), limit=1000)
    return [record.name for record in records]


async def expire(queue: Queue, *, limit: int = 10, spare: Collection[int] = frozenset()) -> dict[str, list[int]]:
    return await queue.expire(reason="MaxAge", detail="too old", limit=limit, spare=spare)


class EngineContract:
    """Subclasses give `open_queue`, which opens (again) the queue kept in a folder."""

    async def open_queue(self, folder: Path, clocks: QueueClocks, *, max_waiting: int = 10_000) -> Queue:
        raise NotImplementedError

    @pytest.fixture
    async def opened(self, tmp_path: Path) -> AsyncIterator[QueueUnderTest]:
        clocks = QueueClocks()
        queues: list[Queue] = []

        async def open_once() -> QueueUnderTest:
            for queue in queues:
                await queue.close()
            queued: list[Delivery] = []
            queue = await self.open_queue(tmp_path, clocks)
            queue.subscribe(queued.extend)
            queues.append(queue)
            return QueueUnderTest(queue, queued, clocks, open_once)

        yield await open_once()
        for queue in queues:
            await queue.close()


class DeliveryQueueContract(EngineContract):
    """What `DeliveryQueue` promises."""

    async def test_what_waits_is_counted_by_tenant_wherever_it_comes_from_and_goes_to(self, opened: QueueUnderTest) -> None:
        def waiting(of: QueueUnderTest) -> tuple[int, int, int]:
            counted = of.queue.waiting_of("acme")
            return counted.deliveries, counted.bytes, of.queue.waiting_for("s1")

        size = len(alert("a").payloads[0].body)
        for name in "abcde":
            await opened.queue.put(alert(name, ("s1", "s2")))
        assert waiting(opened) == (10, 10 * size, 5)
        seqs = [one.seq for one in opened.queued if one.sink == "s1"]
        await opened.queue.settle(seqs[:1])
        assert (opened.queue.tenants_changed(), opened.queue.tenants_changed()) == ({"acme"}, set())
        await opened.queue.settle(seqs[1:2], Arrival("m", "r"))
        await opened.queue.flush()
        assert waiting(opened) == (8, 8 * size, 3)
        assert opened.queue.tenants_changed() == {"acme"}
        await opened.queue.dead_letter([DeadLetter(seqs[2], "BadRequest", "")])
        await opened.queue.dead_letter_oldest("s2", reason="QueueShare", detail="", limit=2)
        assert waiting(opened) == (5, 5 * size, 2)
        opened = await opened.reopen()
        assert waiting(opened) == (5, 5 * size, 2)
        await opened.queue.replay(DeliveryFilter(sink="s2"), max_age=DAY, limit=10)
        assert waiting(opened) == (7, 7 * size, 2)
        opened.clocks.monotonic += 2 * DAY
        await expire(opened.queue)
        assert waiting(opened) == (0, 0, 0)
        assert opened.queue.waiting_of("globex").deliveries == 0

    async def test_committed_deliveries_go_to_the_listener_and_are_taken_in_order(self, opened: QueueUnderTest) -> None:
        for name in "abc":
            await opened.queue.put(alert(name))
        assert [one.key for one in opened.queued] == ["a", "b", "c"]
        assert await opened.queue.take("s1", after=0, limit=10) == opened.queued
        assert await opened.queue.take("s1", after=opened.queued[0].seq, limit=1) == [opened.queued[1]]
        assert await opened.queue.take("s2", after=0, limit=10) == []

    async def test_bodies_beyond_what_the_caller_has_room_for_are_left_out_and_read_by_themselves(
        self, opened: QueueUnderTest
    ) -> None:
        for name in "abcd":
            await opened.queue.put(alert(name))
        size = len(b'{"name":"a"}')
        for room, expected in ((4 * size, 4), (4 * size - 1, 3), (2 * size, 2), (0, 0)):
            taken = await opened.queue.take("s1", after=0, limit=4, max_bytes=room)
            assert [one.key for one in taken] == ["a", "b", "c", "d"]
            assert [not one.left_out for one in taken] == [True] * expected + [False] * (4 - expected)
            assert {len(one.body) + one.left_out for one in taken} == {size}
        seqs = [one.seq for one in opened.queued]
        await opened.queue.settle([seqs[0]])
        await opened.queue.flush()
        assert await opened.queue.read_bodies(seqs[:3]) == {seqs[1]: b'{"name":"b"}', seqs[2]: b'{"name":"c"}'}
        assert await opened.queue.read_bodies([]) == {}

    async def test_deliveries_and_their_ids_survive_a_restart(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(alert("a", ["s1", "s2"]))
        before = opened.queued
        opened = await opened.reopen()
        assert await opened.queue.take("s1", after=0, limit=10) == before[:1]
        assert await opened.queue.sinks_waiting() == {"s1": 1, "s2": 1}
        await opened.queue.put(alert("b"))
        assert opened.queued[0].seq > before[1].seq
        assert len({one.id for one in [*before, *opened.queued]}) == 3

    async def test_a_sequence_number_is_never_reused(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(alert("a"))
        first = opened.queued[0]
        await opened.queue.settle([first.seq])
        await opened.queue.flush()
        opened = await opened.reopen()
        await opened.queue.put(alert("b"))
        assert opened.queued[0].seq > first.seq
        assert opened.queued[0].id != first.id

    async def test_a_settled_delivery_is_removed_and_its_payload_kept_for_the_others(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(alert("a", ["s1", "s2"]))
        await opened.queue.settle([opened.queued[0].seq, 999])
        await opened.queue.flush()
        assert opened.queue.depth().waiting == 1
        opened = await opened.reopen()
        assert [one.body for one in await opened.queue.take("s2", after=0, limit=1)] == [b'{"name":"a"}']

    async def test_concurrent_puts_are_committed_in_the_order_of_the_calls(self, opened: QueueUnderTest) -> None:
        await asyncio.gather(*(opened.queue.put(alert(f"{n:03}")) for n in range(300)))
        assert [one.key for one in opened.queued] == [f"{n:03}" for n in range(300)]

    async def test_a_cancelled_put_is_still_committed(self, opened: QueueUnderTest) -> None:
        task = asyncio.ensure_future(opened.queue.put(alert("a")))
        await asyncio.sleep(0)
        task.cancel()
        await opened.queue.put(Batch())
        assert [one.key for one in opened.queued] == ["a"]

    async def test_a_submitted_batch_is_on_disk_when_its_future_is_done(self, opened: QueueUnderTest) -> None:
        one, two = opened.queue.submit(alert("a")), opened.queue.submit(alert("b"))
        assert not one.done()
        await two
        assert one.done()
        assert await names(opened.queue) == ["a", "b"]
        await opened.queue.close()
        undone: list[bool] = []
        with pytest.raises(QueueUnavailable):
            opened.queue.submit(alert("c"), lambda: undone.append(True))
        assert undone

    async def test_what_is_called_after_a_batch_was_submitted_happens_after_it(self, opened: QueueUnderTest) -> None:
        committed = opened.queue.submit(alert("a"))
        assert len(await opened.queue.dead_letter_oldest("s1", reason="SinkDeleted", detail="deleted", limit=10)) == 1
        assert committed.done()
        committed = opened.queue.submit(alert("b"))
        await opened.queue.flush()
        assert committed.done()

    async def test_an_empty_batch_waits_for_those_before_it(self, opened: QueueUnderTest) -> None:
        puts = [asyncio.ensure_future(opened.queue.put(alert(str(n)))) for n in range(20)]
        await asyncio.sleep(0)
        await opened.queue.put(Batch())
        assert len(opened.queued) == 20
        await asyncio.gather(*puts)

    async def test_a_failed_attempt_is_recorded(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(alert("a"))
        seq = opened.queued[0].seq
        await opened.queue.retry([Retry(seq, 12.5, "HTTP503")])
        await opened.queue.retry([Retry(seq, 99.5, "Timeout", "no response")])
        opened = await opened.reopen()
        taken = (await opened.queue.take("s1", after=0, limit=1))[0]
        assert (taken.attempts, taken.due) == (2, 99.5)
        record = (await opened.queue.look_up(DeliveryFilter(), limit=1))[0]
        assert (record.reason, record.detail, record.state, record.attempts) == (
            "Timeout",
            "no response",
            DeliveryState.WAITING,
            2,
        )

    async def test_the_composition_of_a_message_survives_a_restart(self, opened: QueueUnderTest) -> None:
        for name in "abc":
            await opened.queue.put(alert(name))
        await opened.queue.bind([one.seq for one in opened.queued[:2]], "m1")
        opened = await opened.reopen()
        taken = await opened.queue.take("s1", after=0, limit=10)
        assert [one.batch for one in taken] == ["m1", "m1", ""]
        await opened.queue.bind([taken[0].seq], "")
        assert [one.batch for one in await opened.queue.take("s1", after=0, limit=10)] == ["", "m1", ""]

    async def test_age_counts_on_the_queue_clock_only(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(alert("a", max_age=100))
        opened.clocks.wall += 365 * DAY  # the wall clock jumps
        assert await expire(opened.queue) == {}
        opened.clocks.monotonic += 60
        opened = await opened.reopen()  # a restart: time passes while no process has the queue open
        opened.clocks.monotonic += 39
        assert await expire(opened.queue) == {}
        opened.clocks.monotonic += 2
        assert len((await expire(opened.queue))["s1"]) == 1

    async def test_a_full_queue_rejects_deliveries_until_there_is_room(self, opened: QueueUnderTest, tmp_path: Path) -> None:
        await opened.queue.close()
        queue = await self.open_queue(tmp_path, opened.clocks, max_waiting=3)
        queued: list[Delivery] = []
        queue.subscribe(queued.extend)
        try:
            await queue.put(alert("a", ["s1", "s2"]))
            undone: list[str] = []
            with pytest.raises(QueueFull):
                await queue.put(alert("b", ["s1", "s2"]), undo=lambda: undone.append("b"))
            assert undone == ["b"]
            await queue.put(alert("c"))
            assert await names(queue) == ["a", "c"]
            await queue.settle([queued[0].seq])
            await queue.flush()
            await queue.put(alert("d"))
            assert await names(queue) == ["c", "d"]
        finally:
            await queue.close()

    async def test_a_closed_queue_raises_unavailable(self, opened: QueueUnderTest) -> None:
        await opened.queue.close()
        await opened.queue.close()
        with pytest.raises(QueueUnavailable, match="closed"):
            await opened.queue.put(alert("a"))
        with pytest.raises(QueueUnavailable, match="closed"):
            await opened.queue.take("s1", after=0, limit=1)

    async def test_closing_stores_deliveries_just_settled(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(alert("a"))
        await opened.queue.settle([opened.queued[0].seq])
        opened = await opened.reopen()
        assert opened.queue.depth().waiting == 0


class AlertStateContract(EngineContract):
    """What `AlertStateStore` promises."""

    async def test_an_alert_state_is_kept_with_its_latest_body_until_it_is_forgotten(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(replace(alert("a"), states=[AlertStateWrite(state(1), 0), AlertStateWrite(state(2), 0)]))
        await opened.queue.put(Batch(states=[AlertStateWrite(state(1, sinks=["s1", "s2"]))]))
        await opened.queue.put(replace(alert("b"), states=[AlertStateWrite(state(2, "resolved"), 0)]))
        opened = await opened.reopen()
        assert [one async for one in opened.queue.alert_states()] == [state(1, sinks=["s1", "s2"]), state(2, "resolved")]
        assert await opened.queue.alert_bodies([1, 2, 3]) == {1: b'{"name":"a"}', 2: b'{"name":"b"}'}
        await opened.queue.put(Batch(states=[AlertStateWrite(state(2, "resolved"), NO_BODY)]))
        assert await opened.queue.alert_bodies([1, 2]) == {1: b'{"name":"a"}'}
        await opened.queue.forget(states=[1])
        await opened.queue.put(Batch(forgotten=[2]))
        opened = await opened.reopen()
        assert [one async for one in opened.queue.alert_states()] == []

    async def test_what_was_added_to_an_alert_state_is_part_of_it_until_it_is_written_whole(self, opened: QueueUnderTest) -> None:
        whole = state(1, sinks=["s1", "s2", "s3", "s4"])
        ended = tuple(replace(one, status="resolved", at=2.0) for one in whole.notified)
        await opened.queue.put(
            replace(alert("a"), states=[AlertStateWrite(state(1, sinks=["s1", "s2"]), 0), AlertStateWrite(state(2))])
        )
        for added in (whole.notified[2:3], whole.notified[3:], ended[:2]):
            await opened.queue.put(Batch(states=[AlertStateWrite(whole, added=added)]))
        opened = await opened.reopen()
        await opened.queue.put(Batch(states=[AlertStateWrite(whole, added=ended[2:3])]))
        opened = await opened.reopen()
        assert [one async for one in opened.queue.alert_states()] == [
            replace(whole, notified=(whole.notified[3], *ended[:3])),
            state(2),
        ]
        assert await opened.queue.alert_bodies([1]) == {1: b'{"name":"a"}'}
        await opened.queue.put(Batch(states=[AlertStateWrite(state(1))]))
        opened = await opened.reopen()
        assert [one async for one in opened.queue.alert_states()] == [state(1), state(2)]
        await opened.queue.put(Batch(states=[AlertStateWrite(whole, added=ended)]))
        await opened.queue.forget(states=[1])
        await opened.queue.put(Batch(states=[AlertStateWrite(state(1), new=True)]))
        opened = await opened.reopen()
        assert [one async for one in opened.queue.alert_states()] == [state(1), state(2)]

    async def test_of_what_is_written_whole_and_added_in_one_commit_the_order_counts(self, opened: QueueUnderTest) -> None:
        one, two, three = (state(1, sinks=[f"s{number}" for number in range(count)]) for count in (1, 2, 3))
        changes = [
            AlertStateWrite(one, new=True),
            AlertStateWrite(two, added=two.notified[1:]),
            AlertStateWrite(one),
            AlertStateWrite(three, added=three.notified[1:2]),
            AlertStateWrite(three, added=three.notified[2:]),
        ]
        await asyncio.gather(*(opened.queue.put(Batch(states=[change])) for change in changes))
        opened = await opened.reopen()
        assert [one async for one in opened.queue.alert_states()] == [three]

    async def test_a_body_is_shared_with_the_deliveries_and_outlives_them(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(replace(alert("a", ["s1", "s2"]), states=[AlertStateWrite(state(1), 0)]))
        await opened.queue.settle([one.seq for one in opened.queued])
        await opened.queue.flush()
        opened = await opened.reopen()
        assert await opened.queue.alert_bodies([1]) == {1: b'{"name":"a"}'}
        await opened.queue.put(replace(alert("b"), states=[AlertStateWrite(state(1), NO_BODY)]))
        assert [one.body for one in await opened.queue.take("s1", after=0, limit=9)] == [b'{"name":"b"}']

    async def test_of_changes_of_one_alert_that_share_a_commit_the_last_is_kept(self, opened: QueueUnderTest) -> None:
        bodies = [
            replace(alert(name), states=[AlertStateWrite(state(1, status), 0, new=name == "a")]) for name, status in CHANGES
        ]
        group = GroupState(1, b"1", ("f1",), 1.0, 1.0, "10.0.0.1")
        changes = [
            *bodies,
            Batch(states=[AlertStateWrite(state(1, "resolved"))]),
            Batch(groups=[group]),
            Batch(groups=[replace(group, firing=())]),
        ]
        await asyncio.gather(*(opened.queue.put(one) for one in changes))
        await opened.queue.settle([one.seq for one in opened.queued])
        await opened.queue.flush()
        opened = await opened.reopen()
        assert [one async for one in opened.queue.alert_states()] == [state(1, "resolved")]
        assert [one async for one in opened.queue.group_states()] == []
        assert await opened.queue.alert_bodies([1]) == {1: b'{"name":"c"}'}

    async def test_however_much_shares_a_commit_all_of_it_is_kept_in_order(self, opened: QueueUnderTest) -> None:
        size, count = 3000, 1100  # over a megabyte
        put = [alert(f"{number:0{size}}") for number in range(count)]
        await asyncio.gather(*(opened.queue.put(one) for one in put))
        opened = await opened.reopen()
        taken = await opened.queue.take("s1", after=0, limit=count)
        assert [one.body for one in taken] == [one.payloads[0].body for one in put]
        assert await opened.queue.read_bodies([one.seq for one in taken]) == {one.seq: one.body for one in taken}

    async def test_groups_and_sinks_are_kept_until_they_are_forgotten(self, opened: QueueUnderTest) -> None:
        groups = [GroupState(row, b"%d" % row, ("f1", "f2"), 1.0, 1.0, "10.0.0.1") for row in (1, 2, 3)]
        sinks = [SinkState(uid, "d", "m", False) for uid in ("s1", "s2")]
        await opened.queue.put(Batch(groups=groups, sinks=sinks))
        moved, over = replace(groups[0], firing=("f1",)), replace(groups[1], firing=())
        await opened.queue.put(Batch(groups=[moved, over], sinks=[SinkState("s1", "other", "m", True)]))
        await opened.queue.forget(groups=[3], sinks=["s2"])
        opened = await opened.reopen()
        assert [one async for one in opened.queue.group_states()] == [moved]
        assert [one async for one in opened.queue.sink_states()] == [SinkState("s1", "other", "m", True)]

    async def test_the_keys_of_what_waits_for_a_sink_are_known(self, opened: QueueUnderTest) -> None:
        for name in ("a", "b", "c"):
            await opened.queue.put(alert(name, ["s1", "s2"]))
        await opened.queue.settle([one.seq for one in opened.queued if one.sink == "s1" and one.key == "a"])
        await opened.queue.flush()
        assert await opened.queue.waiting_keys("s1", limit=9) == {"b", "c"}
        assert len(await opened.queue.waiting_keys("s2", limit=2)) == 2
        assert await opened.queue.waiting_keys("s3", limit=9) == set()


class DeadLettersContract(EngineContract):
    """What `DeadLetters` promises."""

    async def test_a_dead_letter_has_its_reason_and_can_be_replayed_under_its_id(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(alert("a", ["s1", "s2"]))
        first, second = opened.queued
        await opened.queue.dead_letter([DeadLetter(first.seq, "HTTP400", "rejected by https://x")])
        assert await opened.queue.take("s1", after=0, limit=1) == []
        record = (await opened.queue.look_up(DeliveryFilter(state=DeliveryState.DEAD), limit=5))[0]
        assert (record.id, record.reason, record.detail, record.died) == (
            first.id,
            "HTTP400",
            "rejected by https://x",
            opened.clocks.wall,
        )
        assert opened.queue.depth().dead == 1
        opened.queued.clear()
        assert await opened.queue.replay(DeliveryFilter(ids=frozenset({first.id, second.id})), max_age=DAY, limit=10) == 1
        replayed = opened.queued[0]
        assert (replayed.id, replayed.body, replayed.attempts) == (first.id, first.body, 0)
        assert replayed.seq > second.seq
        depth = opened.queue.depth()
        assert (depth.waiting, depth.dead) == (2, 0)
        opened = await opened.reopen()
        assert [one.id for one in await opened.queue.take("s1", after=0, limit=5)] == [first.id]
        assert [r.id for r in await opened.queue.look_up(DeliveryFilter(ids=frozenset({first.id})), limit=5)] == [first.id]

    async def test_a_dead_letter_counts_the_attempt_that_led_to_it(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(alert("a", ["s1", "s2"]))
        first, second = opened.queued
        await opened.queue.retry([Retry(first.seq, 1.0, "HTTP503")])
        await opened.queue.dead_letter(
            [DeadLetter(first.seq, "HTTP400", "", attempts=1), DeadLetter(second.seq, "TenantMismatch", "")]
        )
        await opened.queue.dead_letter([DeadLetter(first.seq, "HTTP400", "", attempts=1)])  # it is one already
        found = await opened.queue.look_up(DeliveryFilter(state=DeliveryState.DEAD), limit=5)
        assert [one.attempts for one in found] == [2, 0]

    async def test_a_dead_letter_keeps_its_id_however_often_it_is_replayed(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(alert("a"))
        for _ in range(3):
            await opened.queue.dead_letter([DeadLetter(opened.queued[-1].seq, "HTTP400", "")])
            assert await opened.queue.replay(DeliveryFilter(ids=frozenset({opened.queued[0].id})), max_age=DAY, limit=10) == 1
        assert {one.id for one in opened.queued} == {opened.queued[0].id}

    async def test_what_arrives_although_it_was_dead_lettered_meanwhile_is_no_dead_letter(self, opened: QueueUnderTest) -> None:
        for name in "ab":
            await opened.queue.put(alert(name))
        first, second = opened.queued
        await opened.queue.dead_letter([DeadLetter(one.seq, "MaxAge", "") for one in opened.queued])
        await opened.queue.settle([first.seq, 99], Arrival("m1", ""))
        await opened.queue.settle([second.seq])
        await opened.queue.flush()
        depth = opened.queue.depth()
        assert (depth.waiting, depth.dead) == (0, 0)
        assert [one.name for one in await opened.queue.look_up(DeliveryFilter(message="m1"), limit=10)] == ["a"]

    async def test_what_has_expired_becomes_dead_letters_except_what_is_in_flight(self, opened: QueueUnderTest) -> None:
        for name, max_age in (("a", 30.0), ("b", 10.0), ("c", 20.0), ("d", 10.0)):
            await opened.queue.put(alert(name, ["s1", "s2"], max_age=max_age))
        seqs = {(one.key, one.sink): one.seq for one in opened.queued}
        opened.clocks.monotonic += 25
        in_flight = {seqs["b", "s2"]}
        expired: dict[str, list[int]] = {}
        while some := await expire(opened.queue, limit=2, spare=in_flight):
            assert sum(map(len, some.values())) <= 2
            for sink, died in some.items():
                expired.setdefault(sink, []).extend(died)
        assert expired == {
            "s1": [seqs["b", "s1"], seqs["d", "s1"], seqs["c", "s1"]],
            "s2": [seqs["d", "s2"], seqs["c", "s2"]],
        }
        assert await opened.queue.sinks_waiting() == {"s1": 1, "s2": 2}
        dead = await opened.queue.look_up(DeliveryFilter(state=DeliveryState.DEAD), limit=10)
        assert {(one.name, one.reason, one.detail) for one in dead} == {(name, "MaxAge", "too old") for name in "bcd"}
        assert await expire(opened.queue, limit=2) == {"s2": [seqs["b", "s2"]]}
        assert await expire(opened.queue, limit=2) == {}

    async def test_the_oldest_of_a_sink_become_dead_letters_except_what_is_in_flight(self, opened: QueueUnderTest) -> None:
        for name in "abcd":
            await opened.queue.put(alert(name, ["s1", "s2"]))
        seqs = [one.seq for one in opened.queued if one.sink == "s1"]
        queue = opened.queue
        died = await queue.dead_letter_oldest("s1", reason="QueueShare", detail="", limit=2, spare={seqs[0]})
        assert died == seqs[1:3]
        assert await names(queue) == ["a", "d"]
        assert await queue.sinks_waiting() == {"s1": 2, "s2": 4}
        assert await queue.dead_letter_oldest("unknown", reason="QueueShare", detail="", limit=2) == []

    async def test_deleting_or_replaying_a_large_backlog_lets_others_in_between(self, opened: QueueUnderTest) -> None:
        payload = Payload(PayloadKind.ALERT, b"{}", "A")
        for _ in range(4):
            await opened.queue.put(Batch([payload], [NewDelivery(0, "s1", "acme", str(n), "firing", DAY) for n in range(900)]))
        deleted = asyncio.ensure_future(opened.queue.dead_letter_sink("s1", reason="SinkDeleted", detail=""))
        await asyncio.sleep(0)
        await opened.queue.put(alert("b", ["s2"]))
        assert not deleted.done()
        assert await deleted == 3600
        assert opened.queue.depth().dead == 3600
        replayed = asyncio.ensure_future(opened.queue.replay(DeliveryFilter(sink="s1"), max_age=DAY, limit=3500))
        await asyncio.sleep(0)
        await opened.queue.put(alert("c", ["s2"]))
        assert not replayed.done()
        assert await replayed == 3500
        assert await opened.queue.sinks_waiting() == {"s1": 3500, "s2": 2}
        opened = await opened.reopen()
        assert await opened.queue.sinks_waiting() == {"s1": 3500, "s2": 2}
        assert opened.queue.depth().dead == 100

    async def test_a_deleted_sink_leaves_dead_letters(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(alert("a", ["s1", "s2"]))
        assert await opened.queue.dead_letter_sink("s1", reason="SinkDeleted", detail="the EventSink was deleted") == 1
        assert await opened.queue.sinks_waiting() == {"s2": 1}
        assert [r.reason for r in await opened.queue.look_up(DeliveryFilter(state=DeliveryState.DEAD), limit=5)] == [
            "SinkDeleted"
        ]


class DeliveryLogContract(EngineContract):
    """What `DeliveryLog` promises."""

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (DeliveryFilter(), ["a", "b", "c"]),
            (DeliveryFilter(state=DeliveryState.DEAD), ["a", "b"]),
            (DeliveryFilter(state=DeliveryState.WAITING), ["c"]),
            (DeliveryFilter(sink="s2"), ["b", "c"]),
            (DeliveryFilter(sink="s2", state=DeliveryState.DEAD), ["b"]),
            (DeliveryFilter(reason="MaxAge"), ["b"]),
            (DeliveryFilter(tenant="acme", reason="HTTP400"), ["a"]),
            (DeliveryFilter(tenant="other"), []),
            (DeliveryFilter(ids=frozenset({"nonsense", "", "-1", f"0-{'f' * 30}"})), []),
        ],
    )
    async def test_deliveries_are_looked_up_by_any_combination_of_fields(
        self, opened: QueueUnderTest, wanted: DeliveryFilter, expected: list[str]
    ) -> None:
        for name, sink in (("a", "s1"), ("b", "s2"), ("c", "s2")):
            await opened.queue.put(alert(name, [sink]))
        await opened.queue.dead_letter(
            [DeadLetter(opened.queued[0].seq, "HTTP400", ""), DeadLetter(opened.queued[1].seq, "MaxAge", "")]
        )
        assert [record.name for record in await opened.queue.look_up(wanted, limit=10)] == expected
        dead = [n for n in expected if n != "c"]
        assert await opened.queue.replay(wanted, max_age=DAY, limit=10) == len(dead)

    async def test_delivered_alerts_are_found_by_message_and_by_id_until_forgotten(self, opened: QueueUnderTest) -> None:
        for name in "abcd":
            await opened.queue.put(alert(name))
        seqs = [one.seq for one in opened.queued]
        await opened.queue.retry([Retry(seqs[0], 0.0, "HTTP503")])
        await opened.queue.settle(seqs[:2], Arrival("m1", "C1/12.5"))
        await opened.queue.settle(seqs[2:3], Arrival("m2", ""))
        opened = await opened.reopen()
        depth = opened.queue.depth()
        assert (depth.waiting, depth.dead) == (1, 0)
        for wanted in (DeliveryFilter(message="m1"), DeliveryFilter(message="m1", state=DeliveryState.ARRIVED)):
            found = await opened.queue.look_up(wanted, limit=10)
            assert [(one.name, one.state, one.message, one.reference) for one in found] == [
                ("a", DeliveryState.ARRIVED, "m1", "C1/12.5"),
                ("b", DeliveryState.ARRIVED, "m1", "C1/12.5"),
            ]
            assert (found[0].attempts, found[0].arrived, found[0].reason) == (1, opened.clocks.wall, "")
        assert [one.name for one in await opened.queue.look_up(DeliveryFilter(), limit=10)] == ["d"]
        arrived = DeliveryFilter(state=DeliveryState.ARRIVED)
        everything = await opened.queue.look_up(arrived, limit=10)
        assert [one.name for one in everything] == ["a", "b", "c"]
        assert [one.name for one in await opened.queue.look_up(arrived, limit=2, after=everything[0].seq)] == ["b", "c"]
        by_id = DeliveryFilter(ids=frozenset({everything[1].id}))
        assert [one.name for one in await opened.queue.look_up(by_id, limit=10)] == ["b"]
        assert await opened.queue.look_up(DeliveryFilter(message="m1", state=DeliveryState.DEAD), limit=10) == []
        assert await opened.queue.look_up(DeliveryFilter(message="m1", tenant="other"), limit=10) == []
        for nothing in (DeliveryFilter(message="m1"), DeliveryFilter(state=DeliveryState.ARRIVED)):
            assert await opened.queue.replay(nothing, max_age=DAY, limit=10) == 0

    async def test_what_a_sink_of_all_tenants_gets_is_found_by_the_tenant_of_the_alert(self, opened: QueueUnderTest) -> None:
        of = {"a": "acme", "b": "globex", "c": "acme", "d": None}
        for name, tenant in of.items():
            payload = Payload(PayloadKind.ALERT, b"{}", name)
            await opened.queue.put(Batch([payload], [NewDelivery(0, "all", "*", name, "firing", DAY, tenant)]))
        await opened.queue.put(alert("e"))
        seqs = [one.seq for one in opened.queued]
        assert {one.tenant for one in opened.queued[:4]} == {"*"}, "what is checked before it is sent is the sink's"
        await opened.queue.dead_letter([DeadLetter(seqs[0], "HTTP400", "")])
        await opened.queue.settle(seqs[2:3], Arrival("m", "r"))
        opened = await opened.reopen()
        found = await opened.queue.look_up(DeliveryFilter(), limit=10)
        assert [(one.name, one.tenant) for one in found] == [("a", "acme"), ("b", "globex"), ("d", "*"), ("e", "acme")]
        (arrived,) = await opened.queue.look_up(DeliveryFilter(message="m", tenant="acme"), limit=10)
        assert (arrived.name, arrived.tenant) == ("c", "acme")
        assert [one.name for one in await opened.queue.look_up(DeliveryFilter(tenant="acme"), limit=10)] == ["a", "e"]
        assert [one.name for one in await opened.queue.look_up(DeliveryFilter(tenant="*"), limit=10)] == ["d"]
        assert await opened.queue.replay(DeliveryFilter(tenant="globex"), max_age=DAY, limit=10) == 0
        assert await opened.queue.replay(DeliveryFilter(tenant="acme"), max_age=DAY, limit=10) == 1
        assert [one.tenant for one in await opened.queue.look_up(DeliveryFilter(sink="all"), limit=10)] == ["globex", "*", "acme"]
        waiting = [opened.queue.waiting_of(tenant).deliveries for tenant in ("acme", "globex", "*")]
        assert waiting == [1, 0, 3], "they are the platform's to wait for, not a tenant's"

    async def test_an_id_of_another_queue_means_nothing(self, opened: QueueUnderTest, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        other = await self.open_queue(tmp_path / "other", opened.clocks)
        queued: list[Delivery] = []
        other.subscribe(queued.extend)
        await other.put(alert("a"))
        await other.close()
        await opened.queue.put(alert("b"))
        await opened.queue.dead_letter([DeadLetter(opened.queued[0].seq, "HTTP400", "")])
        assert queued[0].id != opened.queued[0].id
        foreign = DeliveryFilter(ids=frozenset({queued[0].id}))
        assert await opened.queue.look_up(foreign, limit=5) == []
        assert await opened.queue.replay(foreign, max_age=DAY, limit=5) == 0

    async def test_long_lists_are_paged(self, opened: QueueUnderTest) -> None:
        await asyncio.gather(*(opened.queue.put(alert(str(n))) for n in range(25)))
        found, after = [], 0
        while page := await opened.queue.look_up(DeliveryFilter(), after=after, limit=10):
            found += [record.name for record in page]
            after = page[-1].seq
        assert found == [str(n) for n in range(25)]


class SinkReportsContract(EngineContract):
    """What `SinkReports` promises."""

    async def test_the_last_report_of_each_sink_is_kept_through_a_restart(self, opened: QueueUnderTest) -> None:
        first = SinkReport(
            "s1", "False", "HTTP404", "it responded with 404", "2026-01-01T00:00:00Z", None, "HTTP404: it did", 1.5
        )
        last = SinkReport("s1", "True", "Delivered", "the last message arrived", "2026-01-01T00:00:01Z", 1.7e9, "", 2.5)
        unknown = [SinkReport(f"u{number:04}") for number in range(1500)]
        await opened.queue.report([first, SinkReport("s2", "True")])
        await opened.queue.report([last, *unknown])
        for _ in range(2):
            assert [one async for one in opened.queue.sink_reports()] == [last, SinkReport("s2", "True"), *unknown]
            opened = await opened.reopen()

    async def test_reports_of_sinks_that_are_gone_are_dropped(self, opened: QueueUnderTest) -> None:
        await opened.queue.report([SinkReport("s1"), SinkReport("s2")])
        await opened.queue.report([SinkReport("s3")], removed=["s1", "s4"])
        assert [one.uid async for one in opened.queue.sink_reports()] == ["s2", "s3"]


async def posted(opened: QueueUnderTest, post: Post, sink: str = "s1", destination: str = "d1") -> None:
    """A delivery arrives in a message, with what is to follow it."""
    await opened.queue.put(alert("carrier", [sink]))
    arrival = Arrival(post.message, post.reference, PostChange(sink, destination, post))
    await opened.queue.settle([opened.queued[-1].seq], arrival)


def post_of(*names: str, reference: str = "C1/1.1", **members: object) -> Post:
    shown = tuple(f'{{"name":"{name}"}}'.encode() for name in names)
    return replace(Post(reference, "m1", dict.fromkeys(names, 5), len(names), alerts=shown), **members)


class PostsContract(EngineContract):
    """What `PostStore` promises."""

    async def test_a_post_is_found_by_what_it_announced_as_soon_as_its_delivery_is_settled_and_after_a_restart(
        self, opened: QueueUnderTest
    ) -> None:
        await posted(opened, post_of("a", "b"))
        for _ in range(2):
            found = await opened.queue.announced("s1", "d1", ["a", "b", "c"])
            assert {name: (ref.is_edited, ref.starts_at) for name, ref in found.items()} == {"a": (True, 5), "b": (True, 5)}
            one = await opened.queue.post("s1", found["a"].id)
            assert one == post_of("a", "b", id=found["a"].id)
            opened = await opened.reopen()

    async def test_only_its_own_sink_finds_a_post_and_only_while_it_points_there(self, opened: QueueUnderTest) -> None:
        await posted(opened, post_of("a"))
        [ref] = (await opened.queue.announced("s1", "d1", ["a"])).values()
        assert await opened.queue.announced("s2", "d1", ["a"]) == {}
        assert await opened.queue.announced("s1", "d2", ["a"]) == {}
        assert await opened.queue.post("s2", ref.id) is None

    async def test_what_has_ended_is_not_open_and_a_post_with_nothing_open_is_forgotten(self, opened: QueueUnderTest) -> None:
        await posted(opened, post_of("a", "b", alerts=(), digest=True))
        ref = (await opened.queue.announced("s1", "d1", ["a"]))["a"]
        assert not ref.is_edited
        await posted(opened, post_of("a", "b", open={"b": 5}, alerts=(), digest=True, id=ref.id))
        assert list(await opened.queue.announced("s1", "d1", ["a", "b"])) == ["b"]
        await posted(opened, post_of("a", "b", open={}, id=ref.id))
        assert await opened.queue.announced("s1", "d1", ["a", "b"]) == {}
        assert await opened.queue.post("s1", ref.id) is None

    async def test_an_alert_is_of_the_post_that_announced_it_last(self, opened: QueueUnderTest) -> None:
        await posted(opened, post_of("a", "b"))
        old = (await opened.queue.announced("s1", "d1", ["a"]))["a"].id
        await posted(opened, post_of("a", reference="C1/2.2", open={"a": 9}))
        found = await opened.queue.announced("s1", "d1", ["a", "b"])
        assert found["b"].id == old
        assert (found["a"].id != old, found["a"].starts_at) == (True, 9)
        left = await opened.queue.post("s1", old)
        assert left is not None
        assert (list(left.open), left.total) == (["b"], 1), "a has not ended: it is another message's"
        await posted(opened, post_of("b", reference="C1/3.3"), destination="d2")
        await opened.queue.flush()
        assert await opened.queue.post("s1", old) is None, "nothing is of it any more"

    async def test_a_post_is_forgotten_with_its_alerts_and_with_its_sink(self, opened: QueueUnderTest) -> None:
        await opened.queue.put(Batch(states=[AlertStateWrite(state(row), NO_BODY, new=True) for row in (1, 2)]))
        await posted(opened, post_of("f1", "f2"))
        await posted(opened, post_of("f1"), sink="s2")
        post = (await opened.queue.announced("s1", "d1", ["f1"]))["f1"]
        await opened.queue.forget(states=[1])
        assert list(await opened.queue.announced("s1", "d1", ["f1", "f2"])) == ["f2"]
        assert await opened.queue.announced("s2", "d1", ["f1"]) == {}
        await posted(opened, post_of("f2"), sink="s2")
        await opened.queue.forget(sinks=["s1"])
        assert await opened.queue.post("s1", post.id) is None
        assert list(await opened.queue.announced("s2", "d1", ["f2"])) == ["f2"]
        # Who looked it up before may write it: it stays forgotten.
        await posted(opened, post_of("f1", "f2", id=post.id))
        assert await opened.queue.announced("s1", "d1", ["f1", "f2"]) == {}


class QueueContract(
    DeliveryQueueContract, AlertStateContract, SinkReportsContract, PostsContract, DeadLettersContract, DeliveryLogContract
):
    """What an engine has to pass."""
