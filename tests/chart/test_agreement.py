"""The chart renders what kustomize makes: object by object, release eventsink in eventsink-system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from eventsink.events.config import EventsSettings
from eventsink.runtime.settings import from_environment, overlay
from tests.chart.test_rendering import PARTS
from tests.support.helm import ROOT, Helm, key_of, of_kind
from tests.support.kustomize import build, copied

FOLDERS = ("crds", "manifests/namespaces", "manifests/default")
SAME_SWITCHES = {
    "tokens": {"generate": False},
    "router": {"admin": {"enabled": True}},
    "crds": {"keep": False},
    "sinksNamespace": {"keep": False},
}
OF_THE_RELEASE = ("app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart")
MADE_BY_PEOPLE = {("Namespace", "", "eventsink-system")}
"""`helm install --create-namespace`, or an administrator."""

Object = dict[str, Any]
Key = tuple[str, str, str]


@pytest.fixture(scope="module")
def kustomized() -> dict[Key, Object]:
    made: dict[Key, Object] = {}
    for folder in FOLDERS:
        made |= {key_of(one): one for one in build(ROOT / folder)}
    return made


@pytest.fixture(scope="module")
def charted(helm: Helm) -> dict[Key, Object]:
    return {key_of(one): one for one in helm.render(SAME_SWITCHES)}


def test_both_have_the_same_objects(kustomized: dict[Key, Object], charted: dict[Key, Object]) -> None:
    assert {plain(key) for key in kustomized} - MADE_BY_PEOPLE == charted.keys()


def test_each_object_is_the_same(kustomized: dict[Key, Object], charted: dict[Key, Object]) -> None:
    assert effective_settings(charted) == effective_settings(kustomized)
    for key, one in kustomized.items():
        if plain(key) in charted and one["kind"] != "ConfigMap":
            ours, theirs = charted[plain(key)], one
            assert theirs["metadata"].get("labels", {}).items() <= ours["metadata"]["labels"].items(), key
            assert normal(ours) == normal(theirs), key


WITH_COMPONENTS = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
components: [../manifests/components/network-policies, ../manifests/components/monitoring]
"""


def test_the_components_of_kustomize_are_what_the_chart_renders_with_their_switches(helm: Helm, tmp_path: Path) -> None:
    copied(tmp_path)
    folder = tmp_path / "components"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(WITH_COMPONENTS)
    switches: dict[str, Any] = {part: {"networkPolicy": {"enabled": True}} for part in ("operator", "router", "rest", "events")}
    switches["events"]["enabled"] = True
    switches["router"]["admin"] = {"enabled": True}
    switches["monitoring"] = {"enabled": True, "rules": {"enabled": True}}
    rendered = of_kind(helm.render(switches), "NetworkPolicy", "ServiceMonitor", "PrometheusRule")
    assert {key_of(one): normal(one) for one in build(folder)} == {key_of(one): normal(one) for one in rendered}


