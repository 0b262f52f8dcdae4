"""Real situations of people who are on call, and the Slack messages about them: what the pictures of docs/slack.md show.

The alerts are written as Alertmanager sends them, with the labels that kube-prometheus-stack gives them, and go through the program's own
reading and rendering.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eventsink.alerts.alert import Alert
from eventsink.alerts.formats import alertmanager
from eventsink.destinations.slack.form import SlackForm
from eventsink.destinations.slack.message import SlackMessage, render
from eventsink.destinations.slack.replies import what_changed
from eventsink.destinations.slack.spec import SlackSpec
from eventsink.sinks.post import Post

START, END = "2026-03-01T09:30:00Z", "2026-03-01T10:12:00Z"
RUNBOOKS = "https://runbooks.prometheus-operator.dev/runbooks"
SOURCE = "https://prometheus.example.com/graph?g0.expr=up"
STATE_METRICS = {
    "job": "kube-state-metrics",
    "service": "kps-kube-state-metrics",
    "instance": "10.2.0.17:8080",
    "endpoint": "http",
    "pod": "kps-kube-state-metrics-6d9f7-abcde",
    "container": "kube-state-metrics",
    "prometheus": "monitoring/kps",
}
NODE_EXPORTER = {"job": "node-exporter", "instance": "10.2.0.4:9100", "namespace": "monitoring", "pod": "kps-node-exporter-x2x9s"}


def raised(
    name: str, severity: str, annotations: Mapping[str, str] | None = None, *, end: str = "", **labels: str
) -> dict[str, Any]:
    """One alert, as Alertmanager sends it; `end`: it is resolved."""
    return {
        "status": "resolved" if end else "firing",
        "labels": {**({"alertname": name} if name else {}), **({"severity": severity} if severity else {}), **labels},
        "annotations": dict(annotations or {}),
        "startsAt": START,
        "endsAt": end or "0001-01-01T00:00:00Z",
        "generatorURL": SOURCE,
    }


def said(summary: str, description: str = "", runbook: str = "", **more: str) -> dict[str, str]:
    """Annotations."""
    runbooks = {"runbook_url": f"{RUNBOOKS}/{runbook}"} if runbook else {}
    return {"summary": summary, "description": description, **runbooks, **more}


@dataclass(frozen=True)
class Situation:
    """What happened, and what a sink's owner wants to see of it."""

    messages: Sequence[Sequence[Mapping[str, Any]]]
    """The alerts of each message."""
    slack: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `spec.slack`."""
    truncated: int = 0
    """Alerts that Alertmanager left out."""
    as_text: bool = False
    """Show what is sent after Slack has rejected the blocks."""
    changed: Sequence[Mapping[str, Any]] = ()
    """Alerts of the message, which was edited, that its reply is about."""

    @property
    def replies(self) -> int:
        """So many of the messages are replies to the one before."""
        return 1 if self.changed else 0

    def bodies(self) -> list[dict[str, Any]]:
        """The messages, as chat.postMessage takes them."""
        made = [self._message(alerts) for alerts in self.messages]
        if self.changed:
            [alerts] = self.messages
            firing = {str(number): 0 for number, one in enumerate(alerts) if one["status"] == "firing"}
            post = Post(reference="", message="", open=firing, total=len(alerts))
            made.append(what_changed(post, self._read(self.changed)))
        return [one.plain_body() if self.as_text else one.body() for one in made]

    def _message(self, alerts: Sequence[Mapping[str, Any]]) -> SlackMessage:
        slack = SlackSpec.model_validate({"channel": "#incidents", **self.slack})
        return render(
            self._read(alerts),
            SlackForm.of(slack),
            sink="shop/incidents",
            tenant="acme",
            lookup="eventsink deliveries --message 3f9c01aa2b4d-1f.40",
        )

    def _read(self, alerts: Sequence[Mapping[str, Any]]) -> list[Alert]:
        notification = {
            "version": "4",
            "groupKey": "{}:{}",
            "externalURL": "https://alertmanager.example.com",
            "truncatedAlerts": self.truncated,
            "alerts": alerts,
        }
        read = alertmanager.parse(json.dumps(notification).encode()).alerts
        return [one.identify(source="alertmanager", tenant="acme") for one in read]


def one(alert: Mapping[str, Any], **members: Any) -> Situation:
    """A message about one alert."""
    return Situation([[alert]], **members)


def crashing(pod: str, *, end: str = "") -> dict[str, Any]:
    """A pod that is crash-looping."""
    labels = {**STATE_METRICS, "namespace": "shop", "pod": pod, "container": "app", "reason": "CrashLoopBackOff"}
    text = f'Pod shop/{pod} (app) is in waiting state (reason: "CrashLoopBackOff").'
    dashboard = {"dashboard_url": "https://grafana.example.com/d/pods?var-namespace=shop"}
    annotations = said("Pod is crash looping.", text, "kubernetes/kubepodcrashlooping", **dashboard)
    return raised("KubePodCrashLooping", "critical", annotations, end=end, **labels)


RECOVERED = [crashing(f"checkout-6d5f7c9b4-{one}", end=END) for one in ("f2m7w", "qq9lt")]


def replicas(namespace: str, deployment: str) -> dict[str, Any]:
    """A deployment without enough pods."""
    text = f"Deployment {namespace}/{deployment} has not matched the expected number of replicas for longer than 15 minutes."
    runbook = "kubernetes/kubedeploymentreplicasmismatch"
    annotations = said("Deployment has not matched the expected number of replicas.", text, runbook)
    labels = {**STATE_METRICS, "namespace": namespace, "deployment": deployment}
    return raised("KubeDeploymentReplicasMismatch", "warning", annotations, **labels)


DISK = raised(
    "NodeFilesystemSpaceFillingUp",
    "critical",
    said(
        "Filesystem is predicted to run out of space within the next 4 hours.",
        "Filesystem on /dev/nvme0n1p1, mounted on /var/lib/containers, at 10.2.0.4:9100 has only 8.21% available space left and is "
        "filling up fast.",
        "node/nodefilesystemspacefillingup",
    ),
    **NODE_EXPORTER,
    device="/dev/nvme0n1p1",
    mountpoint="/var/lib/containers",
    fstype="xfs",
)
VOLUME = raised(
    "KubePersistentVolumeFillingUp",
    "critical",
    said(
        "PersistentVolume is filling up.",
        "The PersistentVolume claimed by data-postgres-0 in Namespace shop is only 2.7% free.",
        "kubernetes/kubepersistentvolumefillingup",
    ),
    job="kubelet",
    service="kps-kubelet",
    instance="10.2.0.4:10250",
    metrics_path="/metrics",
    node="worker-3",
    namespace="shop",
    persistentvolumeclaim="data-postgres-0",
)
AUTOSCALER = raised(
    "KubeHpaMaxedOut",
    "warning",
    said(
        "HPA is running at max replicas",
        "HPA shop/checkout has been running at max replicas for longer than 15 minutes.",
        "kubernetes/kubehpamaxedout",
    ),
    **{**STATE_METRICS, "namespace": "shop", "horizontalpodautoscaler": "checkout"},
)
TARGET = raised(
    "TargetDown",
    "warning",
    said(
        "One or more targets are unreachable.",
        "33.33% of the payments/payments-metrics targets in payments namespace are down.",
        "general/targetdown",
    ),
    job="payments",
    namespace="payments",
    service="payments-metrics",
)
LATENCY = raised(
    "HighLatency", "error", said("p99 of checkout is above 2 s", "The budget of this month lasts 3 more days."), namespace="shop"
)
CERTIFICATE = raised(
    "CertificateExpiry", "info", said("The certificate of shop.example.com ends in 20 days"), namespace="ingress", ingress="shop"
)
TABLE = """Pods that are not ready:

