"""The operator as a process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from eventsink.controller.admission.assembly import open_admission
from eventsink.controller.assembly import APPLY_ROLES, Controller
from eventsink.controller.config import OperatorSettings
from eventsink.controller.handlers import KopfThread
from eventsink.controller.known_sink import compact
from eventsink.controller.scope import WATCHES_PER_NAMESPACE
from eventsink.kube.api import Api, ApiError, Collection, Forbidden, NotFound, Object
from eventsink.kube.http import HttpApi, connect
from eventsink.kube.lease import Elector
from eventsink.resources.names import EVENTSINKS, GROUP, PLURAL
from eventsink.runtime.process import ExitStatus, Process, Stop, run_command
from eventsink.runtime.settings import load_settings

START_ATTEMPTS_SECONDS = 60.0
"""How long the start waits for an API server that does not respond."""
FORBIDDEN_FOR_SECONDS = 15.0
"""How long the start is forbidden before a right is taken to be missing: an API server that just started knows no roles for a moment."""


def main(config: Path | None) -> int:
    """Run the operator until it is to stop; returns the exit status."""
    return run_command("operator", lambda: load_settings(OperatorSettings, part="operator", path=config), serve)


async def serve(settings: OperatorSettings, stop: asyncio.Event) -> None:
    """Run the operator until `stop` is set.

    Raises
    ------
    ConfigurationError
        There is no access to a cluster.
    Stop
        It cannot start (the CRD is absent), a part of it ended, or another replica has taken the lead.
    """
    async with Process("operator", settings.monitor, stop) as process:
        api = await connect(settings.kubernetes, "operator", watches=WATCHES_PER_NAMESPACE * len(settings.namespaces))
        process.on_close(api.close)
        await Operator(settings, api, process).run()


class Operator:
    """The parts of the operator, put together."""

    def __init__(self, settings: OperatorSettings, api: HttpApi, process: Process) -> None:
        self._api = api
        self._process = process
        process.readiness["synced"] = self._missing
        election = settings.leader_election
        self._elector = Elector(api, election) if election.enabled else None
        self._controller = Controller(settings, api, process.registry, elector=self._elector, keep=compact)
        self._work: list[asyncio.Task[object]] = []
        process.on_stop(self._hand_over)
        self._admission = open_admission(
            settings, api, self._controller.state, self._controller.resolvers, self._controller.metrics, process.listener_metrics
        )
        if self._admission is not None:
            server = self._admission.server
            process.readiness["admission"] = lambda: server.missing

    async def run(self) -> None:
        """Run until the process is to stop."""
        process = self._process
        scope = self._controller.scope
        await check_crd(self._api, process.stop, list(scope.watches))
        for reflector in self._controller.reflectors:
            process.start("watch", reflector.run())
        for watch in scope.watches.values():
            process.start("watch", watch.run())
        await process.until_stopped(self._controller.synced())
        if process.stop.is_set():
            return
        if self._admission is not None and (certificate := self._admission.certificate) is not None:
            process.on_close(certificate.close)
            process.start("admission certificate", certificate.run())
        if scope.everywhere:  # kopf as a whole ends where one of several namespaces is absent
            process.start("kopf", KopfThread(self._api, self._seen, self._controller.state.knows, self._admission).run())
        process.start("sweep", self._controller.sweep())
        if self._elector is not None:
            process.start("election", self._elector.run())
            await process.until_stopped(self._elector.leading.wait(), ready=True)
        if not process.stop.is_set():
            self._work += [process.start(name, work) for name, work in self._controller.tasks()]
            await process.until_stopped()

    async def _hand_over(self) -> None:
        """Stop the work, and then let another replica lead. Until then the Lease is renewed: codes that are being exchanged take a while."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._controller.close()
        if self._elector is not None:
            await self._elector.release()

    def _missing(self) -> str | None:
        if not self._controller.swept.is_set():
            return "not everything was listed yet"
        scope = self._controller.scope
        if not scope.everywhere and not any(watch.complete for watch in scope.watches.values()):
            return "no namespace of the setting namespaces can be read: create one, and the operator's Role in it"
        # One that waits for the lead is ready, too: it has listed everything, and works as soon as it leads.
        return self._elector.problem if self._elector is not None else None

    def _seen(self, kind: str | None, obj: Object) -> None:
        """kopf saw an EventSink."""
        if kind == "DELETED":
            metadata = obj["metadata"]
            self._controller.state.lose((metadata["namespace"], metadata["name"]), metadata["uid"])
        else:
            self._controller.state.see(obj)


async def check_crd(api: Api, stop: asyncio.Event, namespaces: Sequence[str] = ()) -> None:
    """Whether the API server serves EventSinks; waits a while for one that does not respond.

    Parameters
    ----------
    namespaces
        The listed ones, any of which may be absent; none: all.

    Raises
    ------
    Stop
        The CRD is absent, or a right is missing, or there was no response.
    """
    started = time.monotonic()
    while not stop.is_set():
        try:
            for namespace in namespaces or ("",):
                try:
                    await api.list(Collection(EVENTSINKS, namespace), limit=1)
                    return
                except Forbidden:
                    if not namespaces:
                        raise
            return  # none of the namespaces can be read yet: what follows them waits for it
        except NotFound:
            raise Stop(
                ExitStatus.CRD_ABSENT,
                f"the API server knows no {PLURAL}.{GROUP}: apply the CRD first (kubectl apply -k crds)",
            ) from None
        except Forbidden as error:
            if time.monotonic() > started + FORBIDDEN_FOR_SECONDS:
                raise Stop(ExitStatus.FAILED, f"the operator lacks a right: {error}; {APPLY_ROLES}") from None
        except ApiError as error:
            if time.monotonic() > started + START_ATTEMPTS_SECONDS:
                raise Stop(ExitStatus.FAILED, str(error)) from None
        await asyncio.sleep(1.0)
