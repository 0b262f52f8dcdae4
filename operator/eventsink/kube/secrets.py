"""Secrets: their data decoded, and written by server-side apply."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from eventsink.kube.api import SECRETS, Api, Object


def secret_data(secret: Object) -> dict[str, bytes]:
    """The decoded data of a Secret."""
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def encoded(values: Mapping[str, str]) -> dict[str, str]:
    """Values as the data of a Secret."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


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
    """Make a Secret be exactly this, by server-side apply.

    Parameters
    ----------
    kind
        The Secret's type.
    data
        Not encoded.
    """
    body: Object = {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations},
        "type": kind,
        "data": encoded(data),
    }
    return await api.apply(SECRETS, body, manager=manager)
