"""A wrong value is refused before anything is installed, with its name and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.switches import nested
from tests.support.helm import Helm, settings_text

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
        ({"image": {"tag": 1.1}}, "at '/image/tag': got number, want string"),
        ({"operator": {"env": [{"name": "TZ", "value": 1}]}}, "at '/operator/env/0/value': got number, want string"),
        ({"rest": {"env": [{"value": "1"}]}}, "at '/rest/env/0': missing property 'name'"),
        ({"rest": {"podDisruptionBudget": {"maxUnavailable": ""}}}, "at '/rest/podDisruptionBudget/maxUnavailable'"),
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
        ({"events": {"config": {"namespaces": ["acme"]}}}, "events.config.namespaces: set namespaces instead"),
        (
            {"events": {"replicas": 2, "config": {"leaderElection": {"enabled": False}}}},
            "events.config.leaderElection.enabled: of several replicas one has to send",
        ),
        ({"slack": {"app": {"clientId": "1.2"}}}, "slack.app.secretName: name the Secret with the client secret"),
        ({"proxy": {"url": "http://proxy:3128", "secretName": "proxy"}}, "proxy: set url, or secretName"),
        ({"proxy": {"noProxy": ["*.svc"]}}, "proxy.noProxy: there is no proxy"),
        ({"proxy": {"url": "http://me:secret@proxy:3128"}}, "proxy.url: it holds credentials"),
        ({"ca": {"configMapName": "a", "secretName": "b"}}, "ca: set configMapName or secretName, not both"),
        ({"slack": {"app": {"redirectUrl": CALLBACK}}}, "slack.app.clientId: name the app"),
        ({"fullnameOverride": "7up"}, "fullnameOverride: Services cannot be named 7up-router"),
        ({"fullnameOverride": "Alerts"}, "fullnameOverride: Services cannot be named Alerts-router"),
        ({"nameOverride": "my.alerts"}, "fullnameOverride: Services cannot be named eventsink-my.alerts-router"),
        (
            {"rest": {"serviceAccount": {"name": "eventsink-router"}}},
            "rest.serviceAccount.name: eventsink-router is the router's",
        ),
        (
            {"router": {"queue": {"size": "4Gi"}, "config": {"queue": {"maxBytes": 4294967296}}}},
            "router.queue.size: queue.maxBytes",
        ),
        ({"router": {"queue": {"size": "256Mi"}}}, "do not fit on 256Mi: enlarge it, or lower router.config.queue.maxBytes"),
        ({"router": {"config": {"shutdown": {"grace": "30s"}}}}, "router.terminationGracePeriodSeconds: 60 seconds are not more"),
        (
            {"rest": {"terminationGracePeriodSeconds": 5}},
            "rest.terminationGracePeriodSeconds: 5 seconds are not more than createWait",
        ),
        (
            {"router": {"admin": {"enabled": False}, "config": {"admin": {}}}},
            "router.config.admin: router.admin.enabled is false",
        ),
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


@pytest.mark.parametrize(
    ("part", "setting", "value", "words"),
    [
        ("operator", "admission.enabled", True, "set operator.admission.enabled instead"),
        ("operator", "admission.serviceName", "other", "have to agree with it: leave it out"),
        ("operator", "admission.secretName", "other", "have to agree with it: leave it out"),
        ("operator", "admission.tlsKeyFile", "/x", "set operator.admission.tlsSecretName instead"),
        ("operator", "leaderElection.namespace", "other", "have to agree with it: leave it out"),
        ("operator", "slackApp.tokensNamespace", "other", "have to agree with it: leave it out"),
        ("operator", "tokens.namespace", "other", "have to agree with it: leave it out"),
        ("router", "queue.path", "/tmp/queue.db", "nowhere else would it outlive the pod"),
        ("router", "admin.tokenFile", "/x", "name the Secret in tokens.admin instead"),
        ("router", "intake.tlsKeyFile", "/x", "set router.tls.secretName instead"),
        ("rest", "keys.secret", "other", "set rest.keys.secretName instead"),
        ("operator", "monitor.address", "0.0.0.0:9091", "cannot be reached by what the chart makes"),
        ("operator", "admission.address", "0.0.0.0:8443", "cannot be reached by what the chart makes"),
        ("router", "monitor.address", "127.0.0.1:9090", "cannot be reached by what the chart makes"),
        ("router", "intake.address", "0.0.0.0:80", "cannot be reached by what the chart makes"),
        ("router", "admin.address", "127.0.0.1:8081", "cannot be reached by what the chart makes"),
        ("rest", "monitor.address", "0.0.0.0:0", "cannot be reached by what the chart makes"),
        ("rest", "address", "0.0.0.0:8083", "cannot be reached by what the chart makes"),
    ],
)
def test_a_setting_that_contradicts_the_objects_of_the_chart_is_refused(
    helm: Helm, part: str, setting: str, value: Any, words: str
) -> None:
    refusal = helm.refusal({part: {"config": nested(tuple(setting.split(".")), value)}})
    assert f"{part}.config.{setting}: " in refusal
    assert words in refusal


def test_pods_with_ipv6_addresses_only_can_be_served(helm: Helm) -> None:
    objects = helm.render({"router": {"config": {"monitor": {"address": "[::]:9090"}, "intake": {"address": "[::]:8080"}}}})
    assert 'address: "[::]:9090"' in settings_text(objects, "router").replace("'", '"')


def test_the_name_of_a_release_that_no_service_can_have_is_refused() -> None:
    assert "Services cannot be named 7up-eventsink-router" in Helm(release="7up").refusal({})


def test_the_namespace_of_compiled_sinks_has_a_name_that_is_not_too_long() -> None:
    assert "sinksNamespace.name: " in Helm(namespace="n" * 60).refusal({})


def test_a_cluster_that_is_too_old_is_refused(helm: Helm) -> None:
    assert "chart requires kubeVersion: >=1.30.0-0" in helm.refusal({}, "--kube-version", "1.29.9")


def test_several_operators_need_a_leader(helm: Helm) -> None:
    values = {"operator": {"replicas": 2, "config": {"leaderElection": {"enabled": False}}}}
    assert "operator.config.leaderElection.enabled: of several replicas one has to lead" in helm.refusal(values)
