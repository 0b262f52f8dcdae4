"""The namespaces of an installation are parameters: everything that depends on them follows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from eventsink.controller.config import OperatorSettings
from eventsink.rest.config import RestSettings
from eventsink.router.config import RouterSettings
from eventsink.runtime.settings import ProcessSettings, load_settings
from tests.support.kustomize import KustomizeFailed, build, copied

ELSEWHERE = {"namespace": "alerting", "sinksNamespace": "alerting-compiled"}
OVERLAY = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../manifests/default]
configMapGenerator:
- name: eventsink-parameters
  behavior: merge
  literals: [namespace=alerting, sinksNamespace=alerting-compiled]
components: [../manifests/components/namespace]
"""


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As somebody has edited them who installs elsewhere."""
    return copied(tmp_path_factory.mktemp("elsewhere"), **ELSEWHERE)


@pytest.fixture(scope="module")
def built(manifests: Path) -> list[dict[str, Any]]:
    return [*build(manifests / "namespaces"), *build(manifests / "default")]


def workloads(built: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Their pods' specs, by name."""
    found = [one for one in built if one["kind"] in ("Deployment", "StatefulSet")]
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in found}


def test_an_installation_elsewhere_names_the_usual_namespaces_nowhere(built: list[dict[str, Any]]) -> None:
    assert {one["metadata"]["name"] for one in built if one["kind"] == "Namespace"} == set(ELSEWHERE.values())
    assert {one["metadata"].get("namespace") for one in built} == {*ELSEWHERE.values(), None}
    assert not [one for one in built if "eventsink-system" in json.dumps(one)]


def test_namespaces_whose_names_are_numbers_stay_texts(built: list[dict[str, Any]], tmp_path: Path) -> None:
    numbers = {"alerting-compiled": "456", "alerting": "123"}
    manifests = copied(tmp_path, namespace='"123"', sinksNamespace='"456"')
    expected = json.dumps(built)
    for name, number in numbers.items():
        expected = re.sub(rf"\b{name}\b(?!-)", number, expected)
    moved = [*build(manifests / "namespaces"), *build(manifests / "default")]
    assert sorted(map(json.dumps, moved)) == sorted(map(json.dumps, json.loads(expected)))


def test_an_overlay_can_set_the_namespaces(manifests: Path, built: list[dict[str, Any]]) -> None:
    overlay = manifests.parent / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(OVERLAY)
    moved = build(overlay)
    expected = [one for one in built if one["kind"] != "Namespace"]
    assert sorted(map(json.dumps, moved)) == sorted(map(json.dumps, expected))


def test_the_namespace_field_of_kustomize_fails_instead_of_leaving_the_policies_behind(manifests: Path) -> None:
    overlay = manifests.parent / "wrong"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text("resources: [../manifests/default]\nnamespace: alerting\n")
    with pytest.raises(KustomizeFailed, match="namespace transformation produces ID conflict"):
        build(overlay)


@pytest.mark.parametrize(
    ("name", "model", "namespaces"),
    [
        ("operator", OperatorSettings, {"sinks_namespace": "alerting-compiled", "slack_app": {"tokens_namespace": "alerting"}}),
        ("router", RouterSettings, {"sinks_namespace": "alerting-compiled"}),
        ("rest", RestSettings, {"keys": {"namespace": "alerting"}}),
    ],
)
def test_the_settings_of_a_part_are_valid_and_follow_the_parameters(
    built: list[dict[str, Any]],
    name: str,
    model: type[ProcessSettings],
    namespaces: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pod = workloads(built)[f"eventsink-{name}"]
    [container] = pod["containers"]
    volume = next(one for one in pod["volumes"] if one["name"] == "config")["configMap"]["name"]
    config = next(one["data"] for one in built if one["kind"] == "ConfigMap" and one["metadata"]["name"] == volume)
    file = tmp_path / Path(container["args"][-1]).name
    file.write_text(config[file.name])
    monkeypatch.setattr(os, "environ", environment(container))
    read = load_settings(model, part=name, path=file).model_dump()
    for setting, value in namespaces.items():
        found = read[setting]
        assert (found if isinstance(value, str) else {key: found[key] for key in value}) == value


def environment(container: dict[str, Any]) -> dict[str, str]:
    """What the kubelet would make of it in the namespace `alerting`."""
    fields = {"metadata.namespace": "alerting", "metadata.name": "pod-0", "metadata.uid": "0"}
    return {
        one["name"]: one["value"] if "value" in one else fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
        for one in container.get("env", [])
    }


def test_what_is_deleted_every_day_holds_nothing_that_people_would_lose(built: list[dict[str, Any]], manifests: Path) -> None:
    kept = {"CustomResourceDefinition", "Namespace", "PersistentVolumeClaim", "PersistentVolume", "Secret", "EventSink"}
    assert not kept & {one["kind"] for one in build(manifests / "default")}
    [router] = [one for one in built if one["kind"] == "StatefulSet"]
    assert router["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_every_part_has_a_service_and_the_admin_port_one_of_its_own(built: list[dict[str, Any]]) -> None:
    services = {
        one["metadata"]["name"]: [port["name"] for port in one["spec"]["ports"]] for one in built if one["kind"] == "Service"
    }
    assert services == {
        "eventsink-operator": ["metrics"],
        "eventsink-operator-webhook": ["webhook"],
        "eventsink-router": ["intake", "metrics"],
        "eventsink-router-admin": ["admin"],
        "eventsink-rest": ["rest", "metrics"],
    }
    for one in built:
        if one["kind"] == "Service":
            [container] = workloads(built)[one["spec"]["selector"]["app.kubernetes.io/name"]]["containers"]
            named = {port["name"]: port["containerPort"] for port in container["ports"]}
            usual = {"webhook": 443}  # API servers call webhooks there
            assert all(usual.get(port["name"], named[port["targetPort"]]) == port["port"] for port in one["spec"]["ports"])


def test_every_object_says_that_it_belongs_to_eventsink(built: list[dict[str, Any]]) -> None:
    assert {one["metadata"]["labels"]["app.kubernetes.io/part-of"] for one in built} == {"eventsink"}
