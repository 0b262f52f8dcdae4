"""The few kinds of objects that both parts read and write: paths, server-side apply of a status, Secrets."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from eventsink.kube.client import APPLY_PATCH, Api, Conflict, NotFound, Object


def secrets_path(namespace: str = "", name: str = "") -> str:
    """Of all Secrets, those of a namespace, or one."""
    return _path("/api/v1", "secrets", namespace, name)


def custom_path(group: str, version: str, plural: str, namespace: str = "", name: str = "") -> str:
    """Of a custom resource: all, those of a namespace, or one."""
    return _path(f"/apis/{group}/{version}", plural, namespace, name)


def _path(root: str, plural: str, namespace: str, name: str) -> str:
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{plural}" + (f"/{name}" if name else "")


async def apply_status(api: Api, path: str, body: Object, *, manager: str) -> Object:
    """Apply a status as its field manager: the fields in `body` become this manager's, all others of it go.

    `body` names apiVersion, kind and metadata.name; with a metadata.uid of another object the API server answers 409.
    """
    query = {"fieldManager": manager, "force": "true"}
    return await api.request("PATCH", f"{path}/status", query=query, body=body, content_type=APPLY_PATCH)


async def get_secret(api: Api, namespace: str, name: str) -> Object:
    """One Secret with its data."""
    return await api.request("GET", secrets_path(namespace, name))


async def apply_secret(
    api: Api,
    namespace: str,
    name: str,
    *,
    kind: str,
    data: Mapping[str, str],
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    manager: str,
) -> Object:
    """Make a Secret be exactly this, by server-side apply."""
    body: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels), "annotations": dict(annotations)},
        "type": kind,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }
    query = {"fieldManager": manager, "force": "true"}
    return await api.request("PATCH", secrets_path(namespace, name), query=query, body=body, content_type=APPLY_PATCH)


async def delete_object(api: Api, path: str, *, uid: str = "", resource_version: str = "") -> bool:
    """Delete an object, if it still is the one that is meant; whether it was there."""
    preconditions = {key: value for key, value in (("uid", uid), ("resourceVersion", resource_version)) if value}
    body: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if preconditions:
        body["preconditions"] = preconditions
    try:
        await api.request("DELETE", path, body=body)
    except (NotFound, Conflict):
        return False
    return True


def secret_data(secret: Object) -> dict[str, bytes]:
    """The decoded data of a Secret."""
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
