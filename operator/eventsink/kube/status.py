"""Applies statuses, also where an older CRD does not know all of their fields: the conditions are written all the same."""

from __future__ import annotations

import time
from collections.abc import Callable

from eventsink.kube.api import Api, ApiError, Conflict, Forbidden, Invalid, NotFound, Object, Resource
from eventsink.runtime.logs import get_logger

CORE_FIELDS = ("observedGeneration", "conditions")
"""Status fields that every version of the CRD has."""


RETRY_SECONDS = 60.0


class StatusApplier:
    """Writes the status of objects of one kind, as one field manager.

    Parameters
    ----------
    retry_seconds
        After a status that the CRD did not take, all fields are tried again after this time: the CRD may be upgraded meanwhile.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        manager: str,
        *,
        retry_seconds: float = RETRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._resource = resource
        self._manager = manager
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._retry_at = 0.0
        self.complete = True
        """Whether the CRD has all fields, as far as is known; False: only the core fields are written."""

    @property
    def tries_all(self) -> bool:
        """Whether the next status is written with all its fields, if the CRD takes them."""
        return self.complete or self._clock() >= self._retry_at

    async def apply(self, obj: Object) -> Object:
        """Make the fields of `obj["status"]` this manager's, and remove all others that were its own.

        Parameters
        ----------
        obj
            apiVersion, kind, metadata and status. With a metadata.resourceVersion that is not the current one it is a Conflict.

        Raises
        ------
        ApiError
            Nothing was written.
        """
        if not self.tries_all:
            return await self._apply(_core(obj))
        try:
            applied = await self._apply(obj)
            if not self.complete:
                self.complete = True
                get_logger().info("the CRD has all fields of the status now")
            return applied
        except (NotFound, Conflict, Forbidden):
            raise
        except ApiError as error:
            # The API server responds with 500 to a field that the CRD does not know.
            if error.status != 500 and not isinstance(error, Invalid):
                raise
            reason = str(error)
        applied = await self._apply(_core(obj))
        self._retry_at = self._clock() + self._retry_seconds
        if self.complete:
            self.complete = False
            get_logger().warning("the CRD lacks fields of the status: apply the CRD of this version", reason=reason)
        return applied

    async def read(self, obj: Object) -> Object:
        """An object as it is, also for those who may write its status and not read it: nothing is applied, by a manager of nothing.

        Parameters
        ----------
        obj
            apiVersion, kind and metadata.

        Raises
        ------
        ApiError
        """
        return await self._api.apply(self._resource, obj, manager=f"{self._manager}-reads", subresource="status")

    async def _apply(self, obj: Object) -> Object:
        return await self._api.apply(self._resource, obj, manager=self._manager, subresource="status")


def _core(obj: Object) -> Object:
    return {**obj, "status": {name: value for name, value in obj["status"].items() if name in CORE_FIELDS}}
