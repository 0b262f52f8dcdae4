"""A wrong value is refused before anything is installed, with its name and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.helm import Helm

SINK: dict[str, Any] = {
    "name": "alerts",
    "namespace": "acme",
    "spec": {"tenant": "acme", "name": "Alerts", "webhook": {"url": "https://example.com"}},
}
SOURCE: dict[str, Any] = {"name": "alertmanager", "tenant": {"fixed": "acme"}}
CALLBACK = "https://sinks.example.com/v1/slack/callback"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"opperator": {"replicas": 2}}, "additional properties 'opperator' not allowed"),
        ({"operator": {"replicas": "two"}}, "at '/operator/replicas': got string, want integer"),
        ({"operator": {"replicas": 0}}, "at '/operator/replicas': minimum: got 0, want 1"),
        ({"image": {"pullPolicy": "Sometimes"}}, "value must be one of 'IfNotPresent', 'Always', 'Never'"),
        ({"image": {"digest": "0.1.0"}}, "at '/image/digest'"),
        ({"operator": {"config": {"egres": {}}}}, "at '/operator/config': additional properties 'egres' not allowed"),
        ({"router": {"config": {"queue": {"maxBytes": "8Gi"}}}}, "at '/router/config/queue/maxBytes': got string, want integer"),
        ({"router": {"config": {"log": {"format": "xml"}}}}, "value must be one of 'json', 'text'"),
        ({"rest": {"config": {"createWait": True}}}, "at '/rest/config/createWait': got boolean, want number or string"),
        ({"sources": [{**SOURCE, "tenent": {}}]}, "at '/sources/0': additional properties 'tenent' not allowed"),
        ({"sources": [{"name": "alertmanager"}]}, "at '/sources/0': missing property 'tenant'"),
        ({"sources": [{**SOURCE, "tokenFiles": ["/x"]}]}, "additional properties 'tokenFiles' not allowed"),
        (
            {"sinks": [{**SINK, "spec": {**SINK["spec"], "urll": 1}}]},
            "at '/sinks/0/spec': additional properties 'urll' not allowed",
        ),
        ({"monitoring": {"kind": "Probe"}}, "value must be one of 'ServiceMonitor', 'PodMonitor'"),
        ({"commonLabels": {"team": 1}}, "at '/commonLabels/team': got number, want string"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_the_schema_names_the_value(helm: Helm, values: dict[str, Any], words: str) -> None:
    assert words in helm.refusal(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sinksNamespace": {"name": "eventsink-system"}}, "sinksNamespace.name: eventsink-system is the release's namespace"),
        ({"sources": [SOURCE, SOURCE]}, "sources: two have the name alertmanager; names are unique"),
        ({"sinks": [SINK]}, "sinks: the cluster does not know EventSinks yet. Install the chart without sinks first"),
        ({"operator": {"config": {"sinksNamespace": "x"}}}, "operator.config.sinksNamespace: set sinksNamespace.name instead"),
        ({"router": {"config": {"sinksNamespace": "x"}}}, "router.config.sinksNamespace: set sinksNamespace.name instead"),
        ({"router": {"config": {"sources": [{**SOURCE, "tokenHashes": ["sha256:" + "0" * 64]}]}}}, "set sources instead"),
        ({"namespaces": [{"name": "eventsink-system", "tenant": "acme"}]}, "eventsink-system is a namespace of EventSink itself"),
        ({"rest": {"config": {"namespaces": []}}}, "rest.config.namespaces: set namespaces instead"),
        ({"slack": {"app": {"clientId": "1.2"}}}, "slack.app.secretName: name the Secret with the client secret"),
        ({"proxy": {"url": "http://proxy:3128", "secretName": "proxy"}}, "proxy: set url, or secretName"),
        ({"proxy": {"noProxy": ["*.svc"]}}, "proxy.noProxy: there is no proxy"),
        ({"proxy": {"url": "http://me:secret@proxy:3128"}}, "proxy.url: it holds credentials"),
        ({"ca": {"configMapName": "a", "secretName": "b"}}, "ca: set configMapName or secretName, not both"),
        (
            {"operator": {"admission": {"tlsSecretName": "tls"}}},
            "operator.admission.caBundle: the API server needs the authority",
        ),
        (
            {"operator": {"admission": {"tlsSecretName": "a", "certManager": {"enabled": True}}}},
            "set tlsSecretName, or certManager",
        ),
        (
            {"slack": {"app": {"clientId": "1.2", "secretName": "app", "redirectUrl": CALLBACK}}, "rest": {"replicas": 2}},
            "rest.stateKey.secretName: several replicas need one key",
        ),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_a_schema_cannot_say_is_refused_in_words(helm: Helm, values: dict[str, Any], words: str) -> None:
    assert words in helm.refusal(values)


def test_a_cluster_that_is_too_old_is_refused(helm: Helm) -> None:
    assert "chart requires kubeVersion: >=1.30.0-0" in helm.refusal({}, "--kube-version", "1.29.9")


def test_several_operators_need_a_leader(helm: Helm) -> None:
    values = {"operator": {"replicas": 2, "config": {"leaderElection": {"enabled": False}}}}
    assert "operator.config.leaderElection.enabled: of several replicas one has to lead" in helm.refusal(values)
