"""EventSinks and their Secrets on the API server: the only module of the calls that talks to it.

It retries what may be sent again, and turns the API server's errors into those of the REST API.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from eventsink.kube import api as kube
from eventsink.kube.api import SECRETS, Api, ApiError, Object, key_of
from eventsink.kube.secrets import encoded
from eventsink.resources.names import API_VERSION, EVENTSINKS, KIND, MANAGED_BY_LABEL, REST_MANAGER
from eventsink.rest.access.authorization import NO_SUCH_SINK
from eventsink.rest.calls.catalog import Catalog, tenant_of
from eventsink.rest.calls.messages import rest_sentence
from eventsink.rest.calls.secrets import SECRET_TYPE, own_secrets
from eventsink.rest.errors import Conflict, InvalidRequest, NotFound, RestError, ServiceUnavailable
from eventsink.runtime.backoff import Backoff
from eventsink.runtime.logs import get_logger

T = TypeVar("T")
ATTEMPTS = 3
"""Of a request without a response, where it may be sent again."""
BACKOFF = Backoff(first=0.2, longest=1.0)
CHANGED_MEANWHILE = "others change this sink at the same time; try again"
NO_RESPONSE = "the API server does not respond; try again"
_LABELS = {MANAGED_BY_LABEL: REST_MANAGER}
_REVIEWED = re.compile(r'admission webhook "eventsinks\.eventsink\.dev" denied the request: (.*)', re.DOTALL)
"""The message of the operator's admission webhook."""
_DENIED = re.compile(r"denied (?:the )?request: (.*)", re.DOTALL)
"""The message of an admission webhook, or policy, of the cluster."""


class ChangedMeanwhile(Conflict):
    """The EventSink was changed since it was read: read it again."""


class Unconfirmed(ServiceUnavailable):
    """The write may have been carried out: there was no response."""


