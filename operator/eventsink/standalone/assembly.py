"""Standalone put together: documents applied to the local API, the controller over it, and the router's directory filled from it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from eventsink.controller.assembly import Controller
from eventsink.kube.api import EVENTS, NAMESPACES, SECRETS, Collection, Key, Object
from eventsink.kube.local import Change, LocalApi
from eventsink.kube.reflector import Reflector
from eventsink.resources.names import EVENTSINKS
from eventsink.router.directory import SinkDirectory
from eventsink.router.watch import SinkWatch
from eventsink.runtime.logs import get_logger
from eventsink.runtime.process import ExitStatus, Process, Stop
from eventsink.standalone.apply import DocumentApplier
from eventsink.standalone.config import TOKENS_NAMESPACE, StandaloneSettings
from eventsink.standalone.reports import SinkLog
from eventsink.standalone.storage import Storage
from eventsink.standalone.watcher import FolderWatcher

FIRST_ROUND_SECONDS = 30.0
"""How long the start waits until each sink was reconciled once: Slack may be unavailable."""


class Standalone:
    """Everything but the router and the REST API; `api` is where both find EventSinks. It ends with its process."""

    def __init__(
        self, settings: StandaloneSettings, folder: Path, data: Path, directory: SinkDirectory, process: Process
    ) -> None:
        operator = settings.operator()
        self._data = data
        self._directory = directory
        self._process = process
        self._storage = Storage(data)
        self.api = LocalApi((EVENTSINKS, SECRETS, NAMESPACES, EVENTS), passing=(EVENTS,), commit=self._commit)
        self._documents = DocumentApplier(self.api)
        self._log = SinkLog(self._documents)
        self._watcher = FolderWatcher(folder, data, settings.folder.poll, self._documents.apply)
        self._controller = Controller(operator, self.api, process.registry, own_namespace=TOKENS_NAMESPACE)
        process.on_close(self._controller.close)
        self._sinks = SinkWatch(self.api, operator.sinks_namespace, directory, complete=self._first_round)
        process.readiness["sinks"] = self.missing

    def missing(self) -> str | None:
        """What is not loaded yet, for readiness; None: all is."""
        return None if self._directory.loaded else "not every document was read yet"

    async def start(self) -> None:
        """Read everything, and start the tasks.

        Raises
        ------
        Stop
            What an earlier process kept cannot be read.
        """
        process = self._process
        await process.until_stopped(self._load())
        if process.stop.is_set():
            return
        eventsinks = Reflector(self.api, "eventsinks", Collection(EVENTSINKS), self)
        for one in (*self._controller.reflectors, eventsinks):
            process.start("watch", one.run())
        await process.until_stopped(self._controller.synced())
        if process.stop.is_set():
            return
        process.start("sweep", self._controller.sweep())
        for name, work in self._controller.tasks():
            process.start(name, work)
        process.start("sinks", self._sinks.run())
        process.start("folder", self._watcher.run())

    async def _load(self) -> None:
        try:
            self._storage.load(self.api)
        except OSError as error:
            raise Stop(ExitStatus.FAILED, f"{self._data}: the data folder cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise Stop(ExitStatus.FAILED, str(error)) from None
        await self._watcher.start()

    async def _first_round(self) -> None:
        """Wait until every sink was reconciled once and the router knows what came of it."""
        try:
            async with asyncio.timeout(FIRST_ROUND_SECONDS):
                await self._controller.settled.wait()
        except TimeoutError:
            get_logger().warning("not every sink could be reconciled yet; the others are active")
        await self.api.caught_up()
        uids = {str(one["metadata"]["uid"]) for one in self.api.objects(EVENTSINKS)}
        # They exist, and their deliveries wait for them: only the deliveries of deleted sinks become dead letters.
        self._directory.withheld |= uids - self._directory.sinks.keys()

    async def _commit(self, change: Change) -> None:
        """Store a change that is made through the API."""
        if change.resource == EVENTS:
            if change.after is not None:
                self._log.event(change.after)
            return
        await self._storage.commit(change)
        if change.resource == EVENTSINKS and change.after is not None:
            self._documents.use_namespace(change.key[0])

    # ---- the handler of the EventSinks' reflector, as kopf is in a cluster

    def upsert(self, key: Key, obj: Object) -> None:
        """An EventSink appeared or changed."""
        self._controller.state.see(obj)
        self._log.upsert(key, obj)

    def delete(self, key: Key) -> None:
        """An EventSink is gone."""
        known = self._controller.state.eventsinks.get(key)
        uid = known.uid if known is not None else ""
        self._controller.state.lose(key, uid)
        self._directory.withheld.discard(uid)
        self._log.delete(key)
        self._documents.sink_deleted(key)
