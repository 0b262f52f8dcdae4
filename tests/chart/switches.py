"""Values for the tests: everything switched on, and for each value another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.chart import values_in
from tests.support.helm import CHART

Path = tuple[str, ...]

EVERYTHING: dict[str, Any] = {
    "slack": {
        "app": {"clientId": "1.2", "secretName": "slack-app", "redirectUrl": "https://sinks.example.com/v1/slack/callback"},
        "tokenSecretName": "slack",
    },
    "proxy": {"url": "http://proxy.example.com:3128", "noProxy": ["*.svc"]},
    "ca": {"configMapName": "company-ca"},
    "monitoring": {"enabled": True, "rules": {"enabled": True}},
    "operator": {"podDisruptionBudget": {"enabled": True}, "networkPolicy": {"enabled": True}},
    "router": {
        "podDisruptionBudget": {"enabled": True},
        "networkPolicy": {"enabled": True},
        "tls": {"secretName": "router-tls"},
    },
    "rest": {
        "podDisruptionBudget": {"enabled": True},
        "networkPolicy": {"enabled": True},
        "stateKey": {"secretName": "state-key"},
    },
    "events": {
        "enabled": True,
        "podDisruptionBudget": {"enabled": True},
        "networkPolicy": {"enabled": True},
    },
}
"""With this, each value is seen in what is rendered."""

SINK: dict[str, Any] = {
    "name": "alerts",
    "namespace": "default",
    "labels": {"team": "a"},
    "spec": {"tenant": "acme", "name": "Alerts", "webhook": {"url": "https://example.com/hook"}},
}
PEERS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
SPREAD = [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}]
AFFINITY: dict[str, Any] = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
RELABELING = [{"action": "labeldrop", "regex": "pod"}]
OTHER_LISTS: dict[str, Any] = {
    "policyReports": ["openreports.io"],
    "args": ["--config", "/tmp/other.yaml"],
    "env": [{"name": "TZ", "value": "UTC"}],
    "envFrom": [{"secretRef": {"name": "more", "optional": True}}],
    "volumes": [{"name": "more", "emptyDir": {}}],
    "volumeMounts": [{"name": "tmp", "mountPath": "/more"}],
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "topologySpreadConstraints": SPREAD,
    "affinity": AFFINITY,
    "issuerRef": {"kind": "ClusterIssuer", "name": "internal"},
    "imagePullSecrets": [{"name": "registry"}],
    "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}],
    "relabelings": RELABELING,
    "metricRelabelings": RELABELING,
    "disabled": ["EventSinkHeld"],
    "noProxy": ["*.example.com"],
    "accessModes": ["ReadWriteOncePod"],
    "sources": [{"name": "other", "tenant": {"fixed": "acme"}, "tokenKeys": ["old", "new"]}],
    "namespaces": [{"name": "default", "tenant": "acme"}],
    "sinks": [SINK],
    "extraObjects": ['{apiVersion: v1, kind: ConfigMap, metadata: {name: "{{ .Release.Name }}-more"}}'],
    "config": {"log": {"level": "debug"}},
    "requests": {"cpu": "1"},
    "limits": {"memory": "2Gi"},
    "podSecurityContext": {"runAsUser": 1000},
    "securityContext": {"privileged": False},
    "livenessProbe": {"periodSeconds": 20},
    "readinessProbe": {"periodSeconds": 20},
    **dict.fromkeys(("intakeFrom", "adminFrom", "metricsFrom", "restFrom", "admissionFrom"), PEERS),
}
TLS = {"operator": {"admission": {"tlsSecretName": "webhook-tls", "caBundle": "QQ=="}}}
COMPANIONS: dict[Path, dict[str, Any]] = {
    ("proxy", "secretName"): {"proxy": {"url": "", "noProxy": []}},
    ("proxy", "secretKey"): {"proxy": {"url": "", "secretName": "proxy"}},
    ("ca", "secretName"): {"ca": {"configMapName": ""}},
    ("operator", "admission", "certManager", "issuerRef"): {"operator": {"admission": {"certManager": {"enabled": True}}}},
    ("operator", "admission", "tlsSecretName"): TLS,
}
"""What a value needs to have an effect, beside everything."""
OTHER_TEXTS = {
    "failurePolicy": "Fail",
    "caBundle": "Qg==",
    "digest": "sha256:" + "0" * 64,
    "interval": "30s",
    "scrapeTimeout": "10s",
    "kind": "PodMonitor",
    "pullPolicy": "Always",
    "type": "NodePort",
    "size": "20Gi",
    "clientId": "3.4",
    "url": "http://other.example.com:3128",
    "redirectUrl": "https://other.example.com/v1/slack/callback",
}


def documented() -> Iterator[tuple[Path, Any]]:
    """Path and default of every documented value."""
    for value in values_in((CHART / "values.yaml").read_text()):
        yield value.path, value.default


def other(path: Path, default: Any) -> Any:
    """Another value than `default` for a path."""
    name = path[-1]
    if name in OTHER_LISTS and not isinstance(default, str):
        return OTHER_LISTS[name]
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    if isinstance(default, str):
        return OTHER_TEXTS.get(name, "other")
    assert isinstance(default, dict), path
    return {"example.com/other": "yes"}


def nested(path: Path, value: Any) -> dict[str, Any]:
    """The values with this one at its path."""
    for name in reversed(path):
        value = {name: value}
    found: dict[str, Any] = value
    return found