NAME          STATUS
checkout-8xk  CrashLoopBackOff  17x
checkout-f2m  ImagePullBackOff   0x
cart-qq9lt    Pending            0x

  kubectl -n shop describe pods"""
HOSTILE = "<!channel> <@U0123456789> *bold* `code` <https://evil.example.com|click> :fire: \x1b[31mred\x1b[0m @here"


def storm() -> list[dict[str, Any]]:
    """A cluster loses a node: many alerts of many names."""
    namespaces = ("shop", "payments", "search", "data")
    found = [VOLUME, DISK, *[replicas(namespaces[number % 4], f"service-{number}") for number in range(24)]]
    found += [crashing(f"checkout-{number}") for number in range(9)]
    for number in range(12):
        summary = said(f"Node worker-{number % 3} is not ready.", "Its kubelet has not reported for 4 minutes.")
        found.append(
            raised("KubeNodeNotReady", "critical", summary, **STATE_METRICS, node=f"worker-{number % 3}", id=str(number))
        )
    names = (
        "KubePodNotReady",
        "KubeJobFailed",
        "KubeletDown",
        "KubeDaemonSetRolloutStuck",
        "NodeClockSkewDetected",
        "HighLatency",
    )
    return found + [
        raised(names[n % 6], "warning", said("See the runbook"), namespace=namespaces[n % 4], x=str(n)) for n in range(30)
    ]


FORM = {
    "fields": [{"label": "team"}, {"annotation": "value", "title": "Free memory"}],
    "buttons": [{"text": "Logs", "urlAnnotation": "logs_url"}],
    "mentions": [{"minSeverity": "critical", "groups": ["S0123456789"]}, {"minSeverity": "fatal", "here": True}],
}
MEMORY = said(
    "The node is about to run out of memory",
    "Memory of worker-3 has been below 5% for 10 minutes.",
    "node/nodememoryhighutilization",
    value="3.1%",
    logs_url="https://logs.example.com/worker-3",
)

TEMPLATE = {
    "title": "{{ alert.labels.team }}: {{ alert.summary }}",
    "body": "*{{ alert.where }}* has `{{ alert.annotations.value }}` left\n"
    '{% if severity == "critical" %}_Move what you can to another node first._\n{% endif %}'
    "<{{ alert.links.runbook }}|What to do>",
}

SITUATIONS: Mapping[str, Situation] = {
    "critical": one(crashing("checkout-6d5f7c9b4-8xkqz")),
    "resolved": one(crashing("checkout-6d5f7c9b4-8xkqz", end=END)),
    "severities": Situation(
        [
            [raised(f"Severity{word.capitalize() or 'Unknown'}", word, said("The first line of a message"), namespace="shop")]
            for word in ("emergency", "critical", "error", "warning", "low", "info", "")
        ]
    ),
    "deployment": one(replicas("shop", "checkout")),
    "node": one(DISK),
    "volume": one(VOLUME),
    "autoscaler": one(AUTOSCALER),
    "target": one(TARGET),
    "watchdog": one(
        raised(
            "Watchdog",
            "none",
            said(
                "An alert that should always be firing to certify that Alertmanager is working properly.",
                "This is an alert meant to ensure that the entire alerting pipeline is functional.\n"
                "This alert is always firing, therefore it should always be firing in Alertmanager\n"
                "and always fire against a receiver.",
                "general/watchdog",
            ),
        )
    ),
    "group": Situation([[crashing(f"checkout-6d5f7c9b4-{end}") for end in ("8xkqz", "f2m7w", "qq9lt")]]),
    "group-partly-resolved": Situation([[crashing("checkout-6d5f7c9b4-8xkqz"), *RECOVERED]], changed=RECOVERED),
    "group-resolved": Situation([[crashing(f"checkout-6d5f7c9b4-{one}", end=END) for one in ("8xkqz", "f2m7w", "qq9lt")]]),
    "group-deployments": Situation([[replicas("shop", "checkout"), replicas("shop", "cart"), replicas("search", "indexer")]]),
    "several-names": Situation([[VOLUME, AUTOSCALER, LATENCY, CERTIFICATE]]),
    "digest": Situation([storm()]),
    "columns": one(raised("PodsNotReady", "error", said("3 pods are not ready", TABLE), namespace="shop", cluster="eu-1")),
    "no-name": one(raised("", "warning", said("Something is wrong with the cart"), namespace="shop", team="checkout")),
    "languages": Situation(
        [
            [raised("قرص ممتلئ", "critical", said("القرص ممتلئ على الخادم", "لم يبق سوى 2% من المساحة."), node="worker-3")],
            [raised("دیسک‌پر", "high", said("فضای دیسک رو به پایان است می‌شود", "هشدار 🏴󠁧󠁢󠁳󠁣󠁴󠁿 👩‍🚒"), node="worker-4")],
        ]
    ),
    "markup-is-text": one(raised("Injected", "low", said(HOSTILE, f"{HOSTILE}\nhttps://example.com/a?b=c"), namespace="shop")),
    "not-a-link": one(
        raised("CartSlow", "warning", {"summary": "The cart is slow", "runbook_url": "see the wiki"}, namespace="shop")
    ),
    "truncated": Situation([[crashing("checkout-6d5f7c9b4-8xkqz"), crashing("checkout-6d5f7c9b4-f2m7w")]], truncated=23),
    "fields-and-buttons": one(
        raised("NodeMemoryHighUtilization", "critical", MEMORY, **NODE_EXPORTER, team="platform", cluster="eu-1"), slack=FORM
    ),
    "template": one(
        raised("NodeMemoryHighUtilization", "critical", MEMORY, **NODE_EXPORTER, team="platform"),
        slack={"template": TEMPLATE, "mentions": FORM["mentions"]},
    ),
    "mentions": one(
        raised("DatabaseDown", "emergency", said("No response for 2 minutes"), namespace="shop", statefulset="postgres"),
        slack=FORM,
    ),
    "links-as-text": one(crashing("checkout-6d5f7c9b4-8xkqz"), slack={"links": "text"}),
    "text-alone": one(LATENCY, as_text=True),
}
