"""Who gets what is bounded, and who waits for what."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.sinks.shares import LAST_TURN_SECONDS, TURN_SECONDS, Bound, Lease, Limit, Share


def taken(limit: Limit, *wanted: tuple[str, int]) -> list[int]:
    """How many units each gets, one after the other, of those that it wants."""
    found = []
    for tenant, most in wanted:
        share = Share(tenant, (limit,), most)
        while share.take() is not None:
            pass
        found.append(share.used)
    return found


@pytest.mark.parametrize(
    ("most", "wanted", "got"),
    [
        (1, [("a", 9)], [1]),
        (2, [("a", 9), ("b", 9)], [1, 1]),
        (32, [("a", 99)], [8]),
        (32, [("a", 8)] * 4, [8, 4, 2, 1]),
        (32, [*[("a", 8)] * 9, ("b", 8)], [8, 4, 2, 1, 1, 0, 0, 0, 0, 4]),
        (32, [("a", 1)] * 30, [1] * 16 + [0] * 14),
        (256, [("a", 8)] * 4 + [("a", 8)], [8] * 5),
        (256, [("a", 1)] * 30 + [("b", 8)], [1] * 30 + [8]),
        (1024, [("a", 8)] * 130, [8] * 63 + [4, 2, 1, 1] + [0] * 63),
        (1024, [("a", 8)] * 130 + [("b", 8)] * 5, [8] * 63 + [4, 2, 1, 1] + [0] * 63 + [8] * 5),
        (1024, [(f"t{n}", 8) for n in range(100)], [8] * 100),
    ],
)
def test_each_gets_units_while_as_many_are_left_for_others(most: int, wanted: list[tuple[str, int]], got: list[int]) -> None:
    assert taken(Limit(most), *wanted) == got


@pytest.mark.parametrize(
    ("used", "tenant", "share", "bound"),
    [
        ([], "a", 0, None),
        ([("a", 8)], "a", 8, Bound.SHARE),
        ([("a", 1)] * 16, "a", 0, Bound.TENANT),
        ([("a", 1)] * 16, "b", 0, None),
        ([(f"t{n}", 1) for n in range(32)], "b", 0, Bound.FULL),
        ([("a", 1)] * 16 + [(f"t{n}", 1) for n in range(16)], "a", 0, Bound.FULL),
    ],
)
def test_the_bound_that_applies_is_named(used: list[tuple[str, int]], tenant: str, share: int, bound: Bound | None) -> None:
    limit = Limit(32)
    taken(limit, *used)
    assert limit.refuses(tenant, share) is bound


class Waiting:
    """Shares that want one more unit each, and the order in which they get it."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[Lease]] = []
        self._holders: list[Share] = []

    def holder(self, number: int) -> Share:
        """Who got one as the number-th, from 0."""
        return self._holders[number]

    async def add(self, name: str, share: Share) -> None:
        async def wait() -> Lease:
            lease = await share.wait()
            self.order.append(name)
            self._holders.append(share)
            return lease

        self.tasks.append(asyncio.ensure_future(wait()))
        await asyncio.sleep(0)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_tenants_take_turns_and_so_do_the_shares_of_each() -> None:
    limit, others = Limit(8), []
    for n in range(8):
        other = Share(f"t{n}", (limit,), 1)
        lease = other.take()
        assert lease is not None
        others.append((other, lease))
    waiting = Waiting()
    first, second, theirs = (Share(tenant, (limit,), 8) for tenant in "aab")
    for name, share in [("a1", first), ("a1", first), ("a1", first), ("a2", second), ("b", theirs)]:
        await waiting.add(name, share)
    for other, lease in others:
        other.release(lease)
        await asyncio.sleep(0)
    assert waiting.order == ["a1", "b", "a2", "a1"]
    assert first.bound is Bound.SHARE
    await waiting.end()


@pytest.mark.parametrize("tenants", [1, 250, 1000], ids=["one tenant", "as many as units", "more than units"])
async def test_a_unit_is_given_on_without_asking_everybody_who_waits(tenants: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    refuses = Limit.refuses

    def counted(self: Limit, tenant: str, used: int) -> Bound | None:
        nonlocal asked
        asked += 1
        return refuses(self, tenant, used)

    limit = Limit(256)
    shares = [Share(f"t{n % tenants}", (limit,), 256) for n in range(1000)]
    tasks = [asyncio.ensure_future(share.wait()) for share in shares for _ in range(3)]
    await asyncio.sleep(0)
    holders = [share for share in shares if share.used]
    monkeypatch.setattr(Limit, "refuses", counted)
    for share in holders:
        share.release((limit,))
    assert asked <= 8 * len(holders)
    monkeypatch.undo()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("others", "turn"), [(1, TURN_SECONDS), (0, LAST_TURN_SECONDS)], ids=["one of its units", "its only unit"]
)
async def test_a_tenant_keeps_a_unit_for_a_while_before_it_is_the_turn_of_one_that_uses_as_few(others: int, turn: float) -> None:
    clock = Clock()
    limit = Limit(4 if others else 1, clock)
    leases = {name: [Share(name, (limit,), 1).take() for _ in range(others)] for name in "ab"}
    assert all(lease for of_tenant in leases.values() for lease in of_tenant)
    share = Share("c", (limit,), 1)
    lease = share.take()
    assert lease is not None
    waiting = Waiting()
    for name in ("a1", "b1", "a2", "b2", "a3", "b3"):
        await waiting.add(name, Share(name[0], (limit,), 1))
    share.release(lease)
    await asyncio.sleep(0)
    assert waiting.order == ["a1"]
    for at, expected in ((0.5, "a2"), (0.9, "a3"), (1.0, "b1")):
        clock.now = 1000.0 + turn * at
        waiting.holder(-1).release((limit,))
        await asyncio.sleep(0)
        assert waiting.order[-1] == expected
    await waiting.end()