class EventSinkRepository:
    """Reads and writes EventSinks.

    Parameters
    ----------
    catalog
        Learns at once what was written here.
    """

    def __init__(self, api: Api, catalog: Catalog) -> None:
        self._api = api
        self._catalog = catalog

    async def read(self, known: Object) -> Object:
        """The EventSink as the API server has it now.

        Raises
        ------
        NotFound
            It is gone, being deleted, or another one by now.
        """
        try:
            obj = await self._retried(lambda: self._api.get(EVENTSINKS, key_of(known)))
        except ApiError as error:
            raise _translated(error, NotFound(NO_SUCH_SINK)) from None
        metadata = obj["metadata"]
        same = metadata["uid"] == known["metadata"]["uid"] and tenant_of(obj) == tenant_of(known)
        if not same or metadata.get("deletionTimestamp"):
            raise NotFound(NO_SUCH_SINK)
        return obj

    async def create(
        self, namespace: str, name: str, spec: Mapping[str, Any], annotations: Mapping[str, str]
    ) -> tuple[Object, bool]:
        """Create an EventSink; returns it, or the one of that name that exists already, and whether this call created it.

        Parameters
        ----------
        annotations
            Its annotations: by them this call recognizes what it created, where a response was lost.

        Raises
        ------
        RestError
            Nothing was created.
        """
        body: Object = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "namespace": namespace, "labels": _LABELS, "annotations": dict(annotations)},
            "spec": spec,
        }
        gone = Conflict("tenant_id: the namespace of the tenant is gone")
        for attempt in range(ATTEMPTS):
            try:
                created = await self._api.create(EVENTSINKS, body, manager=REST_MANAGER)
            except ApiError as error:
                failed = error
            else:
                self._catalog.put(created)
                return created, True
            if isinstance(failed, kube.Conflict):
                try:
                    existing = await self._retried(lambda: self._api.get(EVENTSINKS, (namespace, name)))
                except kube.NotFound:
                    pass  # deleted meanwhile
                except ApiError as error:
                    raise _translated(error, gone) from None
                else:
                    self._catalog.put(existing)
                    known = existing["metadata"].get("annotations") or {}
                    return existing, all(known.get(key) == value for key, value in annotations.items())
            elif not _perhaps_done(failed) or attempt == ATTEMPTS - 1:
                raise _translated(failed, gone) from None
            await asyncio.sleep(BACKOFF.wait(attempt + 1))
        raise Conflict("a sink of this name comes and goes; send the request again")

    async def replace(self, obj: Object, spec: Mapping[str, Any]) -> Object:
        """Write another spec into an EventSink that was read before.

        Raises
        ------
        ChangedMeanwhile
            It was changed since it was read.
        Unconfirmed
            There was no response.
        RestError
            Nothing was changed.
        """
        try:
            written = await self._api.replace(EVENTSINKS, {**obj, "spec": spec}, manager=REST_MANAGER)
        except kube.Conflict:
            raise ChangedMeanwhile(CHANGED_MEANWHILE) from None
        except ApiError as error:
            if _perhaps_done(error):
                raise Unconfirmed(NO_RESPONSE) from None
            raise _translated(error, NotFound(NO_SUCH_SINK)) from None
        self._catalog.put(written)
        return written

    async def delete(self, obj: Object) -> bool:
        """Delete the EventSink, if it is still the same one, and its Secrets; whether it existed.

        Raises
        ------
        RestError
            It still exists.
        """
        lost = False

        async def send() -> None:
            nonlocal lost
            try:
                await self._api.delete(EVENTSINKS, key_of(obj), uid=obj["metadata"]["uid"])
            except ApiError as error:
                lost = lost or _perhaps_done(error)
                raise

        existed = True
        try:
            await self._retried(send)
        except (kube.NotFound, kube.Conflict):
            existed = lost  # deleted by an attempt whose response was lost
        except ApiError as error:
            raise _translated(error, NotFound(NO_SUCH_SINK)) from None
        self._catalog.drop(obj)
        await self.delete_secrets(obj, own_secrets(obj))
        return existed

    async def create_secret(self, obj: Object, name: str, values: Mapping[str, str]) -> bool:
        """Create the Secret that a spec of the EventSink refers to, if there are values; whether it was created now.

        Raises
        ------
        RestError
            It was not created.
        """
        if not values:
            return False
        metadata = obj["metadata"]
        owner = {"apiVersion": API_VERSION, "kind": KIND, "name": metadata["name"], "uid": metadata["uid"]}
        body: Object = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": metadata["namespace"], "labels": _LABELS, "ownerReferences": [owner]},
            "type": SECRET_TYPE,
            "immutable": True,
            "data": encoded(values),
        }
        try:
            await self._retried(lambda: self._api.create(SECRETS, body, manager=REST_MANAGER))
        except kube.Conflict:
            return False  # created by the attempt before, or by an earlier request with the same Idempotency-Key
        except ApiError as error:
            raise _translated(error, Conflict("the namespace of the sink is gone")) from None
        return True

    async def delete_secrets(self, obj: Object, names: Iterable[str]) -> None:
        """Delete Secrets of the EventSink; one that cannot be deleted goes with the EventSink, which owns it."""
        for name in names:
            try:
                await self._api.delete(SECRETS, (obj["metadata"]["namespace"], name))
            except kube.NotFound:
                pass
            except ApiError as error:
                get_logger().warning(
                    "could not delete a Secret of a sink; it goes when the sink goes", secret=name, reason=error.reason
                )

    async def _retried(self, send: Callable[[], Awaitable[T]]) -> T:
        """The response to a request that may be sent again.

        Raises
        ------
        ServiceUnavailable
            There is none.
        ApiError
            One of its classes but Unavailable.
        """
        for attempt in range(ATTEMPTS):
            try:
                return await send()
            except ApiError as error:
                if error.reason != "Unavailable" and error.status not in (0, 429) and error.status < 500:
                    raise
                if attempt == ATTEMPTS - 1:
                    raise ServiceUnavailable(NO_RESPONSE) from None
                await asyncio.sleep(BACKOFF.wait(attempt + 1))
        raise AssertionError


def _perhaps_done(error: ApiError) -> bool:
    """Whether the write may have been carried out: no response, or one of a proxy or of an API server in trouble."""
    return error.status == 0 or error.status >= 500


def _translated(error: ApiError, gone: Conflict | NotFound) -> RestError:
    """What the API server's error means to the caller."""
    if isinstance(error, kube.NotFound):
        return gone
    if isinstance(error, kube.Invalid) and (reviewed := _REVIEWED.search(str(error))) is not None:
        return InvalidRequest(rest_sentence(reviewed[1]))
    if isinstance(error, (kube.Invalid, kube.Forbidden)) and (denied := _DENIED.search(str(error))) is not None:
        return InvalidRequest(f"rejected by a policy of the cluster: {denied[1]}")
    if isinstance(error, kube.Invalid):
        return InvalidRequest(rest_sentence(str(error)))
    if isinstance(error, kube.Forbidden):
        if "exceeded quota" in str(error):
            return Conflict("the quota of the tenant's namespace is used up; delete a sink, or ask the platform team")
        if "being terminated" in str(error):
            return Conflict(gone.sentence)
        get_logger().error("missing permission", reason=str(error))
        return ServiceUnavailable("the REST API lacks a permission in the cluster; the platform team finds it in its log")
    if isinstance(error, kube.Conflict):
        return Conflict(CHANGED_MEANWHILE)
    return ServiceUnavailable(NO_RESPONSE)