WITH_EVENTS = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
components: [../manifests/components/kubernetes-events]
"""


def test_the_component_of_kubernetes_events_is_what_the_chart_renders(helm: Helm, tmp_path: Path) -> None:
    copied(tmp_path)
    folder = tmp_path / "components"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(WITH_EVENTS)
    kustomized = {plain(key_of(one)): one for one in build(folder)}
    rendered = helm.render({"events": {"enabled": True}})
    charted = {key_of(one): one for one in rendered if one["metadata"]["name"].startswith("eventsink-events")}
    assert kustomized.keys() == charted.keys()
    for key, one in kustomized.items():
        if one["kind"] != "ConfigMap":
            assert normal(one) == normal(charted[key]), key
    read = [EventsSettings.model_validate(yaml.safe_load(find_settings(one, "events"))) for one in (kustomized, charted)]
    assert read[0] == read[1]


def test_the_component_of_policy_reports_is_what_the_chart_renders(helm: Helm, tmp_path: Path) -> None:
    copied(tmp_path)
    folder = tmp_path / "components"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(
        WITH_EVENTS.replace("-events]", "-events, ../manifests/components/policy-reports]")
    )
    kustomized = {plain(key_of(one)): one for one in build(folder)}
    rendered = helm.render({"events": {"enabled": True, "policyReports": ["wgpolicyk8s.io", "openreports.io"]}})
    charted = {key_of(one): one for one in rendered if one["metadata"]["name"].startswith("eventsink-events")}
    assert kustomized.keys() == charted.keys()
    for key, one in kustomized.items():
        if one["kind"] == "Deployment":
            [variable] = one["spec"]["template"]["spec"]["containers"][0].pop("env")
        if one["kind"] != "ConfigMap":
            assert normal(one) == normal(charted[key]), key
    given = [yaml.safe_load(find_settings(one, "events")) for one in (kustomized, charted)]
    given[0] = overlay(given[0], from_environment({variable["name"]: variable["value"]}, "EVENTSINK_EVENTS__"))
    assert EventsSettings.model_validate(given[0]) == EventsSettings.model_validate(given[1])


def find_settings(objects: dict[Key, Object], part: str) -> str:
    [file] = [str(one["data"][f"{part}.yaml"]) for one in objects.values() if f"{part}.yaml" in one.get("data", {})]
    return file


ADMIN_TOKEN = "/etc/eventsink-admin/token"
WRITTEN_BY_PEOPLE: dict[str, Object] = {
    "operator": {},
    "router": {"admin": {"address": "0.0.0.0:8081", "tokenFile": ADMIN_TOKEN}},
    "rest": {"router": {"url": "http://eventsink-router-admin:8081", "tokenFile": ADMIN_TOKEN}},
}
"""kustomize leaves these to whoever creates the Secret of the admin API."""


def plain(key: Key) -> Key:
    """A key without the digest that kustomize adds to the names of ConfigMaps."""
    kind, namespace, name = key
    return (kind, namespace, name.rpartition("-")[0]) if kind == "ConfigMap" and name.count("-") > 1 else key


def effective_settings(objects: dict[Key, Object]) -> dict[str, Object]:
    """What each program reads: its file, and its environment over it."""
    found = {}
    for part in ("operator", "router", "rest"):
        [file] = [
            one["data"][f"{part}.yaml"] for key, one in objects.items() if plain(key)[2] == f"eventsink-{part}" and "data" in one
        ]
        [workload] = [
            one for one in of_kind(list(objects.values()), "Deployment", "StatefulSet") if one["metadata"]["name"].endswith(part)
        ]
        environment = {
            one["name"]: one.get("value", workload["metadata"]["namespace"])
            for one in workload["spec"]["template"]["spec"]["containers"][0].get("env", [])
        }
        read = overlay(yaml.safe_load(file), from_environment(environment, f"EVENTSINK_{part.upper()}__"))
        found[part] = PARTS[part].model_validate(overlay(read, WRITTEN_BY_PEOPLE[part])).model_dump()
    return found


def normal(value: Any, name: str = "") -> Any:
    """An object without what is a matter of the tool: labels of the release, digests, settings, the order of volumes."""
    if isinstance(value, list):
        found = [normal(one) for one in value]
        return sorted(found, key=lambda one: str(one.get("name"))) if name in ("volumes", "volumeMounts", "ports") else found
    if not isinstance(value, dict):
        return value
    kept = {key: normal(one, key) for key, one in value.items() if key not in OF_THE_RELEASE}
    if name == "metadata":
        kept.pop("labels", None)
        annotations = {key: one for key, one in kept.pop("annotations", {}).items() if key not in ("checksum/config",)}
        kept |= {"annotations": annotations} if annotations else {}
    if name == "secret":
        kept.pop("optional", None)  # what is not configured is not mounted by the chart, and optional with kustomize
    if name == "configMap":
        kept["name"] = plain(("ConfigMap", "", kept["name"]))[2]
    kept.pop("env", None)  # compared as settings
    for default in ("type", "ClusterIP"), ("terminationGracePeriodSeconds", 30):
        if value.get(default[0]) == default[1]:
            del kept[default[0]]
    return kept