async def test_a_unit_for_a_share_of_the_tenant_that_has_just_given_up_goes_to_the_next() -> None:
    limit = Limit(1)
    holder = Share("c", (limit,), 1)
    waiting = Waiting()
    lease = holder.take()
    for name in ("a1", "a2", "b"):
        await waiting.add(name, Share(name[0], (limit,), 1))
    assert lease is not None
    holder.release(lease)
    await asyncio.sleep(0)
    waiting.tasks[1].cancel()
    waiting.holder(0).release((limit,))
    await asyncio.sleep(0)
    assert waiting.order == ["a1", "b"]
    assert limit.used == 1
    await waiting.end()


async def test_a_share_that_waits_for_its_own_unit_gets_it_after_others_that_wait() -> None:
    limit = Limit(2)
    ours, theirs, third = Share("a", (limit,), 1), Share("b", (limit,), 1), Share("c", (limit,), 1)
    our_lease, their_lease = ours.take(), theirs.take()
    assert our_lease is not None
    assert their_lease is not None
    waiting = Waiting()
    await waiting.add("ours", ours)
    assert ours.bound is Bound.SHARE
    await waiting.add("third", third)
    assert third.bound is Bound.FULL
    ours.release(our_lease)
    await asyncio.sleep(0)
    assert waiting.order == ["third"]
    theirs.release(their_lease)
    await asyncio.sleep(0)
    assert waiting.order == ["third", "ours"]
    await waiting.end()


async def test_a_unit_for_somebody_who_has_just_given_up_goes_to_the_next() -> None:
    limit = Limit(1)
    holder = Share("a", (limit,), 1)
    lease = holder.take()
    assert lease is not None
    waiting = Waiting()
    await waiting.add("gives up", Share("b", (limit,), 1))
    await waiting.add("next", Share("c", (limit,), 1))
    holder.release(lease)
    waiting.tasks[0].cancel()
    await asyncio.gather(*waiting.tasks, return_exceptions=True)
    assert waiting.order[-1] == "next"
    assert limit.used == 1


async def test_those_who_wait_at_the_end_get_the_error() -> None:
    limit = Limit(1)
    assert Share("a", (limit,), 1).take() is not None
    share = Share("b", (limit,), 1)
    tasks = [asyncio.ensure_future(share.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    share.fail(ConnectionError("the end"))
    assert [type(one) for one in await asyncio.gather(*tasks, return_exceptions=True)] == [ConnectionError] * 3


STEPS = st.lists(
    st.tuples(st.sampled_from(["want", "want", "give", "give up", "change"]), st.integers(0, 7), st.integers(0, 99)), max_size=60
)


@given(most=st.integers(1, 6), total=st.integers(1, 8), steps=STEPS)
def test_no_limit_is_exceeded_and_nobody_waits_for_what_is_free(most: int, total: int, steps: list[tuple[str, int, int]]) -> None:
    async def run() -> None:
        everything, slow = Limit(total), Limit(max(1, total // 2))
        hosts = [Limit(most), Limit(most)]
        shares = [Share("abc"[n % 3], (hosts[n % 2], everything), 1 + n % 4) for n in range(8)]
        held: list[tuple[Share, Lease]] = []
        waits: list[tuple[Share, asyncio.Task[Lease]]] = []
        for step, which, choice in steps:
            share = shares[which]
            if step == "want":
                waits.append((share, asyncio.ensure_future(share.wait())))
            elif step == "give" and held:
                one, lease = held.pop(choice % len(held))
                one.release(lease)
            elif step == "give up" and waits:
                waits[choice % len(waits)][1].cancel()
            elif step == "change" and any(one is share for one, _ in held):
                # As a client does: what it may use changes when it gives a unit back.
                lease = next(lease for one, lease in held if one is share)
                held.remove((share, lease))
                share.most = 1 + choice % 5
                share.limits = (slow, hosts[which % 2], everything) if choice % 2 else (hosts[which % 2], everything)
                share.release(lease)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for share, task in list(waits):
                if task.done():
                    waits.remove((share, task))
                    if not task.cancelled():
                        held.append((share, task.result()))
            for limit in (*hosts, everything, slow):
                assert limit.used <= limit.most
                assert limit.used == sum(lease.count(limit) for _, lease in held)
            for share, _ in waits:
                assert share.used >= share.most or any(limit.refuses(share.tenant, share.used) for limit in share.limits)
        for _, task in waits:
            task.cancel()
        await asyncio.gather(*(task for _, task in waits), return_exceptions=True)
        for one, lease in held:
            one.release(lease)
        assert everything.used == slow.used == hosts[0].used == hosts[1].used == 0

    asyncio.run(run())
