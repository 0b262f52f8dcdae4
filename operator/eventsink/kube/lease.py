"""One leader among replicas, by a Lease of coordination.k8s.io, and an API that writes for the leader alone.

Clocks of different machines are never compared: a replica measures by its own clock how long the Lease has not changed. A Lease
alone does not keep a process from writing that was paused and goes on later: `LeaderApi` compares the time before each write, and
whoever writes also names the resourceVersion that the decision was based on.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from eventsink.kube.api import (
    PAGE,
    PERMIT,
    Api,
    ApiError,
    Collection,
    Conflict,
    Forbidden,
    Key,
    NotFound,
    Object,
    ObjectList,
    Resource,
    WatchEvent,
)
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.process import ExitStatus, Stop
from eventsink.runtime.settings import Seconds, Settings

LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
DEFAULT_NAMESPACE = "eventsink-system"
ATTEMPTS = 2
"""To write a Lease that somebody else writes at the same time."""
STANDBY_SHARE = 0.5
"""Of `retryPeriod`: how often those look that do not lead, so that a released Lease is taken within a second."""
MAX_LEASE_SECONDS = 3600.0
"""The longest that a Lease is waited for, as the setting has it, whatever somebody else wrote into it."""
MAX_TRANSITIONS = 2**31 - 1
"""What the API server takes."""
RELEASE_SECONDS = 2.0
"""How long the end waits for the Lease to be released; without it, the others wait until it expires."""


class LeaderElectionSettings(Settings):
    """Which of several replicas works. All of them watch; when the leader stops, another one goes on at once, and when it was killed, after
    leaseDuration."""

    enabled: bool = True
    """Off: this process always works, so there must be no other."""
    namespace: str = Field(default="", max_length=63)
    """The namespace of the Lease; empty: that of the pod, or eventsink-system outside of a cluster."""
    lease_name: str = Field(default="eventsink-operator", min_length=1, max_length=253)
    """Name of the Lease."""
    lease_duration: Seconds = Field(default=15.0, ge=1, le=MAX_LEASE_SECONDS)
    """Without a renewal for so long, another replica becomes the leader."""
    renew_deadline: Seconds = Field(default=10.0, gt=0)
    """Without a renewal for so long, the leader writes nothing any more; below leaseDuration."""
    retry_period: Seconds = Field(default=2.0, gt=0)
    """Between two renewals; the other replicas look twice as often. Below renewDeadline."""

    @model_validator(mode="after")
    def _ordered(self) -> LeaderElectionSettings:
        if not self.retry_period < self.renew_deadline < self.lease_duration:
            raise ValueError(
                "write a retryPeriod below renewDeadline, and a renewDeadline below leaseDuration, such as 2s, 10s and 15s"
            )
        return self

    def key(self) -> Key:
        """Namespace and name of the Lease."""
        return self.namespace or pod_namespace(), self.lease_name


def pod_namespace() -> str:
    """The namespace of the pod that this program runs in; eventsink-system outside of a cluster."""
    try:
        return POD_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return DEFAULT_NAMESPACE


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a Lease says."""

    holder: str
    """Empty: it was released."""
    seconds: float
    """How long it is valid after a renewal."""
    transitions: int
    version: str
    """The Lease's resourceVersion."""


class Step(Enum):
    """What a replica does with the Lease."""

    CREATE = "create"
    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"


def next_step(record: LeaseRecord | None, identity: str, unchanged_for: float, vanished: LeaseRecord | None = None) -> Step:
    """What the replica `identity` does.

    Parameters
    ----------
    record
        The Lease as it is; None: there is none.
    unchanged_for
        Seconds, by the own clock, since this replica first saw the Lease as it is, or as `vanished` has it.
    vanished
        The last Lease that was seen, where there is none: whoever held it may not have noticed yet that it was deleted.
    """
    if record is None:
        held = vanished is not None and vanished.holder not in ("", identity)
        return Step.WAIT if held and vanished is not None and unchanged_for < vanished.seconds else Step.CREATE
    if record.holder == identity:
        return Step.RENEW
    if not record.holder or unchanged_for >= record.seconds:
        return Step.TAKE
    return Step.WAIT


