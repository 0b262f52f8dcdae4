"""Reports as policy engines write them."""

from __future__ import annotations

from typing import Any

from eventsink.events.report import RESOURCES
from eventsink.kube.api import Resource

NAMESPACED, CLUSTER = RESOURCES["wgpolicyk8s.io"]
OPEN_NAMESPACED, _ = RESOURCES["openreports.io"]


def result(policy: str, outcome: str = "fail", **members: Any) -> dict[str, Any]:
    """A result, about the object of its report unless it names others."""
    return {"policy": policy, "rule": "r", "result": outcome, "severity": "high", "message": f"{policy} is violated", **members}


def about(name: str, **members: Any) -> dict[str, Any]:
    """An object."""
    return {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": name, "uid": "u", **members}


def report(name: str, *results: dict[str, Any], resource: Resource = NAMESPACED, **members: Any) -> dict[str, Any]:
    """A report about a pod of its name."""
    metadata = {"name": name, "creationTimestamp": "2026-01-01T12:00:00Z", "managedFields": [{"manager": "kyverno"}]}
    if resource.namespaced:
        metadata["namespace"] = "shop"
    engine = {"source": "kyverno"}
    has_source = resource.group == OPEN_NAMESPACED.group  # in the older API each result says it
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        "scope": about(name),
        "summary": {"fail": len(results)},
        "results": list(results) if has_source else [engine | one for one in results],
        **(engine if has_source else {}),
        **members,
    }
