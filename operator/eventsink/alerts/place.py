"""Where an alert is: the object in trouble, not the exporter that reported it.

Prometheus adds to every series the labels of what it scraped: `job`, `instance`, and in Kubernetes `namespace`, `pod`, `service`,
`container` and `endpoint`. Of a program that reports about itself they say where; of kube-state-metrics, a kubelet or a node's exporter
they say where the metric came from, and another label names the object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from eventsink.alerts.alert import Alert

_OBJECTS = (
    "deployment",
    "statefulset",
    "daemonset",
    "replicaset",
    "cronjob",
    "job_name",
    "horizontalpodautoscaler",
    "scaledobject",
    "poddisruptionbudget",
    "persistentvolumeclaim",
    "resourcequota",
    "ingress",
)
"""Labels that name an object in a namespace."""
_CLUSTER_OBJECTS = ("persistentvolume", "node", "nodename")
"""Labels that name one outside of namespaces: what `namespace` says is then the exporter's."""
_FILES = ("mountpoint", "device")
"""What of a node is in trouble, where the node's exporter says so."""
_OWN = ("pod", "service", "instance", "container", "job")
"""Labels of what was scraped, the most telling first."""
_EXPORTER = re.compile(r"(?:^|[-./])(?:kube-state-metrics|ksm|kubelet|cadvisor|[a-z]*exporter|pushgateway)(?:$|[-./])")
_OF_NODE = re.compile(r"(?:^|[-./])(?:kubelet|cadvisor|node-exporter|windows-exporter)(?:$|[-./])")
_SCRAPED = frozenset({"job", "instance", "service", "endpoint", "metrics_path", "uid"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where an alert is."""

    text: str
    """`namespace/object`, the object alone where it is in none, or the namespace alone; empty: the alert does not say."""
    namespace: str
    """Of it; empty: the object is in none."""
    labels: frozenset[str]
    """Names of the labels that `text` is made of."""
    of_exporter: frozenset[str]
    """Names of labels that say no more than where the metric came from."""


def place_of(alert: Alert) -> Place:
    """Where the alert is. Pure."""
    labels = alert.labels
    exporter = any(_EXPORTER.search(labels.get(name, "")) for name in ("job", "service"))
    foreign = _of_exporter(labels) if exporter else frozenset[str]()
    for name in _OBJECTS:
        if value := labels.get(name):
            return _place(alert, alert.namespace, (name, value), foreign, exporter=exporter)
    if labels.get("pod") and "pod" not in foreign:
        return _place(alert, alert.namespace, ("pod", labels["pod"]), foreign, exporter=exporter)
    if alert.count and labels.get(
        "name"
    ):  # an Event: the object is whatever it regards, of any kind, and `node` says where it was seen
        return _place(alert, alert.namespace, ("name", labels["name"]), foreign, exporter=exporter)
    for name in _CLUSTER_OBJECTS:
        if value := labels.get(name):
            return _place(alert, "", (name, value), foreign, exporter=exporter)
    if any(_OF_NODE.search(labels.get(name, "")) for name in ("job", "service")) and labels.get("instance"):
        return _place(alert, "", ("instance", labels["instance"]), foreign, exporter=exporter)
    for name in _OWN:
        if value := labels.get(name):
            # An exporter's own labels are all there is: it is about the exporter, or nothing says about what.
            return _place(alert, alert.namespace, (name, value), frozenset(), exporter=False)
    return Place(alert.namespace, alert.namespace, frozenset({"namespace"}), frozenset())


def _of_exporter(labels: dict[str, str]) -> frozenset[str]:
    names = set(_SCRAPED)
    service = labels.get("service", "")
    for name in ("pod", "container"):
        value = labels.get(name, "")
        if _EXPORTER.search(value) or (name == "pod" and service and value.startswith(f"{service}-")):
            names.add(name)
    return frozenset(names)


def _place(alert: Alert, namespace: str, named: tuple[str, str], foreign: frozenset[str], *, exporter: bool) -> Place:
    name, value = named
    used = {name, "namespace"}
    text = f"{namespace}/{value}" if namespace else value
    if exporter and not namespace:
        for file in _FILES:
            if alert.labels.get(file):
                text, used = f"{text} {alert.labels[file]}", used | {file}
                break
    return Place(text, namespace, frozenset(used), foreign - used)
