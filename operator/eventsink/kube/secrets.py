"""Secrets: their data decoded, and written over what is known of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from eventsink.kube.api import SECRETS, Api, Object, not_of_api_server


def secret_data(secret: Object) -> dict[str, bytes]:
    """The decoded data of a Secret.

    Raises
    ------
    Unavailable
        It is not one that an API server has stored.
    """
    try:
        return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
    except (AttributeError, TypeError, ValueError):
        raise not_of_api_server() from None


def encoded(values: Mapping[str, str]) -> dict[str, str]:
    """Values as the data of a Secret."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


async def write_secret(
    api: Api,
    namespace: str,
    name: str,
    *,
    kind: str,
    data: Mapping[str, str],
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    manager: str,
    resource_version: str,
) -> Object:
    """Make a Secret be exactly this, if it is still as it was.

    Parameters
    ----------
    kind
        The Secret's type.
    data
        Not encoded.
    resource_version
        Of what is replaced; empty: there is none yet.

    Raises
    ------
    Conflict
        Somebody else made it or changed it.
    NotFound
        Somebody else deleted it.
    """
    body: Object = {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations},
        "type": kind,
        "data": encoded(data),
    }
    if not resource_version:
        return await api.create(SECRETS, body, manager=manager)
    body["metadata"]["resourceVersion"] = resource_version
    return await api.replace(SECRETS, body, manager=manager)
