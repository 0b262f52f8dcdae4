"""manifests/scoped: what is installed with Roles in listed namespaces only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventsink.runtime.settings import from_environment
from tests.support.kustomize import build, copied

NAMESPACED = {"ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Service", "Deployment", "StatefulSet"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return build(copied(tmp_path_factory.mktemp("scoped"), namespace="alerting", sinksNamespace="alerting-compiled") / "scoped")


def test_nothing_is_outside_of_its_own_namespaces_and_the_listed_ones(built: list[dict[str, Any]]) -> None:
    assert {one["kind"] for one in built} == NAMESPACED
    assert {one["metadata"]["namespace"] for one in built} == {"alerting", "alerting-compiled", "acme"}


def test_operator_and_rest_api_have_the_same_list(built: list[dict[str, Any]]) -> None:
    configs = {one["metadata"]["name"]: one["data"] for one in built if one["kind"] == "ConfigMap"}
    lists = {}
    for one in built:
        for variable in one["spec"]["template"]["spec"]["containers"][0]["env"] if one["kind"] == "Deployment" else ():
            if variable["name"].endswith("__NAMESPACES"):
                chosen = variable["valueFrom"]["configMapKeyRef"]
                prefix = variable["name"].removesuffix("NAMESPACES")
                read = from_environment({variable["name"]: configs[chosen["name"]][chosen["key"]]}, prefix)
                lists[one["metadata"]["name"]] = read["namespaces"]
    listed = [{"name": "acme", "tenant": "acme"}]
    assert lists == {"eventsink-operator": listed, "eventsink-rest": listed}


def test_every_listed_namespace_has_the_roles_of_all_parts(built: list[dict[str, Any]]) -> None:
    there = [one for one in built if one["metadata"]["namespace"] == "acme"]
    names = {"eventsink-operator", "eventsink-router", "eventsink-rest"}
    for kind in ("Role", "RoleBinding"):
        assert {one["metadata"]["name"] for one in there if one["kind"] == kind} == names
    for one in there:
        for subject in one.get("subjects", ()):
            assert subject == {"kind": "ServiceAccount", "name": one["metadata"]["name"], "namespace": "alerting"}


def test_the_policies_can_be_applied_beside_it(built: list[dict[str, Any]], tmp_path: Path) -> None:
    manifests = copied(tmp_path)
    policies = build(manifests / "scoped" / "policies")
    assert [one for one in build(manifests / "default") if one["kind"].startswith("ValidatingAdmissionPolicy")] == sorted(
        policies, key=lambda one: (one["kind"], one["metadata"]["name"])
    )
