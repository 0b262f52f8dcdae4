"""Requests to the API server: raw objects as dicts, a timeout on each, errors as classes.

The official client brings configuration, credentials and their renewal; its typed models stay unused, since a watch of thousands of
Secrets in them takes three times the memory.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import kubernetes.aio.client
import kubernetes.aio.config
from pydantic import Field

from eventsink.runtime.settings import ConfigurationError, Seconds, Settings

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
IN_CLUSTER_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

Object = dict[str, Any]
"""A Kubernetes object as the API server writes it."""


class KubernetesSettings(Settings):
    """How the API server is reached."""

    kubeconfig: Path | None = None
    """A kubeconfig file; absent: the pod's own ServiceAccount, else the user's kubeconfig."""
    request_timeout: Seconds = Field(default=10.0, gt=0)
    """For one request."""
    connections: int = Field(default=16, ge=4)
    """Open at once."""


class ApiError(Exception):
    """The API server refused a request, or could not be asked. The text holds no part of the object."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; 0: no answer."""
        self.reason = reason
        """`metav1.Status` reason, such as NotFound; `Unavailable`: no answer, or one that says to come again."""


class NotFound(ApiError):
    """404: the object, or its whole kind, is not there."""


class Conflict(ApiError):
    """409: it exists already, or was changed since it was read."""


class Forbidden(ApiError):
    """401 or 403: this ServiceAccount lacks a right."""


class Invalid(ApiError):
    """422 or 400: the object is not valid there."""


class Gone(ApiError):
    """410: the resourceVersion is too old; list again."""


class Unavailable(ApiError):
    """No answer in time, or 429, 5xx: the same request may succeed later."""


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


class Api:
    """The API server, as one part of the program sees it. Make it with `connect`."""

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

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Object:
        """One request and its answer.

        Raises
        ------
        ApiError
            One of its classes.
        """
        timeout = aiohttp.ClientTimeout(total=self._settings.request_timeout)
        try:
            response = await self._send(method, path, query, body, content_type, accept, timeout)
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unavailable(error) from None
        if response.status >= 400:
            raise api_error(response.status, data)
        result: Object = json.loads(data)
        return result

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str], accept: str, silence: float
    ) -> AsyncIterator[AsyncIterator[Object]]:
        """A watch: its events as they come. Ends with an `Unavailable` after `silence` seconds without any byte."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._settings.request_timeout, sock_read=silence)
        try:
            response = await self._send("GET", path, query, None, JSON, accept, timeout)
            try:
                if response.status >= 400:
                    raise api_error(response.status, await response.read())
                yield _lines(response.response)
            finally:
                response.response.close()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unavailable(error) from None

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


async def connect(settings: KubernetesSettings, part: str) -> Api:
    """Read the configuration; sends nothing yet.

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
    configuration.connection_pool_maxsize = settings.connections
    return Api(configuration, settings, f"eventsink-{part}/{metadata.version('eventsink')}")


def api_error(status: int, data: bytes) -> ApiError:
    """The error that an answer tells."""
    try:
        told = json.loads(data)
        reason, message = str(told.get("reason") or "Unknown"), str(told.get("message") or "")
    except (ValueError, AttributeError):
        reason, message = "Unknown", ""
    kind = _BY_STATUS.get(status, Unavailable if status == 429 or status >= 500 else ApiError)
    return kind(status, reason, message or f"the API server answered {status}")


def unavailable(error: BaseException) -> Unavailable:
    """No answer came."""
    what = "no answer in time" if isinstance(error, TimeoutError | asyncio.TimeoutError) else type(error).__name__
    return Unavailable(0, "Unavailable", f"the API server cannot be reached: {what}")


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[Object]:
    """The objects of a stream of JSON lines, of any length."""
    rest = b""
    try:
        async for data in response.content.iter_any():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.strip():
                    yield json.loads(line)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise unavailable(error) from None
