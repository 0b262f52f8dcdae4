"""The loop of one worker: takes keys off the work queue, reconciles each, and puts back what has to run again."""

from __future__ import annotations

import time
from collections.abc import Callable

from eventsink.controller.cluster_state import ClusterState
from eventsink.controller.metrics import OperatorMetrics
from eventsink.controller.reconcile import Reconciler
from eventsink.controller.store import CompiledStore
from eventsink.controller.tenancy import tenancy_document
from eventsink.controller.workqueue import WorkQueue
from eventsink.kube.api import ApiError, Conflict, Key, NotFound
from eventsink.runtime.logs import get_logger

TENANCY: Key = ("", "tenancy")
"""Key of the tenancy document in the work queue: no EventSink has an empty namespace."""


class Worker:
    """What all workers of a process share; `run` is one of them.

    Parameters
    ----------
    queue, state, store, reconciler, metrics
        The parts of the operator.
    failed
        Called with a key whose reconcile failed, the error, and the seconds until it is retried.
    finished
        Called after each key, whatever the outcome.
    """

    def __init__(
        self,
        queue: WorkQueue[Key],
        state: ClusterState,
        store: CompiledStore,
        reconciler: Reconciler,
        metrics: OperatorMetrics,
        *,
        failed: Callable[[Key, ApiError, float], None],
        finished: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue = queue
        self._state = state
        self._store = store
        self._reconciler = reconciler
        self._metrics = metrics
        self._failed = failed
        self._finished = finished

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            key = await self._queue.get()
            self._metrics.waiting.set(len(self._queue))
            started = time.perf_counter()
            try:
                if key == TENANCY:
                    await self._store.write_tenancy(tenancy_document(self._state.namespaces))
                    outcome, again = "tenancy", None
                else:
                    result = await self._reconciler.reconcile(key)
                    outcome, again = result.outcome, result.again_after
            except (Conflict, NotFound):
                # It was changed or deleted since it was seen: the watch reports it.
                self._queue.failed(key)
                outcome, again = "conflict", None
            except ApiError as error:
                self._failed(key, error, self._queue.failed(key))
                outcome, again = "error", None
            except Exception:
                self._queue.failed(key)
                get_logger().exception("a reconcile failed", sink="/".join(key))
                outcome, again = "failure", None
            else:
                self._queue.done(key)
                if again is not None:
                    self._queue.add_after(key, again)
            self._metrics.reconciles.labels(outcome).inc()
            self._metrics.duration.observe(time.perf_counter() - started)
            self._finished()
