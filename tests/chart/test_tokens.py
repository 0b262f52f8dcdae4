"""Tokens are the operator's to make: nothing that is rendered holds one, and no rendering differs from the last."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.chart.switches import EVERYTHING
from tests.support.helm import Helm, key_of, of_kind, pod_of, settings_text

HASHED = {"name": "hashed", "tenant": {"fixed": "acme"}, "tokenHashes": ["sha256:" + "0" * 64]}
NAMED = {"name": "named", "tenant": {"fixed": "acme"}}
ROTATED = {"name": "rotated", "tenant": {"fixed": "acme"}, "tokenKeys": ["rotated", "rotated-2"]}


def generated(helm: Helm, values: dict[str, Any]) -> dict[str, list[str]]:
    settings = yaml.safe_load(settings_text(helm.render(values), "operator"))
    found: dict[str, list[str]] = settings.get("tokens", {}).get("generate", {})
    return found


def test_rendering_twice_gives_the_same_and_no_secret(helm: Helm) -> None:
    assert helm.text(EVERYTHING) == helm.text(EVERYTHING)
    assert of_kind(helm.render(EVERYTHING), "Secret") == []


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, {"eventsink-source-tokens": ["alertmanager"], "eventsink-admin": ["token"]}),
        ({"tokens": {"generate": False}}, {}),
        ({"tokens": {"sources": "mine"}}, {"eventsink-admin": ["token"]}),
        ({"tokens": {"admin": "mine"}}, {"eventsink-source-tokens": ["alertmanager"]}),
        ({"router": {"admin": {"enabled": False}}}, {"eventsink-source-tokens": ["alertmanager"]}),
        ({"sources": [HASHED], "tokens": {"admin": "mine"}}, {}),
        (
            {"sources": [NAMED], "tokens": {"admin": "mine"}, "events": {"enabled": True}},
            {"eventsink-source-tokens": ["named", "kubernetes-events"]},
        ),
        (
            {"sources": [HASHED, NAMED, ROTATED], "tokens": {"admin": "mine"}},
            {"eventsink-source-tokens": ["named", "rotated", "rotated-2"]},
        ),
    ],
)
def test_the_operator_makes_what_nobody_named(helm: Helm, values: dict[str, Any], wanted: dict[str, list[str]]) -> None:
    assert generated(helm, values) == wanted


def test_events_are_posted_to_a_source_of_their_own_with_its_token(helm: Helm) -> None:
    objects = helm.render({"events": {"enabled": True, "defaultTenant": "platform"}, "router": {"tls": {"secretName": "tls"}}})
    [_, source] = yaml.safe_load(settings_text(objects, "router"))["sources"]
    assert source == {
        "name": "kubernetes-events",
        "format": "kubernetes-events",
        "tokenFiles": ["/etc/eventsink-tokens/kubernetes-events"],
        "tenant": {"namespaceOwner": {"label": "namespace"}},
        "defaultTenant": "platform",
    }
    router = yaml.safe_load(settings_text(objects, "events"))["router"]
    assert router == {
        "url": "https://eventsink-router:8080/v1/alerts/kubernetes-events",
        "tokenFile": "/etc/eventsink-tokens/kubernetes-events",
        "caFile": "/etc/eventsink-router-ca/ca.crt",
    }
    [token] = [one for one in pod_of(objects, "events")["spec"]["volumes"] if one["name"] == "token"]
    assert token["secret"]["items"] == [{"key": "kubernetes-events", "path": "kubernetes-events"}]


def test_reports_of_policies_are_posted_to_a_source_of_their_own_with_its_token(helm: Helm) -> None:
    values = {"enabled": True, "defaultTenant": "platform", "policyReports": ["openreports.io"]}
    objects = helm.render({"events": values, "router": {"tls": {"secretName": "tls"}}})
    [_, _, source] = yaml.safe_load(settings_text(objects, "router"))["sources"]
    assert source == {
        "name": "policy-reports",
        "format": "policy-report",
        "tokenFiles": ["/etc/eventsink-tokens/policy-reports"],
        "tenant": {"namespaceOwner": {"label": "namespace"}},
        "defaultTenant": "platform",
    }
    assert yaml.safe_load(settings_text(objects, "events"))["policyReports"] == {
        "groups": ["openreports.io"],
        "router": {
            "url": "https://eventsink-router:8080/v1/alerts/policy-reports",
            "tokenFile": "/etc/eventsink-tokens/policy-reports",
            "caFile": "/etc/eventsink-router-ca/ca.crt",
        },
    }
    [token] = [one for one in pod_of(objects, "events")["spec"]["volumes"] if one["name"] == "token"]
    assert [one["key"] for one in token["secret"]["items"]] == ["kubernetes-events", "policy-reports"]


def test_reports_in_listed_namespaces_are_read_with_roles_in_them(helm: Helm) -> None:
    values = {"enabled": True, "policyReports": ["openreports.io"]}
    objects = helm.render({"events": values, "namespaces": [{"name": "acme", "tenant": "acme"}], "crds": {"enabled": False}})
    [role] = [one for one in objects if key_of(one) == ("Role", "acme", "eventsink-events")]
    assert {tuple(rule["resources"]) for rule in role["rules"]} == {("events",), ("reports",)}


def test_the_router_reads_the_tokens_that_its_sources_name(helm: Helm) -> None:
    objects = helm.render({"sources": [HASHED, NAMED, ROTATED], "tokens": {"sources": "mine"}})
    sources = yaml.safe_load(settings_text(objects, "router"))["sources"]
    assert [source.get("tokenFiles", []) for source in sources] == [
        [],
        ["/etc/eventsink-tokens/named"],
        ["/etc/eventsink-tokens/rotated", "/etc/eventsink-tokens/rotated-2"],
    ]
    assert not [source for source in sources if "tokenKeys" in source]
    [volume] = [one for one in pod_of(objects, "router")["spec"]["volumes"] if one["name"] == "tokens"]
    assert volume["secret"]["secretName"] == "mine"


def test_no_secret_is_mounted_where_no_source_has_a_token(helm: Helm) -> None:
    volumes = pod_of(helm.render({"sources": [HASHED]}), "router")["spec"]["volumes"]
    assert "tokens" not in [one["name"] for one in volumes]
