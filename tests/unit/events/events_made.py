"""Events as the API server has them."""

from __future__ import annotations

from typing import Any


def event(
    name: str = "e1",
    *,
    version: int = 1,
    namespace: str = "shop",
    kind: str = "Pod",
    about: str = "api-0",
    at: str = "2026-01-01T12:00:00Z",
    **members: Any,
) -> dict[str, Any]:
    """An Event of this resourceVersion; one about a Node is in `default`."""
    regarding = {"kind": kind, "name": about} | ({"namespace": namespace} if kind != "Node" else {})
    metadata = {"name": name, "namespace": namespace if kind != "Node" else "default", "uid": f"uid-{name}"}
    return {
        "metadata": {
            **metadata,
            "resourceVersion": str(version),
            "creationTimestamp": at,
            "managedFields": [{"manager": "kubelet"}],
        },
        "regarding": regarding,
        "reason": "BackOff",
        "type": "Warning",
        "note": "Back-off restarting failed container",
        **members,
    }
