"""With listed namespaces, the chart makes Roles in them, and needs nothing in the whole cluster."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import yaml

from tests.chart.test_rendering import Objects
from tests.support.helm import CHART, ROOT, Helm, key_of, of_kind, settings_text
from tests.support.kustomize import build

LISTED = [{"name": "acme", "tenant": "acme"}, {"name": "globex", "tenant": "globex"}]
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding", "Namespace", "CustomResourceDefinition", "ValidatingAdmissionPolicy")


def documented() -> dict[str, Any]:
    """The values of the README for an installation without rights in the whole cluster."""
    [block] = [part.split("```")[0] for part in (CHART / "README.md").read_text().split("```yaml\n") if "\nnamespaces:" in part]
    values: dict[str, Any] = yaml.safe_load(block)
    return values


@pytest.fixture(scope="module")
def scoped(helm: Helm) -> Objects:
    return helm.render(documented())


def test_nothing_is_made_in_the_whole_cluster(scoped: Objects) -> None:
    assert {one["metadata"]["name"] for one in scoped if "namespace" not in one["metadata"]} == set()
    assert not [one["kind"] for one in scoped if one["kind"].startswith(("Cluster", "Validating")) or one["kind"] in CLUSTER_WIDE]


def rights(objects: Objects) -> set[tuple[str, ...]]:
    """What each account may do in which namespace: namespace, account, group, resource, verb, and the name where only one is meant."""
    roles = {key_of(one)[1:]: one["rules"] for one in of_kind(objects, "Role")}
    found: set[tuple[str, ...]] = set()
    for binding in of_kind(objects, "RoleBinding"):
        place, [subject] = binding["metadata"]["namespace"], binding["subjects"]
        for rule in roles[place, binding["roleRef"]["name"]]:
            what = product(rule["apiGroups"], rule["resources"], rule["verbs"], rule.get("resourceNames", [""]))
            found |= {(place, f"{subject['namespace']}/{subject['name']}", *one) for one in what}
    return found


def test_the_rights_are_those_of_the_manifests_for_listed_namespaces(helm: Helm) -> None:
    manifests = build(ROOT / "manifests" / "scoped")
    assert rights(helm.render({**documented(), "namespaces": LISTED[:1]})) == rights(manifests)
    assert not [one["kind"] for one in manifests if one["kind"].startswith(("Cluster", "Validating"))]


def test_the_operator_and_the_rest_api_get_the_list(scoped: Objects) -> None:
    for part in ("operator", "rest"):
        assert yaml.safe_load(settings_text(scoped, part))["namespaces"] == documented()["namespaces"]


def test_the_policy_that_reads_labels_is_left_out_where_labels_are_not_read(helm: Helm) -> None:
    policies = {one["metadata"]["name"] for one in of_kind(helm.render({"namespaces": LISTED}), "ValidatingAdmissionPolicy")}
    assert policies == {"eventsink-rest-secrets", "eventsink-rest-eventsinks", "eventsink-router-status"}


def test_tokens_of_service_accounts_need_two_rights_in_the_whole_cluster(helm: Helm) -> None:
    objects = helm.render({**documented(), "rest": {"config": {"kubernetesTokens": {"enabled": True}}}})
    [role] = of_kind(objects, "ClusterRole")
    assert [rule["resources"] for rule in role["rules"]] == [["tokenreviews"], ["subjectaccessreviews"]]
