"""Makes the tokens that the parts of an installation need, where they are missing: an installer cannot.

A chart that made them while it is rendered would make other ones at each upgrade, or at each comparison of a GitOps tool, and lock
every sender out.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence

from eventsink.controller.config import TokenSettings
from eventsink.kube.api import SECRETS, Api, ApiError, NotFound, Object
from eventsink.kube.secrets import encoded
from eventsink.resources.names import OPERATOR_LABELS, OPERATOR_MANAGER
from eventsink.runtime.logs import Repeated, get_logger

TOKEN_BYTES = 24
RETRY_SECONDS = 5.0
"""After a failure: the pod of the router waits for the Secret."""


def missing_keys(secret: Object | None, keys: Sequence[str]) -> list[str]:
    """Those without a value, in their order."""
    data: Mapping[str, str] = (secret or {}).get("data") or {}
    return [key for key in keys if not data.get(key)]


class TokenGenerator:
    """Completes the Secrets of the setting `tokens.generate`; what is there is never changed.

    Parameters
    ----------
    interval
        Seconds between two looks.
    make
        Makes a token.
    """

    def __init__(
        self,
        settings: TokenSettings,
        api: Api,
        *,
        interval: float,
        make: Callable[[], str] = lambda: secrets.token_urlsafe(TOKEN_BYTES),
    ) -> None:
        self._settings = settings
        self._api = api
        self._interval = interval
        self._make = make

    async def run(self) -> None:
        """Look for ever."""
        outage = Repeated(60.0)
        while True:
            pause = self._interval
            for name, keys in self._settings.generate.items():
                try:
                    await self.complete(name, keys)
                except ApiError as error:
                    if outage.due() is not None:
                        get_logger().warning("tokens could not be made, retrying", secret=name, reason=str(error))
                    pause = min(pause, RETRY_SECONDS)
            await asyncio.sleep(pause)

    async def complete(self, name: str, keys: Sequence[str]) -> None:
        """Give each of the keys a value that has none.

        Raises
        ------
        ApiError
            One of its classes: the Secret could not be read or written. A Conflict: somebody else wrote it meanwhile.
        """
        try:
            found = await self._api.get(SECRETS, (self._settings.namespace, name))
        except NotFound:
            found = None
        missing = missing_keys(found, keys)
        if not missing:
            return
        made = encoded({key: self._make() for key in missing})
        if found is None:
            metadata = {"name": name, "namespace": self._settings.namespace, "labels": dict(OPERATOR_LABELS)}
            body: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": made}
            await self._api.create(SECRETS, body, manager=OPERATOR_MANAGER)
        else:  # with its resourceVersion: what somebody writes at the same time is not lost
            await self._api.replace(SECRETS, {**found, "data": {**(found.get("data") or {}), **made}}, manager=OPERATOR_MANAGER)
        get_logger().info("tokens made", secret=name, keys=missing)
