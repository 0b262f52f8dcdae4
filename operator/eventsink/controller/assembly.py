"""The controller put together over an API: what is known, the work queue, its workers, and the comparison of everything.

In a cluster and in standalone it is the same; they differ in the API, and in who reports EventSinks (`state.see` and `state.lose`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, get_args

from prometheus_client import CollectorRegistry

from eventsink.controller.cluster_state import ClusterState
from eventsink.controller.config import OperatorSettings
from eventsink.controller.known_sink import Ready
from eventsink.controller.metrics import OperatorMetrics
from eventsink.controller.reconcile import Reconciler
from eventsink.controller.resolvers import Resolvers
from eventsink.controller.scope import FOREIGN_SECRETS, Scope, own_secrets
from eventsink.controller.status import StatusWriter
from eventsink.controller.store import CompiledStore
from eventsink.controller.tokens import TokenGenerator
from eventsink.controller.worker import TENANCY, Worker
from eventsink.controller.workqueue import WorkQueue
from eventsink.kube.api import NAMESPACES, SECRETS, Api, ApiError, Collection, Forbidden, Key, NotFound, Object, key_of, list_each
from eventsink.kube.lease import Elector, LeaderApi
from eventsink.kube.reflector import Reflector
from eventsink.resources.names import EVENTSINKS
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.sinks.sink import SINK_SECRET_TYPE

FINISH_SECONDS = 15.0
"""How long the end waits for what resolvers must not leave half done."""
FAILED_SWEEP_SECONDS = 10.0
"""After a sweep that failed, the next comes at the latest after this time."""
APPLY_ROLES = "apply its roles (kubectl apply -k manifests/default)"


class Controller:
    """Run the `reflectors`, wait until they are `synced`, then run `sweep` and the `tasks`; `close` it at the end.

    `swept` is set after the first comparison of everything, `settled` once all that it found was worked on. The operator's own Secrets
    are kept in `own_namespace`; None: where the settings of each destination type say. With an `elector`, every replica runs the
    reflectors and the sweep and passes on EventSinks, and the one that leads runs the tasks; nothing is written where it is not sure
    to lead. What is kept of an EventSink is what `keep` makes of it.
    """

    def __init__(
        self,
        settings: OperatorSettings,
        api: Api,
        registry: CollectorRegistry,
        *,
        own_namespace: str | None = None,
        elector: Elector | None = None,
        keep: Callable[[Object], Object | bytes] = lambda obj: obj,
    ) -> None:
        self._settings = settings
        records = api  # see `ResolverContext`
        if elector is not None:
            api = LeaderApi(api, elector.check)
        self._api = api
        self.metrics = OperatorMetrics(registry)
        self.metrics.leader.set_function(lambda: float(elector is None or elector.holds))
        self._queue: WorkQueue[Key] = WorkQueue()
        self.swept = asyncio.Event()
        self.settled = asyncio.Event()
        self._working = False
        self.state = ClusterState(self._enqueue, lambda: self._enqueue(TENANCY), keep, settings.tenancy.sinks_of)
        self.store = CompiledStore(api, settings.sinks_namespace, self._enqueue)
        self.resolvers = Resolvers(
            settings,
            records,
            self.state.used_in,
            check_leader=elector.check if elector is not None else None,
            own_namespace=own_namespace,
        )
        self.scope = Scope(settings.namespaces, api, self.state)
        self._statuses = StatusWriter(
            api, lambda: datetime.now(UTC), self.metrics.events_left_out.inc, retry_seconds=settings.sweep_interval
        )
        self._crd_was_older = False
        self._reconciler = Reconciler(
            settings,
            api,
            self.state,
            self.store,
            self._statuses,
            self.resolvers,
            self.scope,
        )
        compiled = Collection(SECRETS, settings.sinks_namespace, metadata_only=True, field_selector=f"type={SINK_SECRET_TYPE}")
        self.reflectors = [Reflector(api, "compiled", compiled, self.store)]
        if self.scope.everywhere:
            secrets = Collection(SECRETS, metadata_only=True, field_selector=FOREIGN_SECRETS)
            namespaces = Collection(NAMESPACES, metadata_only=True)
            self.reflectors += [
                Reflector(api, "secrets", secrets, self.state.secret_handler),
                Reflector(api, "namespaces", namespaces, self.state.namespace_handler),
            ]
        else:
            self.reflectors += own_secrets(api, self.resolvers.own_namespaces() - self.scope.watches.keys(), self.state)
        self._failures: dict[str, Repeated] = {}

    async def synced(self) -> None:
        """Wait until everything was listed once; of the listed namespaces, until it is clear which can be read."""
        for reflector in self.reflectors:
            await reflector.synced.wait()
        await self.scope.tried()

    def tasks(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What runs until it is cancelled, with names; call it once."""
        self._working = True
        # The tenancy first: until a router knows whose a namespace is, it rejects its alerts, however many sinks there are for them.
        for key in (TENANCY, *self.state.eventsinks, *(compiled.sink for compiled in self.store.compiled.values())):
            self._enqueue(key)
        yield "resolvers", self.resolvers.run()
        if self._settings.tokens.generate:
            tokens = TokenGenerator(self._settings.tokens, self._api, interval=self._settings.sweep_interval)
            yield "tokens", tokens.run()
        worker = Worker(
            self._queue,
            self.state,
            self.store,
            self._reconciler,
            self.metrics,
            failed=self._log_failure,
            finished=self._finished,
        )
        for _ in range(self._settings.workers):
            yield "worker", self._work(worker)

    async def close(self) -> None:
        """After the tasks have ended."""
        await self.resolvers.close(FINISH_SECONDS)

    # ---- work

    def _enqueue(self, key: Key) -> None:
        if self._working:  # one that waits for the lead takes up everything when it gets it
            self._queue.add(key)

    async def _work(self, worker: Worker) -> None:
        await self.swept.wait()  # before, an EventSink that was not seen yet would be taken for a deleted one
        await worker.run()

    def _finished(self) -> None:
        if self.swept.is_set() and self._queue.idle:
            self.settled.set()

    def _log_failure(self, key: Key, error: ApiError, _: float) -> None:
        """One line a minute for each kind of failure, however many sinks it concerns."""
        more = self._failures.setdefault(error.reason, Repeated(60.0)).due()
        if more is not None:
            hint = f"; the operator lacks a right: {APPLY_ROLES}" if isinstance(error, Forbidden) else ""
            get_logger().warning("sink could not be reconciled, retrying", sink="/".join(key), reason=f"{error}{hint}", more=more)

    # ---- sweep

    async def sweep(self) -> None:
        """Compare everything, at the start and each minute: kopf does not report what vanished while it was not connected."""
        outage = Repeated(60.0)
        while True:
            try:
                await self._sweep()
                self.metrics.sweeps.labels("done").inc()
                self.swept.set()
                pause = self._settings.sweep_interval
            except ApiError as error:
                self.metrics.sweeps.labels("failed").inc()
                if outage.due() is not None:
                    get_logger().warning("EventSinks could not be listed, retrying", reason=str(error))
                pause = min(self._settings.sweep_interval, FAILED_SWEEP_SECONDS)
            self._measure()
            await asyncio.sleep(pause)

    async def _sweep(self) -> None:
        if self.scope.everywhere:  # reflectors report what vanished; kopf does not
            await self._compare_eventsinks()
        else:
            self._report_denied()
        uids = {known.uid for known in self.state.eventsinks.values()}
        for compiled in list(self.store.compiled.values()):
            if compiled.uid not in uids:
                self._enqueue(compiled.sink)
        self.store.forget_tenancy()
        self._enqueue(TENANCY)
        self._complete_statuses()

    def _complete_statuses(self) -> None:
        """While the CRD lacks fields of the status, look whether it still does; once it has them, write what is missing."""
        if not self._statuses.complete:
            self._crd_was_older = True
            for key in list(self.state.eventsinks)[:1]:
                self._enqueue(key)
        elif self._crd_was_older:
            self._crd_was_older = False
            for key in list(self.state.eventsinks):
                self._enqueue(key)

    def _report_denied(self) -> None:
        denied = self.scope.denied()
        if denied:
            get_logger().warning(
                "listed namespaces cannot be read: create them, and the operator's Role in each", namespaces=denied
            )

    async def _compare_eventsinks(self) -> None:
        """At first everything is read whole; later the versions suffice, and what the watch has not shown is read one by one."""
        whole = not self.swept.is_set()
        living = set()
        with self.state.listing():
            async for obj in list_each(self._api, Collection(EVENTSINKS, metadata_only=not whole)):
                key, version = key_of(obj), obj["metadata"]["resourceVersion"]
                living.add(key)
                if whole:
                    self.state.see(obj)
                elif not self.state.knows(key, version) and (found := await self._find(key)) is not None:
                    self.state.see(found)
            for key, known in list(self.state.eventsinks.items()):
                if key not in living and await self._find(key) is None:
                    self.state.lose(key, known.uid)

    async def _find(self, key: Key) -> Object | None:
        """An EventSink that is not known as it was listed, or was not listed: it may have been created or deleted meanwhile."""
        try:
            return await self._api.get(EVENTSINKS, key)
        except NotFound:
            return None

    def _measure(self) -> None:
        counts = Counter(known.ready for known in self.state.eventsinks.values())
        for status in get_args(Ready):
            self.metrics.eventsinks.labels(status).set(counts[status])
        self.metrics.over_quota.set(self.state.quota.beyond())
        self.metrics.compiled.set(len(self.store.compiled))
        self.metrics.namespaces_denied.set(len(self.scope.denied()))
