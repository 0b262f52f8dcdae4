"""Finds out what manages an EventSink: a tool that applies it again and again would undo a change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventsink.kube.api import Object

FILE_ANNOTATION = "eventsink.dev/file"
"""Standalone: the file with the EventSink."""

_FIELD_MANAGERS = {
    "helm": "Helm",
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
}
"""In `metadata.managedFields`: for tools that are configured to leave no labels."""


def managed_by(obj: Object) -> str | None:
    """A sentence on what manages the object and where to change it; None: only those who edit it.

    Sources of the marks: Helm's documentation ("Labels and Annotations", and release ownership by `meta.helm.sh/release-name`), Argo CD's
    ("Resource Tracking"), Flux's (labels of the kustomize-controller and the helm-controller).
    """
    metadata = obj["metadata"]
    labels: Mapping[str, Any] = metadata.get("labels") or {}
    notes: Mapping[str, Any] = metadata.get("annotations") or {}
    if file := notes.get(FILE_ANNOTATION):
        return f"this sink is defined in the file {file}: change it there"
    for kind, prefix in (("Kustomization", "kustomize.toolkit.fluxcd.io"), ("HelmRelease", "helm.toolkit.fluxcd.io")):
        if name := labels.get(f"{prefix}/name"):
            where = f"{labels[f'{prefix}/namespace']}/{name}" if labels.get(f"{prefix}/namespace") else name
            return f"this sink is managed by Flux ({kind} {where}): change it in the repository that it comes from"
    tracking = str(notes.get("argocd.argoproj.io/tracking-id") or "")
    application = tracking.partition(":")[0] or str(labels.get("argocd.argoproj.io/instance") or "")
    if application:
        return f"this sink is managed by Argo CD (Application {application}): change it in the repository that it comes from"
    if release := notes.get("meta.helm.sh/release-name"):
        where = f"release {release} in the namespace {notes.get('meta.helm.sh/release-namespace') or metadata.get('namespace')}"
        return f"this sink is managed by Helm ({where}): change it in the values of the release"
    if labels.get("app.kubernetes.io/managed-by") == "Helm":
        return "this sink is managed by Helm: change it in the values of its release"
    for entry in metadata.get("managedFields") or ():
        tool = _FIELD_MANAGERS.get(str(entry.get("manager")).lower())
        if tool is not None and not entry.get("subresource"):
            return f"this sink is managed by {tool}: change it there"
    return None
