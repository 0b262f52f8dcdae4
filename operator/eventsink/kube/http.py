"""An API server over HTTP: raw objects as dicts, a timeout on each request, errors as classes.

The official client brings configuration, credentials and their renewal; its typed models stay unused, since a watch of thousands of
Secrets in them takes three times the memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode

import aiohttp
import kubernetes.aio.client
import kubernetes.aio.config
import msgspec

from eventsink.kube.api import (
    PAGE,
    PERMIT,
    Api,
    ApiError,
    Collection,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    Key,
    NotFound,
    Object,
    ObjectList,
    Resource,
    Unavailable,
    WatchEvent,
    key_of,
    not_of_api_server,
)
from eventsink.kube.settings import KubernetesSettings
from eventsink.runtime.settings import ConfigurationError

JSON = "application/json"
APPLY_PATCH = "application/apply-patch+yaml"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
SILENCE_SECONDS = 90.0
"""Without a byte for so long (bookmarks come each minute), a watch is considered dead."""
MAX_LINE_BYTES = 16 << 20
"""Of a watch: etcd stores a tenth of that."""
TOO_LARGE = "Too large resource version"
"""In the message of the 504 for a resourceVersion of the time before etcd was restored; all versions of the API server say so."""
IN_CLUSTER_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


_BY_STATUS = {400: Invalid, 401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone, 422: Invalid}


@dataclass(frozen=True, slots=True)
class Access:
    """How the API server is reached, for a client of another library."""

    server: str
    ca: str | None
    certificate: str | None
    key: str | None
    token: str | None = field(repr=False)
    insecure: bool = False


class HttpApi(Api):
    """An API server over HTTP. Make it with `connect`."""

    def __init__(self, configuration: Any, settings: KubernetesSettings, user_agent: str) -> None:
        self._configuration = configuration
        self._client = kubernetes.aio.client.ApiClient(configuration)
        self._settings = settings
        self._user_agent = user_agent

    async def close(self) -> None:
        await self._client.close()

    async def access(self) -> Access:
        """Address and credentials as they are now (tokens are renewed)."""
        configuration = self._configuration
        # "Bearer <token>" of a kubeconfig, "bearer <token>" of a pod.
        authorization = (await configuration.auth_settings()).get("BearerToken", {}).get("value") or ""
        token = authorization.partition(" ")[2].strip()
        return Access(
            server=configuration.host,
            ca=configuration.ssl_ca_cert,
            certificate=configuration.cert_file,
            key=configuration.key_file,
            token=token or None,
            insecure=not configuration.verify_ssl,
        )

    async def get(self, resource: Resource, key: Key) -> Object:
        return stored(await self._request("GET", _path(resource, *key)))

    async def list(self, collection: Collection, *, limit: int = PAGE, continue_token: str = "") -> ObjectList:
        query = {**_selectors(collection), "limit": str(limit)}
        if continue_token:
            query["continue"] = continue_token
        accept = METADATA_LIST if collection.metadata_only else JSON
        return page_of(await self._request("GET", _path(collection.resource, collection.namespace), query=query, accept=accept))

    @asynccontextmanager
    async def watch(
        self, collection: Collection, *, resource_version: str, seconds: int
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        query = {
            **_selectors(collection),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
        }
        accept = METADATA if collection.metadata_only else JSON
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._settings.request_timeout, sock_read=SILENCE_SECONDS)
        path = _path(collection.resource, collection.namespace)
        try:
            response = await self._send("GET", path, query, None, JSON, accept, timeout)
            try:
                if response.status >= 400:
                    raise api_error(response.status, await response.read())
                yield changes_in(response.response.content.iter_any())
            finally:
                response.response.close()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unavailable(error) from None

    async def create(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        metadata = obj["metadata"]
        created = await self._request(
            "POST", _path(resource, metadata.get("namespace", "")), query=_field_manager(manager), body=obj
        )
        # A review has no name: it is not stored.
        return stored(created) if metadata.get("name") or metadata.get("generateName") else created

    async def replace(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        return stored(await self._request("PUT", _path(resource, *key_of(obj)), query=_field_manager(manager), body=obj))

    async def apply(self, resource: Resource, obj: Object, *, manager: str, subresource: Literal["", "status"] = "") -> Object:
        path = _path(resource, *key_of(obj)) + (f"/{subresource}" if subresource else "")
        query = {"fieldManager": manager, "force": "true"}
        return stored(await self._request("PATCH", path, query=query, body=obj, content_type=APPLY_PATCH))

    async def delete(self, resource: Resource, key: Key, *, uid: str = "", resource_version: str = "") -> None:
        preconditions = {name: value for name, value in (("uid", uid), ("resourceVersion", resource_version)) if value}
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if preconditions:
            body["preconditions"] = preconditions
        await self._request("DELETE", _path(resource, *key), body=body)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=self._settings.request_timeout)
        try:
            response = await self._send(method, path, query, body, content_type, accept, timeout)
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error.__cause__, ApiError):
                raise error.__cause__ from None  # it was not permitted
            raise unavailable(error) from None
        if response.status >= 400:
            raise api_error(response.status, data)
        return read_object(data)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Object | None,
        content_type: str,
        accept: str,
        timeout: aiohttp.ClientTimeout,
    ) -> Any:
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": self._user_agent}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        return await self._client.call_api(method, url, header_params=headers, body=body, _request_timeout=timeout)


async def connect(settings: KubernetesSettings, part: str, *, watches: int = 0) -> HttpApi:
    """Read the configuration; sends nothing yet.

    Parameters
    ----------
    part
        Of the program, for the API server's log.
    watches
        Connections beside those of the settings: each watch has its own.

    Raises
    ------
    ConfigurationError
        There is none, or it cannot be read.
    """
    configuration = kubernetes.aio.client.Configuration()
    try:
        if settings.kubeconfig is None and IN_CLUSTER_TOKEN.exists():
            kubernetes.aio.config.load_incluster_config(client_configuration=configuration)
        else:
            file = str(settings.kubeconfig) if settings.kubeconfig is not None else None
            await kubernetes.aio.config.load_kube_config(config_file=file, client_configuration=configuration)
    except (kubernetes.aio.config.ConfigException, OSError, ValueError) as error:
        where = settings.kubeconfig or "the pod's ServiceAccount and the user's kubeconfig"
        raise ConfigurationError(f"kubernetes: no access to a cluster: {where} cannot be used ({type(error).__name__})") from None
    # The client would send the API server's requests through the proxy of the environment (HTTPS_PROXY), and read ~/.netrc.
    trace = aiohttp.TraceConfig()
    trace.on_request_chunk_sent.append(_ask_permit)  # called before it is: with a body, nothing is sent earlier
    configuration.client_session_kwargs = {"trust_env": False, "trace_configs": [trace]}
    configuration.connection_pool_maxsize = settings.connections + watches
    return HttpApi(configuration, settings, f"eventsink-{part}/{metadata.version('eventsink')}")


async def _ask_permit(*_: object) -> None:
    permit = PERMIT.get(None)
    if permit is not None:
        permit()


def read_object(data: bytes) -> Object:
    """A JSON object that an API server has sent.

    Raises
    ------
    Unavailable
        It is none: something before the API server responds in its place. The same of the functions below.
    """
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise not_of_api_server() from None


def stored(obj: Any) -> Object:
    """An object that an API server has stored: it has a name and a version."""
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    if not _are_texts(metadata, "name", "resourceVersion"):
        raise not_of_api_server()
    found: Object = obj
    return found


def page_of(obj: Object) -> ObjectList:
    """A page of a list."""
    if not _are_texts(obj.get("metadata"), "resourceVersion") or not isinstance(obj.get("items"), list | None):
        raise not_of_api_server()
    metadata = obj["metadata"]
    items = [stored(one) for one in obj.get("items") or []]
    return ObjectList(items, metadata["resourceVersion"], str(metadata.get("continue") or ""))


def change_of(line: bytes) -> WatchEvent:
    """What a line of a watch says.

    Raises
    ------
    Gone
        No watch can go on from where this one was.
    """
    said = read_object(line)
    kind, obj = said.get("type"), said.get("object")
    if kind == "ERROR" and isinstance(obj, dict):
        code = obj["code"] if isinstance(obj.get("code"), int) else 500
        if code == 410 or _is_too_large(code, str(obj.get("message"))):
            raise Gone(code, "Expired", "no watch can go on from this resourceVersion")
        raise Unavailable(code, "Unavailable", "the watch ended with an error")
    if kind == "BOOKMARK" and isinstance(obj, dict) and _are_texts(obj.get("metadata"), "resourceVersion"):
        return WatchEvent(kind, obj)
    if kind not in ("ADDED", "MODIFIED", "DELETED"):
        raise not_of_api_server()
    return WatchEvent(kind, stored(obj))


def _are_texts(members: object, *names: str) -> bool:
    return isinstance(members, dict) and all(isinstance(members.get(name), str) for name in names)


def api_error(status: int, data: bytes) -> ApiError:
    """The error that a response with that body means."""
    try:
        said = read_object(data)
    except Unavailable:
        said = {}
    reason, message = str(said.get("reason") or "Unknown"), str(said.get("message") or "")
    kind = _BY_STATUS.get(status, Unavailable if status == 429 or status >= 500 else ApiError)
    if _is_too_large(status, message):
        kind = Gone
    return kind(status, reason, message or f"the API server responded with {status}")


def _is_too_large(status: int, message: str) -> bool:
    """Whether a resourceVersion is one that the API server has not reached: to ask for it again does not help."""
    return status == 504 and TOO_LARGE in message


def unavailable(error: BaseException) -> Unavailable:
    """No response came."""
    what = "no response in time" if isinstance(error, TimeoutError | asyncio.TimeoutError) else type(error).__name__
    return Unavailable(0, "Unavailable", f"the API server cannot be reached: {what}")


def _path(resource: Resource, namespace: str = "", name: str = "") -> str:
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"{root}{scope}/{resource.plural}" + (f"/{quote(name, safe='')}" if name else "")


def _selectors(collection: Collection) -> dict[str, str]:
    query = {"labelSelector": collection.label_selector, "fieldSelector": collection.field_selector}
    return {name: value for name, value in query.items() if value}


def _field_manager(manager: str) -> dict[str, str]:
    return {"fieldManager": manager} if manager else {}


async def changes_in(pieces: AsyncIterable[bytes]) -> AsyncIterator[WatchEvent]:
    """The changes in the stream of a watch: JSON lines, in pieces of any length.

    Raises
    ------
    ApiError
        As `change_of`, also of a line that is too long; or the stream was lost.
    """
    rest = b""
    try:
        async for data in pieces:
            *lines, rest = (rest + data).split(b"\n")
            if max(map(len, (*lines, rest))) > MAX_LINE_BYTES:
                raise not_of_api_server()
            for line in lines:
                if line.strip():
                    yield change_of(line)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise unavailable(error) from None
