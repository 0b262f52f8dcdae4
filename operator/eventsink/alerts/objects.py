"""Labels that say which Kubernetes object an alert is about."""

from __future__ import annotations

from collections.abc import Mapping

NAMED_BY_KIND: Mapping[str, str] = {
    "CronJob": "cronjob",
    "DaemonSet": "daemonset",
    "Deployment": "deployment",
    "HorizontalPodAutoscaler": "horizontalpodautoscaler",
    "Ingress": "ingress",
    "Job": "job_name",
    "Node": "node",
    "PersistentVolume": "persistentvolume",
    "PersistentVolumeClaim": "persistentvolumeclaim",
    "Pod": "pod",
    "PodDisruptionBudget": "poddisruptionbudget",
    "ReplicaSet": "replicaset",
    "ResourceQuota": "resourcequota",
    "StatefulSet": "statefulset",
}
"""Kinds -> the label that holds the name of such an object in kube-state-metrics' metrics, and so in the alerts that are made of them."""


def object_labels(kind: str, namespace: str, name: str) -> dict[str, str]:
    """The labels `namespace`, `kind` and `name`, and for common kinds the one of `NAMED_BY_KIND`; none of what is empty."""
    labels = {"namespace": namespace, "kind": kind, "name": name, NAMED_BY_KIND.get(kind, ""): name}
    return {label: value for label, value in labels.items() if label and value}
