"""The Kubernetes API as every part of the program uses it: kinds of objects, the calls, and what can go wrong.

`kube.http` is a real API server, `kube.local` keeps the objects in this process; both pass the same contract suite.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

PAGE = 500
"""Objects of one list request."""

Object = dict[str, Any]
"""A Kubernetes object as the API server writes it. Whoever gives one to an `Api` or gets one from it does not change it."""

Key = tuple[str, str]
"""Namespace (empty for cluster-wide kinds) and name."""

PERMIT: ContextVar[Callable[[], object]] = ContextVar("PERMIT")
"""Called when a write of this task is about to be sent: it may have waited for a connection. An `ApiError` of it comes instead of a response."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of objects that an API server has."""

    group: str
    """Empty: the core group."""
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = False
    """Whether `status` is a subresource, so that writes of the object leave it alone, and the spec has a generation."""

    @property
    def api_version(self) -> str:
        """As an object names it."""
        return f"{self.group}/{self.version}" if self.group else self.version


SECRETS = Resource("", "v1", "secrets", "Secret")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
EVENTS = Resource("", "v1", "events", "Event")


@dataclass(frozen=True, slots=True)
class Collection:
    """The objects of a kind that a list or a watch is about."""

    resource: Resource
    namespace: str = ""
    """Empty: all namespaces."""
    metadata_only: bool = False
    """Ask for metadata alone: the data of Secrets are never sent."""
    label_selector: str = ""
    field_selector: str = ""


class ObjectList(NamedTuple):
    """A page of a list."""

    items: list[Object]
    resource_version: str
    """Where a watch goes on from."""
    continue_token: str
    """For the next page; empty: this is the last one."""


class WatchEvent(NamedTuple):
    """A change of an object; a bookmark only says that everything before its resourceVersion was sent."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


class ApiError(Exception):
    """The API server rejected a request or did not respond. The text holds no part of the object."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; 0: no response."""
        self.reason = reason
        """`metav1.Status` reason, such as NotFound; `Unavailable`: no response, or one that says to come again."""


class NotFound(ApiError):
    """404: the object, or its whole kind, does not exist."""


class Conflict(ApiError):
    """409: it exists already, or was changed since it was read."""


class Forbidden(ApiError):
    """401 or 403: this ServiceAccount lacks a right."""


class Invalid(ApiError):
    """422 or 400: the object is not valid there."""


class Gone(ApiError):
    """410: the resourceVersion is too old; or 504: the API server has not reached it, being at an older state; list again."""


class Unavailable(ApiError):
    """No response in time, or 429, 5xx: the same request may succeed later."""


def not_of_api_server() -> Unavailable:
    """The error of a response that something before the API server has sent in its place."""
    return Unavailable(0, "Unavailable", "the response is not one of an API server")


class Api(Protocol):
    """An API server. Each call raises `ApiError`, as one of its classes, where it does not do what it says."""

    async def get(self, resource: Resource, key: Key) -> Object:
        """One object."""
        ...

    async def list(self, collection: Collection, *, limit: int = PAGE, continue_token: str = "") -> ObjectList:
        """A page of at most `limit` objects. Of a list in pages, each shows the state at the time of the first.

        Raises
        ------
        Gone
            The token is too old; begin again.
        """
        ...

    def watch(
        self, collection: Collection, *, resource_version: str, seconds: int
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        """The changes after `resource_version` as they come, for at most about `seconds`.

        Raises
        ------
        Gone
            The version is too old, also while it runs, or the API server has not reached it; list again.
        Unavailable
            The connection broke, or nothing came for too long.
        """
        ...

    async def create(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        """Make a new object in `metadata.namespace`; `metadata.generateName` instead of a name has one made up.

        Raises
        ------
        Conflict
            There is one of that name.
        """
        ...

    async def replace(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        """Write an object that exists.

        Raises
        ------
        Conflict
            It is not the one of `metadata.uid` and `metadata.resourceVersion`, where they are given.
        """
        ...

    async def apply(self, resource: Resource, obj: Object, *, manager: str, subresource: Literal["", "status"] = "") -> Object:
        """Server-side apply, with force: the fields in `obj` become this manager's, other fields that were its own are removed.

        The object is created where it does not exist; its status is not.

        Raises
        ------
        Conflict
            It is not the one of `metadata.resourceVersion`, where that is given.
        """
        ...

    async def delete(self, resource: Resource, key: Key, *, uid: str = "", resource_version: str = "") -> None:
        """Delete an object, and later what it owns.

        Raises
        ------
        Conflict
            It is not the one of that uid and version.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def key_of(obj: Object) -> Key:
    """Namespace and name of an object."""
    metadata = obj["metadata"]
    # Thousands of objects are in one namespace, whose name each of them brings.
    return sys.intern(metadata.get("namespace", "")), metadata["name"]


def is_older(version: str, than: str) -> bool:
    """Whether a resourceVersion is older than another one of the same kind of objects; False where that cannot be seen."""
    return version.isdigit() and than.isdigit() and int(version) < int(than)


async def list_all(api: Api, collection: Collection) -> list[Object]:
    """All objects of a collection, read in pages.

    Raises
    ------
    ApiError
        One of its classes.
    """
    return [obj async for obj in list_each(api, collection)]


async def list_each(api: Api, collection: Collection) -> AsyncIterator[Object]:
    """The objects of a collection one by one, so that no more than a page of them is in memory.

    Raises
    ------
    ApiError
        One of its classes.
    """
    token = ""
    while True:
        page = await api.list(collection, continue_token=token)
        for obj in page.items:
            yield obj
        token = page.continue_token
        if not token:
            return


async def delete_if_same(api: Api, resource: Resource, key: Key, *, uid: str = "", resource_version: str = "") -> bool:
    """Delete an object if it still is the one that is meant; whether it was."""
    try:
        await api.delete(resource, key, uid=uid, resource_version=resource_version)
    except (NotFound, Conflict):
        return False
    return True
