"""Which replica leads: the decision as a table, and electors over an API whose time the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventsink.kube.api import SECRETS, ApiError, Forbidden, Key, Object, Resource, Unavailable
from eventsink.kube.lease import (
    LEASES,
    MAX_LEASE_SECONDS,
    Elector,
    LeaderApi,
    LeaderElectionSettings,
    LeaseRecord,
    NotLeading,
    Step,
    next_step,
    read_record,
)
from eventsink.kube.local import LocalApi
from eventsink.runtime.process import ExitStatus, Stop

KEY = ("system", "eventsink-operator")


def record(holder: str) -> LeaseRecord:
    return LeaseRecord(holder=holder, seconds=15.0, transitions=0, version="1")


@pytest.mark.parametrize(
    ("known", "unchanged_for", "step"),
    [
        (None, 0.0, Step.CREATE),
        (record("me"), 0.0, Step.RENEW),
        (record("me"), 100.0, Step.RENEW),
        (record("other"), 0.0, Step.WAIT),
        (record("other"), 14.9, Step.WAIT),
        (record("other"), 15.0, Step.TAKE),
        (record(""), 0.0, Step.TAKE),
    ],
)
def test_a_lease_is_taken_when_it_was_released_or_did_not_change_for_its_own_duration(
    known: LeaseRecord | None, unchanged_for: float, step: Step
) -> None:
    assert next_step(known, "me", unchanged_for) is step


@pytest.mark.parametrize("spec", [{}, None, {"holderIdentity": ""}, {"holderIdentity": "other"}, {"leaseDurationSeconds": 100}])
def test_a_lease_that_does_not_say_who_holds_it_for_how_long_can_be_taken(spec: dict[str, Any] | None) -> None:
    read = read_record({"metadata": {"resourceVersion": "1"}, "spec": spec})
    assert next_step(read, "me", 0.0) is Step.TAKE


def test_no_lease_is_waited_for_longer_than_settings_allow() -> None:
    spec = {"holderIdentity": "other", "leaseDurationSeconds": 2**31 - 1}
    read = read_record({"metadata": {"resourceVersion": "1"}, "spec": spec})
    assert next_step(read, "me", MAX_LEASE_SECONDS - 1) is Step.WAIT
    assert next_step(read, "me", MAX_LEASE_SECONDS) is Step.TAKE


@pytest.mark.parametrize(
    ("vanished", "unchanged_for", "step"),
    [
        (record("other"), 14.9, Step.WAIT),
        (record("other"), 15.0, Step.CREATE),
        (record("me"), 0.0, Step.CREATE),
        (record(""), 0.0, Step.CREATE),
    ],
)
def test_a_lease_that_was_deleted_is_made_by_others_when_it_would_have_expired(
    vanished: LeaseRecord, unchanged_for: float, step: Step
) -> None:
    assert next_step(None, "me", unchanged_for, vanished) is step


class Cluster:
    """An API server with a clock that only the test moves; each replica can be cut off from it."""

    def __init__(self) -> None:
        self.api = LocalApi((LEASES, SECRETS))
        self.now = 1000.0
        self.settings = LeaderElectionSettings(namespace=KEY[0], retry_period=0.02, renew_deadline=10.0, lease_duration=15.0)

    def replica(self, name: str) -> Replica:
        return Replica(self, name)

    def lease(self) -> Object | None:
        return next(self.api.objects(LEASES), None)

    def holder(self) -> str:
        lease = self.lease()
        return str(lease["spec"]["holderIdentity"]) if lease is not None else ""


class Replica(LocalApi):
    """One replica: its elector, and the API as it reaches it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(())
        self._cluster = cluster
        self.error: ApiError | None = None
        self.lost = False
        """Whether the responses to its writes are lost: they are made all the same."""
        self.looks = 0
        """How often it has read the Lease."""
        self.elector = Elector(self, cluster.settings, identity=name, clock=lambda: cluster.now)

    async def get(self, resource: Resource, key: Key) -> Object:
        self.looks += 1
        return await self._ask(lambda: self._cluster.api.get(resource, key))

    async def create(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        return await self._ask(lambda: self._cluster.api.create(resource, obj, manager=manager))

    async def replace(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        return await self._ask(lambda: self._cluster.api.replace(resource, obj, manager=manager))

    async def _ask(self, call: Callable[[], Any]) -> Object:
        if self.error is not None:
            raise self.error
        result: Object = await call()
        if self.lost:
            raise Unavailable(0, "Unavailable", "no response in time")
        return result

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.ensure_future(self.elector.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def leads(self) -> None:
        async with asyncio.timeout(10):
            await self.elector.leading.wait()

    async def looks_again(self) -> None:
        """Wait until it has read the Lease twice more, and so has decided once at least on what there is now."""
        before = self.looks
        await until(lambda: self.looks > before + 1)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


OUTAGE = Unavailable(0, "Unavailable", "the API server cannot be reached")


async def test_of_two_that_start_at_once_one_leads() -> None:
    cluster = Cluster()
    one, two = cluster.replica("one"), cluster.replica("two")
    async with one.running(), two.running():
        await until(lambda: one.elector.problem is None and two.elector.problem is None)
        leading = [replica for replica in (one, two) if replica.elector.holds]
        assert len(leading) == 1
        assert cluster.holder() == ("one" if leading[0] is one else "two")


async def test_a_released_lease_is_taken_at_once() -> None:
    cluster = Cluster()
    one, two = cluster.replica("one"), cluster.replica("two")
    async with one.running(), two.running():
        await until(cluster.holder)
        first, second = (one, two) if cluster.holder() == "one" else (two, one)
        await first.leads()
        await first.elector.release()
        assert not first.elector.holds
        await second.leads()
    lease = cluster.lease()
    assert lease is not None
    assert lease["spec"]["leaseTransitions"] == 1


async def test_the_lease_of_a_dead_leader_is_taken_when_it_has_expired_by_the_clock_of_who_takes_it() -> None:
    cluster = Cluster()
    one, two = cluster.replica("one"), cluster.replica("two")
    async with one.running():
        await one.leads()
    async with two.running():
        await until(lambda: two.elector.problem is None)
        cluster.now += 14.0
        await two.looks_again()
        assert not two.elector.leading.is_set()
        cluster.now += 2.0
        await two.leads()


async def test_a_leader_without_the_api_server_writes_nothing_and_goes_on_when_nobody_else_led_meanwhile() -> None:
    cluster = Cluster()
    one = cluster.replica("one")
    writer = LeaderApi(cluster.api, one.elector.check)
    async with one.running() as task:
        await one.leads()
        one.error = OUTAGE
        cluster.now += 60.0
        with pytest.raises(NotLeading):
            await writer.create(SECRETS, {"metadata": {"namespace": "a", "name": "a"}})
        assert not task.done()
        one.error = None
        await until(lambda: one.elector.holds)
        await writer.create(SECRETS, {"metadata": {"namespace": "a", "name": "a"}})
        assert not task.done()


async def test_a_leader_whose_lease_another_one_took_ends_with_status_4_and_writes_nothing() -> None:
    cluster = Cluster()
    one, two = cluster.replica("one"), cluster.replica("two")
    async with one.running() as task, two.running():
        await one.leads()
        await until(lambda: two.elector.problem is None)
        one.error = OUTAGE
        cluster.now += 16.0
        await two.leads()
        one.error = None
        with pytest.raises(NotLeading):
            one.elector.check()
        with pytest.raises(Stop) as raised:
            await asyncio.wait_for(task, 10)
        assert raised.value.status is ExitStatus.LEASE_LOST
        assert cluster.holder() == "two"
        await one.elector.release()
        assert cluster.holder() == "two", "only the holder releases the Lease"


async def test_a_renewal_whose_response_was_lost_does_not_end_the_leader() -> None:
    cluster = Cluster()
    one = cluster.replica("one")
    async with one.running() as task:
        await one.leads()
        one.lost = True
        before = read_record(cluster.lease() or {}).version
        await until(lambda: read_record(cluster.lease() or {}).version != before)
        one.lost = False
        cluster.now += 60.0
        await until(lambda: one.elector.holds)
        assert not task.done()


async def test_a_deleted_lease_is_made_again_by_the_leader() -> None:
    cluster = Cluster()
    one = cluster.replica("one")
    async with one.running() as task:
        await one.leads()
        cluster.api.drop(LEASES, KEY)
        await until(lambda: cluster.holder() == "one")
        assert not task.done()


async def test_a_deleted_lease_is_not_taken_from_a_leader_that_has_not_noticed_yet() -> None:
    cluster = Cluster()
    one, two = cluster.replica("one"), cluster.replica("two")
    async with one.running() as task, two.running():
        await one.leads()
        await until(lambda: two.elector.problem is None)
        one.error = OUTAGE
        cluster.api.drop(LEASES, KEY)
        await two.looks_again()
        assert (two.elector.leading.is_set(), one.elector.holds) == (False, True)
        one.error = None
        await until(lambda: cluster.holder() == "one")
        assert not task.done()
        one.error = OUTAGE
        cluster.api.drop(LEASES, KEY)
        await two.looks_again()
        cluster.now += 16.0
        await two.leads()
        assert not one.elector.holds


async def test_the_largest_count_of_transitions_keeps_nobody_from_leading() -> None:
    cluster = Cluster()
    spec = {"holderIdentity": "gone", "leaseDurationSeconds": 15, "leaseTransitions": 2**31 - 1}
    await cluster.api.create(LEASES, {"metadata": {"namespace": KEY[0], "name": KEY[1]}, "spec": spec})
    one = cluster.replica("one")
    async with one.running():
        await until(lambda: one.elector.problem is None)
        cluster.now += 16.0
        await one.leads()
    lease = cluster.lease()
    assert lease is not None
    assert lease["spec"]["leaseTransitions"] == 2**31 - 1


async def test_a_missing_right_is_the_reason_why_a_replica_is_not_ready() -> None:
    one = Cluster().replica("one")
    one.error = Forbidden(403, "Forbidden", "leases is forbidden")
    async with one.running():
        await until(lambda: "forbidden" in (one.elector.problem or ""))
        assert "this ServiceAccount needs a Role for Leases in system" in (one.elector.problem or "")


async def test_everybody_may_read_and_only_the_leader_may_write() -> None:
    cluster = Cluster()
    idle = cluster.replica("idle")
    api = LeaderApi(cluster.api, idle.elector.check)
    made = await cluster.api.create(SECRETS, {"metadata": {"namespace": "a", "name": "a"}})
    assert await api.get(SECRETS, ("a", "a")) == made
    writes = (
        lambda: api.create(SECRETS, made),
        lambda: api.replace(SECRETS, made),
        lambda: api.apply(SECRETS, made, manager="m"),
        lambda: api.delete(SECRETS, ("a", "a")),
    )
    for write in writes:
        with pytest.raises(NotLeading):
            await write()
    assert list(cluster.api.objects(SECRETS)) == [made]


async def test_a_write_that_has_not_been_sent_when_the_lease_may_have_expired_is_given_up() -> None:
    class Connecting(LocalApi):
        async def create(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
            await asyncio.Event().wait()
            raise AssertionError

    api = LeaderApi(Connecting((SECRETS,)), lambda: 0.05)
    with pytest.raises(NotLeading):
        await asyncio.wait_for(api.create(SECRETS, {"metadata": {"namespace": "a", "name": "a"}}), 10)


def test_durations_that_contradict_each_other_are_rejected_in_words() -> None:
    with pytest.raises(ValueError, match="write a retryPeriod below renewDeadline, and a renewDeadline below leaseDuration"):
        LeaderElectionSettings(lease_duration=5.0)