def read_record(lease: Object) -> LeaseRecord:
    """What a Lease says; what cannot be read counts as released."""
    given = lease.get("spec")
    spec = given if isinstance(given, dict) else {}
    holder, seconds, transitions = spec.get("holderIdentity"), spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    return LeaseRecord(
        holder=holder if isinstance(holder, str) else "",
        seconds=float(max(0, min(seconds, MAX_LEASE_SECONDS))) if isinstance(seconds, int | float) else 0.0,
        transitions=max(0, min(transitions, MAX_TRANSITIONS)) if isinstance(transitions, int) else 0,
        version=lease["metadata"]["resourceVersion"],
    )


def since_boot() -> float:
    """A clock, in seconds, that also counts while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def new_identity() -> str:
    """A name for this process that no other has: that of the pod, and something random."""
    return f"{socket.gethostname()}_{secrets.token_hex(8)}"


class NotLeading(ApiError):
    """This replica does not lead, or can no longer be sure that it does: it must not write."""

    def __init__(self) -> None:
        super().__init__(0, "NotLeading", "not written: this replica is not the leader, or could not renew its Lease in time")


class Elector:
    """Has one replica lead. `run` is a task for ever; `leading` is set once this replica leads.

    A leader that cannot renew the Lease in time writes nothing until it can. If nobody else has taken the Lease by then, it goes on
    leading; otherwise the process ends.
    """

    def __init__(
        self,
        api: Api,
        settings: LeaderElectionSettings,
        *,
        identity: str | None = None,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self._api = api
        self._settings = settings
        self._key = settings.key()
        self._identity = identity or new_identity()
        self._clock = clock
        self._record: LeaseRecord | None = None
        self._last: LeaseRecord | None = None
        """The last one that was seen."""
        self._seen_at = 0.0
        self._awaited = ""
        """The holder that this replica waits for."""
        self._valid_until = -math.inf
        self._acquired = ""
        self._turn = asyncio.Lock()
        self._released = False
        self._outage = Repeated(60.0)
        self.problem: str | None = "the Lease was not read yet"
        """Why the Lease could not be used so far; None: it could."""
        self.leading = asyncio.Event()

    @property
    def holds(self) -> bool:
        """Whether this replica is sure that it leads."""
        return self._clock() < self._valid_until

    def check(self) -> float:
        """Call it before anything that only the leader may do; returns for how many seconds it may do it.

        Raises
        ------
        NotLeading
            This replica cannot be sure that it leads.
        """
        left = self._valid_until - self._clock()
        if left <= 0.0:
            raise NotLeading
        return left

    async def run(self) -> None:
        """Lead when it is this replica's turn, until cancelled.

        Raises
        ------
        Stop
            It led, and another one leads now.
        """
        while not self._released:
            started = self._clock()
            try:
                async with asyncio.timeout(self._settings.renew_deadline / 2), self._turn:
                    await self._look()
                self.problem, self._outage = None, Repeated(60.0)
            except (ApiError, TimeoutError) as error:
                self._failed(error)
            period = self._settings.retry_period * (1.0 if self.leading.is_set() else STANDBY_SHARE)
            await asyncio.sleep(max(0.0, started + period - self._clock()))
        await asyncio.Event().wait()

    async def release(self) -> None:
        """At the end, when nothing is written any more: let another one lead at once."""
        self._released = True
        self._valid_until = -math.inf
        try:
            async with asyncio.timeout(RELEASE_SECONDS), self._turn:
                self._valid_until = -math.inf
                if self._record is not None and self._record.holder == self._identity:
                    await self._api.replace(LEASES, self._body(self._record, holder=""))
                    get_logger().info("leadership released", lease="/".join(self._key))
        except (ApiError, TimeoutError) as error:
            get_logger().warning("the Lease could not be released, it expires", reason=_text(error))

    async def _look(self) -> None:
        """Renew the Lease, or see whose it is."""
        for _ in range(ATTEMPTS):
            if self._record is None or self._record.holder != self._identity:
                await self._read()
            started = self._clock()
            step = next_step(self._record, self._identity, started - self._seen_at, self._last)
            if self.leading.is_set() and step in (Step.WAIT, Step.TAKE):
                # Also one that could be taken back: whoever had it meanwhile may have changed everything that is known here.
                raise Stop(ExitStatus.LEASE_LOST, "another replica leads: this one could not renew its Lease in time")
            if step is Step.WAIT:
                self._wait_for(self._record or self._last)
            if step is Step.WAIT or self._released:
                return
            body = self._body(self._record)
            try:
                if self._record is None:
                    written = await self._api.create(LEASES, body)
                else:
                    written = await self._api.replace(LEASES, body)
            except (Conflict, NotFound):
                # Somebody else was faster, or a renewal that got no response was made all the same.
                self._record = None
                continue
            self._keep(written)
            self._valid_until = started + self._settings.renew_deadline
            if not self.leading.is_set():
                get_logger().info("leading", lease="/".join(self._key), identity=self._identity)
                self.leading.set()
            return

    async def _read(self) -> None:
        try:
            self._keep(await self._api.get(LEASES, self._key))
        except NotFound:
            self._record = None

    def _keep(self, lease: Object) -> None:
        record = read_record(lease)
        if self._last is None or record.version != self._last.version:
            self._seen_at = self._clock()
        self._record = self._last = record

    def _wait_for(self, record: LeaseRecord | None) -> None:
        if record is not None and record.holder != self._awaited:
            self._awaited = record.holder
            get_logger().info(
                "another replica leads", lease="/".join(self._key), holder=record.holder, expires_after=f"{record.seconds:g}s"
            )

    def _body(self, record: LeaseRecord | None, *, holder: str | None = None) -> Object:
        now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        taken = record is None or record.holder != self._identity
        if taken:
            self._acquired = now
        metadata: dict[str, Any] = {"namespace": self._key[0], "name": self._key[1]}
        if record is not None:
            metadata["resourceVersion"] = record.version
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity if holder is None else holder,
                "leaseDurationSeconds": 1 if holder == "" else math.ceil(self._settings.lease_duration),
                "acquireTime": self._acquired,
                "renewTime": now,
                "leaseTransitions": min(record.transitions + taken, MAX_TRANSITIONS) if record is not None else 0,
            },
        }

    def _failed(self, error: ApiError | TimeoutError) -> None:
        hint = f"; this ServiceAccount needs a Role for Leases in {self._key[0]}" if isinstance(error, Forbidden) else ""
        if self.problem is not None:
            self.problem = f"the Lease cannot be used: {_text(error)}{hint}"
        more = self._outage.due()
        if more is not None:
            get_logger().warning(
                "the Lease could not be renewed, retrying" if self.leading.is_set() else "the Lease could not be read, retrying",
                lease="/".join(self._key),
                reason=_text(error) + hint,
                more=more,
            )


def _text(error: ApiError | TimeoutError) -> str:
    return str(error) if isinstance(error, ApiError) else "no response in time"


class LeaderApi(Api):
    """An `Api` that reads for everybody and writes for the leader.

    A write raises `NotLeading` where `check` does, also when it is about to be sent after it waited for a connection, and is given up when
    the seconds that it returned have passed: a process may be paused at any time.
    """

    def __init__(self, api: Api, check: Callable[[], float]) -> None:
        self._api = api
        self._check = check

    async def get(self, resource: Resource, key: Key) -> Object:
        return await self._api.get(resource, key)

    async def list(self, collection: Collection, *, limit: int = PAGE, continue_token: str = "") -> ObjectList:
        return await self._api.list(collection, limit=limit, continue_token=continue_token)

    def watch(
        self, collection: Collection, *, resource_version: str, seconds: int
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        return self._api.watch(collection, resource_version=resource_version, seconds=seconds)

    async def create(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        async with self._leading():
            return await self._api.create(resource, obj, manager=manager)

    async def replace(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        async with self._leading():
            return await self._api.replace(resource, obj, manager=manager)

    async def apply(self, resource: Resource, obj: Object, *, manager: str, subresource: Literal["", "status"] = "") -> Object:
        async with self._leading():
            return await self._api.apply(resource, obj, manager=manager, subresource=subresource)

    async def delete(self, resource: Resource, key: Key, *, uid: str = "", resource_version: str = "") -> None:
        async with self._leading():
            await self._api.delete(resource, key, uid=uid, resource_version=resource_version)

    async def close(self) -> None:
        await self._api.close()

    @asynccontextmanager
    async def _leading(self) -> AsyncIterator[None]:
        timeout = asyncio.timeout(self._check())
        before = PERMIT.set(self._check)
        try:
            async with timeout:
                yield
        except TimeoutError:
            if timeout.expired():
                raise NotLeading from None
            raise
        finally:
            PERMIT.reset(before)
