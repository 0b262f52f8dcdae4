"""The REST API as a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import click
from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from eventsink.kube.api import NAMESPACES, SECRETS, Api, Collection, Key, Object
from eventsink.kube.http import connect
from eventsink.kube.reflector import Reflector
from eventsink.resources.names import EVENTSINKS
from eventsink.rest.access.authenticator import Authenticator
from eventsink.rest.access.callers import Caller, KeyCaller
from eventsink.rest.access.key_store import records_of
from eventsink.rest.access.keys import KeyRecord
from eventsink.rest.access.reviews import KubernetesReviews
from eventsink.rest.calls.catalog import Catalog
from eventsink.rest.calls.facade import Facade, Tester
from eventsink.rest.calls.router_tests import RouterTester
from eventsink.rest.config import FacadeSettings, RestSettings
from eventsink.rest.http.app import RestServer
from eventsink.rest.http.metrics import RestMetrics
from eventsink.rest.pages.slack_install import SlackInstall
from eventsink.runtime.logs import configure_logs, get_logger
from eventsink.runtime.monitor import Monitor
from eventsink.runtime.process import ExitStatus, Stop, run, stop_or_failure
from eventsink.runtime.settings import ConfigurationError, load_settings


def main(config: Path | None) -> int:
    """Run the REST API until a signal stops it; returns the exit status."""
    try:
        settings = load_settings(RestSettings, part="rest", path=config)
    except ConfigurationError as error:
        click.echo(f"eventsink rest: {error}", err=True)
        return ExitStatus.USAGE
    configure_logs(settings.log)
    return run(lambda stop: serve(settings, stop))


async def serve(settings: RestSettings, stop: asyncio.Event) -> None:
    """Run the REST API until `stop` is set.

    Raises
    ------
    Stop
        It cannot start, or a part of it failed.
    """
    try:
        api = await connect(settings.kubernetes, "rest")
    except ConfigurationError as error:
        raise Stop(ExitStatus.USAGE, str(error)) from None
    try:
        await _Cluster(settings, api).run(stop)
    finally:
        await api.close()


class RestApi:
    """The parts of the REST API, without watches: somebody else feeds its `catalog`.

    Parameters
    ----------
    records
        Returns the current records of API keys.
    unavailable
        See `Facade`.

    Raises
    ------
    ConfigurationError
        A setting is invalid.
    """

    def __init__(
        self,
        settings: FacadeSettings,
        api: Api,
        registry: CollectorRegistry,
        *,
        records: Callable[[], Mapping[str, KeyRecord]],
        unavailable: Callable[[], str | None],
        tester: Tester | None,
        reviews: KubernetesReviews | None = None,
    ) -> None:
        self.catalog = Catalog()
        self._records = records
        facade = Facade(settings, api, self.catalog, unavailable=unavailable, tester=tester)
        authenticator = Authenticator(settings.limits.failures, records, reviews)
        install = SlackInstall(settings.slack_install, facade, self._caller)
        self.server = RestServer(settings, facade, authenticator, install, RestMetrics(registry))

    def _caller(self, name: str) -> Caller | None:
        """The caller with the key of that name, if there is still such a key."""
        record: KeyRecord | None = self._records().get(name.removeprefix("key "))
        return KeyCaller(record) if record is not None else None

    async def start(self, setting: str = "address") -> int:
        """Listen; returns the port. `setting` names the address in the configuration.

        Raises
        ------
        Stop
            The address cannot be bound.
        """
        try:
            return await self.server.start()
        except OSError as error:
            raise Stop(ExitStatus.USAGE, f"{setting}: cannot listen there: {error.strerror or error}") from None


class _Keys:
    """The records of API keys, fed by a watch on their Secret."""

    def __init__(self) -> None:
        self.records: Mapping[str, KeyRecord] = {}

    def upsert(self, _: Key, obj: Object) -> None:
        self.records = records_of(obj)
        get_logger().info("API keys loaded", count=len(self.records))

    def delete(self, _: Key) -> None:
        self.records = {}
        get_logger().warning("the Secret of API keys is gone: every key is rejected")


class _Cluster:
    """The REST API of a cluster."""

    def __init__(self, settings: RestSettings, api: Api) -> None:
        self._settings = settings
        self._api = api
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._keys = _Keys()
        self._stopping = False
        self._reflectors: list[Reflector] = []

    async def run(self, stop: asyncio.Event) -> None:
        settings = self._settings
        session = aiohttp.ClientSession(trust_env=False)
        monitor = Monitor(
            "rest", settings.monitor, self._registry, ready={"synced": lambda: "stopping" if self._stopping else self._missing()}
        )
        running: list[asyncio.Task[Any]] = []
        rest: RestApi | None = None
        try:
            try:
                rest = RestApi(
                    settings,
                    self._api,
                    self._registry,
                    records=lambda: self._keys.records,
                    unavailable=self._missing,
                    tester=RouterTester(settings.router, session) if settings.router.url else None,
                    reviews=KubernetesReviews(self._api, settings.kubernetes_tokens)
                    if settings.kubernetes_tokens.enabled
                    else None,
                )
            except ConfigurationError as error:
                raise Stop(ExitStatus.USAGE, str(error)) from None
            self._reflectors = self._watches(rest.catalog)
            try:
                await monitor.start()
            except OSError as error:
                raise Stop(ExitStatus.USAGE, f"monitor.address: cannot listen there: {error.strerror or error}") from None
            running = [asyncio.create_task(one.run(), name="watch") for one in self._reflectors]
            await rest.start()
            await stop_or_failure(stop, *running)
        finally:
            self._stopping = True
            if rest is not None:
                await rest.server.stop()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await session.close()
            await monitor.stop()

    def _watches(self, catalog: Catalog) -> list[Reflector]:
        keys = self._settings.keys
        secret = Collection(SECRETS, keys.namespace, field_selector=f"metadata.name={keys.secret}")
        return [
            Reflector(self._api, "eventsinks", Collection(EVENTSINKS), catalog.sinks),
            Reflector(self._api, "namespaces", Collection(NAMESPACES, metadata_only=True), catalog.namespaces),
            Reflector(self._api, "keys", secret, self._keys),
        ]

    def _missing(self) -> str | None:
        for one in self._reflectors:
            if not one.synced.is_set():
                return "not everything has been read from the API server yet; try again"
            if not one.connected:
                return "the API server does not respond; try again"
        return None
