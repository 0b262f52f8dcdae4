"""The REST API as a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import aiohttp

from eventsink.kube.api import NAMESPACES, SECRETS, Api, Collection, Key, Object
from eventsink.kube.reflector import Reflector
from eventsink.resources.names import EVENTSINKS
from eventsink.resources.namespaces import NamespaceSettings
from eventsink.rest.access.authenticator import Authenticator
from eventsink.rest.access.callers import Caller, KeyCaller
from eventsink.rest.access.key_store import records_of
from eventsink.rest.access.keys import KeyRecord
from eventsink.rest.access.reviews import KubernetesReviews
from eventsink.rest.calls.catalog import Catalog
from eventsink.rest.calls.facade import Facade, Tester, Unavailable
from eventsink.rest.calls.router_tests import RouterTester
from eventsink.rest.config import FacadeSettings, RestSettings
from eventsink.rest.http.app import RestServer
from eventsink.rest.http.metrics import RestMetrics
from eventsink.rest.pages.slack_install import SlackInstall
from eventsink.runtime.logs import get_logger
from eventsink.runtime.process import Process, listen, run_command
from eventsink.runtime.settings import load_settings


def main(config: Path | None) -> int:
    """Run the REST API until a signal stops it; returns the exit status."""
    return run_command("rest", lambda: load_settings(RestSettings, part="rest", path=config), serve)


async def serve(settings: RestSettings, stop: asyncio.Event) -> None:
    """Run the REST API until `stop` is set.

    Raises
    ------
    ConfigurationError
        A setting cannot be used.
    Stop
        It cannot start, or a part of it failed.
    """
    from eventsink.kube.http import connect  # the official client, of which `eventsink run` needs nothing

    async with Process("rest", settings.monitor, stop) as process:
        api = await connect(settings.kubernetes, "rest", watches=len(settings.namespaces))
        process.on_close(api.close)
        session = aiohttp.ClientSession(trust_env=False)
        process.on_close(session.close)
        keys = _Keys()
        watches = Watches()
        rest = RestApi(
            settings,
            api,
            process,
            records=lambda: keys.records,
            watches=watches,
            unavailable=watches.missing,
            tester=RouterTester(settings.router, session) if settings.router.url else None,
            reviews=KubernetesReviews(api, settings.kubernetes_tokens) if settings.kubernetes_tokens.enabled else None,
            namespaces=settings.namespaces,
        )
        secret = Collection(SECRETS, settings.keys.namespace, field_selector=f"metadata.name={settings.keys.secret}")
        watches.shared.append(Reflector(api, "keys", secret, keys))
        process.readiness["synced"] = watches.unready
        process.on_stop(rest.server.stop)
        for one in watches:
            process.start("watch", one.run())
        await rest.start()
        await process.until_stopped()


class Watches:
    """What feeds the REST API, and what cannot be served without it."""

    def __init__(self) -> None:
        self.shared: list[Reflector] = []
        """Needed for every call."""
        self.by_tenant: list[tuple[str, Reflector]] = []
        """Needed for calls about one tenant; the API server may deny one, where its namespace is absent."""

    def __iter__(self) -> Iterator[Reflector]:
        yield from self.shared
        for _, one in self.by_tenant:
            yield one

    def missing(self, concerns: Callable[[str], bool]) -> str | None:
        """Why no request about such tenants can be served at present; None: all is well."""
        return next((text for one in self.shared if (text := _missing(one))), None) or next(
            (text for tenant, one in self.by_tenant if concerns(tenant) and (text := _missing(one))), None
        )

    def unready(self) -> str | None:
        """Why the process as a whole is not ready: it is, while namespaces of some tenants cannot be read."""
        readable = [one for _, one in self.by_tenant if not one.denied]
        if self.by_tenant and not readable:
            return "no namespace of the setting namespaces can be read: create one, and the role of the REST API in it"
        return next((text for one in (*self.shared, *readable) if (text := _missing(one))), None)


class RestApi:
    """The parts of the REST API; somebody else runs its `watches`, which feed the catalog.

    Parameters
    ----------
    records
        Returns the current records of API keys.
    watches
        Gets what the catalog needs.
    namespaces
        The only ones to serve; none: all.
    unavailable
        See `Facade`.
    prefix
        What the names of these settings begin with in the configuration.

    Raises
    ------
    ConfigurationError
        A setting is invalid.
    """

    def __init__(
        self,
        settings: FacadeSettings,
        api: Api,
        process: Process,
        *,
        records: Callable[[], Mapping[str, KeyRecord]],
        watches: Watches,
        unavailable: Unavailable,
        tester: Tester | None,
        reviews: KubernetesReviews | None = None,
        namespaces: Sequence[NamespaceSettings] = (),
        prefix: str = "",
    ) -> None:
        catalog = Catalog()
        for one in namespaces:
            catalog.give(one.name, one.tenant, platform=one.platform)
            eventsinks = Collection(EVENTSINKS, one.name)
            watches.by_tenant.append((one.tenant, Reflector(api, f"eventsinks of {one.name}", eventsinks, catalog.sinks)))
        if not namespaces:
            watches.shared += [
                Reflector(api, "eventsinks", Collection(EVENTSINKS), catalog.sinks),
                Reflector(api, "namespaces", Collection(NAMESPACES, metadata_only=True), catalog.namespaces),
            ]
        self._records = records
        facade = Facade(settings, api, catalog, unavailable=unavailable, tester=tester)
        authenticator = Authenticator(settings.limits.failures, records, reviews)
        install = SlackInstall(settings.slack_install, facade, self._caller)
        self._address_setting = f"{prefix}address"
        prefix += "limits."
        self.server = RestServer(
            settings,
            facade,
            authenticator,
            install,
            RestMetrics(process.registry),
            process.listener_metrics,
            prefix=prefix,
            max_connections=process.descriptors.grant(f"{prefix}maxConnections", settings.limits.max_connections),
        )

    def _caller(self, name: str) -> Caller | None:
        """The caller with the key of that name, if there is still such a key."""
        record = self._records().get(name.removeprefix("key "))
        return KeyCaller(record) if record is not None else None

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        Stop
            The address cannot be bound.
        """
        await listen(self._address_setting, self.server.start())


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


def _missing(watch: Reflector) -> str | None:
    """Why what it feeds cannot be served at present; None: all is well."""
    if watch.denied:
        return "the REST API may not read what this needs: its namespace or a permission is missing; the platform team finds it in the log"
    if not watch.synced.is_set():
        return "not everything has been read from the API server yet; try again"
    if not watch.connected:
        return "the API server does not respond; try again"
    return None
