"""The order in which `kubectl apply -k manifests/default` applies what it makes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.cluster import MANIFESTS
from tests.support.kustomize import build

POLICIES = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
PERMISSIONS = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


@pytest.fixture(scope="module")
def built() -> list[dict[str, Any]]:
    return build(MANIFESTS / "default")


def test_policies_are_applied_before_the_permissions_that_they_restrict(built: list[dict[str, Any]]) -> None:
    policies = [index for index, one in enumerate(built) if one["kind"] in POLICIES]
    permissions = [index for index, one in enumerate(built) if one["kind"] in PERMISSIONS]
    assert len(policies) >= 8
    assert max(policies) < min(permissions)


def test_each_policy_is_bound(built: list[dict[str, Any]]) -> None:
    policies = {one["metadata"]["name"] for one in built if one["kind"] == POLICIES[0]}
    bound = {one["spec"]["policyName"]: one["spec"]["validationActions"] for one in built if one["kind"] == POLICIES[1]}
    assert bound == {name: ["Deny"] for name in policies}


def test_a_pod_finds_its_settings_and_permissions(built: list[dict[str, Any]]) -> None:
    kinds = [one["kind"] for one in built]
    needed = ("ServiceAccount", "ConfigMap", *PERMISSIONS)
    first = min(kinds.index("Deployment"), kinds.index("StatefulSet"))
    assert not [kind for kind in kinds[first:] if kind in needed]


def test_applying_it_again_changes_no_policy(built: list[dict[str, Any]]) -> None:
    # The API server fills in the scope, and kubectl would report each policy as changed.
    rules = [rule for one in built if one["kind"] == POLICIES[0] for rule in one["spec"]["matchConstraints"]["resourceRules"]]
    assert [rule["scope"] for rule in rules] == ["*"] * len(rules)
